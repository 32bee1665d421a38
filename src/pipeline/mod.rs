//! The one room that knows both ends: what to do, in which order, and the two loops that do it.

mod ahead;
mod attempt;
mod bound;
mod completer;
mod decoder;
mod drain;
mod failure;
mod job;
mod keeper;
mod mapping;
mod phases;
mod plan;
mod preconditions;
mod prepare;
mod record;
mod refill;
mod shutdown;
mod snapshot;
mod stream;
mod submitter;
mod sweep;
mod table;
mod tail;
mod target;
mod vectors;
mod verify;
mod watch;

pub use failure::Failure;
pub use job::{Backends, Job, Outcome};
pub use phases::run;
pub use plan::{Facts, Mode, Names, Plan, plan};
pub use preconditions::preconditions;
pub use shutdown::Shutdown;
pub use verify::{Difference, Keys, Kind, Report, Verify, verify};
