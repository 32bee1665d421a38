//! What a person does with documents that were refused.

use serde_json::Value;

use crate::{
    admin::{ANY_PORT, Admin},
    refusals::{POISON, with_a_mapping},
    snapshot::add_rows,
    support::{Invocation, Outcome, SyncEs, Truth, World, assert_equal, in_world},
};

/// A call of `dead-letters` with the settings of another call.
async fn dead_letters(call: &Invocation, arguments: &[&str]) -> Outcome {
    let arguments = [&["dead-letters"][..], arguments].concat();
    call.clone().arguments(&arguments).output().await
}

/// Rows of which three are refused, as long as the settings ask for the members of `attributes` to be
/// fields; the program follows, and goes on doing so.
async fn three_refused(world: &World) -> (Invocation, SyncEs) {
    add_rows(world, 20).await;
    let run = with_a_mapping(world, &["run"]).await;
    let mut program = run.start();
    world.caught_up(&mut program).await;
    world.execute(POISON).await;
    world
        .execute(
            "INSERT INTO integrated_records (hk, name, attributes)
             SELECT 'poison ' || n, 'p', '{\"a\": {\"b\": 1}}' FROM generate_series(2, 3) AS n",
        )
        .await;
    world.caught_up(&mut program).await;
    (run, program)
}

/// The keys of the letters, by the program's word.
async fn listed(call: &Invocation) -> Vec<String> {
    let outcome = dead_letters(call, &["list", "--json"]).await;
    outcome.succeeded();
    let letters = outcome
        .log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let keys = letters.filter_map(|letter| letter["key"].as_str().map(str::to_owned));
    let mut keys: Vec<String> = keys.collect();
    keys.sort_unstable();
    keys
}

#[test]
fn letters_are_told_with_their_keys_and_reasons() {
    in_world(async |world| {
        let (call, program) = three_refused(world).await;
        let told = dead_letters(&call, &["list"]).await;
        told.succeeded();
        for word in [
            "-sync-dead-letters: 3",
            "\"poison 2\"",
            // OpenSearch calls it mapper_parsing_exception.
            "_parsing_exception",
        ] {
            assert!(told.log.contains(word), "{word}\n{}", told.log);
        }
        let told = dead_letters(&call, &["list", "--show", "1"]).await;
        assert!(told.log.contains("and 2 more"), "{}", told.log);
        let told = dead_letters(&call, &["list", "--json"]).await;
        assert!(told.log.contains(r#"\"attributes\":"#), "{}", told.log);
        assert_eq!(listed(&call).await, ["poison", "poison 2", "poison 3"]);
        program.stop().await;
    });
}

#[test]
fn letters_are_tried_again_while_the_program_runs_and_go_once_they_are_taken() {
    in_world(async |world| {
        let (call, mut program) = three_refused(world).await;
        // Nothing has been mended: they stay, and it says so with its exit code.
        let outcome = dead_letters(&call, &["retry", "--key", "poison 3"]).await;
        assert_eq!(outcome.code, Some(3), "{}", outcome.log);
        outcome.failed_naming(&[r#"the first: key \"poison 3\""#]);
        let outcome = dead_letters(&call, &["retry"]).await;
        assert_eq!(outcome.code, Some(3), "{}", outcome.log);
        assert!(outcome.log.contains("gone: 0, left: 3"), "{}", outcome.log);
        // What the index cannot take is left out of the documents from now on.
        program.stop().await;
        let mended = world.file("left-out.toml", "[document.columns]\nattributes = false\n");
        let call = call.env("SYNC_ES_CONFIG", mended.display());
        let call = call.env(ANY_PORT.0, ANY_PORT.1);
        program = call.start();
        world.caught_up(&mut program).await;
        let outcome = dead_letters(&call, &["retry", "--key", "poison 2"]).await;
        outcome.succeeded();
        assert_eq!(listed(&call).await, ["poison", "poison 3"]);
        world
            .execute("INSERT INTO integrated_records (hk, name) VALUES ('later', 'l')")
            .await;
        let outcome = dead_letters(&call, &["retry"]).await;
        outcome.succeeded();
        assert!(
            outcome.log.contains("tried again: 2; gone: 2, left: 0"),
            "{}",
            outcome.log
        );
        assert!(listed(&call).await.is_empty());
        let unknown = dead_letters(&call, &["retry", "--key", "row-1"]).await;
        unknown.succeeded();
        assert!(
            unknown.log.contains("no letter has key \"row-1\""),
            "{}",
            unknown.log
        );
        let admin = Admin::of(&mut program).await;
        program
            .until("the service sees that they are gone", async || {
                (admin.status().await["dead_letters"] == 0).then_some(())
            })
            .await;
        for key in ["poison", "poison 2", "poison 3"] {
            let document = world.search.document(world.alias(), key).await.unwrap();
            assert_eq!(document["name"], "p", "{document}");
        }
        // The stream is not held up, and no write of ours beats a later change.
        world
            .execute("UPDATE integrated_records SET name = 'q' WHERE hk LIKE 'poison%'")
            .await;
        world.caught_up(&mut program).await;
        for key in ["poison", "poison 2", "poison 3"] {
            let document = world.search.document(world.alias(), key).await.unwrap();
            assert_eq!(document["name"], "q", "{document}");
        }
        program.stop().await;
    });
}

#[test]
fn purged_letters_are_gone_and_no_document_has_changed() {
    in_world(async |world| {
        let (call, mut program) = three_refused(world).await;
        let none = dead_letters(&call, &["purge"]).await;
        assert_eq!(none.code, Some(2), "{}", none.log);
        assert_eq!(listed(&call).await.len(), 3);
        let one = dead_letters(&call, &["purge", "--key", "poison 3"]).await;
        one.succeeded();
        assert!(one.log.contains("dropped: 1"), "{}", one.log);
        assert_eq!(listed(&call).await, ["poison", "poison 2"]);
        dead_letters(&call, &["purge", "--all"]).await.succeeded();
        assert!(listed(&call).await.is_empty());
        assert!(
            world
                .search
                .document(world.alias(), "poison")
                .await
                .is_none()
        );
        // Once mended, the rows come as any others.
        world
            .execute("UPDATE integrated_records SET attributes = NULL WHERE hk LIKE 'poison%'")
            .await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}

#[test]
fn where_there_is_no_index_there_are_no_letters_to_speak_of() {
    in_world(async |world| {
        let call = world.sync_es(&["run"]);
        let outcome = dead_letters(&call, &["list"]).await;
        assert_eq!(outcome.code, Some(2), "{}", outcome.log);
        assert!(outcome.log.contains("there is no index"), "{}", outcome.log);
    });
}
