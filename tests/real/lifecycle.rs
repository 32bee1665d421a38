//! Start, stop, restart, stand by; and what is said before anything is changed.

use std::{net::TcpListener, time::Duration};

use elasticsearch::http::Method;

use crate::{
    snapshot::add_rows,
    support::{
        AckMonitor, Outcome, Proxy, Truth, Workload, World, assert_equal, in_world, in_world_of,
    },
};

/// Neither end was touched: no index, no slot, no publication.
async fn nothing_was_changed(world: &World) {
    let (_, indices) = world
        .search
        .ask(Method::Get, &format!("/{}*", world.name), None)
        .await;
    assert_eq!(indices, serde_json::json!({}), "an index was made");
    let slots: i64 = world
        .ask("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
        .await
        .unwrap();
    let publications: i64 = world
        .ask("SELECT count(*) FROM pg_publication")
        .await
        .unwrap();
    assert_eq!((slots, publications), (0, 0), "slots and publications");
}

/// The program refuses to begin, names the facts, and has changed nothing.
async fn refuses(world: &World, outcome: Outcome, facts: &[&str]) {
    outcome.failed_naming(facts);
    assert!(!outcome.log.contains("panicked"), "{}", outcome.log);
    nothing_was_changed(world).await;
}

/// A port where nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn sigterm_ends_it_with_0_within_seconds_and_a_restart_goes_on() {
    in_world(async |world| {
        let workload = Workload::new(world, 600).await;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        let writers = workload.start(world).await;
        for _ in 0..3 {
            let mut program = world.run();
            world.live(&mut program).await;
            // After the first round the alias is there before the program is.
            program
                .until_log("it is at work", |log| log.contains("streaming changes"))
                .await;
            let more = writers.changes() + 200;
            program
                .until("the writers went on", async || {
                    (writers.changes() > more).then_some(())
                })
                .await;
            program.terminate();
            let outcome = program.ended_within(Duration::from_secs(15)).await;
            outcome.succeeded();
        }
        writers.stop().await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        monitor.finish().await;
        program.stop().await;
    });
}

#[test]
fn sigterm_in_the_snapshot_keeps_the_place() {
    in_world_of(256, async |world| {
        Workload::new(world, 13_500).await.fill(world).await;
        let (rows, index) = (9_000, world.index());
        let proxy = Proxy::slow(world, Duration::from_millis(200)).await;
        let run = world.sync_es(&["run"]).through(&proxy);
        let mut program = run.env("ES_CLIENT_BATCH_SIZE", 50).start();
        program
            .until("a part of the rows is in", async || {
                world
                    .search
                    .count(&index)
                    .await
                    .filter(|count| *count >= rows / 4)
            })
            .await;
        program.terminate();
        program
            .ended_within(Duration::from_secs(15))
            .await
            .succeeded();
        let run = world.latest_run().await.unwrap();
        assert_ne!(
            run["sync_finished"], true,
            "the snapshot was over too soon: {run}"
        );
        assert!(run["last_synced_item"].is_string(), "{run}");
        let mut program = world.run();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        let attempts = world.search.write_attempts(&index).await;
        assert!(attempts < rows * 5 / 4, "{attempts} writes for {rows} rows");
        program.stop().await;
    });
}

#[test]
fn a_restart_without_changes_writes_no_document_again() {
    in_world(async |world| {
        add_rows(world, 100).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        let attempts = world.search.write_attempts(&world.index()).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        assert_eq!(world.search.write_attempts(&world.index()).await, attempts);
    });
}

#[test]
fn a_second_instance_waits_and_takes_over() {
    in_world(async |world| {
        add_rows(world, 50).await;
        let mut first = world.run();
        world.caught_up(&mut first).await;
        let misfit = world.file(
            "misfit.toml",
            "[document.columns]\nno_such_column = false\n",
        );
        let refused = world
            .sync_es(&["run"])
            .env("SYNC_ES_CONFIG", misfit.display())
            .output()
            .await;
        assert_eq!(refused.code, Some(2), "{}", refused.log);
        refused.failed_naming(&["no_such_column"]);
        let mut second = world.run();
        second
            .until("the second is connected", async || {
                let sessions: i64 = world
                    .ask("SELECT count(DISTINCT client_port) FROM pg_stat_activity WHERE datname = current_database()
                           AND backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()")
                    .await?;
                (sessions > 2).then_some(())
            })
            .await;
        world
            .execute("UPDATE integrated_records SET name = 'by the first' WHERE hk = 'row-1'")
            .await;
        world.caught_up(&mut first).await;
        assert!(second.runs(), "the second must wait");
        first.kill_9();
        world
            .execute("UPDATE integrated_records SET name = 'by the second' WHERE hk = 'row-2'")
            .await;
        world.caught_up(&mut second).await;
        assert_equal(world, &Truth::organizations()).await;
        second.stop().await;
    });
}

#[test]
fn drop_slot_removes_the_slot_that_would_hold_the_log_back() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        assert!(world.confirmed().await.is_some());
        world.sync_es(&["drop-slot"]).output().await.succeeded();
        assert!(world.confirmed().await.is_none());
    });
}

#[test]
fn an_unreachable_postgresql_is_named_by_host_and_port_and_not_by_its_password() {
    in_world(async |world| {
        let mut url = world.postgres_url();
        let port = dead_port();
        url.set_port(Some(port)).unwrap();
        url.set_password(Some("s3cret-canary")).unwrap();
        let outcome = world
            .sync_es(&["run"])
            .env("POSTGRES_URL", url)
            .output()
            .await;
        assert!(!outcome.log.contains("s3cret-canary"), "{}", outcome.log);
        refuses(world, outcome, &["127.0.0.1", &port.to_string()]).await;
    });
}

#[test]
fn a_refused_password_is_told_without_showing_it() {
    in_world(async |world| {
        let role = &world.name;
        world
            .execute(&format!("CREATE ROLE {role} LOGIN REPLICATION"))
            .await;
        let mut url = world.postgres_url();
        url.set_username(role).unwrap();
        url.set_password(Some("s3cret-canary")).unwrap();
        let outcome = world
            .sync_es(&["run"])
            .env("POSTGRES_URL", &url)
            .output()
            .await;
        world.execute(&format!("DROP ROLE {role}")).await;
        assert!(!outcome.log.contains("s3cret-canary"), "{}", outcome.log);
        let port = url.port().unwrap_or(5432).to_string();
        refuses(world, outcome, &[role, &port]).await;
    });
}

#[test]
fn an_unreachable_elasticsearch_is_named_by_host_and_port() {
    in_world(async |world| {
        let port = dead_port();
        let run = world
            .sync_es(&["run"])
            .env("ELASTICSEARCH_URLS", format!("http://127.0.0.1:{port}"))
            .env("ES_MAX_RETRIES", 1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.1);
        refuses(world, run.output().await, &["127.0.0.1", &port.to_string()]).await;
    });
}

#[test]
fn a_table_without_a_key_is_refused() {
    in_world(async |world| {
        world
            .execute("CREATE TABLE keyless (hk text, name text)")
            .await;
        let run = world.sync_es(&["run"]).env("POSTGRES_TABLE", "keyless");
        refuses(world, run.output().await, &["keyless", "hk"]).await;
    });
}

/// With it, a key can be written before it is given up: which of two rows a delete means could not
/// be told.
#[test]
fn a_key_whose_uniqueness_is_deferrable_is_refused() {
    in_world(async |world| {
        world
            .execute(
                "ALTER TABLE integrated_records DROP CONSTRAINT integrated_records_pkey;
                 ALTER TABLE integrated_records ADD PRIMARY KEY (hk) DEFERRABLE;
                 ALTER TABLE integrated_records REPLICA IDENTITY FULL",
            )
            .await;
        let run = world.sync_es(&["run"]).output().await;
        refuses(world, run, &["integrated_records", "hk", "deferrable"]).await;
    });
}

#[test]
fn a_table_or_key_column_that_does_not_exist_is_refused_by_name() {
    in_world(async |world| {
        let run = world
            .sync_es(&["run"])
            .env("POSTGRES_TABLE", "no_such_table");
        refuses(world, run.output().await, &["no_such_table"]).await;
        let run = world
            .sync_es(&["run"])
            .env("POSTGRES_KEY_COLUMN", "no_such_column");
        refuses(world, run.output().await, &["no_such_column"]).await;
    });
}

#[test]
fn dimensions_that_do_not_match_the_table_are_refused() {
    in_world(async |world| {
        world
            .execute("INSERT INTO integrated_records (hk, embedding) VALUES ('a', '{1,2,3}'), ('b', '{3,2,1}')")
            .await;
        let run = world.sync_es(&["run"]).env("EMBEDDING_DIMENSIONS", 5);
        refuses(
            world,
            run.output().await,
            &["embedding", "5", "3", "EMBEDDING_DIMENSIONS"],
        )
        .await;
    });
}

#[test]
fn unknown_and_impossible_settings_are_refused_by_name() {
    in_world(async |world| {
        let file = world.file("unknown.toml", "no_such_setting = 1\n");
        let run = world
            .sync_es(&["run"])
            .env("SYNC_ES_CONFIG", file.display());
        refuses(world, run.output().await, &["no_such_setting"]).await;
        let run = world.sync_es(&["run"]).env("SYNC_ES_NO_SUCH_THING", 1);
        refuses(world, run.output().await, &["SYNC_ES_NO_SUCH_THING"]).await;
        for (name, value) in [
            ("ES_CLIENT_BATCH_SIZE", "0"),
            ("POSTGRES_CLIENT_BATCH_SIZE", "many"),
            ("EMBEDDING_DIMENSIONS", "-1"),
            ("ES_RETRY_BACKOFF_SECONDS", "soon"),
            ("SYNC_ES_SLOT", "Not A Slot"),
        ] {
            let run = world.sync_es(&["run"]).env(name, value);
            refuses(world, run.output().await, &[name]).await;
        }
    });
}

#[test]
fn rows_hidden_by_row_security_are_an_error_and_not_a_smaller_index() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let role = &world.name;
        world
            .execute(&format!(
                "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw';
                 GRANT SELECT ON integrated_records TO {role};
                 ALTER TABLE integrated_records ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY a_part ON integrated_records USING (hk < 'row-5')"
            ))
            .await;
        let mut url = world.postgres_url();
        url.set_username(role).unwrap();
        url.set_password(Some("pw")).unwrap();
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .env("POSTGRES_URL", url);
        let outcome = run.output().await;
        world
            .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
        outcome.failed_naming(&["integrated_records"]);
        let documents = world.search.count(&world.index()).await.unwrap_or(0);
        assert_eq!(documents, 0);
    });
}

#[test]
fn the_index_says_of_itself_which_slot_fills_it_from_where() {
    in_world(async |world| {
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let path = format!("/{}/_mapping", world.index());
        let mapping = world.search.must(Method::Get, &path, None).await;
        let meta = &mapping[world.index()]["mappings"]["_meta"]["sync_es"];
        let run = world.latest_run().await.unwrap();
        assert_eq!(meta["slot"], world.slot());
        assert!(meta["consistent_point"].is_string(), "{meta}");
        assert_eq!(meta["consistent_point"], run["consistent_point"]);
        program.stop().await;
    });
}
