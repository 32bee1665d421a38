//! Changes: as fast as PostgreSQL sends them?
//!
//! Into the sink, `sync-es` catches up with changes that were made while it was down, against
//! `pg_recvlogical` with a copy of the same slot and the same options, into nothing. And it follows
//! writers while it runs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::{
    Bench,
    changes::{self, Change},
    data::Kind,
    follower::{Books, Follower, catch_up, follow},
    process::{Running, Settings},
    report::{Goal, Record, Report},
    sink::Sink,
};

const FIGURE: &str = "stream";
const NAME: &str = "bench_stream";
/// The least part of `pg_recvlogical`'s speed.
const GOAL: Goal = Goal::RatioAtLeast(0.8);
/// The most memory, in MiB.
const MEMORY_GOAL: Goal = Goal::AtMost(128.0);

/// Measures all of it.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let transactions = bench.size.pick(500, 20_000, 100_000);
    let changes = changes::changes_of(transactions);
    let rows = bench.size.pick(2_000, 100_000, 1_000_000).max(changes);
    let sink = Sink::start(&bench.elasticsearch, &format!("{NAME}_v"), false).await?;
    let follower = Follower::new(bench, NAME, (Kind::Narrow, rows), sink.url()).await?;
    changes::number_rows(&follower.client).await?;
    let running = follower.start_and_catch_up().await?;
    follower.stop(running).await?;
    let course = Course {
        bench,
        follower,
        sink,
        raw: raw_client(),
    };
    course
        .catch_up(Burst::Transactions(transactions), report)
        .await?;
    course.follow(transactions, report).await?;
    course.catch_up(Burst::One(rows), report).await?;
    course.follower.remove().await?;
    report.note(
        "stream: transactions of 1 to 5 updates of narrow rows, each row once; catching up: made while sync-es \
         was down, from the start of the process until the sink has acknowledged the last operation; \
         while it runs: from the first commit of two writers until then.",
    );
    Ok(())
}

/// What is made while nobody reads.
#[derive(Debug, Clone, Copy)]
enum Burst {
    /// So many transactions of one to five changes.
    Transactions(u64),
    /// One transaction that changes so many rows.
    One(u64),
}

struct Course<'a> {
    bench: &'a Bench,
    follower: Follower<'a>,
    sink: Sink,
    raw: Option<PathBuf>,
}

impl Course<'_> {
    async fn catch_up(&self, burst: Burst, report: &mut Report) -> Result<()> {
        let (mut ours, mut streaming, mut raw, mut cpu, mut memory) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (name, changes) = match burst {
            Burst::Transactions(count) => (
                format!("sink, {count} transactions, catching up"),
                changes::changes_of(count),
            ),
            Burst::One(rows) => (format!("sink, one transaction of {rows} rows"), rows),
        };
        for round in 0..self.bench.rounds {
            let end = self.make(burst).await?;
            let copy = self.copy_slot().await?;
            self.follower.client.batch_execute("CHECKPOINT").await?;
            // Who goes first finds other caches, so they take turns.
            if round % 2 == 0 {
                raw.extend(self.receive(&copy, end, changes).await?);
            }
            let caught_up = catch_up(&self.follower, Books::Sink(&self.sink), changes, end).await?;
            if round % 2 != 0 {
                raw.extend(self.receive(&copy, end, changes).await?);
            }
            drop_slot(&self.follower.client, &copy).await?;
            ours.push(per_second(changes, caught_up.since_start));
            streaming.push(per_second(changes, caught_up.since_streaming));
            cpu.push(per_million(changes, caught_up.usage.cpu));
            memory.push(mebibytes(caught_up.usage.peak_memory_bytes));
            self.follower.tidy().await?;
        }
        let against = |record: Record| match &raw[..] {
            [] => record,
            raw => record.against("pg_recvlogical", raw).goal(GOAL),
        };
        report.add(against(Record::new(FIGURE, &name, "changes/s", &ours)));
        report.add(against(Record::new(
            FIGURE,
            format!("{name}, from its first word to the slot"),
            "changes/s",
            &streaming,
        )));
        report.add(Record::new(
            FIGURE,
            format!("{name}, processor"),
            "s per million",
            &cpu,
        ));
        report.add(
            Record::new(FIGURE, format!("{name}, peak memory"), "MiB", &memory).goal(MEMORY_GOAL),
        );
        Ok(())
    }

    /// It runs while the changes are made.
    async fn follow(&self, transactions: u64, report: &mut Report) -> Result<()> {
        let changes = changes::changes_of(transactions);
        let (mut ours, mut written, mut lag) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.bench.rounds {
            let books = Books::Sink(&self.sink);
            let followed = follow(&self.follower, books, Change::Number, transactions).await?;
            ours.push(per_second(changes, followed.all));
            written.push(per_second(changes, followed.writing));
            lag.push((followed.all - followed.writing).as_secs_f64() * 1e3);
            self.follower.tidy().await?;
        }
        let name = format!("sink, {transactions} transactions while it runs");
        report.add(Record::new(FIGURE, &name, "changes/s", &ours).against("the writers", &written));
        report.add(Record::new(
            FIGURE,
            format!("{name}, after the last commit"),
            "ms",
            &lag,
        ));
        Ok(())
    }

    /// Makes the changes; gives an LSN behind them.
    async fn make(&self, burst: Burst) -> Result<u64> {
        match burst {
            Burst::Transactions(count) => {
                self.follower
                    .change_in_transactions(Change::Number, count)
                    .await
            }
            Burst::One(rows) => {
                changes::in_one_transaction(&self.follower.client, Change::Number, rows).await?;
                self.follower.mark_end().await
            }
        }
    }

    async fn copy_slot(&self) -> Result<String> {
        let copy = format!("{NAME}_copy");
        self.follower
            .client
            .execute(
                "SELECT pg_copy_logical_replication_slot($1, $2)",
                &[&self.follower.slot(), &copy.as_str()],
            )
            .await?;
        Ok(copy)
    }

    /// What `pg_recvlogical` does with the copied slot: changes/s. Nothing, where there is no such
    /// program.
    async fn receive(&self, slot: &str, end: u64, changes: u64) -> Result<Option<f64>> {
        let Some(program) = &self.raw else {
            return Ok(None);
        };
        let url = self.bench.postgres.url(&self.follower.database);
        let end = format!("--endpos={:X}/{:X}", end >> 32, end & 0xFFFF_FFFF);
        let arguments = [
            "--start",
            "--no-loop",
            "--file=/dev/null",
            "--fsync-interval=0",
            &format!("--dbname={url}"),
            &format!("--slot={slot}"),
            &end,
            // As sync-es asks for it.
            "--option=proto_version=1",
            "--option=publication_names=\"sync_es_integrated_records\"",
            "--option=messages=true",
            "--option=binary=true",
        ];
        let log = self.bench.work.join("pg_recvlogical.log");
        let running = Running::start(program, &arguments, &Settings::new(), &log)?;
        let usage = running.wait().await?.success()?;
        Ok(Some(per_second(changes, usage.wall)))
    }
}

/// Drops a slot, once nobody reads from it any more.
async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    let mut attempts = 0;
    let sql = "SELECT pg_drop_replication_slot($1)";
    while let Err(error) = client.execute(sql, &[&slot]).await {
        attempts += 1;
        if attempts == 100 {
            return Err(error).context("dropping the copied slot");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The newest `pg_recvlogical` of this machine. Debian has the programs themselves elsewhere than in
/// PATH, where a script starts them.
fn raw_client() -> Option<PathBuf> {
    const NAME: &str = "pg_recvlogical";
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let of_debian = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(NAME)))
        .filter(|path| path.exists())
        .max();
    of_debian.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|directory: PathBuf| directory.join(NAME))
            .find(|path: &PathBuf| Path::exists(path))
    })
}

/// Changes a second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn per_second(changes: u64, time: Duration) -> f64 {
    changes as f64 / time.as_secs_f64()
}

/// Seconds for a million changes.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn per_million(changes: u64, time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / changes as f64
}

/// Mebibytes.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
