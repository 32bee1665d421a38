//! `sync-es status`: while the service runs, after it has ended, before it ever ran, and with an end
//! that does not answer. It must change nothing.

use elasticsearch::http::Method;
use serde_json::Value;

use crate::{
    admin::{ANY_PORT, Admin},
    refusals::{POISON, with_a_mapping},
    snapshot::add_rows,
    support::{Outcome, World, in_world},
};

/// What the command prints as JSON among its log lines.
fn json(outcome: &Outcome) -> Value {
    let begin = outcome.log.find("{\n").unwrap();
    let end = outcome.log.rfind("\n}").unwrap() + 2;
    serde_json::from_str(&outcome.log[begin..end]).unwrap()
}

async fn status(world: &World, address: &str) -> Value {
    let ask = world.sync_es(&["status", "--json"]);
    let outcome = ask.env("SYNC_ES_ADMIN_ADDR", address).output().await;
    outcome.succeeded();
    json(&outcome)
}

/// The run's document and the indices' versions, to be the same before and after.
async fn stored(world: &World) -> (Option<Value>, Option<u64>) {
    (world.latest_run().await, world.confirmed().await)
}

#[test]
fn while_it_runs_both_ends_and_the_service_tell_the_same() {
    in_world(async |world| {
        add_rows(world, 200).await;
        let mut program = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut program).await;
        world.caught_up(&mut program).await;
        let status = status(world, admin.address()).await;
        let run = world.latest_run().await.unwrap();
        assert_eq!(status["run"]["number"], run["number"]);
        assert_eq!(status["run"]["phase"], "stream");
        assert_eq!(
            status["alias_points_to"],
            serde_json::json!([world.index()])
        );
        assert_eq!(status["dead_letters"], 0);
        assert_eq!(status["slot"]["name"], world.slot());
        assert_eq!(status["slot"]["active"], true);
        assert!(status["slot"]["retained_bytes"].is_u64(), "{status}");
        assert_eq!(status["service"]["phase"], "stream");
        assert_eq!(status["service"]["run"], run["number"]);
        assert_eq!(status["service"]["snapshot_rows"], 200);
        let text = world
            .sync_es(&["status"])
            .env("SYNC_ES_ADMIN_ADDR", admin.address())
            .output()
            .await;
        text.succeeded();
        for part in [
            "following the changes",
            &world.slot(),
            "behind the end of the WAL",
        ] {
            assert!(text.log.contains(part), "{part}: {}", text.log);
        }
        program.stop().await;
    });
}

#[test]
fn when_it_is_stopped_the_records_tell_and_nothing_is_touched() {
    in_world(async |world| {
        const WRITTEN: usize = 2_000_000;
        let run = with_a_mapping(world, &["run"]).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        world.execute(POISON).await;
        world.caught_up(&mut program).await;
        program.stop().await;
        world
            .ask::<String>(&format!(
                "SELECT pg_logical_emit_message(true, 'sync-es-test', repeat('x', {WRITTEN}))::text"
            ))
            .await;
        let before = stored(world).await;
        let status = status(world, "127.0.0.1:1").await;
        assert!(status["service"].is_null(), "{status}");
        assert!(status["service_silent"].is_string(), "{status}");
        assert_eq!(status["slot"]["active"], false);
        let written = u64::try_from(WRITTEN).unwrap();
        assert!(status["slot"]["retained_bytes"].as_u64() >= Some(written));
        assert!(status["lag_bytes"].as_u64() >= Some(written), "{status}");
        assert_eq!(status["dead_letters"], 1);
        let run = before.0.clone().unwrap();
        assert_eq!(status["run"]["position"], run["acknowledged_lsn"]);
        assert_eq!(status["run"]["operations"], run["n_input_records"]);
        let earlier = status["history"].as_array().unwrap();
        assert_eq!(earlier.len(), 1, "the one-shot run before: {status}");
        assert_eq!(earlier[0]["phase"], "done");
        assert_eq!(stored(world).await, before, "status has changed something");
        let text = world.sync_es(&["status"]).output().await;
        text.succeeded();
        assert!(text.log.contains("not running"), "{}", text.log);
    });
}

#[test]
fn before_the_first_run_there_is_nothing_and_nothing_is_made() {
    in_world(async |world| {
        let status = status(world, "off").await;
        assert!(
            status["run"].is_null() && status["slot"].is_null(),
            "{status}"
        );
        assert!(status["wal_end"].is_string(), "{status}");
        let path = format!("/{}*", world.name);
        let (_, indices) = world.search.ask(Method::Get, &path, None).await;
        assert_eq!(indices, serde_json::json!({}), "an index was made");
    });
}

#[test]
fn an_end_that_does_not_answer_takes_nothing_away_from_the_other() {
    in_world(async |world| {
        add_rows(world, 10).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        let ask = world.sync_es(&["status", "--json"]);
        let no_search = ask.clone().env("ELASTICSEARCH_URLS", "http://127.0.0.1:1");
        let outcome = no_search.output().await;
        assert!(!matches!(outcome.code, Some(0) | None), "{}", outcome.log);
        let told = json(&outcome);
        assert_eq!(told["slot"]["name"], world.slot());
        assert!(told["run"].is_null() && told["troubles"][0].is_string());
        let no_database = ask.env("POSTGRES_URL", "postgres://nobody@127.0.0.1:1/none");
        let outcome = no_database.output().await;
        assert!(!matches!(outcome.code, Some(0) | None), "{}", outcome.log);
        let told = json(&outcome);
        assert_eq!(told["run"]["phase"], "stream");
        assert!(told["slot"].is_null() && told["troubles"][0].is_string());
    });
}

#[test]
fn the_service_of_another_alias_is_not_taken_for_ours() {
    in_world(async |world| {
        add_rows(world, 1).await;
        let mut program = world.sync_es(&["run"]).env(ANY_PORT.0, ANY_PORT.1).start();
        let admin = Admin::of(&mut program).await;
        let ask = world.sync_es(&["status", "--json"]);
        let outcome = ask
            .env("SYNC_ES_ADMIN_ADDR", admin.address())
            .env("ELASTICSEARCH_INDEX_ALIAS", "another")
            .output()
            .await;
        let told = json(&outcome);
        assert!(told["service"].is_null(), "{told}");
        assert!(
            told["service_silent"].to_string().contains(&world.name),
            "{told}"
        );
        program.stop().await;
    });
}
