//! How to reach PostgreSQL, and the session that results: parameters as libpq reads them, TLS,
//! pinned settings, and errors that say whether waiting helps.

mod conninfo;
mod error;
mod keywords;
mod options;
mod parameters;
mod passfile;
mod session;
mod tls;

pub use error::{ConnectError, SessionEnded};
pub use options::{Options, OptionsError};
pub use session::{ReplicationParts, Server, Session, connect};
pub use tls::SslMode;
