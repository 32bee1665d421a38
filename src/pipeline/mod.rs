//! The one room that knows both ends: what to do, in which order, and the two loops that do it.

mod failure;
mod phases;
mod plan;
mod record;
mod refill;
mod shutdown;
mod snapshot;
mod stream;
mod sweep;
mod table;

pub use failure::Failure;
pub use phases::{Job, Outcome, run};
pub use plan::{Facts, Mode, Names, Plan, plan, preconditions};
pub use shutdown::Shutdown;
