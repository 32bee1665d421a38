//! The connections to Elasticsearch, and what its answers can be.

use std::time::{Duration, Instant};

use super::{Load, impatient, steady};
use crate::support::{
    Direction::{Both, ToClient, ToServer},
    Fault, Proxy, Refusing, SyncEs, Wire, WireMode, World, in_world,
};

/// The program, with Elasticsearch behind a wire, in requests so small that even a slow wire gets one
/// through between two troubles.
fn start(world: &World, wire: &Wire) -> SyncEs {
    world
        .sync_es(&["run"])
        .env("ELASTICSEARCH_URLS", wire.url())
        .env("ES_CLIENT_BATCH_SIZE", 50)
        .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 2)
        .start()
}

/// Every trouble that passes, each with how long it lasts.
fn troubles(seed: u64) -> Vec<(WireMode, Duration)> {
    let seconds = Duration::from_secs;
    vec![
        (WireMode::Reset, seconds(1)),
        (
            WireMode::CutAfter(usize::try_from(seed % 10_000).unwrap()),
            seconds(3),
        ),
        (WireMode::Blackhole(Both), seconds(3)),
        (WireMode::Refuse, seconds(2)),
        (WireMode::Blackhole(ToClient), seconds(2)),
        (WireMode::Blackhole(ToServer), seconds(2)),
        (WireMode::Throttle(64_000), seconds(3)),
        (
            WireMode::Delay {
                latency: Duration::from_millis(300),
                jitter: Duration::from_millis(100),
            },
            seconds(3),
        ),
    ]
}

#[test]
fn a_stream_outlives_every_trouble_of_its_connections_to_elasticsearch() {
    in_world(async |world| {
        let load = Load::start(world, 300, 60).await;
        let wire = Wire::to_elasticsearch(world, load.seed).await;
        let mut program = start(world, &wire);
        load.ready(world, &mut program).await;
        for (mode, length) in troubles(load.seed) {
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
fn a_snapshot_outlives_every_trouble_of_its_connections_to_elasticsearch() {
    in_world(async |world| {
        let load = Load::start(world, 12_000, 20).await;
        let wire = Wire::to_elasticsearch(world, load.seed).await;
        // So slow that the snapshot is not over before the last trouble.
        wire.set(WireMode::Throttle(64_000));
        let mut program = start(world, &wire);
        let index = world.index();
        for (number, (mode, length)) in (1..).zip(troubles(load.seed)) {
            program
                .until("the snapshot has come further", async || {
                    let count = world.search.count(&index).await;
                    count.filter(|count| *count >= number * 200)
                })
                .await;
            wire.set(mode);
            tokio::time::sleep(length).await;
            wire.set(WireMode::Throttle(64_000));
        }
        let run = world.latest_run().await.unwrap();
        assert_ne!(run["sync_finished"], true, "the snapshot was over too soon");
        wire.set(WireMode::Pass);
        load.end(world, program).await;
    });
}

/// PostgreSQL is told to wait for ever, and would keep slot and lock for what is dead: it waits for a
/// minute, as we do.
#[test]
fn connections_on_both_sides_that_are_dead_without_a_word_are_given_up_after_a_minute() {
    in_world(async |world| {
        let load = Load::start(world, 300, 30).await;
        let postgres = Wire::to_postgres(world, load.seed).await;
        let elasticsearch = Wire::to_elasticsearch(world, load.seed).await;
        let mut program = world
            .sync_es(&["run"])
            .env("POSTGRES_URL", impatient(postgres.url(), 0))
            .env("ELASTICSEARCH_URLS", elasticsearch.url())
            .start();
        load.ready(world, &mut program).await;
        let before = (postgres.accepted(), elasticsearch.accepted());
        postgres.set_open(WireMode::Blackhole(Both));
        elasticsearch.set_open(WireMode::Blackhole(Both));
        let dead = Instant::now();
        // What was committed until now can have been confirmed just before.
        load.goes_on(&mut program, 20).await;
        load.ready(world, &mut program).await;
        eprintln!("went on after {:?}", dead.elapsed());
        let after = (postgres.accepted(), elasticsearch.accepted());
        assert!(
            after.0 > before.0 && after.1 > before.1,
            "{before:?}, {after:?}"
        );
        load.end(world, program).await;
    });
}

#[test]
fn while_elasticsearch_is_away_postgresql_neither_loses_the_stream_nor_is_told_more() {
    in_world(async |world| {
        let load = Load::start(world, 300, 100).await;
        let wire = Wire::to_elasticsearch(world, load.seed).await;
        let mut program = world
            .sync_es(&["run"])
            .env("ELASTICSEARCH_URLS", wire.url())
            .env("POSTGRES_URL", impatient(&world.postgres_url(), 5))
            .start();
        load.ready(world, &mut program).await;
        let walsender = world.walsender().await;
        assert!(walsender.is_some());
        wire.set(WireMode::Blackhole(Both));
        // What was answered before may still be confirmed.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let confirmed = world.confirmed().await;
        steady(Duration::from_secs(18), async || {
            assert_eq!(world.walsender().await, walsender, "another stream");
            assert_eq!(world.confirmed().await, confirmed, "confirmed meanwhile");
        })
        .await;
        wire.set(WireMode::Pass);
        load.ready(world, &mut program).await;
        assert_eq!(world.walsender().await, walsender, "another stream");
        load.end(world, program).await;
    });
}

#[test]
fn answers_that_are_lost_or_spoilt_lose_nothing() {
    in_world(async |world| {
        let load = Load::start(world, 450, 100).await;
        let proxy = Proxy::start(world).await;
        let faults = [
            (Fault::LoseAnswer, 0.2),
            (Fault::Truncate, 0.1),
            (Fault::Shorten, 0.1),
            (Fault::Misanswer, 0.1),
        ];
        proxy.by_chance(load.seed, &faults);
        let mut program = through(world, &proxy);
        load.ready(world, &mut program).await;
        load.goes_on(&mut program, 700).await;
        proxy.pass();
        for (fault, _) in faults {
            assert!(proxy.given(fault) > 0, "{fault:?} did not happen");
        }
        load.end(world, program).await;
    });
}

/// The few keys change all the time: what is carried out late meets a document that is newer.
#[test]
fn requests_that_are_carried_out_twice_or_late_never_win_over_their_successors() {
    in_world(async |world| {
        let load = Load::start(world, 60, 100).await;
        let proxy = Proxy::start(world).await;
        let faults = [
            (Fault::Undead(Duration::from_secs(3)), 0.1),
            (Fault::Repeat, 0.2),
            (Fault::RepeatLater, 0.2),
        ];
        proxy.by_chance(load.seed, &faults);
        let mut program = through(world, &proxy);
        load.ready(world, &mut program).await;
        load.goes_on(&mut program, 700).await;
        proxy.pass();
        for (fault, _) in faults {
            assert!(proxy.given(fault) > 0, "{fault:?} did not happen");
        }
        // The last of the undead are carried out meanwhile.
        tokio::time::sleep(Duration::from_secs(3)).await;
        load.end(world, program).await;
    });
}

#[test]
fn only_refused_items_are_sent_again_and_in_the_order_of_their_key() {
    in_world(async |world| {
        let load = Load::start(world, 60, 150).await;
        let proxy = Proxy::start(world).await;
        let refusing = Refusing {
            held_back: 0.2,
            carried_out: 0.2,
        };
        proxy.by_chance(load.seed, &[(Fault::RefuseItems(refusing), 0.8)]);
        let mut program = through(world, &proxy);
        load.ready(world, &mut program).await;
        load.goes_on(&mut program, 700).await;
        assert_eq!(
            proxy.again(),
            Vec::<String>::new(),
            "sent again though done"
        );
        let overtaking = proxy.overtaking();
        assert_eq!(overtaking, Vec::<String>::new(), "sent before an older one");
        proxy.pass();
        load.end(world, program).await;
    });
}

#[test]
fn bad_weather_on_both_sides_costs_nothing_but_time() {
    in_world(async |world| {
        let load = Load::start(world, 300, 60).await;
        let postgres = Wire::to_postgres(world, load.seed).await;
        let elasticsearch = Wire::to_elasticsearch(world, load.seed).await;
        let mut program = world
            .sync_es(&["run"])
            .env("POSTGRES_URL", impatient(postgres.url(), 5))
            .env("ELASTICSEARCH_URLS", elasticsearch.url())
            .env("ES_RETRY_BACKOFF_SECONDS", 0.2)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 2)
            .start();
        world.live(&mut program).await;
        let length = Duration::from_secs(20);
        tokio::join!(
            postgres.storm(load.seed, length),
            elasticsearch.storm(load.seed.rotate_left(7), length),
        );
        load.end(world, program).await;
    });
}

/// The program, with Elasticsearch behind a proxy.
fn through(world: &World, proxy: &Proxy) -> SyncEs {
    world
        .sync_es(&["run"])
        .through(proxy)
        .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.5)
        .start()
}
