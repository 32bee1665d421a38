//! Who may write when the network is not sure of it, and how a program ends that is asked to.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Load, impatient};
use crate::support::{
    Direction::Both, Proxy, Truth, Wire, WireMode, assert_equal, in_world, wait_until,
};

/// How many seconds PostgreSQL waits for a silent client in these tests.
const PATIENCE: u32 = 3;

#[test]
fn an_instance_that_is_cut_off_is_replaced_and_keeps_away_when_it_is_back() {
    in_world(async |world| {
        let load = Load::start(world, 300, 60).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        let run = world.sync_es(&["run"]);
        let mut first = run
            .clone()
            .env("POSTGRES_URL", impatient(wire.url(), PATIENCE))
            .start();
        load.ready(world, &mut first).await;
        let direct = impatient(&world.postgres_url(), PATIENCE);
        let mut second = run.env("POSTGRES_URL", direct).start();
        second
            .until_log("the second stands by", |log| log.contains("standing by"))
            .await;
        let before = world.walsender().await;
        let leader = world.latest_run().await.unwrap()["number"].clone();
        wire.set(WireMode::Blackhole(Both));
        second
            .until("the second streams", async || {
                let now = world.walsender().await?;
                (Some(now) != before).then_some(())
            })
            .await;
        load.ready(world, &mut second).await;
        let streams = world.walsender().await;
        wire.set(WireMode::Pass);
        load.goes_on(&mut second, 300).await;
        load.ready(world, &mut second).await;
        // The first either ended by a named stop or waits for its turn.
        wait_until("the first knows that it leads no more", async || {
            let log = first.log();
            (!first.runs() || log.contains("standing by")).then_some(())
        })
        .await;
        assert_eq!(world.walsender().await, streams, "the second was disturbed");
        let now = world.latest_run().await.unwrap()["number"].clone();
        assert_eq!(now.as_u64(), leader.as_u64().map(|number| number + 1));
        load.end(world, second).await;
        if first.runs() {
            world.caught_up(&mut first).await;
            assert_equal(world, &Truth::organizations()).await;
            first.stop().await;
        } else {
            let outcome = first.ended().await;
            assert!(outcome.log.contains("another instance"), "{}", outcome.log);
        }
    });
}

/// Starts and ends it at random moments: while it connects, in the snapshot, in the stream.
#[test]
fn sigterm_at_any_moment_ends_it_with_0_and_costs_little() {
    const ROUNDS: usize = 15;
    // What a round repeats at most: rows of a snapshot's page that were not all in.
    const AGAIN: usize = 700;
    in_world(async |world| {
        let load = Load::start(world, 3_000, 60).await;
        let mut random = StdRng::seed_from_u64(load.seed);
        let wire = Wire::to_postgres(world, load.seed).await;
        // So slow that a moment in the snapshot is met, and so fast that the start is passed.
        let proxy = Proxy::slow(world, Duration::from_millis(100)).await;
        let run = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("ES_CLIENT_BATCH_SIZE", 20)
            .env("POSTGRES_URL", wire.url());
        for round in 0..ROUNDS {
            let (connections, again) = (wire.accepted(), proxy.again().len());
            let mut program = run.start();
            program
                .until("it has begun", async || {
                    (wire.accepted() > connections).then_some(())
                })
                .await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..6_000))).await;
            program.terminate();
            let outcome = program.ended_within(Duration::from_secs(30)).await;
            outcome.succeeded();
            let again = proxy.again().len() - again;
            let phase = world.latest_run().await.map(|run| run["phase"].clone());
            eprintln!("round {round}, {phase:?}: {again} operations again");
            assert!(again < AGAIN, "{again} operations were sent again");
        }
        proxy.pass();
        let program = run.start();
        load.end(world, program).await;
    });
}
