//! No document goes back in time once the alias is on: what a reader has seen of a row, no later
//! reader sees an older state of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use elasticsearch::http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{Proxy, Search, Truth, World, assert_equal, in_world, seed};

const KEYS: usize = 8;
/// Half of the keys always have a row; rows of the others come and go.
const STEADY: usize = 4;
/// Changes beside the running program, and as many while it does not run, again and again.
const CHANGES: usize = 50;

/// Every change of a row, also its return after a delete, has a higher `rev`. The value of 100 KB
/// is stored out of line and changes now and then, so that some changes come with it.
const CREATE: &str = "CREATE TABLE revised (hk text PRIMARY KEY, rev bigint NOT NULL, note text, large text NOT NULL);
     ALTER TABLE revised ALTER large SET STORAGE EXTERNAL;
     CREATE SEQUENCE rev;
     CREATE FUNCTION large() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 3200) $$;
     INSERT INTO revised SELECT 'key' || n, nextval('rev'), 'n', large() FROM generate_series(0, 7) AS n";

#[test]
fn no_document_goes_back_in_time_with_replica_identity_default() {
    in_world(async |world| only_forward(world, "DEFAULT").await);
}

#[test]
fn no_document_goes_back_in_time_with_replica_identity_full() {
    in_world(async |world| only_forward(world, "FULL").await);
}

async fn only_forward(world: &World, identity: &str) {
    world.execute(CREATE).await;
    world
        .execute(&format!("ALTER TABLE revised REPLICA IDENTITY {identity}"))
        .await;
    // Slow, and a request a change: there are always changes behind the one that is written, and each
    // of them is seen.
    let proxy = Proxy::slow(world, Duration::from_millis(30)).await;
    let run = world
        .sync_es(&["run"])
        .env("POSTGRES_TABLE", "revised")
        .env("ES_CLIENT_BATCH_SIZE", 1)
        .through(&proxy);
    let mut program = run.start();
    world.caught_up(&mut program).await;
    let sampler = Sampler::start(world).await;
    let mut random = StdRng::seed_from_u64(seed());
    for _ in 0..4 {
        write(world, &mut random).await;
        program.kill_9();
        write(world, &mut random).await;
        program = run.start();
        world.caught_up(&mut program).await;
    }
    let (seen, violations) = sampler.stop().await;
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(seen > 40, "{seen} states were seen, too few to judge");
    let truth = Truth::of(
        "revised",
        "hk",
        &[
            ("hk", "to_jsonb(hk)"),
            ("rev", "to_jsonb(rev)"),
            ("note", "to_jsonb(note)"),
            ("large", "to_jsonb(large)"),
        ],
    );
    assert_equal(world, &truth).await;
    program.stop().await;
}

/// Changes rows, a transaction a change.
async fn write(world: &World, random: &mut StdRng) {
    for _ in 0..CHANGES {
        let number = random.random_range(0..KEYS);
        let key = format!("key{number}");
        let update = |what: &str| {
            format!("UPDATE revised SET rev = nextval('rev'), {what} WHERE hk = '{key}'")
        };
        let insert = format!(
            "INSERT INTO revised VALUES ('{key}', nextval('rev'), 'again', large()) ON CONFLICT DO NOTHING"
        );
        let delete = format!("DELETE FROM revised WHERE hk = '{key}'");
        let statements = match random.random_range(0..10) {
            0..6 => update("note = md5(random()::text)"),
            6..8 => update("large = large()"),
            _ if number < STEADY => format!("BEGIN; {delete}; {insert}; COMMIT"),
            8 => delete,
            _ => insert,
        };
        world.execute(&statements).await;
    }
}

/// Reads all documents by their keys, over and over.
struct Sampler {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Sampler {
    async fn start(world: &World) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let search = Search::connect(world.elasticsearch_url()).await;
        let task = tokio::spawn(sample(search, world.index(), stop.clone()));
        Self { stop, task }
    }

    /// How many states were seen, and those that came after newer ones.
    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn sample(search: Search, index: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key{number}")).collect();
    let path = format!("/{index}/_mget?_source_includes=rev");
    let mut last = [0; KEYS];
    let (mut seen, mut violations) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let ids = json!({ "ids": keys });
        let answer = search.must(Method::Post, &path, Some(ids)).await;
        let documents = answer["docs"].as_array().unwrap();
        for (number, (document, last)) in documents.iter().zip(&mut last).enumerate() {
            let version = &document["_version"];
            match document["_source"]["rev"].as_u64() {
                Some(rev) if rev < *last => violations.push(format!(
                    "key{number} shows {rev} after {last}, at version {version}"
                )),
                Some(rev) if rev > *last => {
                    *last = rev;
                    seen += 1;
                }
                None if number < STEADY => {
                    violations.push(format!("key{number} is gone after {last}"));
                }
                _ => {}
            }
        }
    }
    (seen, violations)
}
