//! The one-shot backfill, and the snapshot that the stream begins with.

use std::time::Duration;

use elasticsearch::http::{Method, Url};
use serde_json::json;

use crate::support::{Truth, Workload, World, assert_equal, in_world, in_world_of, wait_until};

/// Rows that have nothing but a key and a name.
pub(crate) async fn add_rows(world: &World, rows: u32) {
    world
        .execute(&format!(
            "INSERT INTO integrated_records (hk, name, updated_at)
             SELECT 'row-' || n, 'name ' || n, now() FROM generate_series(1, {rows}) AS n"
        ))
        .await;
}

async fn slots(world: &World) -> i64 {
    let name = &world.name;
    world
        .ask(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE database = '{name}'"
        ))
        .await
        .unwrap()
}

#[test]
fn a_one_shot_run_makes_the_alias_equal_to_the_table_and_leaves_no_slot() {
    in_world_of(256, async |world| {
        Workload::new(world, 900).await.fill(world).await;
        world
            .sync_es(&["run", "--snapshot-only"])
            .output()
            .await
            .succeeded();
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(slots(world).await, 0);
        let publications: i64 = world
            .ask("SELECT count(*) FROM pg_publication")
            .await
            .unwrap();
        assert_eq!(publications, 0, "a one-shot run needs no publication");
        assert_eq!(world.search.indices(world.alias()).await, [world.index()]);
        let run = world.latest_run().await.unwrap();
        assert_eq!(run["sync_finished"], true, "{run}");
        assert_eq!(run["n_input_records"], 600, "{run}");
        assert_eq!(run["n_output_records"], 600, "{run}");
        let last: String = world
            .ask("SELECT max(hk) FROM integrated_records")
            .await
            .unwrap();
        assert_eq!(run["last_synced_item"], last, "{run}");
    });
}

#[test]
fn the_program_is_one_shot_with_the_flag_alone_as_well() {
    in_world(async |world| {
        add_rows(world, 10).await;
        world
            .sync_es(&["--snapshot-only"])
            .output()
            .await
            .succeeded();
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(slots(world).await, 0);
    });
}

#[test]
fn a_one_shot_run_again_renews_changed_rows_and_removes_deleted_ones() {
    in_world(async |world| {
        let workload = Workload::new(world, 600).await;
        workload.fill(world).await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        for _ in 0..2 {
            let writers = workload.start(world).await;
            wait_until("rows have changed", async || {
                (writers.changes() > 500).then_some(())
            })
            .await;
            writers.stop().await;
            run.output().await.succeeded();
            assert_equal(world, &Truth::organizations()).await;
        }
        world.execute("TRUNCATE integrated_records").await;
        run.output().await.succeeded();
        assert_eq!(world.search.count(world.alias()).await, Some(0));
    });
}

#[test]
fn a_one_shot_run_needs_no_right_but_to_read_the_table() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let role = &world.name;
        world
            .execute(&format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'only to read' NOREPLICATION;
                 GRANT SELECT ON integrated_records TO {role}"
            ))
            .await;
        let mut url: Url = world.postgres_url();
        url.set_username(role).unwrap();
        url.set_password(Some("only to read")).unwrap();
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .env("POSTGRES_URL", url);
        let outcome = run.output().await;
        world
            .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
        outcome.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}

#[test]
fn an_empty_table_gives_an_empty_alias() {
    in_world(async |world| {
        world
            .sync_es(&["run", "--snapshot-only"])
            .output()
            .await
            .succeeded();
        assert_eq!(world.search.count(world.alias()).await, Some(0));
        let mut program = world.run();
        world.live(&mut program).await;
        add_rows(world, 1).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

/// A transaction that is open when a run begins commits below the snapshot's LSN, or the stream
/// brings it: it is never lost in between.
async fn with_an_open_transaction(world: &World, arguments: &[&str]) {
    add_rows(world, 200).await;
    let other = world.connection().await;
    other
        .batch_execute(
            "BEGIN;
             INSERT INTO integrated_records (hk, name) VALUES ('late', 'committed late');
             UPDATE integrated_records SET name = 'changed late' WHERE hk = 'row-7';
             DELETE FROM integrated_records WHERE hk = 'row-8'",
        )
        .await
        .unwrap();
    let mut program = world.sync_es(arguments).start();
    let waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND state <> 'idle in transaction'";
    program
        .until("it is connected", async || world.ask::<i32>(waits).await)
        .await;
    // Long enough for a run that does not wait to read the table without the transaction.
    tokio::time::sleep(Duration::from_secs(2)).await;
    other.batch_execute("COMMIT").await.unwrap();
    if arguments.contains(&"--snapshot-only") {
        program.ended().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    } else {
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    }
}

#[test]
fn a_transaction_open_at_the_start_is_not_lost_by_a_one_shot_run() {
    in_world(async |world| with_an_open_transaction(world, &["run", "--snapshot-only"]).await);
}

#[test]
fn a_transaction_open_at_the_start_is_not_lost_by_an_always_on_run() {
    in_world(async |world| with_an_open_transaction(world, &["run"]).await);
}

#[test]
fn rows_changed_while_the_snapshot_runs_end_as_the_table_has_them() {
    in_world_of(256, async |world| {
        let workload = Workload::new(world, 3_000).await;
        workload.fill(world).await;
        let mut program = world
            .sync_es(&["run"])
            .env("POSTGRES_CLIENT_BATCH_SIZE", 50)
            .start();
        let index = world.index();
        program
            .until("the snapshot is at work", async || {
                world.search.count(&index).await.filter(|count| *count > 0)
            })
            .await;
        let writers = workload.start(world).await;
        wait_until("there are changes enough", async || {
            (writers.changes() > 800).then_some(())
        })
        .await;
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_one_shot_run_leaves_a_foreign_document_alone_no_longer_than_the_sweep() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        let path = format!(
            "/{}/_doc/foreign?version=1&version_type=external",
            world.index()
        );
        let foreign = json!({ "hk": "foreign" });
        world.search.must(Method::Put, &path, Some(foreign)).await;
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}
