//! What breaks, and what is lost by it: nothing.
//!
//! `program`: the program alone meets its fault; these tests run side by side, and first. `servers`: what
//! the servers meet, which they kill, stop and cut, so these have servers of their own and run one after
//! the other. `scripts/test` starts the servers and sets
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

mod program;
mod servers;

use std::env;

use support::{Invocation, Truth, World, assert_equal};

/// How often each fault is repeated: `SYNC_ES_TEST_ROUNDS`, for long runs.
fn rounds() -> usize {
    let rounds = env::var("SYNC_ES_TEST_ROUNDS").ok();
    rounds.map_or(1, |rounds| {
        rounds.parse().expect("SYNC_ES_TEST_ROUNDS is a number")
    })
}

/// The program, always on, with short waits between its attempts: tests need not wait them out.
fn run(world: &World) -> Invocation {
    world
        .sync_es(&["run"])
        .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 1)
}

/// The way out that a stop names leads to an index that is equal to the table: the next generation, which
/// the next start goes on with.
async fn rebuild(world: &World) {
    let rebuilt = world.sync_es(&["rebuild"]).output().await;
    rebuilt.succeeded();
    let next = world.index().replace("_v1", "_v2");
    assert_eq!(world.search.indices(world.alias()).await, [next]);
    let mut program = run(world).start();
    world.caught_up(&mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    program.stop().await;
}
