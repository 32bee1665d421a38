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
    changes::{self, Burst, Change},
    data::Kind,
    follower::Follower,
    process::{Running, Settings},
    progress::{Books, catch_up, follow},
    report::{Goal, Record, Report},
    sink::Sink,
    snapshot::{number, per_million},
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
    let many = Burst::Transactions(bench.size.pick(500, 20_000, 100_000));
    let one = Burst::One(bench.size.pick(2_000, 100_000, 1_000_000));
    let rows = many.changes().max(one.changes());
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
    for burst in [many, one] {
        course.catch_up(burst, report).await?;
        course.follow(burst, report).await?;
    }
    course.follower.remove().await?;
    report.note(
        "stream: transactions of 1 to 5 updates of narrow rows, each row once; catching up: made while sync-es \
         was down, from the start of the process until the sink has acknowledged the last operation; \
         while it runs: from before the first commit of two writers, or the one commit, until then.",
    );
    Ok(())
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
        let (name, changes) = (format!("sink, {burst}, catching up"), burst.changes());
        for round in 0..self.bench.rounds {
            let (_, end) = self.follower.change(Change::Number, burst).await?;
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
            cpu.push(per_million(caught_up.usage.cpu, changes));
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
        add_usage(&name, &cpu, &memory, report);
        Ok(())
    }

    /// It runs while the changes are made.
    async fn follow(&self, burst: Burst, report: &mut Report) -> Result<()> {
        let (mut ours, mut written, mut lag, mut cpu, mut memory) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let changes = burst.changes();
        for _ in 0..self.bench.rounds {
            let books = Books::Sink(&self.sink);
            let followed = follow(&self.follower, books, Change::Number, burst).await?;
            ours.push(per_second(changes, followed.all));
            written.push(per_second(changes, followed.writing));
            lag.push(followed.all.saturating_sub(followed.writing).as_secs_f64() * 1e3);
            cpu.push(per_million(followed.usage.cpu, changes));
            memory.push(mebibytes(followed.usage.peak_memory_bytes));
            self.follower.tidy().await?;
        }
        let name = format!("sink, {burst}, while it runs");
        let record = Record::new(FIGURE, &name, "changes/s", &ours);
        if matches!(burst, Burst::Transactions(_)) {
            report.add(record.against("the writers", &written));
            let lag_name = format!("{name}, after the last commit");
            report.add(Record::new(FIGURE, lag_name, "ms", &lag));
        } else {
            report.add(record);
        }
        add_usage(&name, &cpu, &memory, report);
        Ok(())
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

/// What the process used.
fn add_usage(name: &str, cpu: &[f64], memory: &[f64], report: &mut Report) {
    let record = |what, unit, rounds| Record::new(FIGURE, format!("{name}, {what}"), unit, rounds);
    report.add(record("processor", "s per million", cpu));
    report.add(record("peak memory", "MiB", memory).goal(MEMORY_GOAL));
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
pub fn per_second(changes: u64, time: Duration) -> f64 {
    number(changes) / time.as_secs_f64()
}

/// Mebibytes.
pub fn mebibytes(bytes: u64) -> f64 {
    number(bytes) / f64::from(1 << 20)
}
