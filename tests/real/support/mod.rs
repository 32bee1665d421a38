//! What the tests stand on: servers, a world per test, the program's process, a search client, a
//! generator of changes, a checker and a monitor. None of it uses the program's own library.

mod checker;
mod monitor;
mod process;
mod search;
mod values;
mod wait;
mod workload;
mod world;

pub(crate) use checker::{Truth, assert_equal, compare};
pub(crate) use monitor::AckMonitor;
pub(crate) use process::{Outcome, SyncEs};
pub(crate) use search::Search;
pub(crate) use values::{Field, Generator};
pub(crate) use wait::{DEADLINE, wait_until, wait_until_within};
pub(crate) use workload::{Tally, Workload, seed};
pub(crate) use world::{World, connect, in_world, in_world_of, servers};
