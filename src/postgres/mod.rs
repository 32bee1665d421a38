//! Everything that is asked of PostgreSQL: facts, rows by cursor, the replication stream.

pub mod catalog;
mod connect_error;
mod connection;
mod conninfo;
mod error;
mod keywords;
mod options;
mod parameters;
mod passfile;
mod pgoutput;
mod replication;
pub mod rows;
pub mod slot;
mod tls;
mod transaction;
mod types;

pub use connect_error::{ConnectError, SessionEnded};
pub use connection::{ReplicationParts, Server, Session, connect};
pub use error::Error;
pub use options::{Options, OptionsError};
pub use pgoutput::{ColumnMessage, Message, OldTuple, PgoutputError, RelationMessage};
pub use replication::{Endpoint, Frame, NewSlot, ReplicationError, Stream, create_slot, endpoint};
pub use tls::SslMode;
pub use transaction::{Assembler, Step, TransactionError};
pub use types::{ResolveError, resolve};
