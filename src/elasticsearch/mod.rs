//! Everything that is asked of Elasticsearch. The official client is named in `client.rs` alone.

mod answer;
mod auto_create;
mod bulk;
mod cause;
mod client;
mod disk;
mod error;
mod generation;
mod index;
mod names;
mod nodes;
mod pages;
pub mod privileges;
mod records;
mod segments;
mod simulate;
mod stored;
mod verdict;

pub use answer::{Distribution, Response, Server};
pub use auto_create::{AutoCreation, Scope, auto_creation};
pub use bulk::{Bulk, key_problem};
pub use client::{Auth, Client, Method, Options, Renewal};
pub use disk::{Disk, Disks, Watermark, disks};
pub use error::Error;
pub use generation::{Look, Meta, RelationName};
pub use index::{Documents, Index, IndexError};
pub use names::{Move, alias_targets, indices, our_names, put_template, swap_alias};
pub use records::{
    DeadLetter, DeadLetters, LetterPages, Phase, RecordsError, RefusedAction, Run, RunWriter, Runs,
};
pub use segments::{Merge, Segments};
pub use simulate::{Against, Refused, Trial, try_documents, try_template};
pub use stored::Stored;
pub use verdict::{BULK_FILTER_PATH, Malformed, Sent, Verdict, judge};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything that could mean something in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A name as a segment of a request's path.
fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, SEGMENT)
}

/// A request's body.
fn json(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}
