//! The main promise: whatever eight writers do, index and table end up equal, and nothing is
//! confirmed to PostgreSQL before Elasticsearch has it.

use std::{env, time::Duration};

use crate::support::{
    AckMonitor, Proxy, Truth, Workload, World, assert_equal, in_world_of, wait_until_within,
};

/// Changes of each of these tests, unless `SYNC_ES_TEST_CHANGES` says otherwise.
const CHANGES: u64 = 6_000;
/// Changes that are certainly indexed within a second, however loaded the machine is.
const CHANGES_PER_SECOND: u64 = 50;

fn changes() -> u64 {
    env::var("SYNC_ES_TEST_CHANGES").map_or(CHANGES, |changes| {
        changes.parse().expect("SYNC_ES_TEST_CHANGES is a number")
    })
}

/// Writers from before the snapshot to the last change; then table and index are equal.
async fn converges(world: &World) {
    let changes = changes();
    let deadline = Duration::from_secs(60 + changes / CHANGES_PER_SECOND);
    let keys = usize::try_from(changes / 4).unwrap().clamp(1_000, 20_000);
    let workload = Workload::new(world, keys).await;
    workload.fill(world).await;
    let monitor = AckMonitor::start(world).await;
    let writers = workload.start(world).await;
    let mut program = world.run();
    program
        .until_within(deadline, "the writers have changed enough", async || {
            (writers.changes() >= changes).then_some(())
        })
        .await;
    // The tail, too, runs beside writers.
    wait_until_within(deadline, "the alias is there", async || {
        (!world.search.indices(world.alias()).await.is_empty()).then_some(())
    })
    .await;
    let tally = writers.stop().await;
    world.caught_up_within(deadline, &mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    monitor.finish().await;
    program.stop().await;
    for kind in Workload::kinds() {
        assert!(tally.contains_key(kind), "no {kind} in {tally:?}");
    }
}

#[test]
fn index_equals_table_after_mixed_changes_with_embeddings_in_the_row() {
    in_world_of(256, async |world| converges(world).await);
}

#[test]
fn index_equals_table_after_mixed_changes_with_embeddings_out_of_line() {
    in_world_of(768, async |world| converges(world).await);
}

#[test]
fn nothing_is_confirmed_before_a_slow_elasticsearch_has_it() {
    in_world_of(8, async |world| {
        let workload = Workload::new(world, 600).await;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let proxy = Proxy::start(world).await;
        let mut program = world.sync_es(&["run"]).through(&proxy).start();
        world.live(&mut program).await;
        proxy.delay_bulks(Duration::from_millis(700));
        let writers = workload.start(world).await;
        program
            .until("the writers have changed enough", async || {
                (writers.changes() >= 3_000).then_some(())
            })
            .await;
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}
