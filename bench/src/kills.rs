//! What three `kill -9` in the snapshot cost: operations that Elasticsearch was sent for each row, and
//! documents that it wrote. A row that comes again has the version that is there already, so it is refused
//! and writes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    Bench,
    data::Kind,
    follower::{Follower, until},
    progress::Indexing,
    report::{Goal, Record, Report},
};

const FIGURE: &str = "kills";
const NAME: &str = "bench_kills";
/// When it is killed, in hundredths of the rows.
const KILLS: [u64; 3] = [25, 50, 75];
/// Operations for each row, at most.
const GOAL: Goal = Goal::AtMost(1.05);
/// Between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Measures the figure.
///
/// # Errors
/// Something does not work.
pub async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    for rows in bench
        .size
        .pick(vec![3_000], vec![40_000], vec![40_000, 100_000])
    {
        let (mut sent, mut written) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let counted = killed(bench, rows).await?;
            sent.push(per_row(counted.done + counted.refused, rows));
            written.push(per_row(counted.done, rows));
        }
        let name = format!("{rows} rows of 256 floats");
        report.add(Record::new(FIGURE, format!("{name}, sent"), "a row", &sent).goal(GOAL));
        report.add(Record::new(FIGURE, format!("{name}, written"), "a row", &written).goal(GOAL));
    }
    report.note(
        "kills: killed with SIGKILL when 25, 50 and 75 % of the rows were in, and started again at once; by \
         Elasticsearch's own count of operations (sent) and of those that wrote a document (written).",
    );
    Ok(())
}

/// A snapshot with its kills.
async fn killed(bench: &Bench, rows: u64) -> Result<Indexing> {
    let url = bench.elasticsearch.url();
    let follower = Follower::new(bench, NAME, (Kind::Floats256, rows), url).await?;
    let index = follower.index();
    for percent in KILLS {
        let running = follower.start()?;
        until(&running, LOOK_INTERVAL, async || {
            Ok(Indexing::look(bench, &index).await?.done * 100 >= rows * percent)
        })
        .await
        .with_context(|| format!("waiting for {percent} %"))?;
        running.kill()?;
        running.wait().await?;
    }
    let running = follower.start_and_catch_up().await?;
    let counted = Indexing::look(bench, &index).await?;
    follower.stop(running).await?;
    let documents = bench.elasticsearch.count(&index).await?;
    ensure!(documents == rows, "{documents} documents of {rows} rows");
    follower.remove().await?;
    Ok(counted)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn per_row(operations: u64, rows: u64) -> f64 {
    operations as f64 / rows as f64
}
