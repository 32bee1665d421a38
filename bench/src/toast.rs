//! Updates that leave an embedding alone which is stored out of line: PostgreSQL does not send it, and it
//! must not be lost. With REPLICA IDENTITY DEFAULT the row has to be read again, with FULL the old row
//! has it. Against the same updates with the embedding changed, and so sent.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use crate::{
    Bench,
    changes::{self, Burst, Change},
    data::{Kind, TABLE},
    follower::Follower,
    progress::{Books, catch_up, follow},
    report::{Goal, Record, Report},
    sink::Sink,
    stream::per_second,
};

const FIGURE: &str = "unchanged TOAST";
const NAME: &str = "bench_toast";
const KIND: Kind = Kind::Floats1024;
/// The least part of the speed with the embedding sent.
const GOAL: Goal = Goal::RatioAtLeast(0.8);

/// When the updates are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// While it is down.
    Before,
    /// While it runs.
    Meanwhile,
}

/// Measures into the sink and into Elasticsearch.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let sink = Sink::start(&bench.elasticsearch, &format!("{NAME}_v"), false).await?;
    let many = Burst::Transactions(bench.size.pick(100, 2_000, 10_000));
    let one = Burst::One(many.changes());
    let course = Course::new(bench, many, sink.url()).await?;
    for (when, burst) in [(When::Before, many), (When::Meanwhile, one)] {
        let books = Books::Sink(&sink);
        course.measure(when, burst, books, "sink", report).await?;
    }
    course.follower.remove().await?;

    let many = Burst::Transactions(bench.size.pick(100, 1_000, 4_000));
    let course = Course::new(bench, many, bench.elasticsearch.url()).await?;
    let index = course.follower.index();
    let books = Books::Index(bench, &index);
    course
        .measure(When::Meanwhile, many, books, "Elasticsearch", report)
        .await?;
    course.follower.remove().await?;
    report.note(
        "unchanged TOAST: updates of rows with 1,024 floats out of line, each row once, that leave the floats \
         alone, against updates that change them too; into the index as the built-in template makes it (HNSW).",
    );
    Ok(())
}

struct Course<'a> {
    bench: &'a Bench,
    follower: Follower<'a>,
}

impl<'a> Course<'a> {
    async fn new(bench: &'a Bench, burst: Burst, url: &str) -> Result<Self> {
        let rows = burst.changes();
        let follower = Follower::new(bench, NAME, (KIND, rows), url).await?;
        changes::number_rows(&follower.client).await?;
        check_out_of_line(&follower.client, rows).await?;
        let running = follower.start_and_catch_up().await?;
        follower.stop(running).await?;
        Ok(Self { bench, follower })
    }

    async fn measure(
        &self,
        when: When,
        burst: Burst,
        books: Books<'_>,
        target: &str,
        report: &mut Report,
    ) -> Result<()> {
        const IDENTITIES: [&str; 2] = ["DEFAULT", "FULL"];
        let mut rates = [const { [Vec::new(), Vec::new()] }; 2];
        for _ in 0..self.bench.rounds {
            for (identity, rates) in IDENTITIES.iter().zip(&mut rates) {
                for (change, rates) in [Change::Number, Change::Embedding].into_iter().zip(rates) {
                    let alter = format!("ALTER TABLE {TABLE} REPLICA IDENTITY {identity}");
                    self.follower.client.batch_execute(&alter).await?;
                    let time = self.run(when, burst, change, books).await?;
                    rates.push(per_second(burst.changes(), time));
                    self.follower.tidy().await?;
                }
            }
        }
        let how = match when {
            When::Before => "catching up",
            When::Meanwhile => "while it runs",
        };
        for (identity, [untouched, sent]) in IDENTITIES.iter().zip(rates) {
            let name = format!("{target}, {burst}, {how}, {identity}");
            report.add(
                Record::new(FIGURE, name, "updates/s", &untouched)
                    .against("embedding sent", &sent)
                    .goal(GOAL),
            );
        }
        Ok(())
    }

    async fn run(
        &self,
        when: When,
        burst: Burst,
        change: Change,
        books: Books<'_>,
    ) -> Result<Duration> {
        let follower = &self.follower;
        if when == When::Meanwhile {
            return Ok(follow(follower, books, change, burst).await?.all);
        }
        let (_, end) = follower.change(change, burst).await?;
        let caught_up = catch_up(follower, books, burst.changes(), end).await?;
        Ok(caught_up.since_streaming)
    }
}

/// PostgreSQL leaves out of an update's message only what is stored out of the row; a few rows are
/// without an embedding.
async fn check_out_of_line(client: &Client, rows: u64) -> Result<()> {
    let sql = format!(
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = '{TABLE}'::regclass"
    );
    let row = client.query_one(&sql, &[]).await?;
    let embeddings = rows * 4 * u64::from(KIND.dimensions());
    ensure!(
        row.get::<_, i64>(0).unsigned_abs() > embeddings / 10 * 9,
        "the embeddings are not out of line"
    );
    Ok(())
}
