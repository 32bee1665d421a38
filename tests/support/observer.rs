//! Watches, while a test runs, that no key goes back in time.
//!
//! Every row carries a number that grows with each change, whoever makes it. The observer reads
//! documents as the next write would find them, over and over, and knows for each key the last number
//! that it saw: from then on a lower one is a step back, and so is the same one after the key was seen
//! to be gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng, seq::index};
use tokio::task::JoinHandle;

use super::{Search, values::key, world::World};

/// Documents that are asked for at a time.
const SAMPLE: usize = 250;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// An observer at work.
pub(crate) struct Observer {
    task: JoinHandle<Seen>,
    stop: Arc<AtomicBool>,
}

/// What an observer saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Documents that were looked at, absent ones included.
    pub(crate) looks: u64,
    /// Looks that found a key changed since the last.
    pub(crate) steps: u64,
    /// Steps back.
    pub(crate) violations: Vec<String>,
}

/// The last that was seen of a key.
#[derive(Clone, Copy)]
struct Last {
    revision: i64,
    gone: bool,
}

impl Observer {
    /// Gives the table its column `rev`. Call it before there are rows.
    pub(crate) async fn prepare(world: &World) {
        world
            .execute(
                "CREATE SEQUENCE revisions;
                 ALTER TABLE integrated_records ADD COLUMN rev bigint;
                 CREATE FUNCTION revise() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN NEW.rev := nextval('revisions'); RETURN NEW; END $$;
                 CREATE TRIGGER revise BEFORE INSERT OR UPDATE ON integrated_records
                   FOR EACH ROW EXECUTE FUNCTION revise()",
            )
            .await;
    }

    /// Starts to look at the first `keys` keys of a workload. Nothing is promised before the alias is
    /// there, so call it once it is.
    pub(crate) async fn start(world: &World, keys: usize, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let search = Search::connect(world.elasticsearch_url()).await;
        let look = Look {
            search,
            index: world.index(),
            random: StdRng::seed_from_u64(seed),
            keys: (0..keys).map(key).collect(),
            last: HashMap::new(),
            seen: Seen::default(),
        };
        Self {
            task: tokio::spawn(look.run(Arc::clone(&stop))),
            stop,
        }
    }

    /// Ends it; fails the test if a key went back in time.
    pub(crate) async fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.task.await.unwrap();
        assert!(
            seen.violations.is_empty(),
            "went back in time: {:#?}",
            seen.violations
        );
        seen
    }
}

struct Look {
    search: Search,
    index: String,
    random: StdRng,
    keys: Vec<String>,
    last: HashMap<usize, Last>,
    seen: Seen,
}

impl Look {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Seen {
        while !stop.load(Ordering::Relaxed) {
            self.look().await;
            tokio::time::sleep(PAUSE).await;
        }
        self.seen
    }

    async fn look(&mut self) {
        let sample = SAMPLE.min(self.keys.len());
        let chosen = index::sample(&mut self.random, self.keys.len(), sample).into_vec();
        let ids: Vec<&str> = chosen.iter().map(|at| self.keys[*at].as_str()).collect();
        let stored = self.search.stored_fields(&self.index, &ids, "rev").await;
        for (at, stored) in chosen.into_iter().zip(stored) {
            self.seen.looks += 1;
            let revision = stored.map(|stored| stored.source["rev"].as_i64().unwrap());
            self.note(at, revision);
        }
    }

    fn note(&mut self, at: usize, revision: Option<i64>) {
        let Some(last) = self.last.get_mut(&at) else {
            let first = revision.map(|revision| Last {
                revision,
                gone: false,
            });
            self.last.extend(first.map(|first| (at, first)));
            return;
        };
        let before = *last;
        match revision {
            None => last.gone = true,
            Some(revision) => {
                *last = Last {
                    revision,
                    gone: false,
                }
            }
        }
        let back = revision.is_some_and(|revision| {
            revision < before.revision || (before.gone && revision == before.revision)
        });
        if back {
            let gone = if before.gone { ", then none" } else { "" };
            self.seen.violations.push(format!(
                "{:?}: revision {}{gone}, then {revision:?}",
                self.keys[at], before.revision
            ));
        }
        self.seen.steps += u64::from((last.revision, last.gone) != (before.revision, before.gone));
    }
}
