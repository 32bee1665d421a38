//! Run metadata and dead letters on a real server, with answers that get lost on the way.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use serde_json::{Map, json};
use sync_es::{
    change::{Key, Lsn, Version},
    elasticsearch::{
        DeadLetter, DeadLetters, Index, Phase, RecordsError, RefusedAction, Run, Runs,
    },
};
use url::Url;

use super::{Test, as_map, client, server_url};

/// The index that all runs here write into.
const GENERATION: &str = "integrated_records_v1";

#[tokio::test]
async fn the_latest_run_is_found_again_and_a_new_run_fences_its_writer() {
    let test = Test::new("runs").await;
    let runs = Runs::new(&test.client, &test.name, GENERATION);
    assert_eq!(runs.latest().await.unwrap(), None);
    runs.prepare(test.distribution).await.unwrap();
    runs.prepare(test.distribution).await.unwrap();
    let (mut first, none) = runs.take_over().await.unwrap();
    assert_eq!((first.number(), none), (1, None));
    first.save(&run(1, 8)).await.unwrap();
    first.save(&run(1, 16)).await.unwrap();
    assert_eq!(runs.latest().await.unwrap(), Some(run(1, 16)));

    let (mut second, last) = runs.take_over().await.unwrap();
    assert_eq!((second.number(), last), (2, Some(run(1, 16))));
    let fenced = first.save(&run(1, 24)).await;
    assert!(
        matches!(fenced, Err(RecordsError::Fenced { run: 1, .. })),
        "{fenced:?}"
    );
    second.save(&run(2, 24)).await.unwrap();
    assert_eq!(runs.latest().await.unwrap(), Some(run(2, 24)));
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn of_two_that_start_together_one_writes() {
    let test = Test::new("together").await;
    let runs = Runs::new(&test.client, &test.name, GENERATION);
    runs.prepare(test.distribution).await.unwrap();
    let (mut one, _) = runs.take_over().await.unwrap();
    let (mut other, _) = runs.take_over().await.unwrap();
    other.save(&run(1, 8)).await.unwrap();
    let fenced = one.save(&run(1, 8)).await;
    assert!(
        matches!(fenced, Err(RecordsError::Fenced { .. })),
        "{fenced:?}"
    );
    other.save(&run(1, 16)).await.unwrap();
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_does_not_look_like_a_fence() {
    let test = Test::new("lost-answer").await;
    Runs::new(&test.client, &test.name, GENERATION)
        .prepare(test.distribution)
        .await
        .unwrap();
    let eater = AnswerEater::start();
    let runs = Runs::new(&client([eater.url.clone()]), &test.name, GENERATION);
    let (mut writer, _) = runs.take_over().await.unwrap();

    eater.eat(1);
    writer
        .save(&run(1, 8))
        .await
        .expect("the second try finds its own document");
    eater.eat(2);
    let unanswered = writer.save(&run(1, 16)).await.unwrap_err();
    assert!(unanswered.heals(), "{unanswered}");
    writer
        .save(&run(1, 24))
        .await
        .expect("the next save finds the one before it");
    assert_eq!(runs.latest().await.unwrap(), Some(run(1, 24)));

    eater.eat(1);
    let (next, last) = runs.take_over().await.unwrap();
    assert_eq!((next.number(), last), (2, Some(run(1, 24))));
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn a_deleted_metadata_index_does_not_come_back_by_a_save() {
    let test = Test::new("deleted").await;
    let runs = Runs::new(&test.client, &test.name, GENERATION);
    runs.prepare(test.distribution).await.unwrap();
    let (mut writer, _) = runs.take_over().await.unwrap();
    writer.save(&run(1, 8)).await.unwrap();
    test.delete(&test.name).await;
    let refused = writer.save(&run(1, 16)).await.unwrap_err();
    assert!(!refused.heals(), "{refused}");
    assert_eq!(
        Index::new(&test.client, &test.name).look().await.unwrap(),
        None
    );
    runs.prepare(test.distribution).await.unwrap();
    let gone = writer.save(&run(1, 16)).await;
    assert!(matches!(gone, Err(RecordsError::Gone { .. })), "{gone:?}");
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn a_dead_letter_stays_until_its_key_succeeds_at_a_later_version() {
    let test = Test::new("letters").await;
    let letters = DeadLetters::new(&test.client, test.distribution, &test.name, "generation-1");
    assert_eq!(
        (
            letters.count().await.unwrap(),
            letters.keys().await.unwrap()
        ),
        (0, HashMap::new())
    );
    letters.prepare().await.unwrap();
    let long = "ä".repeat(9_000);
    let stored = [
        letter("a", 7),
        letter("", 7),
        letter(&long, 7),
        letter("a", 6),
    ];
    letters.store(&stored).await.unwrap();
    letters
        .store(&stored[..1])
        .await
        .expect("a replay stores it again");
    let other = DeadLetters::new(&test.client, test.distribution, &test.name, "generation-2");
    other.store(&[letter("a", 1)]).await.unwrap();

    assert_eq!(letters.count().await.unwrap(), 3);
    let keys = letters.keys().await.unwrap();
    assert_eq!(keys[&Key::new("a")], Version(7));
    assert!(keys.contains_key(&Key::new(&long)) && keys.contains_key(&Key::new("")));
    let mut pages = letters.letters().await.unwrap();
    let page = pages.next().await.unwrap().unwrap();
    assert!(page.contains(&letter("a", 7)) && page.contains(&letter(&long, 7)));
    assert!(pages.next().await.unwrap().is_none());

    letters
        .clear(&[
            (Key::new("a"), Version(6)),
            (Key::new("a"), Version(7)),
            (Key::new(""), Version(8)),
        ])
        .await
        .unwrap();
    let keys = letters.keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[&Key::new("a")], Version(7));
    letters.store(&[letter("", 9)]).await.unwrap();
    assert_eq!(letters.keys().await.unwrap()[&Key::new("")], Version(9));
    assert_eq!(other.count().await.unwrap(), 1);
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn more_letters_than_a_request_takes_come_and_go() {
    let test = Test::new("many-letters").await;
    let letters = DeadLetters::new(&test.client, test.distribution, &test.name, "generation");
    letters.prepare().await.unwrap();
    let keys: Vec<String> = (0..5_000).map(|number| format!("key {number}")).collect();
    let small = |key: &String| DeadLetter {
        reason: String::new(),
        document: None,
        ..letter(key, 7)
    };
    let stored: Vec<_> = keys.iter().map(small).collect();
    letters.store(&stored).await.unwrap();
    assert_eq!(letters.count().await.unwrap(), 5_000);
    let succeeded = keys.iter().map(|key| (Key::new(key), Version(8)));
    let succeeded: Vec<_> = succeeded.collect();
    letters.clear(&succeeded).await.unwrap();
    assert_eq!(letters.count().await.unwrap(), 0);
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn records_are_hidden_from_a_search_over_the_alias_and_what_begins_like_it() {
    let test = Test::new("hidden").await;
    Runs::new(&test.client, &test.name, GENERATION)
        .prepare(test.distribution)
        .await
        .unwrap();
    let pattern = format!("{}*", &test.name[..test.name.len() - 1]);
    let found = test.get(&format!("{pattern}/_mapping")).await;
    assert_eq!(found, json!({}));
    test.clean(&[&test.name]).await;
}

/// Passes bytes on to the server, and loses as many answers as it is told to.
struct AnswerEater {
    url: Url,
    to_eat: Arc<AtomicU32>,
}

impl AnswerEater {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to_eat = Arc::new(AtomicU32::new(0));
        let eaten = Arc::clone(&to_eat);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let server = server_url();
                let host = server.host_str().unwrap().to_owned();
                let far = TcpStream::connect((host, server.port_or_known_default().unwrap()));
                let far = far.unwrap();
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let eaten = Arc::clone(&eaten);
                thread::spawn(move || pass(near_too, far_too, || false));
                thread::spawn(move || {
                    let less = |count: u32| count.checked_sub(1);
                    pass(far, near, || {
                        eaten
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                            .is_ok()
                    });
                });
            }
        });
        Self {
            url: url.parse().unwrap(),
            to_eat,
        }
    }

    fn eat(&self, answers: u32) {
        self.to_eat.store(answers, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, eats: impl Fn() -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || eats() || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other direction may have ended it already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn run(number: u64, acknowledged: u64) -> Run {
    let at = "2026-11-24T23:33:00.123456789Z".parse().unwrap();
    Run {
        number,
        phase: Phase::Stream,
        input_postgres_table: "public.integrated_records".to_owned(),
        output_es_index: GENERATION.to_owned(),
        input_db_backend_config: as_map(json!({"url": "postgres://h/db", "batch": 10_000})),
        output_db_backend_config: Map::new(),
        n_input_records: 10,
        n_output_records: 9,
        n_dead_letters: 1,
        last_synced_item: Some("k\u{0}ä".to_owned()),
        sync_finished: true,
        slot: Some("sync_es".to_owned()),
        consistent_point: Some(Lsn(8)),
        snapshot_point: Some(Lsn(8)),
        barrier_xmax: Some(1 << 60),
        acknowledged_lsn: Some(Lsn(acknowledged)),
        read_ahead_to: Some(Lsn(8)),
        system_identifier: "7436363636363636363".to_owned(),
        timeline: 1,
        index_uuid: "u".to_owned(),
        index_was_new: true,
        relation_fingerprint: "f".to_owned(),
        storage: "2".to_owned(),
        coverage: None,
        started_at: at,
        updated_at: at,
        finished_at: None,
        error: None,
        program_version: "0.1.0".to_owned(),
        host: "h".to_owned(),
    }
}

fn letter(key: &str, version: u64) -> DeadLetter {
    DeadLetter {
        key: Key::new(key),
        version: Version(version),
        action: RefusedAction::Index,
        kind: "document_parsing_exception".to_owned(),
        reason: "because ".repeat(6_000),
        document: Some(format!(r#"{{"n":"{}"}}"#, "x".repeat(100_000))),
        run: 1,
        at: "2026-11-24T23:33:00Z".parse().unwrap(),
    }
}
