//! One writer: a connection that changes rows at random, transaction after transaction.

use std::{collections::HashMap, sync::Arc, time::Duration};

use elasticsearch::http::Url;
use futures_util::future::try_join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio_postgres::{Client, Error, Statement, error::SqlState, types::ToSql};

use super::{
    values::{COLUMNS, Column, Field, Generator, key},
    workload::{Pace, Tally},
    world::{connection_is_lost, try_connect},
};

pub(super) struct Writer {
    url: Url,
    db: Client,
    random: StdRng,
    generator: Generator,
    /// Keys are drawn from the first so many of the universe.
    keys: usize,
    statements: HashMap<String, Statement>,
    /// Rows changed in the open transaction, by kind of change.
    open: Tally,
}

impl Writer {
    pub(super) async fn new(url: Url, seed: u64, generator: Generator, keys: usize) -> Self {
        Self {
            db: session(&url).await.unwrap(),
            url,
            random: StdRng::seed_from_u64(seed),
            generator,
            keys,
            statements: HashMap::new(),
            open: Tally::new(),
        }
    }

    /// Transaction after transaction, for as long as any is due.
    pub(super) async fn work(mut self, pace: Arc<Pace>) -> Tally {
        let mut done = Tally::new();
        while pace.due().await {
            self.open.clear();
            match self.transaction().await {
                Ok(()) => {
                    for (kind, rows) in &self.open {
                        pace.count(*rows);
                        *done.entry(kind).or_default() += rows;
                    }
                }
                Err(error) if lost_a_race(&error) => {
                    // On a connection that is lost by now, the next transaction says so.
                    self.db.batch_execute("ROLLBACK").await.ok();
                    *done.entry("lost race").or_default() += 1;
                }
                Err(error) if connection_is_lost(&error) => {
                    *done.entry("lost connection").or_default() += 1;
                    self.connect_again(&pace).await;
                }
                Err(error) => panic!("a writer failed: {error:?}"),
            }
        }
        done
    }

    /// A new session as soon as PostgreSQL takes one, unless the work is over before.
    async fn connect_again(&mut self, pace: &Pace) {
        self.statements.clear();
        while !pace.is_over() {
            match session(&self.url).await {
                Ok(db) => {
                    self.db = db;
                    return;
                }
                // No such database: the test has failed meanwhile, and its world is gone.
                Err(error)
                    if connection_is_lost(&error)
                        || error.code() == Some(&SqlState::INVALID_CATALOG_NAME) =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("a writer cannot connect: {error:?}"),
            }
        }
    }

    /// New rows for the keys of these numbers, in one transaction.
    pub(super) async fn fill(&mut self, numbers: &[usize]) -> Result<(), Error> {
        self.begin().await?;
        for some in numbers.chunks(64) {
            self.insert_many(some).await?;
        }
        self.db.batch_execute("COMMIT").await
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

async fn session(url: &Url) -> Result<Client, Error> {
    let db = try_connect(url).await?;
    // Writers that lock each other out shall find out soon.
    db.batch_execute("SET deadlock_timeout = '50ms'").await?;
    Ok(db)
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
