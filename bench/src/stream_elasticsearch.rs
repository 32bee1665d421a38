//! Changes into a real Elasticsearch, against the same operations, already encoded, sent by the raw client
//! in its best way into an index with the same settings, mapping and documents.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    Bench,
    changes::{self, Burst, Change},
    data::Kind,
    follower::Follower,
    operations::Operations,
    progress::{Books, Recorder, catch_up, follow, settled},
    replay::{Way, best_way, replay},
    report::{Goal, Record, Report},
    snapshot::per_million,
    stream::{mebibytes, per_second},
};

const FIGURE: &str = "stream";
const NAME: &str = "bench_stream_es";
/// The raw client's index.
const RAW: &str = "bench_stream_es_raw";
/// The least part of the raw client's speed.
const GOAL: Goal = Goal::RatioAtLeast(0.95);

/// Measures the figure for rows without and with an embedding.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    for (kind, transactions) in [
        (Kind::Narrow, bench.size.pick(500, 20_000, 20_000)),
        (Kind::Floats256, bench.size.pick(500, 4_000, 20_000)),
    ] {
        measure_kind(bench, kind, Burst::Transactions(transactions), report)
            .await
            .with_context(|| format!("rows of kind {kind}"))?;
    }
    report.note(
        "stream, Elasticsearch: transactions of 1 to 5 updates, each row once, into an index that has the rows; \
         catching up: made while sync-es was down, from the start of the process until Elasticsearch has counted \
         the last operation; while it runs: from the first commit of two writers until then.",
    );
    Ok(())
}

async fn measure_kind(bench: &Bench, kind: Kind, burst: Burst, report: &mut Report) -> Result<()> {
    let course = Course::new(bench, kind, burst).await?;
    let name = format!("Elasticsearch, {} changes, {kind}", course.changes);
    let (mut ours, mut streaming, mut following, mut raw) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let (_, end) = course.follower.change(Change::Number, burst).await?;
        let operations = course.recorder.changes(course.changes, end).await?;
        // Who goes first finds other caches, so they take turns.
        if round % 2 == 0 {
            raw.push(course.replay(&operations).await?);
        }
        settled(bench, &course.index).await?;
        let books = Books::Index(bench, &course.index);
        let caught_up = catch_up(&course.follower, books, course.changes, end).await?;
        if round % 2 != 0 {
            raw.push(course.replay(&operations).await?);
        }
        ours.push(course.rate(caught_up.since_start));
        streaming.push(course.rate(caught_up.since_streaming));
        cpu.push(per_million(caught_up.usage.cpu, course.changes));
        memory.push(mebibytes(caught_up.usage.peak_memory_bytes));
        course.follower.tidy().await?;

        settled(bench, &course.index).await?;
        let followed = follow(&course.follower, books, Change::Number, burst).await?;
        following.push(course.rate(followed.all));
        let end = course.follower.mark_end().await?;
        // The raw client's index must not miss it.
        let operations = course.recorder.changes(course.changes, end).await?;
        course.replay(&operations).await?;
        course.follower.tidy().await?;
    }
    let against = format!("raw, {}", course.way);
    for (how, rates) in [
        ("catching up", &ours),
        ("catching up, from its first word to the slot", &streaming),
        ("while it runs", &following),
    ] {
        report.add(
            Record::new(FIGURE, format!("{name}, {how}"), "changes/s", rates)
                .against(&against, &raw)
                .goal(GOAL),
        );
    }
    report.add(Record::new(
        FIGURE,
        format!("{name}, processor"),
        "s per million",
        &cpu,
    ));
    report.add(Record::new(
        FIGURE,
        format!("{name}, peak memory"),
        "MiB",
        &memory,
    ));
    course.remove().await
}

struct Course<'a> {
    bench: &'a Bench,
    follower: Follower<'a>,
    recorder: Recorder<'a>,
    index: String,
    changes: u64,
    /// The raw client's best.
    way: Way,
}

impl<'a> Course<'a> {
    async fn new(bench: &'a Bench, kind: Kind, burst: Burst) -> Result<Self> {
        let elasticsearch = &bench.elasticsearch;
        let changes = burst.changes();
        let follower = Follower::new(bench, NAME, (kind, changes), elasticsearch.url()).await?;
        changes::number_rows(&follower.client).await?;
        let running = follower.start_and_catch_up().await?;
        follower.stop(running).await?;
        let recorder = Recorder::new(&follower, kind).await?;
        let documents = recorder.documents().await?;
        let index = follower.index();
        let shape = elasticsearch.shape(&index).await?;
        let trial = documents.first(documents.len() / 4);
        let way = best_way(elasticsearch, &shape, &trial).await?;
        elasticsearch.create(RAW, &shape).await?;
        replay(elasticsearch, RAW, &documents, way).await?;
        Ok(Self {
            bench,
            follower,
            recorder,
            index,
            changes,
            way,
        })
    }

    /// Changes/s of the raw client.
    async fn replay(&self, operations: &Operations) -> Result<f64> {
        settled(self.bench, RAW).await?;
        let replayed = replay(&self.bench.elasticsearch, RAW, operations, self.way).await?;
        Ok(self.rate(replayed.wall))
    }

    fn rate(&self, time: Duration) -> f64 {
        per_second(self.changes, time)
    }

    async fn remove(self) -> Result<()> {
        // Its database is the other's.
        drop(self.recorder);
        self.follower.remove().await
    }
}
