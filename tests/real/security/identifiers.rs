//! Names and keys that would be commands if they were not quoted: SQL, the replication protocol, URLs,
//! and the lines of a bulk request. Each key names its own document on every way, and no other.

use std::time::Duration;

use crate::support::{Invocation, Proxy, Truth, World, assert_equal, in_world};

/// The table, as SQL names it.
const TABLE: &str = r#""Sch;ema"."we""ird; drop table x; --""#;

/// Its columns as field and SQL, the key first.
const COLUMNS: [(&str, &str); 4] = [
    (r#"K"ey'' \ "#, r#""K""ey' \ ""#),
    ("number", "number"),
    ("two\nlines\"}}", "\"two\nlines\"\"}}\""),
    ("large", "large"),
];

/// What a key can hold: ends of JSON strings, lines and objects, operations of a bulk request, paths,
/// wildcards, control characters, letters that look alike, and the most bytes that an `_id` can have.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "victim",
        "a\n{\"delete\":{\"_id\":\"victim\"}}\n",
        "\"}}\n{\"delete\":{\"_id\":\"victim\"}}\n{\"index\":{\"_id\":\"",
        "x\"},\"_index\":\"other",
        "\\",
        "\\\"",
        "\\u0000",
        "'; DROP TABLE integrated_records; --",
        "\"",
        "'",
        "''",
        "$1",
        "{}",
        "{\"a\":\"b\"}",
        "NULL",
        "null",
        " ",
        " leading and trailing ",
        "tab\t, return\r, bell\u{7}, escape\u{1b}[31m",
        "\u{1}",
        "\u{7f}",
        "\u{2028}\u{2029}\u{feff}",
        "../../_all/_delete_by_query",
        "..",
        ".",
        "_bulk",
        "*",
        "a,b",
        "%2e%2e%2f",
        "?refresh=true&x=#y",
        "<key-{now/d}>",
        "caf\u{e9}",
        "cafe\u{301}",
        "CAF\u{c9}",
        "\u{202e}right to left",
        "👩‍👩‍👧‍👦🇩🇪\u{10fffd}",
        "ｆｕｌｌ",
        "full",
        "ﬁ",
        "fi",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(512));
    keys.push("🦆".repeat(128));
    keys.push("\u{1}".repeat(512));
    keys.push("\"".repeat(512));
    keys
}

async fn fill(world: &World) {
    let columns = COLUMNS.map(|(_, sql)| sql);
    world
        .execute(&format!(
            "CREATE SCHEMA \"Sch;ema\";
             CREATE TABLE {TABLE} ({} text PRIMARY KEY, {} int, {} text, {} text);
             ALTER TABLE {TABLE} ALTER large SET STORAGE EXTERNAL",
            columns[0], columns[1], columns[2], columns[3]
        ))
        .await;
    insert(world, &keys()).await;
}

/// Rows of these keys, each with a value that is stored out of line.
async fn insert(world: &World, keys: &[String]) {
    let sql = format!(
        "INSERT INTO {TABLE} SELECT key, 0, key, repeat(md5(key), 100) FROM unnest($1::text[]) AS key"
    );
    world.db.execute(&sql, &[&keys]).await.unwrap();
}

fn truth() -> Truth {
    let columns = COLUMNS.map(|(field, sql)| (field, format!("to_jsonb({sql})")));
    let columns: Vec<(&str, &str)> = columns
        .iter()
        .map(|(field, sql)| (*field, sql.as_str()))
        .collect();
    Truth::of(TABLE, COLUMNS[0].1, &columns)
}

fn run(world: &World) -> Invocation {
    world
        .sync_es(&["run"])
        .env("POSTGRES_TABLE", TABLE)
        .env("POSTGRES_KEY_COLUMN", COLUMNS[0].1)
        .env("SYNC_ES_PUBLICATION", "\"P'ub\"\"; \\ \"")
}

#[test]
fn a_hostile_key_names_its_own_document_on_every_way() {
    in_world(async |world| {
        fill(world).await;
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        assert_equal(world, &truth()).await;
        let (key, lines) = (COLUMNS[0].1, COLUMNS[2].1);
        for statements in [
            // Without its out-of-line value: each row is read again by its key.
            format!("UPDATE {TABLE} SET number = 1"),
            format!("UPDATE {TABLE} SET {lines} = {lines} || {lines}"),
            // Each key is deleted, and another one comes; then the first one comes back.
            format!("UPDATE {TABLE} SET {key} = right({key}, 100) || '\"\n' WHERE number = 1"),
            format!("DELETE FROM {TABLE} WHERE {key} <> E'victim\"\n'"),
        ] {
            world.execute(&statements).await;
            world.caught_up(&mut program).await;
            assert_equal(world, &truth()).await;
        }
        insert(world, &keys()).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &truth()).await;
        world.execute(&format!("TRUNCATE {TABLE}")).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &truth()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

/// The last acknowledged key goes from the run's metadata back into SQL.
#[test]
fn a_snapshot_resumes_after_whatever_key_it_stood_at() {
    in_world(async |world| {
        fill(world).await;
        let (key, lines) = (COLUMNS[0].1, COLUMNS[2].1);
        // More than is read ahead of what is acknowledged.
        world
            .execute(&format!(
                "INSERT INTO {TABLE} SELECT left({key}, 120) || n, n, {lines}, repeat('x', 16000)
                   FROM {TABLE}, generate_series(1, 60) AS n"
            ))
            .await;
        let proxy = Proxy::slow(world, Duration::from_millis(50)).await;
        let slowly = run(world)
            .through(&proxy)
            .env("ES_CLIENT_BATCH_SIZE", 15)
            .env("POSTGRES_CLIENT_BATCH_SIZE", 100);
        let mut stood_at: Vec<String> = Vec::new();
        loop {
            let mut program = slowly.start();
            let further = program
                .until("it has come further, or to the end", async || {
                    let run = world.latest_run().await?;
                    let last = run["last_synced_item"].as_str();
                    let further = last.filter(|last| stood_at.iter().all(|key| key != last));
                    match (run["phase"].as_str()?, further) {
                        ("snapshot", Some(key)) => Some(Some(key.to_owned())),
                        ("stream", _) => Some(None),
                        _ => None,
                    }
                })
                .await;
            program.kill_9();
            match further {
                Some(key) => stood_at.push(key),
                None => break,
            }
        }
        assert!(stood_at.len() > 1, "it was killed at {stood_at:?} alone");
        let mut program = run(world).start();
        world.caught_up(&mut program).await;
        assert_equal(world, &truth()).await;
        program.stop().await;
    });
}
