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

mod check;
mod cluster;
mod elasticsearch;
mod failover;
mod index;
mod plan;
mod postgres;
mod rebuild;
mod reread;
mod servers;
mod slot;
mod storm;
mod storms;
mod points;
mod stage;
mod sweep;
mod visibility;

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

/// The documented way out of a stop leads to an index that is equal to the table: a new one beside
/// the old.
async fn rebuild(world: &World) {
    let drop_slot = world.sync_es(&["drop-slot"]).output().await;
    drop_slot.succeeded();
    let next = world.index().replace("_v1", "_v2");
    let mut program = run(world).env("ELASTICSEARCH_INDEX_NAME", &next).start();
    program
        .until("the alias points to the new index", async || {
            let targets = world.search.indices(world.alias()).await;
            (targets == [next.clone()]).then_some(())
        })
        .await;
    world.caught_up(&mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    program.stop().await;
}
