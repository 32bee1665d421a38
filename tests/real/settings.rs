//! The ten variables that users of the old job have set keep their meaning: each has an effect.
//! (Two more of them are shown in `refusals.rs`: `ES_CLIENT_RAISE_ERRORS`, and `ES_MAX_RETRIES` for an
//! always-on run.)

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::Value;

use crate::{
    snapshot::add_rows,
    support::{Proxy, Truth, World, assert_equal, compare, in_world},
};

const ONE_SHOT: &[&str] = &["run", "--snapshot-only"];

async fn index_of(world: &World, name: &str) -> Value {
    let answer = world
        .search
        .must(Method::Get, &format!("/{name}"), None)
        .await;
    answer.as_object().unwrap().values().next().unwrap().clone()
}

#[test]
fn embedding_dimensions_is_the_length_of_the_vector_and_256_if_not_set() {
    in_world(async |world| {
        world.sync_es(ONE_SHOT).output().await.succeeded();
        let index = index_of(world, &world.index()).await;
        assert_eq!(
            index["mappings"]["properties"]["embedding"]["dims"],
            world.dimensions
        );
    });
    in_world(async |world| {
        world
            .sync_es(ONE_SHOT)
            .unset("EMBEDDING_DIMENSIONS")
            .output()
            .await
            .succeeded();
        let index = index_of(world, &world.index()).await;
        assert_eq!(index["mappings"]["properties"]["embedding"]["dims"], 256);
    });
}

#[test]
fn elasticsearch_index_name_is_the_first_generations_name() {
    in_world(async |world| {
        let name = format!("{}-other-007", world.name);
        let run = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_INDEX_NAME", &name);
        run.output().await.succeeded();
        assert_eq!(world.search.indices(world.alias()).await, [name]);
    });
}

#[test]
fn elasticsearch_index_alias_is_the_name_that_is_searched() {
    in_world(async |world| {
        add_rows(world, 5).await;
        let alias = format!("{}-searched", world.name);
        let run = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_INDEX_ALIAS", &alias);
        run.output().await.succeeded();
        assert_eq!(world.search.indices(&alias).await, [world.index()]);
        let differences = compare(world, &alias, &Truth::organizations()).await;
        assert!(differences.none(), "{differences}");
    });
}

#[test]
fn elasticsearch_number_of_shards_is_the_new_indexs_and_1_if_not_set() {
    in_world(async |world| {
        let shards = async || {
            let index = index_of(world, &world.index()).await;
            index["settings"]["index"]["number_of_shards"].clone()
        };
        world.sync_es(ONE_SHOT).output().await.succeeded();
        assert_eq!(shards().await, "1");
        let path = format!("/{}", world.index());
        world.search.must(Method::Delete, &path, None).await;
        let metadata = format!("/{}-sync-metadata", world.alias());
        world.search.must(Method::Delete, &metadata, None).await;
        let run = world
            .sync_es(ONE_SHOT)
            .env("ELASTICSEARCH_NUMBER_OF_SHARDS", 3);
        run.output().await.succeeded();
        assert_eq!(shards().await, "3");
    });
}

#[test]
fn es_client_batch_size_is_the_documents_of_a_bulk_request_and_500_if_not_set() {
    in_world(async |world| {
        add_rows(world, 10_000).await;
        let proxy = Proxy::start(world).await;
        let run = world.sync_es(ONE_SHOT).through(&proxy);
        run.clone()
            .env("ES_CLIENT_BATCH_SIZE", 100)
            .output()
            .await
            .succeeded();
        let small = proxy.documents();
        assert_eq!(small.iter().max(), Some(&100), "{small:?}");
        world
            .execute("SELECT pg_logical_emit_message(true, 'next', 'a higher LSN')")
            .await;
        run.output().await.succeeded();
        let both = proxy.documents();
        assert_eq!(both.iter().max(), Some(&500), "{both:?}");
    });
}

#[test]
fn es_max_retries_ends_a_one_shot_run() {
    in_world(async |world| {
        add_rows(world, 1).await;
        for retries in [0, 3] {
            let proxy = Proxy::start(world).await;
            proxy.refuse_bulks_after(0);
            let run = world
                .sync_es(ONE_SHOT)
                .through(&proxy)
                .env("ES_MAX_RETRIES", retries)
                .env("ES_RETRY_BACKOFF_SECONDS", 0.01);
            run.output()
                .await
                .failed_naming(&["es_rejected_execution_exception"]);
            assert_eq!(proxy.bulks().len(), retries + 1);
        }
        world.sync_es(ONE_SHOT).output().await.succeeded();
        assert_equal(world, &Truth::organizations()).await;
    });
}

/// The waits between the attempts to write one document, with these settings.
async fn waits(world: &World, retries: u32, first: f64, longest: f64) -> Vec<Duration> {
    add_rows(world, 1).await;
    let proxy = Proxy::start(world).await;
    proxy.refuse_bulks_after(0);
    let run = world
        .sync_es(ONE_SHOT)
        .through(&proxy)
        .env("ES_MAX_RETRIES", retries)
        .env("ES_RETRY_BACKOFF_SECONDS", first)
        .env("ES_RETRY_MAX_BACKOFF_SECONDS", longest);
    run.output()
        .await
        .failed_naming(&["es_rejected_execution_exception"]);
    let bulks = proxy.bulks();
    bulks.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn es_retry_backoff_seconds_is_the_first_wait_and_it_grows() {
    in_world(async |world| {
        let waits = waits(world, 5, 0.4, 30.0).await;
        // A random part of 0.4, 0.8, 1.6, 3.2 and 6.4 s: below 0.5 s in all once in 40,000 times.
        let sum: Duration = waits.iter().sum();
        assert!(sum > Duration::from_millis(500), "{waits:?}");
        for (wait, longest) in waits.iter().zip([0.4, 0.8, 1.6, 3.2, 6.4]) {
            let sent_and_refused = Duration::from_secs(1);
            assert!(
                *wait < Duration::from_secs_f64(longest) + sent_and_refused,
                "{waits:?}"
            );
        }
    });
}

#[test]
fn es_retry_max_backoff_seconds_is_the_longest_wait() {
    in_world(async |world| {
        // Without the limit the last of these would be 0.1 s × 2^7.
        let waits = waits(world, 8, 0.1, 0.3).await;
        let longest = waits.iter().max().unwrap();
        assert!(*longest < Duration::from_secs(3), "{waits:?}");
    });
}

#[test]
fn postgres_client_batch_size_is_the_rows_of_a_fetch() {
    in_world(async |world| {
        add_rows(world, 3_000).await;
        let proxy = Proxy::start(world).await;
        // Elasticsearch takes nothing, so the cursor stands still and its statement can be seen.
        proxy.refuse_bulks_after(0);
        let mut program = world
            .sync_es(&["run"])
            .through(&proxy)
            .env("POSTGRES_CLIENT_BATCH_SIZE", 37)
            .start();
        let fetch = "SELECT query FROM pg_stat_activity WHERE datname = current_database()
                      AND pid <> pg_backend_pid() AND query ILIKE 'FETCH%'";
        let query = program
            .until("rows are fetched", async || {
                world.ask::<String>(fetch).await
            })
            .await;
        assert!(query.contains(" 37 "), "{query}");
        proxy.pass();
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        program.stop().await;
    });
}
