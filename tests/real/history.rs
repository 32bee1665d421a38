//! When the history that is needed is gone, or is another's, the program says so and stops: it never
//! goes on from "now".

use elasticsearch::http::Method;
use serde_json::json;

use crate::{
    snapshot::add_rows,
    support::{Proxy, Truth, World, assert_equal, in_world},
};

/// A run whose slot and index are as the program left them, with a row that is not yet in the index.
pub(crate) async fn stopped_behind(world: &World) {
    add_rows(world, 20).await;
    let mut program = world.run();
    world.caught_up(&mut program).await;
    program.stop().await;
    world.slot_is_idle().await;
    world
        .execute("INSERT INTO integrated_records (hk, name) VALUES ('missed', 'm')")
        .await;
}

/// The program stops by itself, naming the facts, and has confirmed nothing further.
pub(crate) async fn stops(world: &World, facts: &[&str]) {
    let confirmed = world.confirmed().await;
    let outcome = world.sync_es(&["run"]).output().await;
    outcome.failed_naming(facts);
    assert_ne!(
        outcome.code,
        Some(1),
        "an exit code of its own\n{}",
        outcome.log
    );
    assert!(!outcome.log.contains("panicked"), "{}", outcome.log);
    assert_eq!(world.confirmed().await, confirmed);
}

#[test]
fn a_slot_that_another_has_advanced_is_a_gap() {
    in_world(async |world| {
        stopped_behind(world).await;
        let slot = world.slot();
        world
            .ask::<String>(&format!(
                "SELECT end_lsn::text FROM pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
            ))
            .await;
        stops(world, &[&slot]).await;
    });
}

#[test]
fn a_slot_that_is_gone_is_a_gap() {
    in_world(async |world| {
        stopped_behind(world).await;
        let slot = world.slot();
        world
            .ask::<String>(&format!("SELECT pg_drop_replication_slot('{slot}')::text"))
            .await;
        stops(world, &[&slot]).await;
    });
}

#[test]
fn a_slot_that_was_made_anew_is_a_gap() {
    in_world(async |world| {
        stopped_behind(world).await;
        let slot = world.slot();
        world
            .execute(&format!(
                "SELECT pg_drop_replication_slot('{slot}');
                 SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
            ))
            .await;
        stops(world, &[&slot]).await;
    });
}

#[test]
fn an_index_that_was_replaced_is_another() {
    in_world(async |world| {
        stopped_behind(world).await;
        let path = format!("/{}", world.index());
        let mut found = world.search.must(Method::Get, &path, None).await;
        let found = found[world.index()].take();
        world.search.must(Method::Delete, &path, None).await;
        // It says of itself what the first one said, as a copy of it would.
        let same = json!({ "mappings": found["mappings"], "aliases": found["aliases"] });
        world.search.must(Method::Put, &path, Some(same)).await;
        stops(world, &[&world.index(), "another one of the same name"]).await;
    });
}

#[test]
fn an_index_that_is_gone_is_not_taken_for_an_empty_one() {
    in_world(async |world| {
        stopped_behind(world).await;
        let path = format!("/{}", world.index());
        world.search.must(Method::Delete, &path, None).await;
        stops(world, &[&world.index()]).await;
        assert!(world.search.indices(&world.index()).await.is_empty());
    });
}

#[test]
fn a_publication_dropped_while_the_stream_runs_stops_it() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let mut program = world
            .sync_es(&["run"])
            .env("SYNC_ES_PUBLICATION", "dropped")
            .start();
        world.caught_up(&mut program).await;
        world.execute("DROP PUBLICATION dropped").await;
        world
            .execute("INSERT INTO integrated_records (hk) VALUES ('after')")
            .await;
        program
            .ended()
            .await
            .failed_naming(&["publication", "dropped"]);
    });
}

#[test]
fn a_table_rewritten_in_the_snapshot_is_read_anew() {
    in_world(async |world| {
        add_rows(world, 5_000).await;
        let proxy = Proxy::start(world).await;
        proxy.let_through(1_000);
        let mut program = world.sync_es(&["run"]).through(&proxy).start();
        program
            .until("the snapshot waits", async || {
                proxy.is_holding().then_some(())
            })
            .await;
        program.kill_9();
        // Rewrites the table: every row gets a value that no stream brings.
        world
            .execute("ALTER TABLE integrated_records ALTER employee_count TYPE bigint USING 7")
            .await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}
