//! Writers that change the table in every way that SQL has, at the same time, over the same keys.
//!
//! What a writer does follows from the seed; how the writers interleave does not. PostgreSQL alone
//! knows what the table holds in the end, so nothing is modelled here: a change of a row that is not
//! there changes nothing, a transaction that loses a race is one more rolled-back transaction, and one
//! whose connection is lost was committed or not. Writers connect again for as long as they work.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{
    values::{COLUMNS, Generator},
    world::World,
    writer::Writer,
};

/// How often each kind of change was committed (rows), and how many transactions were not.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// A table's writers, not yet running.
#[derive(Clone)]
pub(crate) struct Workload {
    /// What everything that is random follows from.
    pub(crate) seed: u64,
    /// Connections that write at the same time.
    pub(crate) writers: usize,
    /// Keys that rows can have; about two thirds have a row at any time.
    pub(crate) keys: usize,
    /// Changes per second, of all writers together, at most: above what an index with vectors takes
    /// on a loaded machine, or tests would wait for the backlog alone.
    pub(crate) rate: u32,
    generator: Generator,
}

/// Writers at work.
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Tally>>,
    pace: Arc<Pace>,
}

/// The seed of this run, from `SYNC_ES_TEST_SEED` if it is set; printed, and so shown when a test
/// fails.
pub(crate) fn seed() -> u64 {
    let seed = match env::var("SYNC_ES_TEST_SEED") {
        Ok(seed) => seed.parse().expect("SYNC_ES_TEST_SEED is a number"),
        Err(_) => rand::random::<u32>().into(),
    };
    eprintln!("SYNC_ES_TEST_SEED={seed}");
    seed
}

impl Workload {
    /// Eight writers over `keys` keys of the world's table.
    pub(crate) async fn new(world: &World, keys: usize) -> Self {
        let required = world
            .db
            .query(
                "SELECT attname::text FROM pg_attribute
                  WHERE attrelid = 'integrated_records'::regclass AND attnum > 0 AND attnotnull",
                &[],
            )
            .await
            .unwrap();
        Self {
            seed: seed(),
            writers: 8,
            keys,
            rate: 400,
            generator: Generator {
                dimensions: world.dimensions,
                required: required.iter().map(|row| row.get(0)).collect(),
            },
        }
    }

    /// Every kind of change that a [`Tally`] can name, races aside.
    pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
        let kinds = [
            "insert",
            "upsert",
            "delete",
            "key change",
            "swap",
            "update of some columns",
            "update of many",
            "delete of many",
            "insert of many",
            "rollback",
            "savepoint",
        ];
        COLUMNS.iter().map(|column| column.name).chain(kinds)
    }

    /// Gives two thirds of the keys a row.
    pub(crate) async fn fill(&self, world: &World) {
        let rows: Vec<usize> = (0..self.keys).filter(|number| number % 3 != 2).collect();
        let share = rows.len().div_ceil(2);
        let fillers = rows
            .chunks(share)
            .enumerate()
            .map(async |(place, numbers)| {
                let mut writer = self.writer(world, usize::MAX - place).await;
                writer.fill(numbers).await.unwrap();
            });
        join_all(fillers).await;
    }

    /// Starts the writers; they go on until told to stop.
    pub(crate) async fn start(&self, world: &World) -> Writers {
        let pace = Arc::new(Pace {
            start: Instant::now(),
            rate: self.rate,
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut tasks = Vec::new();
        for number in 0..self.writers {
            let writer = self.writer(world, number).await;
            tasks.push(tokio::spawn(writer.work(Arc::clone(&pace))));
        }
        Writers { tasks, pace }
    }

    async fn writer(&self, world: &World, number: usize) -> Writer {
        let seed = self.seed ^ (number as u64).rotate_left(32);
        Writer::new(
            world.postgres_url(),
            seed,
            self.generator.clone(),
            self.keys,
        )
        .await
    }
}

impl Writers {
    /// Changed rows that are committed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.pace.changes.load(Ordering::Relaxed)
    }

    /// Lets them finish what they are at, and waits for it.
    pub(crate) async fn stop(self) -> Tally {
        self.pace.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::new();
        for task in self.tasks {
            for (kind, rows) in task.await.unwrap() {
                *sum.entry(kind).or_default() += rows;
            }
        }
        sum
    }
}

/// How far the writers may be by now, and how far they are.
pub(super) struct Pace {
    start: Instant,
    rate: u32,
    changes: AtomicU64,
    stop: AtomicBool,
}

impl Pace {
    /// Waits until another change is due; false when there shall be none.
    pub(super) async fn due(&self) -> bool {
        while !self.is_over() {
            let allowed = self.start.elapsed().as_millis() * u128::from(self.rate) / 1_000;
            if u128::from(self.changes.load(Ordering::Relaxed)) <= allowed {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Whether there shall be no more changes.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts committed changes.
    pub(super) fn count(&self, changes: u64) {
        self.changes.fetch_add(changes, Ordering::Relaxed);
    }
}
