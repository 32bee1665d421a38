//! An index that is loaded without its vector graph ends as one that had it from the start.

use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::support::{Invocation, Truth, World, assert_equal, in_world, in_world_of};

const ONE_SHOT: &[&str] = &["run", "--snapshot-only"];

/// Rows with vectors that differ, from number `first` on.
async fn add_rows(world: &World, first: usize, rows: usize) {
    let (last, dimensions) = (first + rows - 1, world.dimensions);
    world
        .execute(&format!(
            "INSERT INTO integrated_records (hk, name, embedding)
             SELECT 'row-' || n, 'name ' || n,
                    (SELECT array_agg(sin(n * 7 + i * i)::real) FROM generate_series(1, {dimensions}) AS i)
               FROM generate_series({first}, {last}) AS n"
        ))
        .await;
}

fn deferred(world: &World, arguments: &[&str]) -> Invocation {
    world
        .sync_es(arguments)
        .env("SYNC_ES_VECTOR_INDEX", "deferred")
}

async fn mappings(world: &World, index: &str) -> Value {
    let path = format!("/{index}/_mapping");
    let answer = world.search.must(Method::Get, &path, None).await;
    answer[index]["mappings"].clone()
}

/// The mapping is what the template gives an index that is made by itself, and nothing is left to do.
async fn mapped_as_the_template_has_it(world: &World) {
    let found = mappings(world, &world.index()).await;
    let other = format!("{}_v2", world.name);
    world
        .search
        .must(Method::Put, &format!("/{other}"), None)
        .await;
    let expected = mappings(world, &other).await;
    world
        .search
        .must(Method::Delete, &format!("/{other}"), None)
        .await;
    assert_eq!(found["properties"], expected["properties"]);
    assert_eq!(found["_meta"]["sync_es_deferred"], Value::Null, "{found}");
    assert!(found["_meta"]["sync_es"].is_object(), "{found}");
}

/// What stands on disk beside the vectors of this many documents: graph and quantized vectors.
async fn bytes_beside_vectors(world: &World, documents: usize) -> usize {
    let path = format!(
        "/{}/_disk_usage?run_expensive_tasks=true&flush=true",
        world.index()
    );
    let answer = world.search.must(Method::Post, &path, None).await;
    let field = &answer[world.index()]["fields"]["embedding"];
    let all = field["knn_vectors_in_bytes"].as_u64().unwrap();
    usize::try_from(all).unwrap() - documents * world.dimensions * size_of::<f32>()
}

#[test]
fn a_deferred_graph_is_built_before_a_one_shot_run_ends() {
    // So many that Elasticsearch 9 has another default than for fewer.
    for dimensions in [8, 384] {
        in_world_of(dimensions, async |world| {
            add_rows(world, 1, 1_500).await;
            let outcome = deferred(world, ONE_SHOT).output().await;
            outcome.succeeded();
            assert!(
                outcome.log.contains("the vector index is built"),
                "{}",
                outcome.log
            );
            assert_equal(world, &Truth::organizations()).await;
            mapped_as_the_template_has_it(world).await;
            assert!(bytes_beside_vectors(world, 1_500).await > 0);
        });
    }
}

/// A merge leaves a segment alone that is the only one, in whatever form it is.
#[test]
fn one_segment_alone_gets_its_graph_too() {
    in_world(async |world| {
        add_rows(world, 1, 60).await;
        // One request, so one segment.
        let run = deferred(world, ONE_SHOT).env("ES_CLIENT_BATCH_SIZE", 1_000);
        run.output().await.succeeded();
        mapped_as_the_template_has_it(world).await;
        assert!(bytes_beside_vectors(world, 60).await > 0);
    });
}

#[test]
fn every_shard_gets_its_graph() {
    in_world(async |world| {
        add_rows(world, 1, 400).await;
        let run = deferred(world, ONE_SHOT).env("ELASTICSEARCH_NUMBER_OF_SHARDS", 3);
        run.output().await.succeeded();
        mapped_as_the_template_has_it(world).await;
        let answer = world
            .search
            .must(Method::Get, &format!("/{}/_segments", world.index()), None)
            .await;
        let shards = answer["indices"][world.index()]["shards"].as_object();
        for copies in shards.unwrap().values() {
            let segments = copies[0]["segments"].as_object().unwrap();
            let with_documents = segments
                .values()
                .filter(|segment| segment["num_docs"].as_u64() > Some(0));
            assert_eq!(with_documents.count(), 1, "{copies}");
        }
        assert!(bytes_beside_vectors(world, 400).await > 0);
    });
}

#[test]
fn an_always_on_run_builds_the_graph_beside_the_stream_and_then_goes_live() {
    in_world(async |world| {
        add_rows(world, 1, 1_500).await;
        let mut program = deferred(world, &["run"]).start();
        add_rows(world, 1_501, 100).await;
        world.live(&mut program).await;
        // The alias waited for it.
        mapped_as_the_template_has_it(world).await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        assert!(bytes_beside_vectors(world, 1_600).await > 0);
        program.stop().await;
    });
}

#[test]
fn what_an_own_template_says_of_the_vectors_is_what_they_become() {
    let options = [
        json!({ "index_options": { "type": "hnsw", "m": 24, "ef_construction": 80 } }),
        json!({ "index_options": { "type": "int8_flat" } }),
        json!({ "index": false }),
    ];
    for field in options {
        in_world(async |world| {
            add_rows(world, 1, 300).await;
            let mut template: Value =
                serde_json::from_str(include_str!("../../templates/integrated_records.json"))
                    .unwrap();
            let embedding = &mut template["template"]["mappings"]["properties"]["embedding"];
            *embedding = json!({ "type": "dense_vector", "dims": world.dimensions });
            for (name, value) in field.as_object().unwrap() {
                embedding[name] = value.clone();
            }
            let file = world.file("template.json", &template.to_string());
            let run = deferred(world, ONE_SHOT).env("ELASTICSEARCH_INDEX_TEMPLATE", file.display());
            run.output().await.succeeded();
            assert_equal(world, &Truth::organizations()).await;
            mapped_as_the_template_has_it(world).await;
        });
    }
}

#[test]
fn a_table_without_vectors_has_nothing_to_defer() {
    in_world(async |world| {
        world
            .execute(
                "CREATE TABLE plain (hk text PRIMARY KEY, n integer);
                 INSERT INTO plain VALUES ('a', 1), ('b', 2)",
            )
            .await;
        let run = deferred(world, ONE_SHOT).env("POSTGRES_TABLE", "plain");
        let outcome = run.output().await;
        outcome.succeeded();
        assert!(!outcome.log.contains("vector index"), "{}", outcome.log);
        assert_eq!(world.search.count(world.alias()).await, Some(2));
        mapped_as_the_template_has_it(world).await;
    });
}

/// It may be searched by anybody; a copy that renews it changes nothing of its mapping.
#[test]
fn an_index_that_is_there_is_never_taken_back() {
    in_world(async |world| {
        add_rows(world, 1, 200).await;
        world.sync_es(ONE_SHOT).output().await.succeeded();
        let before = mappings(world, &world.index()).await;
        world
            .execute("UPDATE integrated_records SET name = 'renewed'")
            .await;
        let outcome = deferred(world, ONE_SHOT).output().await;
        outcome.succeeded();
        assert!(!outcome.log.contains("vector index"), "{}", outcome.log);
        assert_equal(world, &Truth::organizations()).await;
        let after = mappings(world, &world.index()).await;
        assert_eq!(before["properties"], after["properties"]);
    });
}
