//! What Elasticsearch does not take: a document's fault is set aside, an overload is waited out, and
//! what is the system's fault stops nothing for good and loses nothing.

use elasticsearch::http::Method;
use serde_json::json;

use crate::{
    snapshot::add_rows,
    support::{Invocation, Proxy, Truth, World, assert_equal, compare, in_world, wait_until},
};

/// A row whose document Elasticsearch refuses: `a` is a number in another row's document, and the
/// settings' file asks for the members of `attributes` to be fields.
pub(crate) const POISON: &str = "INSERT INTO integrated_records (hk, name, attributes)
     VALUES ('poison', 'p', '{\"a\": {\"b\": 1}}')";
pub(crate) const ANTIDOTE: &str =
    "UPDATE integrated_records SET attributes = '{\"a\": 2}' WHERE hk = 'poison'";

/// A call of the program for which [`POISON`] is one, once a one-shot run has made the mapping.
pub(crate) async fn with_a_mapping(world: &World, arguments: &[&str]) -> Invocation {
    world
        .execute("INSERT INTO integrated_records (hk, attributes) VALUES ('first', '{\"a\": 1}')")
        .await;
    let declared = "[document.columns]\nattributes = { type = 'object' }\n";
    let file = world.file("object.toml", declared);
    let call = |arguments| {
        let call = world.sync_es(arguments);
        call.env("SYNC_ES_CONFIG", file.display())
    };
    call(&["run", "--snapshot-only"]).output().await.succeeded();
    call(arguments)
}

/// Index and table are equal but for the one row that was refused.
async fn equal_but_for_the_poison(world: &World) {
    let differences = compare(world, world.alias(), &Truth::organizations()).await;
    assert_eq!(
        (
            differences.missing,
            differences.extra,
            differences.different
        ),
        (1, 0, 0),
        "{differences}"
    );
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = letters[0].to_string();
    assert!(
        letter.contains("poison") && letter.contains("document_parsing_exception"),
        "{letter}"
    );
}

#[test]
fn a_refused_document_is_a_dead_letter_and_a_one_shot_run_says_so_with_its_exit_code() {
    in_world(async |world| {
        add_rows(world, 250).await;
        let run = with_a_mapping(world, &["run", "--snapshot-only"]).await;
        world.execute(POISON).await;
        let outcome = run.output().await;
        outcome.failed_naming(&["poison", "document_parsing_exception"]);
        assert_ne!(outcome.code, Some(1), "its own code\n{}", outcome.log);
        equal_but_for_the_poison(world).await;
        let metadata = world.latest_run().await.unwrap();
        assert_eq!(metadata["sync_finished"], true, "{metadata}");
        world.execute(ANTIDOTE).await;
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
    });
}

#[test]
fn a_refused_document_does_not_hold_up_the_stream_and_arrives_once_it_is_mended() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = with_a_mapping(world, &["run"]).await.start();
        world.caught_up(&mut program).await;
        world.execute(POISON).await;
        add_rows_named(world, "later").await;
        world.caught_up(&mut program).await;
        equal_but_for_the_poison(world).await;
        world.execute(ANTIDOTE).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

#[test]
fn a_dead_letter_goes_with_its_row_when_the_table_is_truncated_or_read_again_without_it() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let run = with_a_mapping(world, &["run"]).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        world.execute(POISON).await;
        world.caught_up(&mut program).await;
        assert!(!world.dead_letters().await.is_empty());
        world.execute("TRUNCATE integrated_records").await;
        add_rows(world, 5).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty(), "after the TRUNCATE");

        world.execute(POISON).await;
        world.caught_up(&mut program).await;
        program.stop().await;
        world.execute("DELETE FROM integrated_records").await;
        add_rows(world, 5).await;
        let once = with_a_mapping(world, &["run", "--snapshot-only"]).await;
        once.output().await.succeeded();
        assert!(world.dead_letters().await.is_empty(), "after another run");
    });
}

async fn add_rows_named(world: &World, name: &str) {
    world
        .execute(&format!(
            "INSERT INTO integrated_records (hk, name) SELECT '{name}-' || n, 'n' FROM generate_series(1, 300) AS n"
        ))
        .await;
}

#[test]
fn raise_errors_stops_at_the_first_refused_document_with_its_error() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let run = with_a_mapping(world, &["run"])
            .await
            .env("ES_CLIENT_RAISE_ERRORS", 1);
        world.execute(POISON).await;
        run.output()
            .await
            .failed_naming(&["poison", "document_parsing_exception"]);
        assert!(world.dead_letters().await.is_empty());
        // Nothing was passed over: mended, the row arrives.
        world.execute(ANTIDOTE).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        // In the stream as in the snapshot.
        world
            .execute("DELETE FROM integrated_records WHERE hk = 'poison'")
            .await;
        world.execute(POISON).await;
        program
            .ended()
            .await
            .failed_naming(&["poison", "document_parsing_exception"]);
        world.execute(ANTIDOTE).await;
        let mut program = run.env("ES_CLIENT_RAISE_ERRORS", 0).start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn a_key_that_no_document_can_have_does_not_take_its_neighbours_with_it() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        world
            .execute(
                "INSERT INTO integrated_records (hk, name)
                 SELECT CASE n WHEN 20 THEN repeat('k', 600) WHEN 30 THEN '' ELSE 'neighbour-' || n END, 'n'
                   FROM generate_series(1, 50) AS n",
            )
            .await;
        world.caught_up(&mut program).await;
        let differences = compare(world, world.alias(), &Truth::organizations()).await;
        assert_eq!(
            (
                differences.missing,
                differences.extra,
                differences.different
            ),
            (2, 0, 0),
            "{differences}"
        );
        assert_eq!(world.dead_letters().await.len(), 2);
        world
            .execute("DELETE FROM integrated_records WHERE hk = '' OR length(hk) = 600")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

/// Breaks the index with one request while changes flow, mends it with another: nothing is lost, and
/// nothing was taken for the documents' fault.
async fn broken_and_mended(
    world: &World,
    break_it: (Method, &str, Option<&str>),
    mend_it: (Method, &str, Option<&str>),
) {
    add_rows(world, 20).await;
    let mut program = world
        .sync_es(&["run"])
        .env("ES_MAX_RETRIES", 1)
        .env("ES_RETRY_BACKOFF_SECONDS", 0.1)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.3)
        .start();
    world.caught_up(&mut program).await;
    let request = async |(method, path, body): (Method, &str, Option<&str>)| {
        let body = body.map(|body| serde_json::from_str(body).unwrap());
        world
            .search
            .must(method, &format!("/{}{path}", world.index()), body)
            .await;
    };
    request(break_it).await;
    let before = world.confirmed().await.unwrap();
    add_rows_named(world, "meanwhile").await;
    let troubles = |log: &str| log.matches("\"WARN\"").count() + log.matches("\"ERROR\"").count();
    let told = troubles(&program.log());
    program
        .until_log("the trouble is told", |log| troubles(log) > told)
        .await;
    let committed: i64 = world
        .ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        .await
        .unwrap();
    let confirmed = world.confirmed().await.unwrap();
    assert!(
        confirmed < u64::try_from(committed).unwrap(),
        "confirmed {before} .. {confirmed} without an index"
    );
    request(mend_it).await;
    world.caught_up(&mut program).await;
    assert_equal(world, &Truth::organizations()).await;
    assert!(world.dead_letters().await.is_empty());
    program.stop().await;
}

#[test]
fn a_write_block_is_waited_out() {
    in_world(async |world| {
        broken_and_mended(
            world,
            (
                Method::Put,
                "/_settings",
                Some(r#"{"index.blocks.write": true}"#),
            ),
            (
                Method::Put,
                "/_settings",
                Some(r#"{"index.blocks.write": null}"#),
            ),
        )
        .await;
    });
}

#[test]
fn a_closed_index_is_waited_out() {
    in_world(async |world| {
        broken_and_mended(
            world,
            (Method::Post, "/_close", None),
            (Method::Post, "/_open", None),
        )
        .await;
    });
}

#[test]
fn a_deleted_index_is_not_made_anew_by_writes() {
    in_world(async |world| {
        add_rows(world, 50).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        world
            .search
            .must(Method::Delete, &format!("/{}", world.index()), None)
            .await;
        // Deletes alone: the operation that would create an index of any name.
        world.execute("DELETE FROM integrated_records").await;
        let outcome = program.ended().await;
        outcome.failed_naming(&[&world.index()]);
        let indices = world.search.indices(&format!("{}*", world.name)).await;
        assert!(
            !indices.contains(&world.index()) && !indices.contains(&world.name),
            "{indices:?}"
        );
    });
}

#[test]
fn an_overload_is_retried_until_it_is_over_by_an_always_on_run() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks(12);
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("ES_MAX_RETRIES", 2)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.1)
            .start();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(proxy.bulks().len() > 12);
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

#[test]
fn a_lost_answer_is_no_lost_document() {
    in_world(async |world| {
        add_rows(world, 300).await;
        let proxy = Proxy::start(world).await;
        proxy.lose_answers(5);
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05)
            .start();
        world.caught_up(&mut program).await;
        proxy.lose_answers(5);
        world
            .execute(
                "UPDATE integrated_records SET name = 'updated';
                 DELETE FROM integrated_records WHERE hk LIKE '%3'",
            )
            .await;
        world.caught_up(&mut program).await;
        wait_until("the answers were lost", async || {
            (proxy.pending() == 0).then_some(())
        })
        .await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

#[test]
fn a_one_shot_run_that_gave_up_goes_on_where_it_stood() {
    in_world(async |world| {
        add_rows(world, 3_000).await;
        let proxy = Proxy::start(world).await;
        proxy.refuse_bulks_after(30);
        let run = world
            .sync_es(&["run", "--snapshot-only"])
            .through(&proxy)
            .env("ES_CLIENT_BATCH_SIZE", 50)
            .env("ES_MAX_RETRIES", 1)
            .env("ES_RETRY_BACKOFF_SECONDS", 0.05);
        run.output()
            .await
            .failed_naming(&["es_rejected_execution_exception"]);
        let first = world.latest_run().await.unwrap();
        assert_ne!(first["sync_finished"], true, "{first}");
        assert!(first["last_synced_item"].is_string(), "{first}");
        proxy.pass();
        run.output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
        // From the start it would be all the rows after the 1,500 of the first run.
        let attempts = world.search.write_attempts(&world.index()).await;
        assert!(attempts < 4_400, "{attempts} writes for 3,000 rows");
    });
}

#[test]
fn an_index_whose_acknowledgements_are_not_durable_is_not_trusted() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        program.stop().await;
        let path = format!("/{}/_settings", world.index());
        let setting = json!({ "index.translog.durability": "async" });
        world.search.must(Method::Put, &path, Some(setting)).await;
        let mut program = world.run();
        wait_until("it has stopped or mended the setting", async || {
            let settings = world.search.must(Method::Get, &path, None).await;
            let durability =
                &settings[world.index()]["settings"]["index"]["translog"]["durability"];
            (!program.runs() || durability != "async").then_some(())
        })
        .await;
        if !program.runs() {
            program
                .ended()
                .await
                .failed_naming(&["index.translog.durability"]);
        }
    });
}

/// So many rows as [`POISON`], with good ones between them.
async fn add_poison(world: &World, rows: u32, good_between: u32) {
    world
        .execute(&format!(
            "INSERT INTO integrated_records (hk, name, attributes)
             SELECT 'mixed-' || n, 'p', CASE WHEN n % {step} = 0 THEN '{{\"a\": {{\"b\": 1}}}}'::jsonb ELSE '{{\"a\": 1}}' END
               FROM generate_series(1, {total}) AS n",
            step = good_between + 1,
            total = rows * (good_between + 1),
        ))
        .await;
}

/// Index and table are equal but for so many rows, each of which has a letter; and the run's books
/// say so.
async fn equal_but_for_letters(world: &World, letters: usize) {
    let differences = compare(world, world.alias(), &Truth::organizations()).await;
    let found = (
        differences.missing,
        differences.extra,
        differences.different,
    );
    assert_eq!(found, (letters as u64, 0, 0), "{differences}");
    assert_eq!(world.dead_letters().await.len(), letters);
}

/// Everything that was read has ended, as delivered or as a dead letter.
async fn books_balance(world: &World) -> (u64, u64, u64) {
    let run = world.latest_run().await.unwrap();
    let number = |name: &str| {
        run[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {run}"))
    };
    let (input, output, letters) = (
        number("n_input_records"),
        number("n_output_records"),
        number("n_dead_letters"),
    );
    assert_eq!(input, output + letters, "{run}");
    (input, output, letters)
}

#[test]
fn the_books_balance_and_a_letter_says_all_that_is_known() {
    in_world(async |world| {
        add_rows(world, 120).await;
        let mut program = with_a_mapping(world, &["run"]).await.start();
        world.caught_up(&mut program).await;
        assert_eq!(books_balance(world).await, (121, 121, 0));
        add_poison(world, 7, 3).await;
        world.caught_up(&mut program).await;
        assert_eq!(books_balance(world).await, (149, 142, 7));
        equal_but_for_letters(world, 7).await;
        let committed: i64 = world
            .ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        for letter in world.dead_letters().await {
            assert!(
                letter["key"].as_str().unwrap().starts_with("mixed-"),
                "{letter}"
            );
            let lsn = letter["version"].as_i64().unwrap() >> 12 << 3;
            assert!((1..=committed).contains(&lsn), "{letter}");
            assert_eq!(letter["action"], "index", "{letter}");
            assert_eq!(letter["kind"], "document_parsing_exception", "{letter}");
            assert!(
                letter["reason"].as_str().unwrap().contains("attributes.a"),
                "{letter}"
            );
            let document = letter["document"].as_str().unwrap();
            let document: serde_json::Value = serde_json::from_str(document).unwrap();
            assert_eq!(document["hk"], letter["key"]);
            assert_eq!(document["attributes"], json!({ "a": { "b": 1 } }));
        }
        world
            .execute("DELETE FROM integrated_records WHERE hk LIKE 'mixed-%'")
            .await;
        world.caught_up(&mut program).await;
        assert_eq!(books_balance(world).await, (177, 170, 7));
        assert_equal(world, &Truth::organizations()).await;
        assert!(
            world.dead_letters().await.is_empty(),
            "a delete clears its key's letter"
        );
        program.stop().await;
    });
}

#[test]
fn more_refusals_than_are_allowed_stop_the_program_by_name_and_nothing_is_passed_over() {
    in_world(async |world| {
        let limit = "SYNC_ES_DEAD_LETTER_LIMIT";
        add_rows(world, 20).await;
        let run = with_a_mapping(world, &["run"]).await;
        let mut program = run.clone().env(limit, 50).start();
        world.caught_up(&mut program).await;
        add_poison(world, 200, 1).await;
        for _ in 0..2 {
            let outcome = program.ended().await;
            assert_eq!(outcome.code, Some(6), "{}", outcome.log);
            outcome.failed_naming(&[limit, "mixed-", "document_parsing_exception"]);
            let letters = world.dead_letters().await.len();
            assert!(letters <= 50, "{letters} letters");
            books_balance(world).await;
            program = run.clone().env(limit, 50).start();
        }
        drop(program);
        let mut program = run.clone().env(limit, 200).start();
        world.caught_up(&mut program).await;
        equal_but_for_letters(world, 200).await;
        world
            .execute(
                "UPDATE integrated_records SET attributes = '{\"a\": 3}' WHERE hk LIKE 'mixed-%'",
            )
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        books_balance(world).await;
        program.stop().await;
    });
}

#[test]
fn a_table_that_is_refused_as_a_whole_is_not_set_aside_row_by_row() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let run = with_a_mapping(world, &["run"]).await;
        let mut program = run.start();
        world.caught_up(&mut program).await;
        add_poison(world, 1_500, 0).await;
        let outcome = program.ended().await;
        assert_eq!(outcome.code, Some(6), "{}", outcome.log);
        outcome.failed_naming(&["refused alike", "attributes.a"]);
        let letters = world.dead_letters().await.len();
        assert!(letters < 1_100, "{letters} letters");
        // Who wants them all set aside raises the limit.
        let mut program = run.env("SYNC_ES_DEAD_LETTER_LIMIT", 100_000).start();
        world.caught_up(&mut program).await;
        let letters = format!("{}-sync-dead-letters", world.alias());
        assert_eq!(world.search.count(&letters).await, Some(1_500));
        program.stop().await;
    });
}

#[test]
fn no_position_is_confirmed_before_the_letter_is_stored_and_a_kill_in_between_loses_none() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let run = with_a_mapping(world, &["run"])
            .await
            .env("ES_RETRY_BACKOFF_SECONDS", 0.1)
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", 0.3);
        let mut program = run.start();
        world.caught_up(&mut program).await;
        let block = async |blocked: serde_json::Value| {
            let path = format!("/{}-sync-dead-letters/_settings", world.alias());
            let body = json!({ "index.blocks.write": blocked });
            world.search.must(Method::Put, &path, Some(body)).await;
        };
        block(json!(true)).await;
        let before: i64 = world
            .ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        world.execute(POISON).await;
        let after: i64 = world
            .ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .await
            .unwrap();
        add_rows_named(world, "later").await;
        for kills in 0..3 {
            program
                .until_log("the letter cannot be stored", |log| {
                    log.matches("dead letters cannot be stored").count() > kills
                })
                .await;
            let confirmed = i64::try_from(world.confirmed().await.unwrap()).unwrap();
            assert!(
                confirmed < after,
                "{confirmed} is confirmed, the poison came in {before}..{after}"
            );
            program.kill_9();
            if kills == 2 {
                block(json!(null)).await;
            }
            program = run.start();
        }
        world.caught_up(&mut program).await;
        equal_but_for_the_poison(world).await;
        books_balance(world).await;
        // Killed right after, it does not come twice, and is still cleared.
        program.kill_9();
        let mut program = run.start();
        world
            .execute("DELETE FROM integrated_records WHERE hk = 'poison'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(world.dead_letters().await.is_empty());
        program.stop().await;
    });
}

#[test]
fn values_that_are_left_out_of_documents_are_told_once_and_counted() {
    in_world(async |world| {
        add_rows(world, 20).await;
        let odd = "INSERT INTO integrated_records (hk, latitude, longitude, embedding)
             SELECT 'odd-' || n, 'NaN', 1, array_fill(0::real, ARRAY[8]) FROM generate_series(1, 30) AS n";
        world.execute(odd).await;
        let mut program = world.run();
        world.caught_up(&mut program).await;
        let told = "values are left out of documents";
        let log = program.log();
        assert_eq!(log.matches(told).count(), 1, "{log}");
        let line = log.lines().find(|line| line.contains(told)).unwrap();
        assert!(line.contains("odd-"), "{line}");
        let line = log
            .lines()
            .find(|line| line.contains("the snapshot is complete"));
        let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        assert_eq!(line["vectors_left_out"], 30, "{line}");
        assert_eq!(line["points_left_out"], 30, "{line}");
        program.stop().await;
    });
}
