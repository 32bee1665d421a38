//! A slot is lost with changes in it that nobody else has: with `SYNC_ES_LOST_SLOT=heal` they are found by
//! comparison, and nothing else is written.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    snapshot::add_rows,
    support::{
        Invocation, Proxy, SyncEs, Truth, Workload, World, assert_equal, in_world, wait_until,
    },
};

/// The program, which heals a lost slot.
fn healing(world: &World) -> Invocation {
    world.sync_es(&["run"]).env("SYNC_ES_LOST_SLOT", "heal")
}

/// Ends the program and drops its slot.
pub(crate) async fn lose_slot(world: &World, program: SyncEs) {
    program.stop().await;
    world.drop_slot().await;
}

async fn versions(world: &World) -> BTreeMap<String, u64> {
    let mut versions = BTreeMap::new();
    world
        .search
        .scan(&world.index(), async |hits| {
            versions.extend(hits.iter().map(|hit| (hit.id.clone(), hit.version)));
        })
        .await;
    versions
}

#[test]
fn what_a_lost_slot_would_have_brought_is_found_and_nothing_else_is_written() {
    in_world(async |world| {
        add_rows(world, 500).await;
        let mut program = world.run();
        world.live(&mut program).await;
        lose_slot(world, program).await;
        world
            .execute(
                "UPDATE integrated_records SET name = 'changed' WHERE hk IN ('row-7', 'row-70');
                 DELETE FROM integrated_records WHERE hk IN ('row-8', 'row-80', 'row-400');
                 INSERT INTO integrated_records (hk, name) VALUES ('new', 'new'), ('newer', 'newer')",
            )
            .await;
        let before = versions(world).await;
        // Without the setting, a person is asked.
        let stopped = world.sync_es(&["run"]).output().await;
        assert_eq!(stopped.code, Some(20), "{}", stopped.log);

        let mut program = healing(world).start();
        world.caught_up(&mut program).await;
        let truth = Truth::organizations();
        assert_equal(world, &truth).await;
        let after = versions(world).await;
        let written: Vec<&str> = after
            .iter()
            .filter(|(key, version)| before.get(*key) != Some(version))
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(written, ["new", "newer", "row-7", "row-70"]);
        let log = program.log();
        assert!(log.contains("\"written\":4,\"deleted\":3"), "{log}");
        let run = world.latest_run().await.unwrap();
        assert_eq!(run["n_input_records"], 7);

        world
            .execute("UPDATE integrated_records SET name = 'later' WHERE hk < 'row-3'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &truth).await;
        program.stop().await;
    });
}

/// The slot is lost, the healing killed, the new slot lost as well, all while the table is changed.
#[test]
fn a_healing_that_is_killed_under_load_comes_to_its_end() {
    in_world(async |world| {
        let mut workload = Workload::new(world, 900).await;
        (workload.writers, workload.rate) = (4, 60);
        workload.fill(world).await;
        let mut program = world.run();
        world.live(&mut program).await;
        let writers = workload.start(world).await;
        let proxy = Proxy::slow(world, Duration::from_millis(200)).await;
        let mut random = StdRng::seed_from_u64(workload.seed);
        let mut broken_off = 0;
        for _ in 0..3 {
            lose_slot(world, program).await;
            let more = writers.changes() + 50;
            wait_until("the writers went on", async || {
                (writers.changes() > more).then_some(())
            })
            .await;
            program = healing(world).through(&proxy).start();
            program
                .until_log("it heals", |log| log.contains("comparing the index"))
                .await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
            let log = program.kill_9();
            broken_off += u32::from(!log.contains("the index is mended"));
            program = healing(world).start();
            world.caught_up(&mut program).await;
        }
        assert!(
            broken_off > 0,
            "every healing was over before it was killed"
        );
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}
