//! PostgreSQL ends under load, in each way that it can, and nothing is lost.

use std::time::{Duration, Instant};

use crate::{
    rounds, run,
    support::{
        AckMonitor, Mode, Proxy, Server, Servers, Truth, Workload, World, assert_equal,
        in_world_with_servers,
    },
};

/// A fast stop waits until walsenders have been told that all is received: seconds, not minutes.
const FAST_STOP_MAX: Duration = Duration::from_secs(30);

/// A way to end.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    StoppedFast,
    StoppedAtOnce,
    /// The server stays; every connection to the database ends.
    BackendsTerminated,
}

const ENDS: [End; 4] = [
    End::Killed,
    End::StoppedFast,
    End::StoppedAtOnce,
    End::BackendsTerminated,
];

impl End {
    /// Comes over the server, and lets it start again.
    async fn come(self, world: &mut World, servers: &Servers) {
        match self {
            Self::Killed => servers.kill(Server::Postgres).await,
            Self::StoppedFast => {
                let start = Instant::now();
                servers.stop_postgres(Mode::Fast).await;
                let took = start.elapsed();
                assert!(took < FAST_STOP_MAX, "a fast stop took {took:?}");
            }
            Self::StoppedAtOnce => servers.stop_postgres(Mode::Immediate).await,
            Self::BackendsTerminated => {
                world
                    .execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                          WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    )
                    .await;
                return;
            }
        }
        servers.restart(Server::Postgres).await;
        world.reconnect().await;
    }
}

#[test]
fn a_server_that_ends_in_any_way_costs_the_stream_nothing() {
    in_world_with_servers(8, async |world, servers| {
        let mut workload = Workload::new(world, 1_000).await;
        workload.rate = 150;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        for end in ENDS.repeat(rounds()) {
            end.come(world, servers).await;
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
fn a_server_that_ends_in_any_way_costs_the_snapshot_nothing() {
    in_world_with_servers(256, async |world, servers| {
        let ends = ENDS.repeat(rounds());
        // In each of its parts there is an end.
        let part = 700;
        let rows = part * (ends.len() + 1);
        let mut workload = Workload::new(world, rows * 3 / 2).await;
        workload.rate = 50;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let proxy = Proxy::slow(world, Duration::from_millis(500)).await;
        let mut program = run(world).through(&proxy).start();
        for (number, end) in ends.into_iter().enumerate() {
            let documents = (part * (number + 1)) as u64;
            let index = world.index();
            program
                .until("the snapshot has come further", async || {
                    let count = world.search.count(&index).await;
                    count.filter(|count| *count >= documents)
                })
                .await;
            let alias = world.search.indices(world.alias()).await;
            assert!(alias.is_empty(), "the snapshot was over before {end:?}");
            end.come(world, servers).await;
        }
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}
