//! Updates that leave an embedding alone which is stored out of line: PostgreSQL does not send it, and it
//! must not be lost. With REPLICA IDENTITY DEFAULT the row has to be read again, with FULL the old row
//! has it. Against the same updates with the embedding changed, and so sent.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use crate::{
    Bench,
    changes::{self, Change},
    data::{Kind, TABLE},
    follower::{Books, Follower, catch_up, follow},
    report::{Goal, Record, Report},
    sink::Sink,
    stream::per_second,
};

const FIGURE: &str = "unchanged TOAST";
const NAME: &str = "bench_toast";
const KIND: Kind = Kind::Floats1024;
/// The least part of the speed with the embedding sent.
const GOAL: Goal = Goal::RatioAtLeast(0.8);

/// When the updates are made, and how.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Transactions of one to five, while it is down.
    CatchUp,
    /// Transactions of one to five, while it runs.
    Follow,
    /// One transaction, while it runs.
    OneTransaction,
}

/// Measures into the sink and into Elasticsearch.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let transactions = bench.size.pick(100, 2_000, 10_000);
    let sink = Sink::start(&bench.elasticsearch, &format!("{NAME}_v"), false).await?;
    let course = Course::new(bench, transactions, sink.url()).await?;
    for way in [Way::CatchUp, Way::OneTransaction] {
        course
            .measure(way, Books::Sink(&sink), "sink", report)
            .await?;
    }
    course.follower.remove().await?;

    let transactions = bench.size.pick(100, 1_000, 4_000);
    let course = Course::new(bench, transactions, bench.elasticsearch.url()).await?;
    let index = course.follower.index();
    let books = Books::Index(bench, &index);
    course
        .measure(Way::Follow, books, "Elasticsearch", report)
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
    transactions: u64,
    updates: u64,
}

impl<'a> Course<'a> {
    async fn new(bench: &'a Bench, transactions: u64, url: &str) -> Result<Self> {
        let updates = changes::changes_of(transactions);
        let follower = Follower::new(bench, NAME, (KIND, updates), url).await?;
        changes::number_rows(&follower.client).await?;
        put_out_of_line(&follower.client, updates).await?;
        let running = follower.start_and_catch_up().await?;
        follower.stop(running).await?;
        Ok(Self {
            bench,
            follower,
            transactions,
            updates,
        })
    }

    async fn measure(
        &self,
        way: Way,
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
                    let time = self.run(way, change, books).await?;
                    rates.push(per_second(self.updates, time));
                    self.follower.tidy().await?;
                }
            }
        }
        let how = match way {
            Way::CatchUp => "catching up",
            Way::Follow => "while it runs",
            Way::OneTransaction => "in one transaction",
        };
        for (identity, [untouched, sent]) in IDENTITIES.iter().zip(rates) {
            let name = format!("{target}, {} {how}, {identity}", self.updates);
            report.add(
                Record::new(FIGURE, name, "updates/s", &untouched)
                    .against("embedding sent", &sent)
                    .goal(GOAL),
            );
        }
        Ok(())
    }

    async fn run(&self, way: Way, change: Change, books: Books<'_>) -> Result<Duration> {
        let follower = &self.follower;
        match way {
            Way::CatchUp => {
                let end = follower
                    .change_in_transactions(change, self.transactions)
                    .await?;
                let caught_up = catch_up(follower, books, self.updates, end).await?;
                Ok(caught_up.since_streaming)
            }
            Way::Follow => {
                let followed = follow(follower, books, change, self.transactions).await?;
                Ok(followed.all)
            }
            Way::OneTransaction => {
                let running = follower.start_and_catch_up().await?;
                let before = books.operations().await?;
                let start =
                    changes::in_one_transaction(&follower.client, change, self.updates).await?;
                let done = books.reach(&running, before + self.updates).await?;
                follower.stop(running).await?;
                Ok(done - start)
            }
        }
    }
}

/// Gives each row an embedding of dense random floats: the generator's are mostly zeros, which
/// PostgreSQL compresses until they fit into the row.
async fn put_out_of_line(client: &Client, rows: u64) -> Result<()> {
    let dimensions = KIND.dimensions();
    let statements = [
        "SELECT setseed(0.5)".to_owned(),
        format!(
            "UPDATE {TABLE} SET embedding = ARRAY(
               SELECT (random() - 0.5)::real FROM generate_series(1, {dimensions}) WHERE hk IS NOT NULL)"
        ),
        format!("VACUUM FULL {TABLE}"),
        format!("ANALYZE {TABLE}"),
    ];
    for statement in statements {
        client.batch_execute(&statement).await?;
    }
    let sql = format!(
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = '{TABLE}'::regclass"
    );
    let row = client.query_one(&sql, &[]).await?;
    ensure!(
        row.get::<_, i64>(0).unsigned_abs() > rows * 4 * u64::from(dimensions),
        "the embeddings are not out of line"
    );
    Ok(())
}
