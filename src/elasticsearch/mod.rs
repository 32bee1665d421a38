//! Everything that is asked of Elasticsearch. The official client is named in `client.rs` alone.

mod bulk;
mod client;
mod index;
mod records;
mod verdict;
