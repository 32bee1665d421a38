//! The tests' own tools: each finds what it is there to find.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use elasticsearch::http::{Method, Url};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{
    AckMonitor, Direction, Fault, Proxy, Refusing, Search, Truth, Wire, WireMode, Workload, World,
    compare, in_world, in_world_of, wait_until,
};

/// Writes the table's documents by hand, as the program should, with versions above any commit's.
async fn index_by_hand(world: &World) {
    let index = world.index();
    let mapping = json!({ "mappings": { "enabled": false } });
    world
        .search
        .must(Method::Put, &format!("/{index}"), Some(mapping))
        .await;
    let rows = world
        .db
        .query(
            &format!(
                "SELECT id, document::text FROM ({}) AS truth",
                Truth::organizations().query()
            ),
            &[],
        )
        .await
        .unwrap();
    for row in rows {
        let (id, document): (&str, &str) = (row.get(0), row.get(1));
        put(world, id, document).await;
    }
}

async fn put(world: &World, id: &str, document: &str) {
    let mut lines = json!({ "index": { "_index": world.index(), "_id": id } }).to_string();
    lines.push('\n');
    lines.push_str(document);
    lines.push('\n');
    world.search.bulk(lines).await;
}

#[test]
fn the_checker_finds_each_planted_difference_and_nothing_else() {
    in_world_of(16, async |world| {
        let workload = Workload::new(world, 150).await;
        workload.fill(world).await;
        world
            .execute(
                "INSERT INTO integrated_records (hk, name) VALUES ('gone', 'a'), ('other', 'b');
                 INSERT INTO integrated_records (hk, name, attributes)
                 VALUES ('exact', 'c', '{\"n\": 12345678901234567890.12}')",
            )
            .await;
        index_by_hand(world).await;
        let truth = Truth::organizations();
        let equal = compare(world, &world.index(), &truth).await;
        assert!(equal.none(), "{equal}");
        assert_eq!(equal.documents, 103);

        let path = format!("/{}/_doc/gone", world.index());
        world.search.must(Method::Delete, &path, None).await;
        put(world, "invented", r#"{"hk": "invented"}"#).await;
        let exact: String = world
            .ask(&format!(
                "SELECT document::text FROM ({}) AS truth WHERE id = 'exact'",
                truth.query()
            ))
            .await
            .unwrap();
        // A double cannot tell these two numbers apart.
        put(
            world,
            "exact",
            &exact.replace("12345678901234567890.12", "12345678901234567890.13"),
        )
        .await;
        let found = compare(world, &world.index(), &truth).await;
        assert_eq!(
            (found.missing, found.extra, found.different),
            (1, 1, 1),
            "{found}"
        );
        assert!(
            found.to_string().contains("12345678901234567890.13"),
            "{found}"
        );
    });
}

#[test]
fn the_monitor_finds_a_confirmation_that_runs_ahead_of_the_index() {
    in_world(async |world| {
        let (slot, index) = (world.slot(), world.index());
        let mapping = json!({ "mappings": { "enabled": false } });
        world
            .search
            .must(Method::Put, &format!("/{index}"), Some(mapping))
            .await;
        let monitor = AckMonitor::start(world).await;
        world
            .ask::<String>(&format!(
                "SELECT slot_name::text FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"
            ))
            .await;
        monitor.knows_the_slot().await;
        world
            .execute(
                "INSERT INTO integrated_records (hk) VALUES ('never written'), ('deleted');
                 INSERT INTO integrated_records (hk) VALUES ('too old'), ('in time'), ('old key');
                 UPDATE integrated_records SET hk = 'new key' WHERE hk = 'old key';
                 DELETE FROM integrated_records WHERE hk = 'deleted'",
            )
            .await;
        for (id, version) in [
            ("too old", 1_u64),
            ("in time", 1 << 62),
            ("new key", 1 << 62),
            ("old key", 2),
        ] {
            let action = json!({ "index": { "_index": index, "_id": id, "version": version, "version_type": "external" } });
            world.search.bulk(format!("{action}\n{{}}\n")).await;
        }
        world
            .ask::<String>(&format!("SELECT end_lsn::text FROM pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"))
            .await;
        let found = monitor.end().await;
        let violations = found.violations.join("\n");
        assert_eq!(found.violations.len(), 3, "{violations}");
        for key in ["never written", "too old", "old key"] {
            assert!(violations.contains(key), "{violations}");
        }
    });
}

#[test]
fn the_workload_makes_every_kind_of_change() {
    in_world(async |world| {
        let mut workload = Workload::new(world, 600).await;
        workload.rate = 100_000;
        workload.fill(world).await;
        let writers = workload.start(world).await;
        wait_until("there are changes enough", async || {
            (writers.changes() > 5_000).then_some(())
        })
        .await;
        let tally = writers.stop().await;
        for kind in Workload::kinds() {
            assert!(tally.contains_key(kind), "no {kind} in {tally:?}");
        }
    });
}

#[test]
fn the_proxy_refuses_and_loses_as_many_bulk_requests_as_it_is_told_to() {
    in_world(async |world| {
        let mapping = json!({ "mappings": { "enabled": false } });
        let index = format!("/{}", world.index());
        world.search.must(Method::Put, &index, Some(mapping)).await;
        let proxy = Proxy::start(world).await;
        let through = Search::connect(&Url::parse(&proxy.url()).unwrap()).await;
        let write = async |id: &str| {
            let action = json!({ "index": { "_index": world.index(), "_id": id } });
            through.try_bulk(format!("{action}\n{{}}\n")).await
        };
        proxy.refuse_bulks(1);
        proxy.lose_answers(2);
        assert_eq!(write("refused").await, Some(429));
        assert_eq!(write("lost").await, None);
        assert_eq!(write("answered").await, Some(200));
        assert_eq!(write("lost again").await, None);
        assert_eq!(write("answered again").await, Some(200));
        assert_eq!(world.search.count(&world.index()).await, Some(4));
        assert_eq!(proxy.documents(), [1, 1, 1, 1, 1]);
        assert_eq!(proxy.pending(), 0);
    });
}

#[test]
fn the_proxy_refuses_items_each_in_its_place_and_knows_what_comes_again() {
    in_world(async |world| {
        let mapping = json!({ "mappings": { "enabled": false } });
        let index = format!("/{}", world.index());
        world.search.must(Method::Put, &index, Some(mapping)).await;
        let proxy = Proxy::start(world).await;
        let through = Search::connect(&Url::parse(&proxy.url()).unwrap()).await;
        let refusing = Refusing {
            held_back: 0.3,
            carried_out: 0.3,
        };
        proxy.by_chance(1, &[(Fault::RefuseItems(refusing), 1.0)]);
        let ids: Vec<String> = (0..100).map(|id| id.to_string()).collect();
        let mut lines = String::new();
        for id in &ids {
            let index = world.index();
            let target =
                json!({ "_index": index, "_id": id, "version": 7, "version_type": "external" });
            lines.push_str(&json!({ "index": target }).to_string());
            lines.push_str("\n{}\n");
        }
        let answer = through.ask_bulk(lines.clone()).await;
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), 100);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let stored = world.search.stored(&world.index(), &ids, false).await;
        let told = items.iter().zip(&stored);
        let count = |done: bool, there: bool| {
            told.clone()
                .filter(|(item, stored)| {
                    (item["index"]["status"] == 201) == done && stored.is_some() == there
                })
                .count()
        };
        assert_eq!(
            count(true, false),
            0,
            "told as done, and not there: {answer}"
        );
        assert!(
            count(false, false) > 10 && count(false, true) > 10,
            "{answer}"
        );
        let done = count(true, true);
        proxy.pass();
        through.ask_bulk(lines.clone()).await;
        assert_eq!(proxy.again().len(), done);
        assert_eq!(proxy.overtaking(), Vec::<String>::new());

        let of = |version: u64| lines.replace("\"version\":7", &format!("\"version\":{version}"));
        let refusing = Refusing {
            held_back: 1.0,
            carried_out: 0.0,
        };
        proxy.by_chance(1, &[(Fault::RefuseItems(refusing), 1.0)]);
        through.ask_bulk(of(8)).await;
        proxy.pass();
        through.ask_bulk(of(9)).await;
        assert_eq!(proxy.overtaking().len(), 100);
    });
}

#[test]
fn a_wire_delays_swallows_cuts_and_refuses() {
    in_world(async |world| {
        let wire = Wire::to_postgres(world, 1).await;
        let connect = async || {
            let connected = tokio_postgres::connect(wire.url().as_str(), tokio_postgres::NoTls);
            let (client, connection) = connected.await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        };
        let client = connect().await.unwrap();
        let asks = async || client.simple_query("SELECT 1").await.map(|_| ());
        let soon = Duration::from_millis(300);
        asks().await.unwrap();

        let start = Instant::now();
        wire.set(WireMode::Delay {
            latency: soon / 2,
            jitter: Duration::ZERO,
        });
        asks().await.unwrap();
        assert!(
            start.elapsed() >= soon,
            "there and back is twice the latency"
        );

        // What is swallowed arrives when it is over; new connections are not concerned.
        wire.set(WireMode::Pass);
        wire.set_open(WireMode::Blackhole(Direction::ToClient));
        let mut answer = pin!(asks());
        assert!(timeout(soon, &mut answer).await.is_err(), "an answer");
        connect().await.unwrap();
        wire.set(WireMode::Pass);
        answer.await.unwrap();

        wire.set(WireMode::Throttle(1_000));
        let start = Instant::now();
        client
            .simple_query("SELECT repeat('x', 1000)")
            .await
            .unwrap();
        assert!(start.elapsed() >= 2 * soon, "in less than a second");

        wire.set(WireMode::CutAfter(100));
        assert!(
            client
                .simple_query("SELECT repeat('x', 1000)")
                .await
                .is_err()
        );
        wire.set(WireMode::Refuse);
        wait_until("a connection is refused", async || connect().await.err()).await;
        wire.set(WireMode::Pass);
        wait_until("a connection is made", async || connect().await.ok()).await;
    });
}
