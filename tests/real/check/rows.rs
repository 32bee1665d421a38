//! The table's rows beside the template, the mapping and the stored position; and what is told when an
//! end cannot be reached.

use serde_json::{Value, json};

use super::{Checked, check, everything};
use crate::{
    snapshot::add_rows,
    support::{Invocation, World, in_world},
};

/// With a template of one's own, which maps `name` otherwise than the built-in one.
fn with_names_as(world: &World, mapping: &Value) -> Invocation {
    let readable = include_str!("../../../templates/integrated_records.json");
    let mut template: Value = serde_json::from_str(readable).unwrap();
    template["template"]["mappings"]["properties"]["name"] = mapping.clone();
    let file = world.file("template.json", &template.to_string());
    check(world).env("ELASTICSEARCH_INDEX_TEMPLATE", file.display())
}

#[test]
fn rows_are_tried_against_a_template_of_one_s_own() {
    in_world(async |world| {
        world
            .execute("INSERT INTO integrated_records (hk, name) VALUES ('a', 'no date'), ('b', '2024-01-01')")
            .await;
        let check = with_names_as(world, &json!({ "type": "date" }));
        let before = everything(world).await;
        let checked = Checked::of(&check).await;
        let sample = checked.told("sample of rows", "warning");
        for part in ["1 of 2", "\"a\"", "[name]"] {
            let found = sample["found"].as_str().unwrap();
            assert!(found.contains(part), "{part}: {found}");
        }
        assert_eq!(checked.code, 0, "a dead letter stops nobody");
        world
            .execute("UPDATE integrated_records SET name = 'none'")
            .await;
        let checked = Checked::of(&check).await;
        checked.told("sample of rows", "failed");
        assert_eq!(checked.code, 12);
        world
            .execute("UPDATE integrated_records SET name = '2025-01-01'")
            .await;
        Checked::of(&check).await.told("sample of rows", "ok");
        assert_eq!(
            everything(world).await,
            before,
            "nothing was written to find out"
        );
    });
}

#[test]
fn a_template_of_one_s_own_without_its_guards_is_told() {
    in_world(async |world| {
        let check = with_names_as(world, &json!({ "type": "no_such_type" }));
        let found = Checked::of(&check).await.told("template", "failed")["found"].to_string();
        assert!(found.contains("no_such_type"), "{found}");
        let file = world.file("bare.json", r#"{ "index_patterns": "${INDEX_PATTERNS}" }"#);
        let check = check.env("ELASTICSEARCH_INDEX_TEMPLATE", file.display());
        let checked = Checked::of(&check).await;
        let found = checked.told("template", "failed")["found"].to_string();
        assert!(found.contains("allow_auto_create"), "{found}");
        assert_eq!(checked.code, 2);
    });
}

#[test]
fn the_dimensions_that_are_named_fit() {
    in_world(async |world| {
        world
            .execute("INSERT INTO integrated_records (hk, embedding) VALUES ('a', '{1,2,3}'), ('b', '{3,2,1}')")
            .await;
        let check = check(world).env("EMBEDDING_DIMENSIONS", 5);
        let checked = Checked::of(&check).await;
        assert_eq!(checked.code, 2);
        let remedy = checked.told("dimensions", "failed")["mend"]
            .as_str()
            .unwrap();
        let (name, value) = remedy.split_once('=').unwrap();
        Checked::of(&check.env(name, value))
            .await
            .told("dimensions", "ok");
    });
}

#[test]
fn a_key_that_is_no_id_is_told_and_found_by_the_query() {
    in_world(async |world| {
        world
            .execute("INSERT INTO integrated_records (hk) VALUES ('short'), (repeat('l', 600))")
            .await;
        let checked = Checked::of(&check(world)).await;
        assert_eq!(checked.code, 0, "its row becomes a dead letter");
        let query = checked.told("key length", "warning")["mend"]
            .as_str()
            .unwrap();
        let query = query.split(";  -- ").next().unwrap();
        let found: Option<String> = world.ask(query).await;
        assert_eq!(found.unwrap().len(), 600);
        world
            .execute("DELETE FROM integrated_records WHERE hk <> 'short'")
            .await;
        Checked::of(&check(world)).await.told("key length", "ok");
    });
}

#[test]
fn a_column_that_does_not_fit_the_mapping_any_more_is_told() {
    in_world(async |world| {
        world
            .execute("CREATE TABLE numbers (hk text PRIMARY KEY, n int); INSERT INTO numbers VALUES ('a', 1)")
            .await;
        let of_numbers = |arguments| world.sync_es(arguments).env("POSTGRES_TABLE", "numbers");
        let run = of_numbers(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        world.execute("ALTER TABLE numbers ALTER n TYPE text").await;
        let checked = Checked::of(&of_numbers(&["check", "--json", "--snapshot-only"])).await;
        let found = checked.told("mapping", "failed")["found"].to_string();
        assert!(found.contains("is mapped as integer"), "{found}");
        let run = run.output().await;
        assert_eq!((checked.code, run.code), (27, Some(27)), "{}", run.log);
    });
}

#[test]
fn a_column_more_fits_the_index_as_a_run_would_extend_it() {
    in_world(async |world| {
        add_rows(world, 3).await;
        world
            .sync_es(&["run", "--snapshot-only"])
            .output()
            .await
            .succeeded();
        world
            .execute("ALTER TABLE integrated_records ADD more integer DEFAULT 7")
            .await;
        let checked = Checked::of(&check(world)).await;
        checked.told("mapping", "ok");
        assert_eq!(
            checked.told("sample of rows", "ok")["found"],
            "3 tried, all fit"
        );
    });
}

#[test]
fn a_position_that_cannot_be_gone_on_from_is_told_as_run_tells_it() {
    in_world(async |world| {
        add_rows(world, 3).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        world.sync_es(&["drop-slot"]).output().await.succeeded();
        let checked = Checked::of(&check(world)).await;
        let run = world.sync_es(&["run"]).output().await;
        assert_eq!((checked.code, run.code), (20, Some(20)), "{}", run.log);
        let noted = world.latest_run().await.unwrap();
        let noted = noted["error"].as_str().unwrap();
        assert!(noted.contains(&world.slot()), "{noted}");
        let found = checked.told("position", "failed")["found"]
            .as_str()
            .unwrap();
        assert!(found.contains("sync-es rebuild"), "{found}");
    });
}

#[test]
fn an_end_that_cannot_be_reached_leaves_the_other_to_be_told() {
    in_world(async |world| {
        let nowhere = "http://127.0.0.1:1";
        let checked = Checked::of(&check(world).env("ELASTICSEARCH_URLS", nowhere)).await;
        assert_eq!((checked.code, checked.failed()), (11, vec!["connection"]));
        checked.told("wal_level", "ok");
        let mut url = world.postgres_url();
        url.set_port(Some(1)).unwrap();
        let checked = Checked::of(&check(world).env("POSTGRES_URL", &url)).await;
        assert_eq!((checked.code, checked.failed()), (10, vec!["connection"]));
        checked.told("disk", "ok");
        let both = check(world)
            .env("POSTGRES_URL", url)
            .env("ELASTICSEARCH_URLS", nowhere);
        assert_eq!(
            Checked::of(&both).await.failed(),
            ["connection", "connection"]
        );
        let missing = check(world).env("POSTGRES_TABLE", "no_such_table");
        let checked = Checked::of(&missing).await;
        assert_eq!((checked.code, checked.failed()), (2, vec!["table"]));
        checked.told("disk", "ok");
    });
}
