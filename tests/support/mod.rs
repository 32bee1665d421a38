//! What the tests stand on: servers, a world per test, the program's process, a search client, a
//! generator of changes, a checker and a monitor. None of it uses the program's own library.

#![allow(
    dead_code,
    unused_imports,
    reason = "tests/real and tests/faults both stand on it, and neither needs all of it"
)]

mod certificates;
mod checker;
mod estate;
mod gate;
mod monitor;
mod observer;
mod process;
mod proxy;
mod search;
mod servers;
mod values;
mod wait;
mod wire;
mod workload;
mod world;
mod writer;

pub(crate) use certificates::Authority;
pub(crate) use checker::{Truth, assert_equal, compare};
pub(crate) use estate::assert_tidy;
pub(crate) use gate::{Arrival, Door, ElasticsearchGate, PostgresGate};
pub(crate) use monitor::{AckMonitor, REFUSED};
pub(crate) use observer::Observer;
pub(crate) use process::{Invocation, Outcome, SyncEs};
pub(crate) use proxy::{Fault, Proxy, Refusing, http::Message};
pub(crate) use search::Search;
pub(crate) use servers::{
    Mode, Server, Servers, in_world_beside_others, in_world_with_cluster, in_world_with_servers,
};
pub(crate) use wait::{wait_until, wait_until_within};
pub(crate) use wire::{Direction, Wire, WireMode};
pub(crate) use workload::{Workload, Writers, seed};
pub(crate) use world::{World, in_world, in_world_of};

use wait::DEADLINE;
