//! What the admin address says, held against what was done: the table, the index, the slot.

use std::{collections::BTreeMap, net::TcpListener};

use serde_json::Value;

use crate::{
    refusals::{ANTIDOTE, POISON, with_a_mapping},
    snapshot::add_rows,
    support::{Proxy, SyncEs, Truth, World, assert_equal, in_world},
};

/// The admin address of a program.
pub(crate) struct Admin(String);

impl Admin {
    /// Of a program that was started with [`ANY_PORT`].
    pub(crate) async fn of(program: &mut SyncEs) -> Self {
        Self(program.admin_address().await)
    }

    pub(crate) fn address(&self) -> &str {
        &self.0
    }

    /// Status code and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.0))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn status(&self) -> Value {
        let (code, body) = self.get("/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Each sample by its name with labels, to the next whole number.
    async fn metrics(&self) -> BTreeMap<String, i64> {
        let (code, text) = self.get("/metrics").await;
        assert!(code == 200 && text.ends_with("# EOF\n"), "{code} {text}");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "counts, and bytes of a test"
                )]
                let whole = value.round() as i64;
                (name.to_owned(), whole)
            })
            .collect()
    }

    /// Waits until a search has found a document that was sought; gives how many were.
    async fn until_found(&self, program: &mut SyncEs) -> i64 {
        program
            .until("a search finds a document", async || {
                let metrics = self.metrics().await;
                let found = metrics["sync_es_commit_to_searchable_seconds_count"];
                (found > 0).then_some(found)
            })
            .await
    }

    /// Waits until /readyz says yes or no; gives what it says.
    async fn until_ready_is(&self, program: &mut SyncEs, ready: bool) -> Value {
        let code = if ready { 200 } else { 503 };
        let (_, body) = program
            .until("/readyz changes", async || {
                let answer = self.get("/readyz").await;
                (answer.0 == code).then_some(answer)
            })
            .await;
        serde_json::from_str(&body).unwrap()
    }
}

pub(crate) const ANY_PORT: (&str, &str) = ("SYNC_ES_ADMIN_ADDR", "127.0.0.1:0");

async fn count(world: &World, which: &str) -> i64 {
    let query = format!("SELECT count(*) FROM integrated_records WHERE {which}");
    world.ask(&query).await.unwrap()
}

#[test]
fn the_metrics_agree_with_the_table_and_what_was_changed_in_it() {
    in_world(async |world| {
        add_rows(world, 1_500).await;
        let mut program = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        admin.until_ready_is(&mut program, true).await;
        let before = admin.metrics().await;
        assert_eq!(
            before["sync_es_snapshot_rows_read_total"],
            count(world, "true").await
        );
        assert_eq!(
            before[r#"sync_es_operations_total{result="applied"}"#],
            1_500
        );
        assert_eq!(before[r#"sync_es_phase{phase="stream"}"#], 1);
        assert_eq!(before[r#"sync_es_phase{phase="snapshot"}"#], 0);
        world
            .execute(
                "DELETE FROM integrated_records WHERE hk < 'row-5';
                 UPDATE integrated_records SET name = 'other' WHERE hk >= 'row-9'",
            )
            .await;
        let changes = 1_500 - count(world, "true").await + count(world, "name = 'other'").await;
        assert!(changes > 100, "{changes}");
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        let after = admin.metrics().await;
        let ended = |metrics: &BTreeMap<String, i64>| {
            metrics[r#"sync_es_operations_total{result="applied"}"#]
                + metrics[r#"sync_es_operations_total{result="superseded"}"#]
        };
        assert_eq!(ended(&after) - ended(&before), changes);
        assert_eq!(after["sync_es_dead_letters"], 0);
        assert_eq!(after["sync_es_operations_open"], 0);
        let sent = after["sync_es_bulk_request_operations_total"];
        assert_eq!(
            sent,
            ended(&after),
            "nothing failed, so nothing was sent twice"
        );
        let requests = after[r#"sync_es_bulk_requests_total{outcome="taken"}"#];
        assert_eq!(
            after["sync_es_bulk_request_duration_seconds_count"],
            requests
        );
        assert!(after["sync_es_commit_to_acknowledged_seconds_count"] >= 1);
        let found = admin.until_found(&mut program).await;
        assert!(found >= 1, "{found}");
        let confirmed = after[r#"sync_es_wal_position_bytes{point="confirmed"}"#];
        let acknowledged = after[r#"sync_es_wal_position_bytes{point="acknowledged"}"#];
        assert!(confirmed > 0 && confirmed <= acknowledged);
        program.stop().await;
    });
}

#[test]
fn a_refused_document_is_counted_as_a_dead_letter_until_it_is_good_again() {
    in_world(async |world| {
        let run = with_a_mapping(world, &["run"]).await;
        let mut program = run.env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        world.execute(POISON).await;
        world.caught_up(&mut program).await;
        let metrics = admin.metrics().await;
        assert_eq!(metrics["sync_es_dead_letters"], 1);
        assert_eq!(
            metrics[r#"sync_es_operations_total{result="dead_letter"}"#],
            1
        );
        assert_eq!(admin.status().await["dead_letters"], 1);
        world.execute(ANTIDOTE).await;
        world.caught_up(&mut program).await;
        assert_eq!(admin.status().await["dead_letters"], 0);
        program.stop().await;
    });
}

#[test]
fn it_is_not_ready_while_elasticsearch_is_away_and_ready_again_after() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let proxy = Proxy::start(world).await;
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env(ANY_PORT.0, ANY_PORT.1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.2)
            .start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        admin.until_ready_is(&mut program, true).await;
        proxy.refuse_bulks_after(0);
        world
            .execute("UPDATE integrated_records SET name = 'other'")
            .await;
        let told = admin.until_ready_is(&mut program, false).await;
        assert!(
            told["not_ready"].to_string().contains("longest wait"),
            "{told}"
        );
        let status = admin.status().await;
        assert!(status["lanes_retrying"].as_u64() > Some(0), "{status}");
        assert!(status["last_error"]["text"].is_string(), "{status}");
        assert!(status["lag"]["bytes"].as_u64() > Some(0), "{status}");
        assert_eq!(
            admin.get("/healthz").await.0,
            200,
            "a restart would not help"
        );
        proxy.pass();
        admin.until_ready_is(&mut program, true).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert_eq!(admin.status().await["lanes_retrying"], 0);
        program.stop().await;
    });
}

#[test]
fn a_lag_above_the_target_takes_readiness_away() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let proxy = Proxy::start(world).await;
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env(ANY_PORT.0, ANY_PORT.1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("SYNC_ES_READY_LAG_SECONDS", 1)
            .start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        admin.until_ready_is(&mut program, true).await;
        proxy.refuse_bulks_after(0);
        world
            .execute("UPDATE integrated_records SET name = 'other'")
            .await;
        let told = admin.until_ready_is(&mut program, false).await;
        assert!(
            told["not_ready"].to_string().contains("target of 1 s"),
            "{told}"
        );
        proxy.pass();
        admin.until_ready_is(&mut program, true).await;
        program.stop().await;
    });
}

#[test]
fn a_standby_says_so_and_becomes_ready_when_it_takes_over() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let mut first = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        world.caught_up(&mut first).await;
        let mut second = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut second).await;
        second
            .until("it stands by", async || {
                (admin.status().await["phase"] == "standby").then_some(())
            })
            .await;
        let (code, told) = admin.get("/readyz").await;
        assert!(
            code == 503 && told.contains("another instance"),
            "{code} {told}"
        );
        assert_eq!(admin.get("/healthz").await.0, 200);
        first.stop().await;
        admin.until_ready_is(&mut second, true).await;
        second.stop().await;
    });
}

#[test]
fn an_address_that_is_set_must_be_free_and_the_default_one_need_not_be() {
    in_world(async |world| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let run = world.sync_es(&["run"]).env("SYNC_ES_ADMIN_ADDR", &address);
        let outcome = run.output().await;
        outcome.failed_naming(&["SYNC_ES_ADMIN_ADDR", &address, "in use"]);
        assert_eq!(outcome.code, Some(2));
        // Whoever has it, if this does not get it.
        let _default = TcpListener::bind("127.0.0.1:9464");
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .unset("SYNC_ES_ADMIN_ADDR");
        let outcome = run.output().await;
        outcome.succeeded();
        assert!(outcome.log.contains("127.0.0.1:9464"), "{}", outcome.log);
    });
}

#[test]
fn nothing_is_known_is_not_said_as_zero_and_other_paths_and_methods_are_refused() {
    in_world(async |world| {
        add_rows(world, 1).await;
        let role_is_away = world.connection().await;
        // Its beginning waits for this transaction.
        role_is_away
            .batch_execute("BEGIN; SELECT pg_current_xact_id()")
            .await
            .unwrap();
        let mut program = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut program).await;
        program
            .until("it waits for the slot", async || {
                (admin.status().await["phase"] == "preparing").then_some(())
            })
            .await;
        let status = admin.status().await;
        assert_eq!(status["ready"], false);
        assert!(status["lag"]["seconds"].is_null() && status["lag"]["bytes"].is_null());
        assert!(!admin.metrics().await.contains_key("sync_es_lag_seconds"));
        assert_eq!(admin.get("/nowhere").await.0, 404);
        let post = reqwest::Client::new().post(format!("http://{}/status", admin.address()));
        assert_eq!(post.send().await.unwrap().status().as_u16(), 405);
        let (code, page) = admin.get("/").await;
        assert!(code == 200 && page.starts_with("<!doctype html>"));
        role_is_away.batch_execute("COMMIT").await.unwrap();
        admin.until_ready_is(&mut program, true).await;
        program.stop().await;
    });
}

#[test]
fn wal_that_is_kept_for_the_slot_is_told_while_it_grows() {
    const WRITTEN: i64 = 3_000_000;
    in_world(async |world| {
        add_rows(world, 1).await;
        let proxy = Proxy::start(world).await;
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env(ANY_PORT.0, ANY_PORT.1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        proxy.refuse_bulks_after(0);
        let since: String = world
            .ask(&format!(
                "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = '{}'",
                world.slot()
            ))
            .await
            .unwrap();
        world
            .execute(&format!(
                "UPDATE integrated_records SET name = 'other';
                 SELECT pg_logical_emit_message(true, 'sync-es-test', repeat('x', {WRITTEN}))"
            ))
            .await;
        let written = u64::try_from(WRITTEN).unwrap();
        // The two are looked at apart, and what other tests write is kept for the slot as well.
        let status = program
            .until("the slot is looked at", async || {
                let status = admin.status().await;
                let kept = status["slot"]["retained_bytes"].as_u64()?;
                let lag = status["lag"]["bytes"].as_u64()?;
                (kept.min(lag) >= written).then_some(status)
            })
            .await;
        let told = status["slot"]["retained_bytes"].as_u64().unwrap();
        let kept: i64 = world
            .ask(&format!(
                "SELECT (pg_current_wal_insert_lsn() - '{since}')::bigint"
            ))
            .await
            .unwrap();
        assert!(told <= kept.unsigned_abs(), "{told} told of {kept}");
        assert_eq!(status["slot"]["wal_status"], "reserved");
        proxy.pass();
        world.caught_up(&mut program).await;
        program.stop().await;
    });
}
