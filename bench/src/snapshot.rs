//! Snapshot into a real Elasticsearch, against the same documents, already encoded, sent by the raw
//! client into an index with the same settings and mapping, in its best way.
//!
//! Rows a second are those of the whole process, from its start to its exit; what its log gives is beside
//! it. After each run the index is counted: fast and wrong is no figure.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    Bench,
    data::{self, Kind},
    job::{self, ALIAS, INDEX},
    operations::Operations,
    process::{Settings, Usage},
    replay::{RAW_INDEX, Way, best_way, rate, replay_anew},
    report::{Goal, Record, Report},
    sink::Sink,
};

/// Megabytes that a snapshot may hold.
const MEMORY_GOAL_MB: f64 = 64.0;

/// Measures the figure for each kind of row.
///
/// # Errors
/// A contestant failed.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    report.note(
        "snapshot: rows/s of sync-es from the start of the process to its exit, with all that is made in Elasticsearch \
         before and after; \"by its log\" is from the opened cursor to the last acknowledgement",
    );
    for kind in Kind::ALL {
        measure_kind(bench, kind, report)
            .await
            .with_context(|| format!("rows of kind {kind}"))?;
    }
    bench.elasticsearch.clean(ALIAS).await
}

async fn measure_kind(bench: &Bench, kind: Kind, report: &mut Report) -> Result<()> {
    let rows = rows(bench, kind);
    let database = data::database(bench, kind, rows).await?;
    let (operations, shape) = record(bench, &database, kind, rows).await?;
    let trial = operations.first(operations.len() / 4);
    let way = best_way(&bench.elasticsearch, &shape, &trial).await?;

    let direct = job::settings(bench, &database, bench.elasticsearch.url(), kind);
    let mut by_hundred = direct.clone();
    by_hundred.insert("ES_CLIENT_BATCH_SIZE", "100".to_owned());
    let [mut ours, mut hundred, mut raw] =
        [Column::default(), Column::default(), Column::default()];
    for _ in 0..bench.rounds {
        raw.run_raw(bench, &shape, &operations, way).await?;
        ours.run(bench, &direct, rows).await?;
        hundred.run(bench, &by_hundred, rows).await?;
    }

    let against = format!("raw {way}");
    let record = |name: &str, unit, rounds: &[f64]| {
        Record::new("snapshot", format!("{kind}, {name}"), unit, rounds)
    };
    report.add(
        record("default batch", "rows/s", &ours.rates)
            .against(&against, &raw.rates)
            .goal(Goal::RatioAtLeast(0.95)),
    );
    report.add(
        record("default batch, by its log", "rows/s", &ours.logged)
            .against(&against, &raw.rates)
            .goal(Goal::RatioAtLeast(0.95)),
    );
    report.add(
        record("ES_CLIENT_BATCH_SIZE=100", "rows/s", &hundred.rates).against(&against, &raw.rates),
    );
    report.add(record(
        "our processor time",
        "s per million documents",
        &ours.cpu,
    ));
    report.add(record("peak memory", "MB", &ours.memory).goal(Goal::AtMost(MEMORY_GOAL_MB)));
    report.add(
        record(
            "Elasticsearch's processor time",
            "s per million documents",
            &ours.server_cpu,
        )
        .against(&against, &raw.server_cpu),
    );
    Ok(())
}

/// How many rows are read.
pub fn rows(bench: &Bench, kind: Kind) -> u64 {
    match kind {
        Kind::Narrow => bench.size.pick(2_000, 50_000, 300_000),
        Kind::Floats256 => bench.size.pick(1_000, 10_000, 100_000),
        Kind::Floats1024 => bench.size.pick(400, 2_000, 20_000),
    }
}

/// The operations that `sync-es` sends in a snapshot, by a run into a sink, and the shape of the index
/// that it leaves.
///
/// # Errors
/// The run failed.
pub async fn record(
    bench: &Bench,
    database: &str,
    kind: Kind,
    rows: u64,
) -> Result<(Operations, Value)> {
    let sink = Sink::start(&bench.elasticsearch, ALIAS, true).await?;
    let settings = job::settings(bench, database, sink.url(), kind);
    job::snapshot(bench, &settings, rows, "recorded").await?;
    let operations = sink.take_kept();
    ensure!(
        operations.len() as u64 == rows,
        "{} operations for {rows} rows",
        operations.len()
    );
    Ok((operations, bench.elasticsearch.shape(INDEX).await?))
}

/// One contestant's rounds.
#[derive(Debug, Default)]
pub struct Column {
    /// Rows a second, of the whole process.
    pub rates: Vec<f64>,
    /// Rows a second, by its log.
    pub logged: Vec<f64>,
    /// Our processor seconds per million documents.
    pub cpu: Vec<f64>,
    /// Megabytes at most.
    pub memory: Vec<f64>,
    /// Elasticsearch's processor seconds per million documents.
    pub server_cpu: Vec<f64>,
}

impl Column {
    /// One more round of `sync-es`.
    pub async fn run(&mut self, bench: &Bench, settings: &Settings, rows: u64) -> Result<()> {
        bench.elasticsearch.clean(ALIAS).await?;
        let before = bench.elasticsearch.cpu().await?;
        let usage = job::snapshot(bench, settings, rows, "snapshot").await?;
        self.server_cpu.push(per_million(
            bench.elasticsearch.cpu().await?.saturating_sub(before),
            rows,
        ));
        let found = bench.elasticsearch.count(INDEX).await?;
        ensure!(found == rows, "{INDEX} has {found} documents of {rows}");
        self.take(&usage, rows)
    }

    /// One more round of the raw client.
    pub async fn run_raw(
        &mut self,
        bench: &Bench,
        shape: &Value,
        operations: &Operations,
        way: Way,
    ) -> Result<()> {
        let rows = operations.len() as u64;
        bench.elasticsearch.clean(ALIAS).await?;
        let before = bench.elasticsearch.cpu().await?;
        let replayed = replay_anew(&bench.elasticsearch, shape, operations, way).await?;
        self.server_cpu.push(per_million(
            bench.elasticsearch.cpu().await?.saturating_sub(before),
            rows,
        ));
        let found = bench.elasticsearch.count(RAW_INDEX).await?;
        ensure!(found == rows, "{RAW_INDEX} has {found} documents of {rows}");
        self.rates.push(rate(operations.len(), replayed.wall));
        self.cpu.push(per_million(replayed.cpu, rows));
        Ok(())
    }

    /// What a run of `sync-es` used.
    pub fn take(&mut self, usage: &Usage, rows: u64) -> Result<()> {
        let line = job::logged(&usage.log, "snapshot has reached the end of the table")?;
        self.logged.push(
            line["rows_per_second"]
                .as_f64()
                .context("no rate in the log")?,
        );
        self.take_reader(usage, rows)
    }

    /// What another program used.
    pub fn take_reader(&mut self, usage: &Usage, rows: u64) -> Result<()> {
        self.rates.push(rate(usize::try_from(rows)?, usage.wall));
        self.cpu.push(per_million(usage.cpu, rows));
        self.memory.push(megabytes(usage.peak_memory_bytes));
        Ok(())
    }
}

/// Seconds for a million.
pub fn per_million(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() / number(count) * 1e6
}

/// 10^6 bytes.
pub fn megabytes(bytes: u64) -> f64 {
    number(bytes) / 1e6
}

/// A count to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn number(count: u64) -> f64 {
    count as f64
}
