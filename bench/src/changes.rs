//! Changes of a table: each row at most once in a round, so that as many operations as changes must
//! arrive, whatever is merged on the way.

use std::{fmt, time::Instant};

use anyhow::Result;
use tokio_postgres::Client;

use crate::{Bench, data::TABLE};

/// Sessions that write at once.
const WRITERS: u64 = 2;
/// Five transactions change 1, 2, 3, 4 and 5 rows.
const CYCLE: (u64, u64) = (5, 15);

/// What an update touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An integer alone; the embedding stays as it is.
    Number,
    /// The integer and every element of the embedding.
    Embedding,
}

impl Change {
    fn assignments(self) -> &'static str {
        match self {
            Self::Number => "employee_count = coalesce(employee_count, 0) + 1",
            Self::Embedding => {
                "employee_count = coalesce(employee_count, 0) + 1, \
                 embedding = embedding[2:] || embedding[1:1]"
            }
        }
    }
}

/// Numbers the rows, once.
///
/// # Errors
/// A statement failed.
pub async fn number_rows(client: &Client) -> Result<()> {
    let sql = format!(
        "CREATE TABLE bench_keys AS
           SELECT hk, row_number() OVER (ORDER BY hk) - 1 AS number FROM {TABLE};
         ALTER TABLE bench_keys ADD PRIMARY KEY (number);
         VACUUM ANALYZE bench_keys;"
    );
    for statement in sql.split_inclusive(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// How changes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burst {
    /// So many transactions of one to five changes, as fast as two sessions can, which wait for no disk.
    Transactions(u64),
    /// One transaction that changes so many rows.
    One(u64),
}

impl Burst {
    /// How many changes these are, and so how many rows it needs.
    pub fn changes(self) -> u64 {
        let (cycle, changes) = CYCLE;
        match self {
            Self::Transactions(count) => count / cycle * changes,
            Self::One(rows) => rows,
        }
    }

    /// Makes them. Gives the moment before the first commit.
    ///
    /// # Errors
    /// A statement failed.
    pub async fn make(
        self,
        bench: &Bench,
        database: &str,
        client: &Client,
        change: Change,
    ) -> Result<Instant> {
        match self {
            Self::Transactions(count) => in_transactions(bench, database, change, count).await,
            Self::One(rows) => in_one_transaction(client, change, rows).await,
        }
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transactions(count) => write!(f, "{count} transactions"),
            Self::One(rows) => write!(f, "one transaction of {rows} rows"),
        }
    }
}

async fn in_transactions(
    bench: &Bench,
    database: &str,
    change: Change,
    transactions: u64,
) -> Result<Instant> {
    let (cycle, changes) = CYCLE;
    let procedure = format!(
        "CREATE OR REPLACE PROCEDURE bench_change(first bigint, beyond bigint) LANGUAGE plpgsql AS $$
         BEGIN
           FOR cycle IN first .. beyond - 1 LOOP
             FOR size IN 1 .. {cycle} LOOP
               UPDATE {TABLE} SET {} WHERE hk IN (
                 SELECT hk FROM bench_keys WHERE number >= cycle * {changes} + size * (size - 1) / 2
                                             AND number < cycle * {changes} + size * (size + 1) / 2);
               COMMIT;
             END LOOP;
           END LOOP;
         END $$",
        change.assignments()
    );
    let cycles = transactions / cycle;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = bench.postgres.connect(database).await?;
        if writer == 0 {
            client.batch_execute(&procedure).await?;
        }
        client
            .batch_execute(
                "SET synchronous_commit = off; SET enable_seqscan = off; SET enable_hashjoin = off",
            )
            .await?;
        writers.push(client);
    }
    let start = Instant::now();
    let calls = writers.iter().zip(0..).map(|(client, writer)| {
        let (first, beyond) = (cycles * writer / WRITERS, cycles * (writer + 1) / WRITERS);
        async move {
            let call = format!("CALL bench_change({first}, {beyond})");
            client.batch_execute(&call).await
        }
    });
    futures_util::future::try_join_all(calls).await?;
    Ok(start)
}

async fn in_one_transaction(client: &Client, change: Change, rows: u64) -> Result<Instant> {
    let update = format!(
        "BEGIN; UPDATE {TABLE} SET {} FROM bench_keys
         WHERE {TABLE}.hk = bench_keys.hk AND number < {rows}",
        change.assignments()
    );
    client.batch_execute(&update).await?;
    let start = Instant::now();
    client.batch_execute("COMMIT").await?;
    Ok(start)
}
