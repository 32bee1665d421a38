//! The one room that knows both ends: what to do, in which order, and the two loops that do it.

mod ahead;
mod attempt;
mod bound;
mod check;
mod comparison;
mod completer;
mod decoder;
mod drain;
mod ends;
mod failure;
mod generation;
mod job;
mod keeper;
mod leadership;
mod letters;
mod mapping;
mod mending;
mod overview;
mod phases;
mod plan;
mod preconditions;
mod prepare;
mod probe;
mod rebuild;
mod record;
mod refill;
mod shutdown;
mod snapshot;
mod stream;
mod submitter;
mod survey;
mod sweep;
mod table;
mod tail;
mod target;
mod vectors;
mod verify;

pub use check::check;
pub use failure::Failure;
pub use generation::names_at_work;
pub use job::{Backends, Job, Outcome, Role};
pub use letters::{
    Letters, Retried, dead_letter, dead_letters, purge_dead_letters, retry_dead_letters,
};
pub use overview::{Beside, Overview, RunView, SlotView};
pub use phases::run;
pub use plan::{Facts, LostSlot, Mode, Names, Plan, plan};
pub use preconditions::{End, Finding, Findings, Verdict};
pub use rebuild::{Goal, drop_generations, rebuild};
pub use shutdown::Shutdown;
pub use verify::{Difference, Keys, Kind, Report, Verify, verify};
