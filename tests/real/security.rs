//! Who is who, who may listen, and what is never told: TLS on both ends, credentials, secrets, and
//! names and keys that would be commands if they were not quoted.

mod authentication;
mod identifiers;
mod secrets;
mod tls;
