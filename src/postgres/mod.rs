//! Everything that is asked of PostgreSQL: facts, rows by cursor, the replication stream.

mod catalog;
mod pgoutput;
mod replication;
mod rows;
mod slot;
mod transaction;

pub use pgoutput::{Message, OldTuple, PgoutputError, RelationMessage};
pub use transaction::{Assembler, Step, TransactionError};
