//! From the return of a commit until the document can be had by its id, one insert at a time, against one
//! bulk request of one such document, from its sending. Both are seen in the same way: the id is asked
//! for again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    Bench,
    data::{Kind, TABLE},
    elasticsearch::Elasticsearch,
    follower::Follower,
    operations::Operations,
    progress::Recorder,
    replay::{Way, replay},
    report::{Goal, Record, Report},
};

const FIGURE: &str = "latency";
const NAME: &str = "bench_latency";
/// The raw client's index.
const RAW: &str = "bench_latency_raw";
/// Between two changes.
const PERIOD: Duration = Duration::from_millis(20);
/// How long one change may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Which of a hundred changes, and by how many milliseconds it may be slower than the raw client's.
const PERCENTILES: [(usize, Option<f64>); 3] = [(50, Some(3.0)), (90, None), (99, Some(10.0))];

/// Measures the figure.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let rows = bench.size.pick(500, 10_000, 50_000);
    let count = bench.size.pick(50, 1_000, 1_000);
    let elasticsearch = &bench.elasticsearch;
    let follower = Follower::new(bench, NAME, (Kind::Floats256, rows), elasticsearch.url()).await?;
    let running = follower.start_and_catch_up().await?;
    let documents = Recorder::new(&follower, Kind::Floats256)
        .await?
        .documents()
        .await?;
    elasticsearch.create_like(&follower.index(), RAW).await?;
    replay(elasticsearch, RAW, &documents, Way::new(1000, 2)).await?;
    let document = first_document(&documents)?;
    let row = follower
        .client
        .query_one(&format!("SELECT min(hk) FROM {TABLE}"), &[])
        .await?;
    let model: String = row.get(0);
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        ours.push(commits(&follower, elasticsearch, &model, round, count).await?);
        raw.push(requests(elasticsearch, &document, round, count).await?);
    }
    follower.stop(running).await?;
    for (percent, goal) in PERCENTILES {
        let of = |rounds: &[Vec<f64>]| -> Vec<f64> {
            rounds.iter().map(|times| at(times, percent)).collect()
        };
        let record = Record::new(FIGURE, format!("p{percent}"), "ms", &of(&ours))
            .against("a bulk request of one", &of(&raw));
        report.add(match goal {
            Some(more) => record.goal(Goal::MoreByAtMost(more)),
            None => record,
        });
    }
    follower.remove().await?;
    report.note(format!(
        "latency: {count} inserts of rows with 256 floats, 50 a second, into an index of {rows} documents (HNSW), from \
         the commit's return until GET by id finds the document; the raw client's from the sending of the request."
    ));
    Ok(())
}

/// Inserts, one at a time; milliseconds of each.
async fn commits(
    follower: &Follower<'_>,
    elasticsearch: &Elasticsearch,
    model: &str,
    round: u32,
    count: usize,
) -> Result<Vec<f64>> {
    // The same row under another key, its embedding included.
    let insert = format!(
        "INSERT INTO {TABLE} SELECT (jsonb_populate_record(model, jsonb_build_object('hk', $1::text))).*
           FROM {TABLE} AS model WHERE hk = $2"
    );
    let insert = follower.client.prepare(&insert).await?;
    let index = follower.index();
    let mut times = Vec::with_capacity(count);
    let mut ticks = ticks();
    for number in 0..count {
        ticks.tick().await;
        let key = format!("new-{round}-{number}");
        follower.client.execute(&insert, &[&key, &model]).await?;
        let committed = Instant::now();
        times.push(found(elasticsearch, &index, &key, committed).await?);
    }
    Ok(times)
}

/// Bulk requests of one document, one at a time; milliseconds of each.
async fn requests(
    elasticsearch: &Elasticsearch,
    document: &str,
    round: u32,
    count: usize,
) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    let mut ticks = ticks();
    for number in 0..count {
        let key = format!("new-{round}-{number}");
        let body = format!("{}\n{document}\n", json!({"index": {"_id": key}}));
        ticks.tick().await;
        let sent = Instant::now();
        let ((), time) = tokio::try_join!(
            elasticsearch.bulk(RAW, Bytes::from(body)),
            found(elasticsearch, RAW, &key, sent)
        )?;
        times.push(time);
    }
    Ok(times)
}

fn ticks() -> Interval {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks for a document until it is there; milliseconds since `start`.
async fn found(
    elasticsearch: &Elasticsearch,
    index: &str,
    key: &str,
    start: Instant,
) -> Result<f64> {
    let path = format!("/{index}/_doc/{key}?_source=false&filter_path=found");
    loop {
        let (status, _) = elasticsearch.try_request(Method::GET, &path, None).await?;
        let time = start.elapsed();
        if status.is_success() {
            return Ok(time.as_secs_f64() * 1e3);
        }
        ensure!(time < PATIENCE, "{key} does not arrive");
    }
}

/// The second line of the first operation.
fn first_document(operations: &Operations) -> Result<String> {
    let body = operations.first(1).batches(1).concat();
    let body = String::from_utf8(body)?;
    let document = body.lines().nth(1).context("no document")?;
    Ok(document.to_owned())
}

/// The time that so many of a hundred do not exceed.
fn at(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = [50, 90, 99].map(|percent| at(&times, percent).to_string());
        assert_eq!(found, ["100", "180", "198"]);
        assert_eq!(at(&[7.0], 99).to_string(), "7");
    }
}
