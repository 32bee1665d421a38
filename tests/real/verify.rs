//! `verify` finds what differs and nothing else, while everything is at work, and `--repair` mends just
//! that.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write,
    time::Duration,
};

use elasticsearch::http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    snapshot::add_rows,
    support::{Outcome, Truth, Workload, World, assert_equal, in_world, wait_until},
};

/// Rows that nobody changes; `SYNC_ES_TEST_VERIFY_ROWS` sets another number.
const QUIET_ROWS: usize = 2_000;

/// The report of a verification, which ends with one of these exit codes.
pub(crate) async fn verify(world: &World, arguments: &[&str], codes: &[i32]) -> Value {
    let arguments = [&["verify", "--json", "--show", "1000"], arguments].concat();
    let program = world.sync_es(&arguments).start();
    let ended = program.ended_within(Duration::from_mins(5)).await;
    let Outcome { code, log } = &ended;
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{code:?}\n{log}"
    );
    let report = log.lines().find(|line| line.starts_with("{\"equal\""));
    serde_json::from_str(report.unwrap_or_else(|| panic!("no report\n{log}"))).unwrap()
}

/// What a report says of each key.
fn found(report: &Value) -> BTreeMap<String, String> {
    let differences = report["differences"].as_array().unwrap();
    let found = differences.iter().map(|one| {
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        let fields: Vec<&str> = one["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field.as_str().unwrap())
            .collect();
        (
            text("key"),
            format!("{} {}", text("kind"), fields.join(",")),
        )
    });
    found.collect()
}

/// Fails the test, showing what is there too little and too much, unless a report has just this.
#[track_caller]
fn assert_found(report: &Value, expected: &BTreeMap<String, String>) {
    let found = found(report);
    let lacks: Vec<_> = expected
        .iter()
        .filter(|(key, what)| found.get(*key) != Some(*what))
        .collect();
    let beyond: Vec<_> = found
        .iter()
        .filter(|(key, what)| expected.get(*key) != Some(*what))
        .collect();
    assert!(
        lacks.is_empty() && beyond.is_empty(),
        "lacks {lacks:?}, and has {beyond:?}"
    );
}

/// Rows with a value in every column.
async fn add_quiet_rows(world: &World, rows: usize) {
    let dimensions = world.dimensions;
    world
        .execute(&format!(
            "INSERT INTO integrated_records
             SELECT 'quiet-' || n, 'Name ' || n, 'Legal ' || n, 'Descriptiön \"' || n || '\"', 'Street ' || n,
                    'City', 'Region', '12345', 'DE', 'https://' || n || '.example/', n % 90, n % 180,
                    ARRAY['a' || n || '@example.org'], ARRAY['+49 ' || n], ARRAY['16.10', '38.11'],
                    ARRAY['crm'], n, n * 1.25, DATE '2000-01-01' + n % 9000, '{{\"vat\": \"DE1\"}}',
                    jsonb_build_object('rating', n / 10.0, 'active', true, 'big', 12345678901234567890),
                    array_fill((n % 7 + 1)::real / 3, ARRAY[{dimensions}]), now(), now()
               FROM generate_series(1, {rows}) AS n"
        ))
        .await;
}

/// Every document of an id that begins with `quiet-`, with its version.
async fn quiet_documents(world: &World) -> BTreeMap<String, (u64, Value)> {
    let mut documents = BTreeMap::new();
    world
        .search
        .scan(&world.index(), async |hits| {
            for hit in hits.iter().filter(|hit| hit.id.starts_with("quiet-")) {
                let source = serde_json::from_str(hit.source.get()).unwrap();
                documents.insert(hit.id.clone(), (hit.version, source));
            }
        })
        .await;
    documents
}

/// Another value of the same type.
fn altered(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.parse::<f64>() {
            Ok(_) => json!(format!("1{text}")),
            // Dates and times are shifted by a year or so, other texts get a letter.
            Err(_) if text.starts_with("20") => json!(text.replacen("20", "19", 1)),
            Err(_) => json!(format!("{text}x")),
        },
        // None of the numbers here is a quarter, which this would leave as it is.
        Value::Number(number) => json!(number.as_f64().unwrap() / 2.0 + 0.125),
        Value::Bool(flag) => json!(!flag),
        Value::Array(items) => {
            let mut items = items.clone();
            items[0] = altered(&items[0]);
            json!(items)
        }
        Value::Object(members) => {
            let mut members = members.clone();
            let first = members.values_mut().next().unwrap();
            *first = altered(first);
            json!(members)
        }
        Value::Null => json!("x"),
    }
}

/// Lines of a bulk request that spoil the index in a hundred places, and what `verify` is to say of each.
fn hundred_differences(
    documents: &BTreeMap<String, (u64, Value)>,
    index: &str,
) -> (String, BTreeMap<String, String>) {
    let mut lines = String::new();
    let mut expected = BTreeMap::new();
    let mut line = |value: Value| writeln!(lines, "{value}").unwrap();
    let step = documents.len() / 70;
    for (number, (id, (_, source))) in documents.iter().step_by(step).take(70).enumerate() {
        if number < 30 {
            line(json!({"delete": {"_index": index, "_id": id}}));
            expected.insert(id.clone(), "missing ".to_owned());
            let extra = format!("extra {number} ü/\"");
            line(json!({"index": {"_index": index, "_id": extra}}));
            line(json!({"name": "nobody"}));
            expected.insert(extra, "extra ".to_owned());
            continue;
        }
        let mut source = source.as_object().unwrap().clone();
        let field = source.keys().nth(number % source.len()).unwrap().clone();
        source[&field] = altered(&source[&field]);
        let path = match &source[&field] {
            Value::Object(members) => format!("{field}.{}", members.keys().next().unwrap()),
            _ => field,
        };
        line(json!({"index": {"_index": index, "_id": id}}));
        line(Value::Object(source));
        expected.insert(id.clone(), format!("different {path}"));
    }
    (lines, expected)
}

#[test]
fn all_of_a_hundred_differences_are_found_and_just_those_are_repaired_while_writers_are_at_work() {
    in_world(async |world| {
        let rows = env::var("SYNC_ES_TEST_VERIFY_ROWS");
        let rows = rows.map_or(QUIET_ROWS, |rows| rows.parse().unwrap());
        add_quiet_rows(world, rows).await;
        let mut workload = Workload::new(world, 300).await;
        (workload.writers, workload.rate) = (4, 100);
        workload.fill(world).await;
        let mut program = world.run();
        world
            .live_within(Duration::from_mins(5), &mut program)
            .await;
        let writers = workload.start(world).await;
        let before = quiet_documents(world).await;
        assert_eq!(before.len(), rows);
        let (lines, expected) = hundred_differences(&before, &world.index());
        assert_eq!(expected.len(), 100);
        let fields: BTreeSet<&String> = expected.values().collect();
        assert!(fields.len() > 20, "every field is spoilt: {fields:?}");
        world.search.bulk(lines).await;
        let spoilt = quiet_documents(world).await;

        let report = verify(world, &[], &[7]).await;
        assert_found(&report, &expected);
        assert_eq!(report["repaired"], 0);
        assert_eq!(quiet_documents(world).await, spoilt, "it only looks");

        let report = verify(world, &["--repair"], &[0]).await;
        assert_found(&report, &expected);
        assert_eq!(
            (&report["repaired"], &report["undecided"]),
            (&json!(100), &json!(0))
        );
        let after = quiet_documents(world).await;
        for (id, (version, source)) in &after {
            let (version_before, source_before) = &before[id];
            assert_eq!(source, source_before, "{id}");
            assert_eq!(version != version_before, expected.contains_key(id), "{id}");
        }

        writers.stop().await;
        world.caught_up(&mut program).await;
        verify(world, &[], &[0]).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

/// Documents are spoilt at random whose rows are being changed: a repair that beat a newer change, or
/// that wrote a row as it was, would leave a difference behind that no stream mends.
#[test]
fn a_repair_never_beats_a_newer_change() {
    in_world(async |world| {
        // Each row is changed every few seconds: some before their document is repaired, some meanwhile.
        let mut workload = Workload::new(world, 300).await;
        (workload.writers, workload.rate) = (4, 60);
        workload.fill(world).await;
        let mut program = world.run();
        world.live(&mut program).await;
        let writers = workload.start(world).await;
        let mut random = StdRng::seed_from_u64(workload.seed);
        let index = world.index();
        let mut repaired = 0;
        for _ in 0..6 {
            let mut ids = Vec::new();
            world
                .search
                .scan(&index, async |hits| {
                    ids.extend(hits.iter().map(|hit| hit.id.clone()));
                })
                .await;
            let mut lines = String::new();
            for id in ids.sample(&mut random, 40) {
                let document = json!({"_index": index, "_id": id});
                if random.random_bool(0.5) {
                    writeln!(lines, "{}", json!({"delete": document})).unwrap();
                } else {
                    writeln!(lines, "{}", json!({"update": document})).unwrap();
                    writeln!(lines, "{}", json!({"doc": {"name": "spoilt"}})).unwrap();
                }
            }
            world.search.ask_bulk(lines).await;
            let report = verify(world, &["--repair"], &[0, 8]).await;
            repaired += report["repaired"].as_u64().unwrap();
        }
        assert!(repaired > 0, "nothing was repaired, so nothing was tried");
        writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn what_the_stream_has_yet_to_bring_is_no_difference() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = world.run();
        world.live(&mut program).await;
        program.stop().await;
        verify(world, &[], &[0]).await;

        world
            .execute(
                "UPDATE integrated_records SET name = 'changed' WHERE hk = 'row-7';
                 DELETE FROM integrated_records WHERE hk = 'row-8';
                 INSERT INTO integrated_records (hk) VALUES ('new')",
            )
            .await;
        let report = verify(world, &["--wait", "1"], &[8]).await;
        assert_eq!((&report["undecided"], found(&report).len()), (&json!(3), 0));
        // Nothing is repaired of which it is not known.
        verify(world, &["--wait", "1", "--repair"], &[8]).await;
        let document = world.search.document(&world.index(), "row-8").await;
        assert!(document.is_some());

        let program = world.run();
        verify(world, &[], &[0]).await;
        program.stop().await;
    });
}

#[test]
fn an_index_of_one_shot_runs_differs_where_the_table_has_changed_since() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let verify_first = world.sync_es(&["verify"]).output().await;
        verify_first.failed_naming(&["no run has filled index", &world.index()]);
        let run = world.sync_es(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        verify(world, &[], &[0]).await;
        world
            .execute(
                "UPDATE integrated_records SET name = 'changed' WHERE hk = 'row-7';
                 DELETE FROM integrated_records WHERE hk = 'row-8'",
            )
            .await;
        let report = verify(world, &["--from", "row-7", "--to", "row-70"], &[7]).await;
        let expected = BTreeMap::from([("row-7".to_owned(), "different name".to_owned())]);
        assert_eq!((found(&report), &report["rows"]), (expected, &json!(1)));
        verify(world, &["--from", "row-9"], &[0]).await;
        let report = verify(world, &["--repair", "--from", "row-8"], &[0]).await;
        let expected = BTreeMap::from([("row-8".to_owned(), "extra ".to_owned())]);
        assert_found(&report, &expected);
        let report = verify(world, &["--repair"], &[0]).await;
        assert_eq!(found(&report).len(), 1);
        let document = world.search.document(&world.index(), "row-7").await;
        assert_eq!(document.unwrap()["name"], "changed");
    });
}

/// Else only what lies first in the table would ever be looked at.
#[test]
fn a_sample_is_of_the_whole_table_also_when_its_size_is_not_known_or_much_underestimated() {
    in_world(async |world| {
        world
            .execute("ALTER TABLE integrated_records SET (autovacuum_enabled = off)")
            .await;
        add_rows(world, 100).await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        for estimated in [0, 100] {
            world
                .execute(
                    "INSERT INTO integrated_records (hk, name)
                     SELECT 'late-' || n, 'n' FROM generate_series(1, 900) AS n",
                )
                .await;
            // Up to version 13, nothing known is 0.
            let estimate = "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE relname = 'integrated_records'";
            assert_eq!(world.ask::<i64>(estimate).await, Some(estimated));
            let report = verify(world, &["--sample", "100"], &[7]).await;
            assert_eq!(report["rows"], 100);
            let late = found(&report).len();
            assert!((60..100).contains(&late), "{late} of the 900 that lie last");
            world
                .execute("DELETE FROM integrated_records WHERE hk LIKE 'late-%'")
                .await;
            world.execute("VACUUM ANALYZE integrated_records").await;
        }
    });
}

#[test]
fn an_id_that_is_no_value_of_the_keys_type_is_a_document_without_a_row() {
    in_world(async |world| {
        world
            .execute(
                "ALTER TABLE integrated_records ALTER hk TYPE bigint USING 1;
                 INSERT INTO integrated_records (hk, name) SELECT n, 'n' FROM generate_series(1, 30) AS n",
            )
            .await;
        let run = world.sync_es(&["run", "--snapshot-only"]);
        run.output().await.succeeded();
        let ids = ["abc", "007", "99999999999999999999"];
        for id in ids {
            let path = format!("/{}/_doc/{id}", world.index());
            let body = Some(json!({"name": "n"}));
            world.search.must(Method::Put, &path, body).await;
        }
        let keys = |report: &Value| found(report).into_keys().collect::<Vec<_>>();
        let refused = world.sync_es(&["verify", "--to", "abc"]).output().await;
        assert_eq!(refused.code, Some(2), "{}", refused.log);
        refused.failed_naming(&["--to abc", "hk"]);
        verify(world, &["--from", "8"], &[0]).await;
        let report = verify(world, &["--repair", "--from", "1", "--to", "9"], &[0]).await;
        assert_eq!(keys(&report), ["007"]);
        let report = verify(world, &["--repair"], &[0]).await;
        assert_eq!(keys(&report), ["99999999999999999999", "abc"]);
        assert_eq!(world.search.count(&world.index()).await, Some(30));
    });
}

#[test]
fn a_version_above_every_commits_is_told_and_holds_up_no_other_repair() {
    const ABOVE: u64 = 1 << 61;
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let index = world.index();
        for (row, version) in [("row-3", ABOVE), ("row-4", ABOVE), ("row-5", 0)] {
            // One is as its row makes it.
            let mut document = world.search.document(&index, row).await.unwrap();
            if row != "row-4" {
                document["name"] = json!("spoilt");
            }
            let kind = if version == 0 {
                String::new()
            } else {
                format!("?version={version}&version_type=external")
            };
            let path = format!("/{index}/_doc/{row}{kind}");
            world.search.must(Method::Put, &path, Some(document)).await;
        }
        for _ in 0..2 {
            let report = verify(world, &["--repair"], &[26]).await;
            assert_eq!(report["foreign_versions"], 2, "{report}");
            let left = report["different"].as_u64().unwrap() - report["repaired"].as_u64().unwrap();
            assert_eq!(left, 1, "{report}");
            let fixed = world.search.document(&index, "row-5").await.unwrap();
            assert_eq!(fixed["name"], "name 5");
        }
        let some = ["--from", "row-5"];
        verify(world, &some, &[0]).await;

        // As the manual says, with less to wait for.
        let settings = json!({"index.gc_deletes": "0s"});
        let path = format!("/{index}/_settings");
        world.search.must(Method::Put, &path, Some(settings)).await;
        for row in ["row-3", "row-4"] {
            let path = format!("/{index}/_doc/{row}");
            world.search.must(Method::Delete, &path, None).await;
        }
        wait_until("the versions of the deleted are forgotten", async || {
            let report = verify(world, &["--repair"], &[0, 7, 26]).await;
            (report["equal"] == true && report["foreign_versions"] == 0).then_some(())
        })
        .await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}
