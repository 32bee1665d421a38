//! What breaks, and what is lost by it: nothing.
//!
//! These tests kill, stop and cut the servers that they run against, so they have servers of their
//! own and run one after the other. `scripts/test` starts the servers and sets
//! `SYNC_ES_TEST_SERVERS` (the state directory of `scripts/servers`), beside the two URLs that the
//! tests in `tests/real` need. `SYNC_ES_TEST_SEED` repeats what was random.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends at the first thing that is not as it should be, and says what it knows"
)]

#[path = "../support/mod.rs"]
mod support;

mod servers;

mod plan;
mod storm;
mod storms;
mod visibility;
mod points;
mod stage;
mod sweep;
