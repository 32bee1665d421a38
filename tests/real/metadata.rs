//! What stands in run metadata is not believed: it can be gone, from an older backup, written by hand
//! or by another version. Each of these is a named stop, and never a start further on.

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::{
    history::{stopped_behind, stops},
    snapshot::add_rows,
    support::{World, in_world},
};

fn metadata(world: &World) -> String {
    format!("{}-sync-metadata", world.alias())
}

/// The path of a run's document, behind one of `_doc` and `_update`.
fn document(world: &World, action: &str, run: u64) -> String {
    format!("/{}/{action}/{}:{run}", metadata(world), world.index())
}

async fn overwrite(world: &World, run: u64, fields: Value) {
    let path = format!("{}?refresh=true", document(world, "_update", run));
    let body = json!({ "doc": fields });
    world.search.must(Method::Post, &path, Some(body)).await;
}

/// Runs once, and once more after a change, so that there are two records; then a row is missed.
async fn stopped_behind_after_two_runs(world: &World) {
    add_rows(world, 20).await;
    for change in ["INSERT INTO integrated_records (hk) VALUES ('between')", ""] {
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        world.execute(change).await;
    }
    world
        .execute("INSERT INTO integrated_records (hk) VALUES ('missed')")
        .await;
}

#[test]
fn run_metadata_that_is_gone_is_not_taken_for_a_first_start() {
    in_world(async |world| {
        stopped_behind(world).await;
        let path = format!("/{}", metadata(world));
        world.search.must(Method::Delete, &path, None).await;
        stops(world, &[&world.slot(), "no run into this index knows it"]).await;
    });
}

#[test]
fn a_latest_run_that_is_gone_is_a_gap_to_the_one_before() {
    in_world(async |world| {
        stopped_behind_after_two_runs(world).await;
        let path = format!("{}?refresh=true", document(world, "_doc", 2));
        world.search.must(Method::Delete, &path, None).await;
        stops(world, &[&world.slot(), "is confirmed up to"]).await;
    });
}

#[test]
fn an_older_copy_of_a_run_is_a_gap() {
    in_world(async |world| {
        stopped_behind_after_two_runs(world).await;
        let path = document(world, "_doc", 1);
        let first = world.search.must(Method::Get, &path, None).await;
        let position = first["_source"]["acknowledged_lsn"].clone();
        overwrite(world, 2, json!({ "acknowledged_lsn": position })).await;
        stops(world, &[&world.slot(), "is confirmed up to"]).await;
    });
}

#[test]
fn runs_whose_numbers_are_exchanged_are_not_gone_on_with() {
    in_world(async |world| {
        stopped_behind_after_two_runs(world).await;
        overwrite(world, 1, json!({ "number": 2 })).await;
        overwrite(world, 2, json!({ "number": 1 })).await;
        stops(world, &[&world.slot(), "is confirmed up to"]).await;
    });
}

#[test]
fn a_position_that_the_server_has_never_reached_is_another_servers() {
    in_world(async |world| {
        stopped_behind(world).await;
        overwrite(world, 1, json!({ "acknowledged_lsn": "FFFFFF/0" })).await;
        stops(world, &["cluster that has sent its WAL up to"]).await;
    });
}

#[test]
fn run_metadata_that_cannot_be_read_is_named_and_not_waited_for() {
    in_world(async |world| {
        stopped_behind(world).await;
        let path = document(world, "_doc", 1);
        let good = world.search.must(Method::Get, &path, None).await["_source"].clone();
        let garbage = [
            json!({ "phase": "levitating" }),
            json!({ "acknowledged_lsn": "garbage" }),
            json!({ "consistent_point": 7 }),
            json!({ "index_uuid": null }),
        ];
        for fields in garbage {
            overwrite(world, 1, fields).await;
            stops(world, &[&metadata(world), "cannot be read"]).await;
            overwrite(world, 1, good.clone()).await;
        }
    });
}

#[test]
fn run_metadata_of_a_newer_version_is_left_to_it() {
    in_world(async |world| {
        stopped_behind(world).await;
        let path = format!("/{}/_mapping", metadata(world));
        let newer = json!({ "properties": { "position_of_shards": { "type": "keyword" } } });
        world.search.must(Method::Put, &path, Some(newer)).await;
        overwrite(world, 1, json!({ "position_of_shards": "0/1" })).await;
        stops(world, &[&metadata(world), "position_of_shards"]).await;
    });
}
