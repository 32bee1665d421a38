//! What `sync-es check` tells of settings that only a restart of PostgreSQL changes, and that each
//! remedy mends it as it is printed.

use serde_json::Value;

use crate::support::{Mode, Server, Servers, World, in_world_with_servers};

/// The remedy of what fails, which is `what` alone; none when nothing does.
async fn remedy(world: &World, what: &str) -> Option<String> {
    let outcome = world.sync_es(&["check", "--json"]).output().await;
    let line = outcome
        .log
        .lines()
        .find(|line| line.starts_with("{\"ready\""));
    let told: Value = serde_json::from_str(line.unwrap()).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let mut failed = findings.iter().filter(|one| one["verdict"] == "failed");
    let first = failed.next();
    assert_eq!(
        outcome.code,
        Some(if first.is_some() { 12 } else { 0 }),
        "{told}"
    );
    assert_eq!(
        first.map_or(what, |one| one["what"].as_str().unwrap()),
        what
    );
    assert!(failed.next().is_none(), "{told}");
    let mend = first?["mend"].as_str().unwrap();
    Some(mend.split(";  -- ").next().unwrap().to_owned())
}

async fn set_and_restart(world: &mut World, servers: &Servers, statement: &str) {
    world.execute(statement).await;
    servers.stop_postgres(Mode::Fast).await;
    servers.restart(Server::Postgres).await;
    world.reconnect().await;
}

#[test]
fn each_remedy_that_needs_a_restart_mends_it() {
    in_world_with_servers(8, async |world, servers| {
        // With a slot that another test has left, PostgreSQL would not start.
        let slots: Option<i64> = world.ask("SELECT count(*) FROM pg_replication_slots").await;
        assert_eq!(slots, Some(0));
        let level = "ALTER SYSTEM SET wal_level = 'replica'";
        set_and_restart(world, servers, level).await;
        let mend = remedy(world, "wal_level").await.unwrap();
        set_and_restart(world, servers, &mend).await;
        assert_eq!(remedy(world, "wal_level").await, None);

        set_and_restart(world, servers, "ALTER SYSTEM SET max_replication_slots = 1").await;
        world
            .execute("SELECT pg_create_physical_replication_slot('other')")
            .await;
        let mend = remedy(world, "replication slots").await.unwrap();
        set_and_restart(world, servers, &mend).await;
        assert_eq!(remedy(world, "replication slots").await, None);
        world
            .execute("SELECT pg_drop_replication_slot('other')")
            .await;
        set_and_restart(world, servers, "ALTER SYSTEM RESET ALL").await;
    });
}
