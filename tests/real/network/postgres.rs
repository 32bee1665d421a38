//! The connections to PostgreSQL.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Load, impatient, steady};
use crate::support::{
    Direction::{Both, ToClient, ToServer},
    Proxy, SyncEs, Truth, Wire, WireMode, World, assert_equal, in_world, seed,
};

/// How many seconds PostgreSQL waits for a silent client in these tests.
const PATIENCE: u32 = 3;

/// Every trouble that passes, each with how long it lasts. The longer ones outlast PostgreSQL's
/// patience.
fn troubles(random: &mut StdRng) -> Vec<(WireMode, Duration)> {
    let seconds = Duration::from_secs;
    vec![
        (WireMode::Reset, seconds(1)),
        (
            WireMode::CutAfter(random.random_range(1..10_000)),
            seconds(2),
        ),
        (WireMode::Blackhole(Both), seconds(2)),
        (WireMode::Refuse, seconds(2)),
        (WireMode::Blackhole(ToClient), seconds(7)),
        (WireMode::Blackhole(ToServer), seconds(7)),
    ]
}

/// The program, with PostgreSQL behind a wire.
fn start(world: &World, wire: &Wire) -> SyncEs {
    let run = world.sync_es(&["run"]);
    run.env("POSTGRES_URL", impatient(wire.url(), PATIENCE))
        .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 2)
        .start()
}

#[test]
fn a_stream_outlives_every_trouble_of_its_connections_to_postgresql() {
    in_world(async |world| {
        let load = Load::start(world, 300, 60).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        let mut program = start(world, &wire);
        load.ready(world, &mut program).await;
        let mut random = StdRng::seed_from_u64(load.seed);
        for (mode, length) in troubles(&mut random) {
            wire.set(mode);
            tokio::time::sleep(length).await;
            wire.set(WireMode::Pass);
            let passed = Instant::now();
            load.ready(world, &mut program).await;
            eprintln!(
                "{mode:?} for {length:?}: caught up after {:?}",
                passed.elapsed()
            );
        }
        load.end(world, program).await;
    });
}

#[test]
fn a_snapshot_outlives_every_trouble_of_its_connections_to_postgresql() {
    in_world(async |world| {
        let load = Load::start(world, 9_000, 20).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        let proxy = Proxy::slow(world, Duration::from_millis(400)).await;
        // Fewer than there are rows.
        proxy.let_through(5_500);
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("POSTGRES_URL", impatient(wire.url(), PATIENCE))
            .env("POSTGRES_CLIENT_BATCH_SIZE", 100)
            .env("ES_CLIENT_BATCH_SIZE", 50)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 2)
            .start();
        let mut random = StdRng::seed_from_u64(load.seed);
        let index = world.index();
        for (number, (mode, length)) in (1..).zip(troubles(&mut random)) {
            program
                .until("the snapshot has come further", async || {
                    let count = world.search.count(&index).await;
                    count.filter(|count| *count >= number * 400)
                })
                .await;
            wire.set(mode);
            tokio::time::sleep(length).await;
            wire.set(WireMode::Pass);
        }
        let run = world.latest_run().await.unwrap();
        assert_ne!(run["sync_finished"], true, "the snapshot was over too soon");
        proxy.pass();
        load.end(world, program).await;
    });
}

/// What one server has shown, another of the same address need not have yet.
#[test]
fn all_sessions_of_an_attempt_are_on_the_server_of_its_first_one() {
    in_world(async |world| {
        world
            .execute("INSERT INTO integrated_records (hk, name) VALUES ('a', 'a')")
            .await;
        let wire = Wire::to_postgres(world, seed()).await;
        wire.set(WireMode::Refuse);
        // No slot can be made until this has ended.
        let open = world.connection().await;
        open.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let mut url = world.postgres_url();
        let second = format!("127.0.0.1:{}", url.port().unwrap());
        url.set_port(wire.url().port()).unwrap();
        let first = format!("127.0.0.1:{}", url.port().unwrap());
        let both = url.as_str().replace(&first, &format!("{first},{second}"));
        let mut program = world.sync_es(&["run"]).env("POSTGRES_URL", both).start();
        program
            .until("it makes its slot", async || {
                let making = "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                     AND backend_type = 'walsender' AND datname = current_database()";
                world.ask::<bool>(making).await
            })
            .await;
        wire.set(WireMode::Pass);
        open.batch_execute("COMMIT").await.unwrap();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(wire.accepted(), 0, "{}", program.log());
        program.stop().await;
    });
}

#[test]
fn connections_that_are_dead_without_a_word_are_given_up_while_streaming() {
    in_world(async |world| {
        let load = Load::start(world, 300, 60).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        let mut program = start(world, &wire);
        load.ready(world, &mut program).await;
        let before = wire.accepted();
        wire.set_open(WireMode::Blackhole(Both));
        let dead = Instant::now();
        // What was committed until now can have been confirmed just before.
        load.goes_on(&mut program, 20).await;
        load.ready(world, &mut program).await;
        eprintln!("went on after {:?}", dead.elapsed());
        assert!(wire.accepted() > before, "not by new connections");
        load.end(world, program).await;
    });
}

#[test]
fn connections_that_are_dead_without_a_word_are_given_up_in_the_snapshot() {
    in_world(async |world| {
        let load = Load::start(world, 3_000, 20).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        let proxy = Proxy::slow(world, Duration::from_millis(400)).await;
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("POSTGRES_URL", impatient(wire.url(), PATIENCE))
            .env("POSTGRES_CLIENT_BATCH_SIZE", 100)
            .env("ES_CLIENT_BATCH_SIZE", 50)
            .start();
        let index = world.index();
        program
            .until("a part of the rows is in", async || {
                let count = world.search.count(&index).await;
                count.filter(|count| *count >= 500)
            })
            .await;
        wire.set_open(WireMode::Blackhole(Both));
        proxy.pass();
        load.end(world, program).await;
    });
}

#[test]
fn a_slow_network_to_postgresql_only_takes_longer() {
    in_world(async |world| {
        let load = Load::start(world, 300, 20).await;
        let wire = Wire::to_postgres(world, load.seed).await;
        wire.set(WireMode::Delay {
            latency: Duration::from_millis(300),
            jitter: Duration::from_millis(100),
        });
        let mut program = start(world, &wire);
        load.ready(world, &mut program).await;
        let before = (wire.accepted(), world.walsender().await);
        load.goes_on(&mut program, 50).await;
        load.ready(world, &mut program).await;
        wire.set(WireMode::Throttle(64_000));
        load.goes_on(&mut program, 60).await;
        load.ready(world, &mut program).await;
        let after = (wire.accepted(), world.walsender().await);
        assert_eq!(before, after, "connections were given up");
        load.end(world, program).await;
    });
}

#[test]
fn an_idle_stream_is_not_taken_for_a_dead_one() {
    in_world(async |world| {
        let wire = Wire::to_postgres(world, 0).await;
        let run = world.sync_es(&["run"]);
        let mut program = run.env("POSTGRES_URL", impatient(wire.url(), 2)).start();
        world.caught_up(&mut program).await;
        let before = (wire.accepted(), world.walsender().await);
        // Far beyond what either side waits for the other.
        steady(Duration::from_secs(12), async || {
            let now = (wire.accepted(), world.walsender().await);
            assert_eq!(now, before, "connections were given up");
        })
        .await;
        program.stop().await;
    });
}

#[test]
fn what_happens_in_other_tables_and_databases_moves_the_slot() {
    in_world(async |world| {
        world
            .execute("CREATE TABLE other AS SELECT 1 AS n, 'x' AS text")
            .await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let restart = format!(
            "SELECT (restart_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{}'",
            world.slot()
        );
        let before: i64 = world.ask(&restart).await.unwrap();
        let elsewhere = world.elsewhere().await;
        for _ in 0..3 {
            let fill =
                "INSERT INTO other SELECT n, repeat('x', 1000) FROM generate_series(1, 10000) AS n";
            world.execute(fill).await;
            let fill = "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000)) FROM generate_series(1, 10000)";
            elsewhere.batch_execute(fill).await.unwrap();
            let end: i64 = world
                .ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
                .await
                .unwrap();
            let end = u64::try_from(end).unwrap();
            program
                .until_within(Duration::from_secs(30), "the slot follows", async || {
                    world
                        .confirmed()
                        .await
                        .filter(|confirmed| *confirmed >= end)
                })
                .await;
        }
        program
            .until("the log before is not held back any more", async || {
                world.execute("CHECKPOINT").await;
                let now: i64 = world.ask(&restart).await?;
                (now > before + 20_000_000).then_some(())
            })
            .await;
        program.stop().await;
    });
}
