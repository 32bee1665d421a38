//! After a start, rows are read again by their key only where an earlier process may have written
//! them newer than the changes that are still to come.

use elasticsearch::http::Method;

use crate::{
    snapshot::add_rows,
    support::{Truth, World, assert_equal, in_world},
};

/// Changes that come with all their values; the first of them is lacking one where `description` is
/// stored out of line.
const CHANGES: &str = "UPDATE integrated_records SET name = 'once' WHERE hk < 'row-2';
     UPDATE integrated_records SET name = 'twice' WHERE hk < 'row-15';
     DELETE FROM integrated_records WHERE hk = 'row-7';
     INSERT INTO integrated_records (hk, name) VALUES ('row-7', 'again')";

/// Runs until the changes so far are in.
async fn run_and_stop(world: &World) {
    let mut program = world.run();
    world.caught_up(&mut program).await;
    program.stop().await;
}

/// How often rows are read again for changes that were made while the program was away.
async fn readings_after_a_start(world: &World) -> usize {
    world.execute(CHANGES).await;
    let run = world.sync_es(&["run"]);
    let run = run.env("SYNC_ES_LOG", "info,sync_es::pipeline=debug");
    let mut program = run.start();
    world.caught_up(&mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    let log = program.stop().await.log;
    log.matches("rows read again").count()
}

fn metadata(world: &World, run: u32) -> String {
    format!(
        "/{}-sync-metadata/_doc/{}:{run}",
        world.alias(),
        world.index()
    )
}

#[test]
fn where_no_row_was_read_again_none_is_after_a_start() {
    in_world(async |world| {
        add_rows(world, 200).await;
        run_and_stop(world).await;
        assert_eq!(readings_after_a_start(world).await, 0);
        assert_eq!(readings_after_a_start(world).await, 0);
    });
}

#[test]
fn where_rows_were_read_again_they_are_after_a_start() {
    in_world(async |world| {
        world
            .execute("ALTER TABLE integrated_records ALTER description SET STORAGE EXTERNAL")
            .await;
        add_rows(world, 200).await;
        world
            .execute("INSERT INTO integrated_records (hk, description) VALUES ('large', repeat('long', 2000))")
            .await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        world
            .execute("UPDATE integrated_records SET name = 'read again' WHERE hk = 'large'")
            .await;
        world.caught_up(&mut program).await;
        program.stop().await;
        assert!(readings_after_a_start(world).await > 0);
    });
}

#[test]
fn a_record_that_does_not_tell_of_readings_is_taken_for_one_of_many() {
    in_world(async |world| {
        add_rows(world, 200).await;
        run_and_stop(world).await;
        let path = metadata(world, 1);
        let mut record = world.search.must(Method::Get, &path, None).await["_source"].take();
        let told = record.as_object_mut().unwrap().remove("read_ahead_to");
        assert!(told.is_some_and(|told| told.is_string()));
        let path = format!("{path}?refresh=true");
        world.search.must(Method::Put, &path, Some(record)).await;
        assert!(readings_after_a_start(world).await > 0);
        let run = world.latest_run().await.unwrap();
        assert!(run["read_ahead_to"].is_string(), "{run}");
    });
}

/// It can have copied rows that are newer than the changes that the stream is to bring.
#[test]
fn after_a_one_shot_run_into_the_same_index_rows_are_read_again() {
    in_world(async |world| {
        add_rows(world, 200).await;
        run_and_stop(world).await;
        let one_shot = world.sync_es(&["run", "--snapshot-only"]);
        one_shot.output().await.succeeded();
        assert!(readings_after_a_start(world).await > 0);
    });
}
