//! Elasticsearch ends, hangs, or is away for long under load, and nothing is lost.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    rounds, run,
    support::{
        AckMonitor, Proxy, Server, Truth, Workload, assert_equal, in_world_with_servers, wait_until,
    },
};

/// How long Elasticsearch is away, each round.
const AWAY: Duration = Duration::from_secs(20);
/// Memory that a run may have beyond what it had, with a backlog that it cannot deliver, in kB.
const MEMORY_KB_MORE: u64 = 100_000;

#[test]
fn kills_of_elasticsearch_cost_the_stream_nothing() {
    in_world_with_servers(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 150;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        let mut random = StdRng::seed_from_u64(workload.seed);
        for _ in 0..2 * rounds() {
            // No catching up between: it dies with requests on the way.
            let more = writers.changes() + random.random_range(20..300);
            wait_until("the writers went on", async || {
                (writers.changes() > more).then_some(())
            })
            .await;
            servers.kill(Server::Elasticsearch).await;
            servers.restart(Server::Elasticsearch).await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn kills_of_elasticsearch_cost_the_snapshot_nothing() {
    in_world_with_servers(256, async |world, servers| {
        let (kills, part) = (2 * rounds(), 900);
        let mut workload = Workload::new(world, part * (kills + 1) * 3 / 2).await;
        workload.rate = 50;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let proxy = Proxy::slow(world, Duration::from_millis(500)).await;
        let mut program = run(world).through(&proxy).start();
        let index = world.index();
        for number in 1..=kills {
            let documents = (part * number) as u64;
            program
                .until("the snapshot has come further", async || {
                    let count = world.search.count(&index).await;
                    count.filter(|count| *count >= documents)
                })
                .await;
            let alias = world.search.indices(world.alias()).await;
            assert!(alias.is_empty(), "the snapshot was over before the kill");
            servers.kill(Server::Elasticsearch).await;
            servers.restart(Server::Elasticsearch).await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn pauses_of_elasticsearch_cost_nothing() {
    in_world_with_servers(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 150;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        let mut random = StdRng::seed_from_u64(workload.seed);
        for _ in 0..2 * rounds() {
            let pause = Duration::from_millis(random.random_range(2_000..15_000) / 2);
            servers.pause(Server::Elasticsearch).await;
            tokio::time::sleep(pause).await;
            servers.resume(Server::Elasticsearch).await;
            world.caught_up(&mut program).await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn a_long_absence_of_elasticsearch_takes_no_memory_and_is_made_good() {
    in_world_with_servers(64, async |world, servers| {
        let workload = Workload::new(world, 1_000).await;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        let memory = program.memory_kb().unwrap();
        let writers = workload.start(world).await;
        servers.kill(Server::Elasticsearch).await;
        let (start, mut most) = (Instant::now(), memory);
        while start.elapsed() < AWAY * u32::try_from(rounds()).unwrap() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            most = most.max(program.memory_kb().unwrap());
        }
        assert!(
            most < memory + MEMORY_KB_MORE,
            "{memory} kB, then {most} kB"
        );
        let behind = world.confirmed().await.unwrap();
        servers.restart(Server::Elasticsearch).await;
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert!(world.confirmed().await.unwrap() > behind);
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}
