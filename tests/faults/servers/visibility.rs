//! Between a commit's record in the log and the moment at which its rows can be seen lies a gap: with
//! synchronous replication and no standby, an unbounded one. A slot's stream is ahead of what a query
//! sees by that much.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::{
    Proxy, SyncEs, Truth, World, assert_equal, in_world_with_servers, wait_until,
};

#[test]
fn a_resumed_snapshot_waits_for_what_committed_before_its_slot_and_cannot_be_seen_yet() {
    with_rows(async |world| {
        let proxy = Proxy::slow(world, Duration::from_millis(300)).await;
        let run = world.sync_es(&["run"]).through(&proxy);
        // Small requests, so that the kill finds the snapshot under way.
        let run = run.env("ES_CLIENT_BATCH_SIZE", 20);
        let (mut program, committing) = slot_above_an_unseen_commit(world, run.start()).await;
        program
            .until("the snapshot has acknowledged rows", async || {
                let run = world.latest_run().await?;
                run["last_synced_item"].is_string().then_some(())
            })
            .await;
        program.kill_9();
        proxy.pass();
        let mut program = run.start();
        program
            .until_log("it waits for the transaction", |log| {
                log.contains("waiting for a transaction")
            })
            .await;
        close_the_gap(world).await;
        committing.await.unwrap();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_row_is_read_again_only_once_its_change_can_be_seen() {
    with_rows(async |world| {
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let before = world.search.write_attempts(&world.index()).await;
        let update = "UPDATE integrated_records SET name = 'seen late' WHERE embedding IS NOT NULL";
        let committing = commit_unseen(world, update).await;
        wait_until("the change is in the stream", async || {
            world
                .ask::<i32>(
                    "SELECT pid FROM pg_stat_replication
                      WHERE application_name LIKE 'sync-es%' AND sent_lsn >= pg_current_wal_flush_lsn()",
                )
                .await
        })
        .await;
        // Long enough for a program that does not wait for the change to become visible.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = world.search.write_attempts(&world.index()).await;
        assert_eq!(
            before, after,
            "documents were written before their rows could be seen"
        );
        close_the_gap(world).await;
        committing.await.unwrap();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

/// A table whose rows take a while to copy, and a server without a gap afterwards, however the test
/// ends.
fn with_rows(test: impl AsyncFnOnce(&World)) {
    in_world_with_servers(768, async |world, _| {
        world
            .execute(
                "SET synchronous_commit = 'local';
                 INSERT INTO integrated_records (hk, name) SELECT 'row-' || n, 'a row' FROM generate_series(1, 3000) AS n;
                 INSERT INTO integrated_records (hk, name, embedding)
                 SELECT 'big-' || n, 'a row', (SELECT array_agg(sin(n * i)::real) FROM generate_series(1, 768) AS i)
                   FROM generate_series(1, 20) AS n;
                 CREATE PUBLICATION sync_es_integrated_records FOR TABLE integrated_records",
            )
            .await;
        let result = AssertUnwindSafe(test(world)).catch_unwind().await;
        close_the_gap(world).await;
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// The program's slot is made while a transaction commits that began after the first look at running
/// transactions: its commit record is below the slot's consistent point, and it cannot be seen. Two
/// others hold the slot's creation at its two steps until then (`SnapBuildFindSnapshot`).
async fn slot_above_an_unseen_commit(
    world: &World,
    mut program: SyncEs,
) -> (SyncEs, JoinHandle<()>) {
    let first = Holder::begin(world).await;
    first.is_waited_for(world, &mut program).await;
    let second = Holder::begin(world).await;
    first.client.batch_execute("COMMIT").await.unwrap();
    second.is_waited_for(world, &mut program).await;
    let update = "UPDATE integrated_records SET name = 'seen late' WHERE hk >= 'row-7'";
    let committing = commit_unseen(world, update).await;
    second.client.batch_execute("COMMIT").await.unwrap();
    (program, committing)
}

/// Commits `change`, whose commit record is then written and waits for a standby that is not there.
async fn commit_unseen(world: &World, change: &str) -> JoinHandle<()> {
    let client = world.connection().await;
    client
        .batch_execute(&format!("BEGIN; {change}"))
        .await
        .unwrap();
    world
        .execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        .await;
    world.execute("SELECT pg_reload_conf()").await;
    wait_until("the setting is in force", async || {
        let client = world.connection().await;
        let setting = client
            .query_one("SHOW synchronous_standby_names", &[])
            .await
            .unwrap();
        (setting.get::<_, &str>(0) == "nobody").then_some(())
    })
    .await;
    let committing = tokio::spawn(async move { client.batch_execute("COMMIT").await.unwrap() });
    wait_until("the commit waits for a standby", async || {
        world
            .ask::<i32>("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()")
            .await
    })
    .await;
    committing
}

async fn close_the_gap(world: &World) {
    world
        .execute("ALTER SYSTEM RESET synchronous_standby_names")
        .await;
    world.execute("SELECT pg_reload_conf()").await;
}

/// An open transaction.
struct Holder {
    client: Client,
    xid: String,
}

impl Holder {
    async fn begin(world: &World) -> Self {
        let client = world.connection().await;
        client
            .batch_execute("SET synchronous_commit = 'local'; BEGIN")
            .await
            .unwrap();
        let row = client
            .query_one("SELECT pg_current_xact_id()::xid::text", &[])
            .await;
        let xid = row.unwrap().get(0);
        Self { client, xid }
    }

    /// Waits until the slot's creation waits for it.
    async fn is_waited_for(&self, world: &World, program: &mut SyncEs) {
        let waits = format!(
            "SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'transactionid' AND transactionid::text = '{}'",
            self.xid
        );
        program
            .until("the slot's creation waits", async || {
                world.ask::<i32>(&waits).await
            })
            .await;
    }
}
