//! A standby takes over that has not got everything which the index has: histories are never mixed.

use crate::{
    rebuild, run,
    support::{
        Server, Servers, SyncEs, Truth, Wire, Workload, World, assert_equal, in_world_with_servers,
        seed, wait_until,
    },
};

const STANDBY_HAS_ALL: &str = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication
                                WHERE application_name = 'walreceiver'";

#[test]
fn a_promoted_standby_that_lags_behind_the_index_is_refused_until_there_is_a_new_index() {
    in_world_with_servers(8, async |world, servers| {
        let mut program = run(world).start();
        fail_over(world, servers, &mut program).await;
        program.stop().await;
        refused_untouched(world).await;
        rebuild(world).await;
    });
}

#[test]
fn after_a_failover_a_service_fills_the_next_generation_where_that_is_wanted() {
    in_world_with_servers(8, async |world, servers| {
        let wire = Wire::to_postgres(world, seed()).await;
        let wants_it = |world: &World| {
            run(world)
                .env("SYNC_ES_LOST_SLOT", "rebuild")
                .env("POSTGRES_URL", wire.url())
        };
        let mut service = wants_it(world).start();
        let port = fail_over(world, servers, &mut service).await;
        let checked = world
            .sync_es(&["check"])
            .env("SYNC_ES_LOST_SLOT", "rebuild")
            .output()
            .await;
        checked.succeeded();
        assert!(
            checked.log.contains("run fills the next generation"),
            "{}",
            checked.log
        );
        wire.move_to(port);
        let old = world.index();
        let next = old.replace("_v1", "_v2");
        let writes = world.search.write_attempts(&old).await;
        service
            .until("the alias is on the next generation", async || {
                let targets = world.search.indices(world.alias()).await;
                (targets == [next.clone()]).then_some(())
            })
            .await;
        service
            .until_log("it has gone over", |log| {
                log.contains("going on with that one")
            })
            .await;
        // Not because the slot is gone, which it is too.
        assert!(service.log().contains("timeline 2"), "{}", service.log());
        assert_eq!(world.search.write_attempts(&old).await, writes);
        world
            .execute("DELETE FROM integrated_records WHERE hk = 'only-there'")
            .await;
        world.caught_up(&mut service).await;
        assert_equal(world, &Truth::organizations()).await;
        service.stop().await;
        // Nothing is left to be done by the next start, and nothing is refused.
        let mut again = wants_it(world).start();
        world.caught_up(&mut again).await;
        again.stop().await;
        assert_eq!(world.search.indices(world.alias()).await, [next]);
    });
}

/// A table and its index; then a standby takes over that lacks changes which the index has, and is
/// changed itself. Returns the standby's port.
async fn fail_over(world: &mut World, servers: &Servers, program: &mut SyncEs) -> u16 {
    let workload = Workload::new(world, 300).await;
    workload.fill(world).await;
    let port = servers.start_standby().await;
    world.reconnect().await;
    world.caught_up(program).await;
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
    world.caught_up(program).await;
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
    port
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
