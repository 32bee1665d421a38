//! Rights that are withdrawn, and passwords that are changed, while the program is at work.

use std::time::Duration;

use crate::{
    snapshot::add_rows,
    support::{Invocation, Truth, World, assert_equal, in_world},
};

/// How soon a refusal must be told.
const SOON: Duration = Duration::from_secs(20);

/// A role of its own that owns nothing, with all the rights that the program needs.
async fn with_few_rights(world: &World) -> (String, Invocation) {
    let role = format!("role_{}", world.name);
    add_rows(world, 10).await;
    world
        .execute(&format!(
            "ALTER TABLE integrated_records ALTER description SET STORAGE EXTERNAL;
             UPDATE integrated_records SET description = repeat('long', 1000);
             CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'sekrit-1';
             REVOKE CONNECT ON DATABASE {0} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {0} TO {role};
             GRANT SELECT ON integrated_records TO {role};
             CREATE PUBLICATION sync_es_integrated_records FOR TABLE integrated_records",
            world.name
        ))
        .await;
    let mut url = world.postgres_url();
    url.set_username(&role).unwrap();
    url.set_password(Some("sekrit-1")).unwrap();
    let run = world
        .sync_es(&["run"])
        .env("POSTGRES_URL", &url)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 1);
    (role, run)
}

/// Roles are the cluster's, not the database's.
async fn drop_role(world: &World, role: &str) {
    world
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

async fn end_its_sessions(world: &World, role: &str) {
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    world.ask::<i64>(&end).await;
}

#[test]
fn a_right_that_is_withdrawn_is_named_and_waited_for() {
    in_world(async |world| {
        let (role, run) = with_few_rights(world).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        let cases = [
            (
                format!("REVOKE SELECT ON integrated_records FROM {role}"),
                format!("GRANT SELECT ON integrated_records TO {role}"),
                "permission denied for table",
            ),
            (
                format!("ALTER ROLE {role} NOREPLICATION"),
                format!("ALTER ROLE {role} REPLICATION"),
                "the role may not replicate",
            ),
            (
                format!("REVOKE CONNECT ON DATABASE {} FROM {role}", world.name),
                format!("GRANT CONNECT ON DATABASE {} TO {role}", world.name),
                "permission denied for database",
            ),
        ];
        for (number, (revoke, grant, named)) in cases.into_iter().enumerate() {
            world.execute(&revoke).await;
            // A row that has to be read again, and a connection that has to be made again.
            world
                .execute(&format!(
                    "UPDATE integrated_records SET name = 'change {number}'"
                ))
                .await;
            if number > 0 {
                end_its_sessions(world, &role).await;
            }
            program
                .until_log("it names what is missing", |log| log.contains(named))
                .await;
            world.execute(&grant).await;
            world.caught_up(&mut program).await;
            assert_equal(world, &Truth::organizations()).await;
        }
        program.stop().await;
        drop_role(world, &role).await;
    });
}

#[test]
fn a_one_shot_run_without_the_right_to_read_ends_and_names_it() {
    in_world(async |world| {
        let (role, run) = with_few_rights(world).await;
        world
            .execute(&format!("REVOKE SELECT ON integrated_records FROM {role}"))
            .await;
        let once = world.sync_es(&["run", "--snapshot-only"]);
        let mut url = world.postgres_url();
        url.set_username(&role).unwrap();
        url.set_password(Some("sekrit-1")).unwrap();
        let outcome = once.env("POSTGRES_URL", &url).output().await;
        outcome.failed_naming(&["the role may not read", "GRANT SELECT"]);
        assert_eq!(outcome.code, Some(12), "{}", outcome.log);
        let outcome = run.output().await;
        assert_eq!(outcome.code, Some(12), "{}", outcome.log);
        drop_role(world, &role).await;
    });
}

#[test]
fn another_password_is_a_stop_once_a_new_connection_is_needed() {
    in_world(async |world| {
        let (role, run) = with_few_rights(world).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        world
            .execute(&format!("ALTER ROLE {role} PASSWORD 'sekrit-2'"))
            .await;
        world
            .execute("UPDATE integrated_records SET name = 'still connected'")
            .await;
        world.caught_up(&mut program).await;
        end_its_sessions(world, &role).await;
        let outcome = program.ended_within(SOON).await;
        outcome.failed_naming(&["the password is wrong"]);
        assert_eq!(outcome.code, Some(10), "{}", outcome.log);
        assert!(!outcome.log.contains("sekrit-1"), "{}", outcome.log);
        drop_role(world, &role).await;
    });
}
