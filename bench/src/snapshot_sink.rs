//! Snapshot into a sink that acknowledges at once, against the cursor alone and against binary COPY: what
//! our own way from row to request costs when Elasticsearch costs nothing.

use anyhow::{Context, Result, ensure};

use crate::{
    Bench, cursor,
    data::{self, Kind},
    job::{self, ALIAS},
    process::{Settings, own_cpu},
    report::{Goal, Record, Report},
    sink::Sink,
    snapshot::{Column, number, per_million},
};

/// Measures the figure for each kind of row.
///
/// # Errors
/// A contestant failed.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    report.note(
        "snapshot into a sink: sync-es, PostgreSQL and the sink share the cores; the sink's own processor time is \
         given too",
    );
    for kind in Kind::ALL {
        measure_kind(bench, kind, report)
            .await
            .with_context(|| format!("rows of kind {kind}"))?;
    }
    bench.elasticsearch.clean(ALIAS).await
}

/// The contestants' rounds, for one kind of row.
#[derive(Debug, Default)]
struct Columns {
    ours: Column,
    /// With `ES_CLIENT_BATCH_SIZE=1000`.
    thousand: Column,
    by_cursor: Column,
    by_copy: Column,
    /// In each of our requests.
    documents: Vec<f64>,
}

async fn measure_kind(bench: &Bench, kind: Kind, report: &mut Report) -> Result<()> {
    let rows = match kind {
        Kind::Narrow => bench.size.pick(2_000, 100_000, 1_000_000),
        Kind::Floats256 => bench.size.pick(1_000, 20_000, 300_000),
        Kind::Floats1024 => bench.size.pick(400, 5_000, 50_000),
    };
    let database = data::database(bench, kind, rows).await?;
    let sink = Sink::start(&bench.elasticsearch, ALIAS, false).await?;
    let default = job::settings(bench, &database, sink.url(), kind);
    let mut large = default.clone();
    large.insert("ES_CLIENT_BATCH_SIZE", "1000".to_owned());
    let mut columns = Columns::default();
    // Once without being counted: the table then is in memory for all of them.
    cursor::measure(bench, cursor::Way::Cursor, &database, rows).await?;
    for _ in 0..bench.rounds {
        let usage = cursor::measure(bench, cursor::Way::Cursor, &database, rows).await?;
        columns.by_cursor.take_reader(&usage, rows)?;
        let requests = sink.requests();
        into_sink(bench, &mut columns.ours, &sink, &default, rows).await?;
        columns
            .documents
            .push(number(rows) / number(sink.requests() - requests));
        let usage = cursor::measure(bench, cursor::Way::Copy, &database, rows).await?;
        columns.by_copy.take_reader(&usage, rows)?;
        into_sink(bench, &mut columns.thousand, &sink, &large, rows).await?;
    }
    columns.tell(kind, report);
    Ok(())
}

impl Columns {
    fn tell(&self, kind: Kind, report: &mut Report) {
        let Self {
            ours,
            thousand,
            by_cursor,
            by_copy,
            documents,
        } = self;
        let record = |name: &str, unit, rounds: &[f64]| {
            Record::new(
                "snapshot into a sink",
                format!("{kind}, {name}"),
                unit,
                rounds,
            )
        };
        report.add(
            record("default batch", "rows/s", &ours.rates)
                .against("cursor", &by_cursor.rates)
                .goal(Goal::RatioAtLeast(0.8)),
        );
        report.add(
            record("default batch, by its log", "rows/s", &ours.logged)
                .against("cursor", &by_cursor.rates)
                .goal(Goal::RatioAtLeast(0.8)),
        );
        report.add(
            record("ES_CLIENT_BATCH_SIZE=1000", "rows/s", &thousand.rates)
                .against("cursor", &by_cursor.rates),
        );
        report.add(
            record("binary COPY", "rows/s", &by_copy.rates).against("cursor", &by_cursor.rates),
        );
        report.add(
            record("our processor time", "s per million documents", &ours.cpu)
                .against("cursor", &by_cursor.cpu)
                .goal(Goal::RatioAtMost(3.0)),
        );
        report.add(
            record(
                "our processor time, ES_CLIENT_BATCH_SIZE=1000",
                "s per million documents",
                &thousand.cpu,
            )
            .against("cursor", &by_cursor.cpu),
        );
        report.add(record("peak memory", "MB", &ours.memory).goal(Goal::AtMost(64.0)));
        report.add(record("default batch", "documents a request", documents));
        report.add(record(
            "the sink's processor time",
            "s per million documents",
            &ours.server_cpu,
        ));
    }
}

/// One round of `sync-es` into the sink, whose processor time stands for the server's.
async fn into_sink(
    bench: &Bench,
    column: &mut Column,
    sink: &Sink,
    settings: &Settings,
    rows: u64,
) -> Result<()> {
    let swallowed = sink.operations();
    bench.elasticsearch.clean(ALIAS).await?;
    let before = own_cpu()?;
    let usage = job::snapshot(bench, settings, rows, "snapshot-sink").await?;
    column
        .server_cpu
        .push(per_million(own_cpu()?.saturating_sub(before), rows));
    ensure!(
        sink.operations() - swallowed == rows,
        "the sink did not get all rows"
    );
    column.take(&usage, rows)
}
