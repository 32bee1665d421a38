//! Cost over size: does the time grow with the rows alone? More rows, more requests at a time, more
//! documents that are in the index already; with a plot.
//!
//! `sync-es` has no setting for its requests at a time (four lanes); there the raw client shows what more
//! would give. An index that `sync-es` has made and begun to fill is filled up by the raw client with
//! small documents, and the snapshot then goes on: its rows go into a large index, and nothing is swept.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;

use crate::{
    Bench,
    data::{self, Kind},
    job::{self, ALIAS, INDEX},
    operations::Operations,
    plot::{Panel, Series, draw},
    replay::{Way, rate, replay, replay_anew},
    report::{Goal, Record, Report, median, rounded},
    sink::Sink,
    snapshot::{self, Column, number, record},
};

/// What a row may cost among ten times as many rows.
const LINEAR: f64 = 1.1;
/// Small documents that are made at once: 40 MB of them.
const FILL_AT_ONCE: u64 = 500_000;

/// Measures the figure, and draws it where a plot is asked for.
///
/// # Errors
/// A contestant failed.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let panels = [
        rows(bench, report).await.context("more rows")?,
        requests(bench, report)
            .await
            .context("more requests at a time")?,
        documents(bench, report)
            .await
            .context("more documents in the index")?,
    ];
    bench.elasticsearch.clean(ALIAS).await?;
    if let Some(file) = &bench.plot {
        draw(file, &panels)?;
    }
    Ok(())
}

async fn rows(bench: &Bench, report: &mut Report) -> Result<Panel> {
    let sizes = bench
        .size
        .pick([300, 1_000], [10_000, 100_000], [100_000, 1_000_000]);
    let mut panel = Panel::new("Snapshot", "rows", "seconds");
    for (name, kind, into_sink) in [
        ("narrow, into Elasticsearch", Kind::Narrow, false),
        ("256 floats, into a sink", Kind::Floats256, true),
    ] {
        let mut columns = Vec::new();
        for size in sizes {
            columns.push(snapshots(bench, kind, size, into_sink).await?);
        }
        // Time a row: the rates turned over.
        let [few, many] = [&columns[0], &columns[1]].map(|column| {
            column
                .logged
                .iter()
                .map(|rate| 1e6 / rate)
                .collect::<Vec<f64>>()
        });
        let label =
            |size: u64, what: &str| format!("{name}, {} rows, {what}", rounded(number(size)));
        let few_rows = format!("{} rows", rounded(number(sizes[0])));
        report.add(
            Record::new(
                "scale",
                label(sizes[1], "time"),
                "s per million rows",
                &many,
            )
            .against(&few_rows, &few)
            .goal(Goal::RatioAtMost(LINEAR)),
        );
        report.add(
            Record::new(
                "scale",
                label(sizes[1], "our processor time"),
                "s per million rows",
                &columns[1].cpu,
            )
            .against(&few_rows, &columns[0].cpu)
            .goal(Goal::RatioAtMost(LINEAR)),
        );
        report.add(
            Record::new(
                "scale",
                label(sizes[1], "peak memory"),
                "MB",
                &columns[1].memory,
            )
            .against(&few_rows, &columns[0].memory)
            .goal(Goal::AtMost(64.0)),
        );
        let mut points = vec![(0.0, 0.0)];
        points.extend(sizes.iter().zip(&columns).map(|(size, column)| {
            let size = number(*size);
            (size, size / median(&column.logged))
        }));
        panel.series.push(Series::new(name, points));
    }
    Ok(panel)
}

async fn snapshots(bench: &Bench, kind: Kind, rows: u64, into_sink: bool) -> Result<Column> {
    let database = data::database(bench, kind, rows).await?;
    let mut column = Column::default();
    for _ in 0..bench.rounds {
        if into_sink {
            let sink = Sink::start(&bench.elasticsearch, ALIAS, false).await?;
            let settings = job::settings(bench, &database, sink.url(), kind);
            let usage = job::snapshot(bench, &settings, rows, "scale").await?;
            ensure!(sink.operations() == rows, "the sink did not get all rows");
            column.take(&usage, rows)?;
        } else {
            let settings = job::settings(bench, &database, bench.elasticsearch.url(), kind);
            column.run(bench, &settings, rows).await?;
        }
    }
    Ok(column)
}

async fn requests(bench: &Bench, report: &mut Report) -> Result<Panel> {
    report.note("scale: sync-es has four lanes and no setting for them; requests at a time are the raw client's");
    let rows = snapshot::rows(bench, Kind::Narrow);
    let database = data::database(bench, Kind::Narrow, rows).await?;
    let (operations, shape) = record(bench, &database, Kind::Narrow, rows).await?;
    let operations = operations.first(operations.len() / 3);
    let mut panel = Panel::new(
        "Raw client, narrow documents",
        "requests at a time",
        "documents/s",
    );
    for batch in [100, 1000] {
        let mut points = Vec::new();
        let mut columns = [1, 2, 4, 8].map(|requests| (requests, Vec::new()));
        for _ in 0..bench.rounds {
            for (requests, rates) in &mut columns {
                let way = Way::new(batch, *requests);
                let replayed = replay_anew(&bench.elasticsearch, &shape, &operations, way).await?;
                rates.push(rate(operations.len(), replayed.wall));
            }
        }
        let [(_, one), ..] = &columns;
        for (requests, rates) in &columns {
            let name = format!("raw client, {batch} a request, {requests} at a time");
            let record = Record::new("scale", name, "documents/s", rates);
            report.add(match requests {
                1 => record,
                _ => record.against("1 at a time", one),
            });
            points.push((number(*requests as u64), median(rates)));
        }
        panel
            .series
            .push(Series::new(format!("{batch} a request"), points));
    }
    Ok(panel)
}

async fn documents(bench: &Bench, report: &mut Report) -> Result<Panel> {
    let rows = bench.size.pick(2_000, 20_000, 100_000);
    let database = data::database(bench, Kind::Narrow, rows).await?;
    let fills = bench.size.pick(
        [0, 1_000, 5_000],
        [0, 100_000, 500_000],
        [0, 1_000_000, 10_000_000],
    );
    let mut columns = fills.map(|fill| (fill, Vec::new()));
    for round in 0..bench.rounds {
        for (fill, rates) in &mut columns {
            // Minutes to fill, for a figure that hardly moves.
            if round > 0 && *fill == fills[2] {
                continue;
            }
            rates.push(into_filled(bench, &database, rows, *fill).await?);
        }
    }
    let [(_, empty), ..] = &columns;
    let mut panel = Panel::new(
        "Snapshot, narrow rows",
        "documents in the index before",
        "rows/s",
    );
    let mut points = Vec::new();
    for (fill, rates) in &columns {
        let name = format!(
            "narrow, {} documents in the index before",
            rounded(number(*fill))
        );
        let record = Record::new("scale", name, "rows/s", rates);
        report.add(match fill {
            0 => record,
            _ => record.against("none before", empty),
        });
        points.push((number(*fill), median(rates)));
    }
    report.note(format!(
        "scale: {} documents in the index before: one run",
        rounded(number(fills[2]))
    ));
    panel.series.push(Series::new("sync-es", points));
    Ok(panel)
}

/// Rows a second, by its log, of a snapshot that goes on in an index with so many other documents.
async fn into_filled(bench: &Bench, database: &str, rows: u64, fill: u64) -> Result<f64> {
    bench.elasticsearch.clean(ALIAS).await?;
    let settings = job::settings(bench, database, bench.elasticsearch.url(), Kind::Narrow);
    // So slow that it is not at its end before it is stopped.
    let mut slow = settings.clone();
    slow.insert("ES_CLIENT_BATCH_SIZE", "1".to_owned());
    let begun = job::start(bench, &slow, true, "scale-begun")?;
    until_exists(bench, &begun).await?;
    begun.terminate()?;
    let begun = begun.wait().await?.success()?;
    ensure!(
        job::logged(&begun.log, "the snapshot is complete").is_err(),
        "it was complete before it was stopped"
    );
    fill_up(bench, fill).await?;
    let usage = job::start(bench, &settings, true, "scale-filled")?
        .wait()
        .await?
        .success()?;
    let found = bench.elasticsearch.count(INDEX).await?;
    ensure!(
        found == rows + fill,
        "{INDEX} has {found} documents of {rows} + {fill}"
    );
    let line = job::logged(&usage.log, "snapshot has reached the end of the table")?;
    line["rows_per_second"]
        .as_f64()
        .context("no rate in the log")
}

async fn until_exists(bench: &Bench, running: &crate::process::Running) -> Result<()> {
    let give_up = Instant::now() + Duration::from_mins(1);
    loop {
        let (status, _) = bench
            .elasticsearch
            .try_request(Method::HEAD, &format!("/{INDEX}"), None)
            .await?;
        if status.is_success() {
            return Ok(());
        }
        ensure!(!running.has_ended()?, "it ended:\n{}", running.log()?);
        ensure!(
            Instant::now() < give_up,
            "it made no index:\n{}",
            running.log()?
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes so many small documents, and waits until Elasticsearch has no more work with them.
async fn fill_up(bench: &Bench, documents: u64) -> Result<()> {
    for start in (0..documents).step_by(usize::try_from(FILL_AT_ONCE)?) {
        let end = documents.min(start + FILL_AT_ONCE);
        let lines = (start..end).map(|id| {
            format!("{{\"index\":{{\"_id\":\"fill-{id}\"}}}}\n{{\"hk\":\"fill-{id}\"}}\n")
        });
        let operations = Operations::new(vec![Bytes::from(lines.collect::<String>())]);
        replay(&bench.elasticsearch, INDEX, &operations, Way::new(5000, 2)).await?;
    }
    bench
        .elasticsearch
        .request(Method::POST, &format!("/{INDEX}/_flush"), None)
        .await?;
    let give_up = Instant::now() + Duration::from_mins(5);
    loop {
        let path = format!("/{INDEX}/_stats/merge?filter_path=_all.total.merges.current");
        let stats = bench
            .elasticsearch
            .request(Method::GET, &path, None)
            .await?;
        if stats["_all"]["total"]["merges"]["current"] == 0 || Instant::now() > give_up {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
