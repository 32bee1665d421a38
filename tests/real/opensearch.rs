//! What is otherwise on OpenSearch. Left out elsewhere: `scripts/test` starts one, and asks for these
//! and for the tests of what both have in common.

use std::path::Path;

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::{
    snapshot::add_rows,
    support::{Truth, World, assert_equal, in_world},
    verify::verify,
};

/// Exit code of a comparison that has found differences.
const DIFFERENT: i32 = 7;
/// Exit code of a list of what is to be mended.
const PRECONDITIONS: i32 = 12;
/// Exit code of a table that does not fit its index any more.
const TABLE_CHANGED: i32 = 27;
/// Lucene takes terms of up to 32,766 bytes.
const LONG: usize = 40_000;

async fn ids(world: &World, query: Value) -> Vec<String> {
    let path = format!("/{}/_search", world.alias());
    let search = json!({ "query": query, "_source": false });
    let answer = world.search.must(Method::Post, &path, Some(search)).await;
    let hits = answer["hits"]["hits"].as_array().unwrap();
    hits.iter()
        .map(|hit| hit["_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
#[ignore = "needs OpenSearch"]
fn a_cluster_in_which_writes_make_indices_is_refused_with_the_request_that_mends_it() {
    in_world(async |world| {
        let setting = "action.auto_create_index".to_owned();
        let of_ours_alone = json!(format!("+{}*", world.name));
        world.set_cluster([(setting.clone(), of_ours_alone)]).await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        let refused = run.output().await;
        assert_eq!(refused.code, Some(PRECONDITIONS), "{}", refused.log);
        assert!(world.search.indices(&world.index()).await.is_empty());

        let lines = refused
            .log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut messages =
            lines.filter_map(|line: Value| Some(line["message"].as_str()?.to_owned()));
        let request = messages.find_map(|message| {
            let (_, request) = message.split_once("PUT /_cluster/settings ")?;
            Some(request.trim().to_owned())
        });
        let request = request.unwrap_or_else(|| panic!("no request\n{}", refused.log));
        let request: Value = serde_json::from_str(&request).unwrap();
        world
            .set_cluster([(setting.clone(), request["persistent"][&setting].clone())])
            .await;
        run.output().await.succeeded();
    });
}

#[test]
#[ignore = "needs OpenSearch"]
fn vectors_and_members_of_objects_are_found_through_the_alias() {
    in_world(async |world| {
        let mut program = world.run();
        world.live(&mut program).await;
        world
            .execute(
                "INSERT INTO integrated_records (hk, identifiers, embedding)
                 VALUES ('a', '{\"lei\": \"LEI-A\"}', '{1,0.1,0,0,0,0,0,0}'),
                        ('b', '{\"lei\": [\"LEI-B\", {\"old\": 7}]}', '{0,0,1,0,0,0,0,0}'),
                        ('no direction', NULL, '{0,0,0,0,0,0,0,0}')",
            )
            .await;
        world.caught_up(&mut program).await;
        world.search.count(world.alias()).await.unwrap();
        let near =
            json!({ "knn": { "embedding": { "vector": [0, 0, 2, 0.1, 0, 0, 0, 0], "k": 1 } } });
        assert_eq!(ids(world, near).await, ["b"]);
        let member = json!({ "term": { "identifiers.lei": "LEI-A" } });
        assert_eq!(ids(world, member).await, ["a"]);
        let deeper = json!({ "term": { "identifiers.lei.old": "7" } });
        assert_eq!(ids(world, deeper).await, ["b"]);
        program.stop().await;
    });
}

#[test]
#[ignore = "needs OpenSearch"]
fn a_string_that_is_too_long_for_a_member_is_a_dead_letter_until_it_is_mended() {
    in_world(async |world| {
        let mut program = world.run();
        world.live(&mut program).await;
        let long = format!("{{\"note\": \"{}\"}}", "x".repeat(LONG));
        world
            .execute(&format!(
                "INSERT INTO integrated_records (hk, attributes) VALUES ('long', '{long}')"
            ))
            .await;
        world.caught_up(&mut program).await;
        let letters = world.dead_letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(
            letters[0].to_string().contains("immense term"),
            "{letters:?}"
        );
        world
            .execute("UPDATE integrated_records SET attributes = '{}' WHERE hk = 'long'")
            .await;
        world.caught_up(&mut program).await;
        assert!(world.dead_letters().await.is_empty());
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
#[ignore = "needs OpenSearch"]
fn no_document_of_any_shard_is_passed_over() {
    in_world(async |world| {
        add_rows(world, 400).await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        let run = run.env("ELASTICSEARCH_NUMBER_OF_SHARDS", 3);
        run.output().await.succeeded();
        let lines: String = (1..=50)
            .map(|n| {
                let document = json!({ "_index": world.index(), "_id": format!("row-{n}") });
                json!({ "delete": document }).to_string() + "\n"
            })
            .collect();
        world.search.bulk(lines).await;
        world
            .execute("DELETE FROM integrated_records WHERE hk LIKE 'row-1__'")
            .await;
        let report = verify(world, &[], &[DIFFERENT]).await;
        let differences = report["differences"].as_array().unwrap();
        let missing = differences.iter().filter(|one| one["kind"] == "missing");
        let counts = (missing.count(), differences.len());
        assert_eq!(counts, (50, 150), "{report}");
        // What is gone from the table is swept.
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}

#[test]
#[ignore = "needs OpenSearch"]
fn a_column_for_vectors_that_comes_later_asks_for_a_rebuild() {
    in_world(async |world| {
        world
            .execute("CREATE TABLE things (hk text PRIMARY KEY, v real[])")
            .await;
        let run = |file: &Path| {
            let run = world.sync_es(&["run", "--snapshot-only"]);
            run.env("POSTGRES_TABLE", "things")
                .env("SYNC_ES_CONFIG", file.display())
        };
        let without = world.file("without.toml", "[document.columns]\nv = false\n");
        run(&without).output().await.succeeded();
        let with = "[document.columns]\nv = { type = 'dense_vector', dimensions = 3 }\n";
        let refused = run(&world.file("with.toml", with)).output().await;
        assert_eq!(refused.code, Some(TABLE_CHANGED), "{}", refused.log);
        assert!(refused.log.contains("index.knn"), "{}", refused.log);
    });
}
