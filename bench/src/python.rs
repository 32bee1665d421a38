//! The job that `sync-es` replaces (`python_job.py`), on the same rows into an index of the same shape.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    Bench,
    data::{self, Kind},
    job::{self, ALIAS},
    process::{Running, Settings},
    replay::RAW_INDEX,
    report::{Record, Report},
    snapshot::{Column, record},
};

/// Its source, beside this package's.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python_job.py");

/// Measures the figure for rows without and with a vector.
///
/// # Errors
/// A contestant failed.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    if bench.programs.python.is_none() {
        report.note("the Python job was left out: this machine has no Python with its packages");
        return Ok(());
    }
    let narrow = bench.size.pick(500, 10_000, 100_000);
    let floats = bench.size.pick(300, 3_000, 20_000);
    for (kind, rows) in [(Kind::Narrow, narrow), (Kind::Floats256, floats)] {
        measure_kind(bench, kind, rows, report)
            .await
            .with_context(|| format!("rows of kind {kind}"))?;
    }
    bench.elasticsearch.clean(ALIAS).await
}

async fn measure_kind(bench: &Bench, kind: Kind, rows: u64, report: &mut Report) -> Result<()> {
    let database = data::database(bench, kind, rows).await?;
    let (_, shape) = record(bench, &database, kind, rows).await?;
    let settings = job::settings(bench, &database, bench.elasticsearch.url(), kind);
    let [mut ours, mut python] = [Column::default(), Column::default()];
    for _ in 0..bench.rounds {
        python_job(bench, &mut python, &shape, &database, rows).await?;
        ours.run(bench, &settings, rows).await?;
    }
    let record = |name: &str, unit, rounds: &[f64]| {
        Record::new("Python job", format!("{kind}, {name}"), unit, rounds)
    };
    report.add(record("sync-es", "rows/s", &ours.rates).against("Python job", &python.rates));
    report.add(
        record("our processor time", "s per million documents", &ours.cpu)
            .against("Python job", &python.cpu),
    );
    report.add(record("peak memory", "MB", &ours.memory).against("Python job", &python.memory));
    Ok(())
}

async fn python_job(
    bench: &Bench,
    column: &mut Column,
    shape: &Value,
    database: &str,
    rows: u64,
) -> Result<()> {
    let program = bench.programs.python.as_deref().context("no Python")?;
    bench.elasticsearch.clean(ALIAS).await?;
    bench.elasticsearch.create(RAW_INDEX, shape).await?;
    let settings = Settings::from([
        ("POSTGRES_URL", bench.postgres.url(database)),
        ("ELASTICSEARCH_URLS", bench.elasticsearch.url().to_owned()),
        ("ELASTICSEARCH_INDEX_NAME", RAW_INDEX.to_owned()),
    ]);
    let log = bench.work.join("python.log");
    let usage = Running::start(program, &[PROGRAM], &settings, &log)?
        .wait()
        .await?
        .success()?;
    let found = bench.elasticsearch.count(RAW_INDEX).await?;
    ensure!(
        found == rows,
        "the Python job wrote {found} documents of {rows}"
    );
    column.take_reader(&usage, rows)
}
