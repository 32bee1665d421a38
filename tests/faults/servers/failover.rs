//! A standby takes over that has not got everything which the index has: histories are never mixed.

use crate::{
    rebuild, run,
    support::{Server, Workload, World, in_world_with_servers, wait_until},
};

const STANDBY_HAS_ALL: &str = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication
                                WHERE application_name = 'walreceiver'";

#[test]
fn a_promoted_standby_that_lags_behind_the_index_is_refused_until_there_is_a_new_index() {
    in_world_with_servers(8, async |world, servers| {
        let workload = Workload::new(world, 300).await;
        workload.fill(world).await;
        let port = servers.start_standby().await;
        world.reconnect().await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        wait_until("the standby has everything", async || {
            world.ask(STANDBY_HAS_ALL).await.filter(|all| *all)
        })
        .await;

        servers.stop(Server::Standby).await;
        world
            .execute(
                "INSERT INTO integrated_records (hk, name)
                 SELECT 'only-here-' || n, 'n' FROM generate_series(1, 100) AS n;
                 UPDATE integrated_records SET name = 'of the old history' WHERE hk LIKE '%7'",
            )
            .await;
        world.caught_up(&mut program).await;
        servers.kill(Server::Postgres).await;
        servers.restart(Server::Standby).await;
        world.move_to(port).await;
        promote(world).await;
        world
            .execute(
                "UPDATE integrated_records SET name = 'of the new history' WHERE hk LIKE '%3';
                 INSERT INTO integrated_records (hk, name) VALUES ('only-there', 'n')",
            )
            .await;
        program.stop().await;
        refused_untouched(world).await;
        rebuild(world).await;
    });
}

async fn promote(world: &World) {
    assert_eq!(world.ask("SELECT pg_promote()").await, Some(true));
}

/// The program stops at the other timeline, and has written nothing into the index.
async fn refused_untouched(world: &World) {
    let index = world.index();
    let before = world.search.write_attempts(&index).await;
    let outcome = run(world).start().ended().await;
    assert_eq!(outcome.code, Some(25), "{}", outcome.log);
    outcome.failed_naming(&["timeline 1", "timeline 2", "sync-es rebuild"]);
    assert_eq!(world.search.write_attempts(&index).await, before);
}
