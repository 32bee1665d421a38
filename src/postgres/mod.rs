//! postgres

mod conninfo;
mod connect_error;
mod connection;
mod keywords;
mod options;
mod passfile;
mod tls;

pub use connect_error::{ConnectError, SessionEnded};
pub use connection::{ReplicationParts, Server, Session, connect};
pub use options::{Options, OptionsError};
pub use tls::SslMode;
