//! Writers that change the table in every way that SQL has, at the same time, over the same keys.
//!
//! What a writer does follows from the seed; how the writers interleave does not. PostgreSQL alone
//! knows what the table holds in the end, so nothing is modelled here: a change of a row that is not
//! there changes nothing, a transaction that loses a race is one more rolled-back transaction.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::{join_all, try_join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, Statement, error::SqlState, types::ToSql};

use super::{
    values::{COLUMNS, Column, Field, Generator, key},
    world::World,
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
    generator: Generator,
}

/// Writers at work.
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
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
                writer.db.batch_execute("BEGIN").await.unwrap();
                for some in numbers.chunks(64) {
                    writer.insert_many(some).await.unwrap();
                }
                writer.db.batch_execute("COMMIT").await.unwrap();
            });
        join_all(fillers).await;
    }

    /// Starts the writers; they go on until told to stop.
    pub(crate) async fn start(&self, world: &World) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for number in 0..self.writers {
            let writer = self.writer(world, number).await;
            let (stop, changes) = (Arc::clone(&stop), Arc::clone(&changes));
            tasks.push(tokio::spawn(writer.work(stop, changes)));
        }
        Writers {
            tasks,
            stop,
            changes,
        }
    }

    async fn writer(&self, world: &World, number: usize) -> Writer {
        let db = world.connection().await;
        db.batch_execute("SET deadlock_timeout = '50ms'")
            .await
            .unwrap();
        Writer {
            db,
            random: StdRng::seed_from_u64(self.seed ^ (number as u64).rotate_left(32)),
            generator: self.generator.clone(),
            keys: self.keys,
            statements: HashMap::new(),
            open: Tally::new(),
        }
    }
}

impl Writers {
    /// Changed rows that are committed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Lets them finish what they are at, and waits for it.
    pub(crate) async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::new();
        for task in self.tasks {
            for (kind, rows) in task.await.unwrap() {
                *sum.entry(kind).or_default() += rows;
            }
        }
        sum
    }
}

struct Writer {
    db: Client,
    random: StdRng,
    generator: Generator,
    keys: usize,
    statements: HashMap<String, Statement>,
    /// Rows changed in the open transaction, by kind of change.
    open: Tally,
}

impl Writer {
    async fn work(mut self, stop: Arc<AtomicBool>, changes: Arc<AtomicU64>) -> Tally {
        let mut done = Tally::new();
        while !stop.load(Ordering::Relaxed) {
            self.open.clear();
            match self.transaction().await {
                Ok(()) => {
                    for (kind, rows) in &self.open {
                        changes.fetch_add(*rows, Ordering::Relaxed);
                        *done.entry(kind).or_default() += rows;
                    }
                }
                Err(error) if lost_a_race(&error) => {
                    self.db.batch_execute("ROLLBACK").await.unwrap();
                    *done.entry("lost race").or_default() += 1;
                }
                Err(error) => panic!("a writer failed: {error:?}"),
            }
        }
        done
    }

    async fn transaction(&mut self) -> Result<(), Error> {
        match self.random.random_range(0..100) {
            0..55 => return self.change().await,
            55..75 => {
                self.begin().await?;
                for _ in 0..self.random.random_range(2..9) {
                    self.change().await?;
                }
            }
            75..83 => {
                self.begin().await?;
                self.one_row_often().await?;
            }
            83..88 => {
                self.begin().await?;
                self.change().await?;
                self.change().await?;
                self.open = Tally::from([("rollback", 1)]);
                return self.db.batch_execute("ROLLBACK").await;
            }
            88..93 => {
                self.begin().await?;
                self.savepoints().await?;
            }
            93..96 => {
                self.begin().await?;
                self.swap_keys().await?;
            }
            96..99 => {
                self.begin().await?;
                self.statement_over_many(20).await?;
            }
            _ => {
                self.begin().await?;
                let rows = self.random.random_range(100..400);
                self.statement_over_many(rows).await?;
            }
        }
        self.db.batch_execute("COMMIT").await
    }

    async fn begin(&self) -> Result<(), Error> {
        self.db.batch_execute("BEGIN").await
    }

    async fn change(&mut self) -> Result<(), Error> {
        let key = self.key();
        match self.random.random_range(0..100) {
            0..50 => self.update_one_column(&key).await,
            50..60 => self.update_some_columns(&key).await,
            60..76 => self.insert(&key).await,
            76..84 => self.upsert(&key).await,
            84..93 => self.delete(&key).await,
            _ => {
                let other = self.key();
                self.change_key("key change", &key, &other).await
            }
        }
    }

    /// Several changes of one row, which collapse into the last.
    async fn one_row_often(&mut self) -> Result<(), Error> {
        let key = self.key();
        for _ in 0..self.random.random_range(2..6) {
            match self.random.random_range(0..4) {
                0 => self.insert(&key).await?,
                1 => self.delete(&key).await?,
                2 => self.update_one_column(&key).await?,
                _ => self.upsert(&key).await?,
            }
        }
        Ok(())
    }

    /// A part of the transaction is undone, in the middle of it.
    async fn savepoints(&mut self) -> Result<(), Error> {
        self.change().await?;
        let kept = self.open.clone();
        self.db.batch_execute("SAVEPOINT a").await?;
        self.change().await?;
        self.db.batch_execute("SAVEPOINT b").await?;
        self.change().await?;
        self.db.batch_execute("ROLLBACK TO SAVEPOINT a").await?;
        self.open = kept;
        self.change().await?;
        self.db.batch_execute("SAVEPOINT c").await?;
        self.change().await?;
        self.db.batch_execute("RELEASE SAVEPOINT c").await?;
        *self.open.entry("savepoint").or_default() += 1;
        Ok(())
    }

    /// Two rows take each other's key, by way of a third.
    async fn swap_keys(&mut self) -> Result<(), Error> {
        let (one, other) = (self.key(), self.key());
        let between = format!("between-{}", self.random.random::<u64>());
        self.change_key("swap", &one, &between).await?;
        self.change_key("swap", &other, &one).await?;
        self.change_key("swap", &between, &other).await
    }

    async fn statement_over_many(&mut self, rows: usize) -> Result<(), Error> {
        let keys: Vec<String> = (0..rows).map(|_| self.key()).collect();
        // Locked in one order first, or two of these would lock each other out all the time.
        let lock = "SELECT count(*) FROM (SELECT FROM integrated_records WHERE hk = ANY($1) ORDER BY hk FOR UPDATE) AS locked";
        self.db.execute(lock, &[&keys]).await?;
        let (kind, statement) = *[
            ("update of many", "UPDATE integrated_records SET employee_count = coalesce(employee_count, 0) / 2 WHERE hk = ANY($1)"),
            ("delete of many", "DELETE FROM integrated_records WHERE hk = ANY($1)"),
            ("insert of many", "INSERT INTO integrated_records (hk, name, created_at, updated_at)
                SELECT hk, 'one of many', now(), now() FROM unnest($1::text[]) AS hk ON CONFLICT DO NOTHING"),
        ]
        .choose(&mut self.random)
        .unwrap();
        self.execute(kind, statement, &[&keys]).await
    }

    async fn update_one_column(&mut self, key: &str) -> Result<(), Error> {
        let column = &COLUMNS[self.random.random_range(0..COLUMNS.len())];
        let value = self.generator.value(&mut self.random, column);
        let statement = format!(
            "UPDATE integrated_records SET {} = $2::{} WHERE hk = $1",
            column.name, column.cast
        );
        self.execute(column.name, &statement, &[&key, value.parameter()])
            .await
    }

    /// Half the columns, never the embedding.
    async fn update_some_columns(&mut self, key: &str) -> Result<(), Error> {
        let columns: Vec<&Column> = COLUMNS
            .iter()
            .filter(|column| column.name != "embedding" && self.random.random_bool(0.5))
            .collect();
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| self.generator.value(&mut self.random, column))
            .collect();
        let Some(set) = assignments(&columns) else {
            return Ok(());
        };
        let statement = format!("UPDATE integrated_records SET {set} WHERE hk = $1");
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&key];
        parameters.extend(fields.iter().map(Field::parameter));
        // Too many different statements to keep them prepared.
        let rows = self.db.execute(&statement, &parameters).await?;
        *self.open.entry("update of some columns").or_default() += rows;
        Ok(())
    }

    async fn insert(&mut self, key: &str) -> Result<(), Error> {
        let statement = insertion("ON CONFLICT (hk) DO NOTHING");
        self.with_a_whole_row("insert", &statement, key).await
    }

    async fn upsert(&mut self, key: &str) -> Result<(), Error> {
        let columns: Vec<&Column> = COLUMNS.iter().collect();
        let set = assignments(&columns).unwrap();
        let statement = insertion(&format!("ON CONFLICT (hk) DO UPDATE SET {set}"));
        self.with_a_whole_row("upsert", &statement, key).await
    }

    async fn delete(&mut self, key: &str) -> Result<(), Error> {
        self.execute(
            "delete",
            "DELETE FROM integrated_records WHERE hk = $1",
            &[&key],
        )
        .await
    }

    async fn change_key(&mut self, kind: &'static str, from: &str, to: &str) -> Result<(), Error> {
        let statement = "UPDATE integrated_records SET hk = $2 WHERE hk = $1
                            AND NOT EXISTS (SELECT FROM integrated_records WHERE hk = $2)";
        self.execute(kind, statement, &[&from, &to]).await
    }

    async fn with_a_whole_row(
        &mut self,
        kind: &'static str,
        statement: &str,
        key: &str,
    ) -> Result<(), Error> {
        let fields = self.row();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&key];
        parameters.extend(fields.iter().map(Field::parameter));
        self.execute(kind, statement, &parameters).await
    }

    async fn execute(
        &mut self,
        kind: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        let prepared = self.prepared(statement).await?;
        let rows = self.db.execute(&prepared, parameters).await?;
        *self.open.entry(kind).or_default() += rows;
        Ok(())
    }

    /// New rows, pipelined.
    async fn insert_many(&mut self, numbers: &[usize]) -> Result<(), Error> {
        let statement = self.prepared(&insertion("")).await?;
        let rows: Vec<(String, Vec<Field>)> = numbers
            .iter()
            .map(|number| (key(*number), self.row()))
            .collect();
        let inserts = rows.iter().map(async |(key, fields)| {
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![key];
            parameters.extend(fields.iter().map(Field::parameter));
            self.db.execute(&statement, &parameters).await
        });
        try_join_all(inserts).await.map(|_| ())
    }

    async fn prepared(&mut self, statement: &str) -> Result<Statement, Error> {
        if let Some(prepared) = self.statements.get(statement) {
            return Ok(prepared.clone());
        }
        let prepared = self.db.prepare(statement).await?;
        self.statements
            .insert(statement.to_owned(), prepared.clone());
        Ok(prepared)
    }

    fn row(&mut self) -> Vec<Field> {
        COLUMNS
            .iter()
            .map(|column| self.generator.value(&mut self.random, column))
            .collect()
    }

    fn key(&mut self) -> String {
        key(self.random.random_range(0..self.keys))
    }
}

fn insertion(conflict: &str) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let values: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(place, column)| format!("${}::{}", place + 2, column.cast))
        .collect();
    format!(
        "INSERT INTO integrated_records (hk, {}) VALUES ($1, {}) {conflict}",
        names.join(", "),
        values.join(", ")
    )
}

/// `name = $2::text, …`, from the second parameter on; none for no columns.
fn assignments(columns: &[&Column]) -> Option<String> {
    let assignments: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} = ${}::{}", column.name, place + 2, column.cast))
        .collect();
    (!assignments.is_empty()).then(|| assignments.join(", "))
}

fn lost_a_race(error: &Error) -> bool {
    let races = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    error.code().is_some_and(|code| races.contains(code))
}
