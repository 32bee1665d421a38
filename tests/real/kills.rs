//! `kill -9` at any moment costs nothing but the time to start again.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{
    AckMonitor, Invocation, Proxy, Truth, Workload, World, assert_equal, in_world_of, wait_until,
};

/// Kills in each of the two phases.
const KILLS: usize = 10;
/// Documents of a request: few, so that a snapshot takes many.
const FEW: usize = 20;

#[test]
fn twenty_kills_in_snapshot_and_tail_lose_nothing() {
    in_world_of(256, async |world| {
        let mut workload = Workload::new(world, 4_500).await;
        workload.rate = 60;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let proxy = Proxy::start(world).await;
        let run = world.sync_es(&["run"]).through(&proxy);
        let in_parts = run.clone().env("ES_CLIENT_BATCH_SIZE", FEW);
        for _ in 0..KILLS {
            kill_in_snapshot(&proxy, &in_parts, 3_000 / (KILLS + 1)).await;
        }
        // Slow, so that each kill finds requests on the way, which then never arrive.
        proxy.pass();
        proxy.delay_bulks(Duration::from_millis(400));
        let mut random = StdRng::seed_from_u64(workload.seed);
        let mut program = run.start();
        world.live(&mut program).await;
        for _ in 0..KILLS {
            program.kill_9();
            program = run.start();
            let more = writers.changes() + random.random_range(20..150);
            program
                .until("the writers went on", async || {
                    (writers.changes() > more).then_some(())
                })
                .await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

/// Kills the snapshot when it has written so many documents more, or read them again, and waits for
/// answers to further requests.
async fn kill_in_snapshot(proxy: &Proxy, run: &Invocation, documents: usize) {
    proxy.let_through(documents);
    let mut program = run.start();
    program
        .until("the snapshot waits", async || {
            proxy.is_holding().then_some(())
        })
        .await;
    program.kill_9();
}

/// [`kill_in_snapshot`], but not before the run's record has a later key to go on after.
async fn kill_in_snapshot_once_recorded(
    world: &World,
    proxy: &Proxy,
    run: &Invocation,
    documents: usize,
) {
    let before = last_synced(world).await;
    proxy.let_through(documents);
    let mut program = run.start();
    program
        .until("the snapshot waits, and it is recorded where", async || {
            (proxy.is_holding() && last_synced(world).await != before).then_some(())
        })
        .await;
    program.kill_9();
}

/// The key that a resume goes on after, as the latest run's record has it.
async fn last_synced(world: &World) -> Option<String> {
    let run = world.latest_run().await?;
    run["last_synced_item"].as_str().map(str::to_owned)
}

#[test]
fn a_killed_snapshot_goes_on_where_it_stood() {
    in_world_of(256, async |world| {
        let workload = Workload::new(world, 13_500).await;
        workload.fill(world).await;
        let rows = 9_000;
        let proxy = Proxy::start(world).await;
        let run = world.sync_es(&["run"]).through(&proxy);
        let run = run.env("ES_CLIENT_BATCH_SIZE", FEW * 2);
        // Three quarters of the rows are in by the last kill; reading from the start each time would
        // write 1/4 + 2/4 + 3/4 + 1 of them.
        for _ in 0..3 {
            kill_in_snapshot_once_recorded(world, &proxy, &run, rows / 4).await;
        }
        proxy.pass();
        let mut program = run.start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        let attempts = world.search.write_attempts(&world.index()).await;
        let rows = rows as u64;
        assert!(
            attempts < rows * 7 / 4,
            "{attempts} writes for {rows} rows and three kills"
        );
        let run = world.latest_run().await.unwrap();
        program.stop().await;
        assert!(
            run["n_output_records"].as_u64().unwrap() >= rows / 4,
            "{run}"
        );
    });
}

#[test]
fn a_killed_one_shot_run_goes_on_where_it_stood() {
    in_world_of(256, async |world| {
        let workload = Workload::new(world, 6_000).await;
        workload.fill(world).await;
        let proxy = Proxy::start(world).await;
        let run = world.sync_es(&["run", "--snapshot-only"]).through(&proxy);
        for _ in 0..3 {
            kill_in_snapshot_once_recorded(world, &proxy, &run, 1_000).await;
        }
        proxy.pass();
        // The run goes on where it stood; rows that it had passed before are the next run's.
        world
            .execute(
                "UPDATE integrated_records SET name = 'changed between' WHERE hk LIKE '%1%';
                 DELETE FROM integrated_records WHERE hk LIKE '%2'",
            )
            .await;
        run.output().await.succeeded();
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}

#[test]
fn a_kill_in_the_middle_of_a_large_transaction_is_made_good() {
    in_world_of(8, async |world| {
        world
            .execute("INSERT INTO integrated_records (hk, name) SELECT 'row-' || n, 'n' FROM generate_series(1, 20000) AS n")
            .await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let index = world.index();
        let before = world.search.write_attempts(&index).await;
        world
            .execute(
                "BEGIN;
                 UPDATE integrated_records SET name = 'updated';
                 DELETE FROM integrated_records WHERE hk LIKE '%7';
                 COMMIT",
            )
            .await;
        for part in 1..4 {
            wait_until("a part of the transaction is written", async || {
                (world.search.write_attempts(&index).await > before + part * 2_000).then_some(())
            })
            .await;
            program.kill_9();
            program = world.run();
        }
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_resume_skips_no_key_whatever_the_collation_of_the_key() {
    // "B" < "a" in the first, "a" < "B" in the second, and 'a' = 'A' in the third.
    let collations = ["\"C\"", "\"sv-x-icu\"", "ignore_case"];
    for collation in collations {
        in_world_of(8, async |world| {
            world
                .execute(&format!(
                    "CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                     ALTER TABLE integrated_records ALTER hk TYPE text COLLATE {collation}"
                ))
                .await;
            let workload = Workload::new(world, 3_000).await;
            workload.fill(world).await;
            let proxy = Proxy::start(world).await;
            let run = world.sync_es(&["run"]).through(&proxy);
            let run = run.env("ES_CLIENT_BATCH_SIZE", FEW);
            for _ in 0..2 {
                kill_in_snapshot_once_recorded(world, &proxy, &run, 700).await;
            }
            proxy.pass();
            let mut program = run.start();
            world.caught_up(&mut program).await;
            assert_equal(world, &Truth::organizations()).await;
            program.stop().await;
        });
    }
}
