//! What a run tells of itself. A leaf: every room may use it, and it uses none.
//!
//! Rooms push what they know into the [`Meter`]; the admin address shows it.

mod admin;
mod ask;
mod commits;
mod exposition;
mod health;
pub mod logs;
mod meter;
mod metrics;
mod names;
pub mod progress;
mod status;
mod traces;

pub use admin::Admin;
pub use ask::{AskError, ask};
pub use meter::{Meter, Retrying};
pub use metrics::{Outcome, Sent};
pub use status::{
    Lag, Operations, Phase, Positions, SlotState, Status, Subject, Throughput, Trouble,
};
pub use traces::{Traces, TracesError};

use std::sync::LazyLock;

use indicatif::MultiProgress;

/// The bars on standard error, of which there is one in a process; log lines go around them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
