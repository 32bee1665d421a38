//! Everything that is asked of PostgreSQL: facts, rows by cursor, the replication stream.

pub mod catalog;
mod connection;
pub mod coverage;
mod error;
pub mod lock;
mod pgoutput;
mod replication;
pub mod pages;
pub mod retention;
pub mod rows;
pub mod slot;
mod transaction;
mod types;

pub use connection::{
    ConnectError, Options, OptionsError, ReplicationParts, Server, Session, SessionEnded, SslMode,
    connect,
};
pub use error::Error;
pub use pgoutput::{ColumnMessage, Message, OldTuple, PgoutputError, RelationMessage};
pub use replication::{Endpoint, Frame, NewSlot, ReplicationError, Stream, create_slot, endpoint};
pub use transaction::{Assembler, Step, TransactionError};
pub use types::{ResolveError, resolve};
