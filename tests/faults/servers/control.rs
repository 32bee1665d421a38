//! The tests' own control over their servers: what it takes down comes back.

use crate::support::{
    AckMonitor, Mode, Server, Truth, Workload, assert_equal, in_world_with_servers,
};

#[test]
fn writers_and_monitor_outlive_each_way_in_which_a_server_goes_down() {
    in_world_with_servers(8, async |world, servers| {
        let mut workload = Workload::new(world, 300).await;
        workload.rate = 100;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        let mut program = world.run();
        world.live(&mut program).await;

        servers.kill(Server::Postgres).await;
        servers.restart(Server::Postgres).await;
        for mode in [Mode::Fast, Mode::Immediate] {
            servers.stop_postgres(mode).await;
            servers.restart(Server::Postgres).await;
        }
        servers.pause(Server::Postgres).await;
        servers.resume(Server::Postgres).await;
        servers.kill(Server::Elasticsearch).await;
        servers.restart(Server::Elasticsearch).await;

        world.reconnect().await;
        let done = writers.stop().await;
        assert!(done["lost connection"] > 0, "{done:?}");
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn what_a_test_took_down_is_up_again_after_its_panic() {
    let failed = std::panic::catch_unwind(|| {
        in_world_with_servers(8, async |_, servers| {
            servers.kill(Server::Postgres).await;
            servers.pause(Server::Elasticsearch).await;
            panic!("as a test that fails");
        });
    });
    assert!(failed.is_err());
    in_world_with_servers(8, async |world, _| {
        assert_eq!(world.ask::<i32>("SELECT 1").await, Some(1));
    });
}
