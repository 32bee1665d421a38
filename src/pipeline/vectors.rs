//! Gives an index that was loaded without its vector graph that graph, before the alias goes to it.
//!
//! What is to be done stands in the index itself, so whoever comes goes on with it, after a kill at
//! any step: the mapping is changed, so that what is written from then on has a graph; all segments
//! that were there are rewritten, so that the rest has one; the mark is removed. Each step may be
//! repeated. Searches are right all the time: without a graph they are exact, and slower.
//! docs/decisions/0011 says when this pays.

use std::time::Duration;

use tokio::time::Instant;

use super::{Failure, tail::Tail};
use crate::{
    delivery::Retry,
    elasticsearch::{Index, Segments},
};

/// How often it is told that it goes on.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at a merge: short at first, for small indices.
const LOOK_FIRST: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Builds what the index waits for while the stream goes on, then says so in `tail.vectors`. Runs
/// until it fails.
pub(super) async fn build_beside(tail: &Tail, retry: Retry) -> Failure {
    if let Err(failure) = build(&tail.target.index, retry).await {
        return failure;
    }
    tail.vectors.send_replace(true);
    std::future::pending().await
}

/// Builds what the index waits for, if anything, and tries again while the trouble is one that heals.
///
/// # Errors
/// It does not heal, or the retries are used up.
pub(super) async fn build(index: &Index, retry: Retry) -> Result<(), Failure> {
    let mut attempt = 0;
    while let Err(failure) = step_by_step(index).await {
        attempt += 1;
        failure
            .wait(retry, attempt, "building the vector index")
            .await?;
    }
    Ok(())
}

async fn step_by_step(index: &Index) -> Result<(), Failure> {
    // Without an index there is nothing to build: whoever stores a position finds that out.
    let Some(look) = index.look().await?.filter(|look| !look.deferred.is_empty()) else {
        return Ok(());
    };
    let fields: Vec<&String> = look.deferred.keys().collect();
    tracing::info!(?fields, "building the vector index: the alias waits for it");
    let began = Instant::now();
    let flat = look.flat();
    if !flat.is_empty() {
        index.put_properties(&flat).await?;
    }
    failpoint!("vector-mapping-changed", Failure::Heals);
    rewrite_all(index).await?;
    failpoint!("vectors-built", Failure::Heals);
    index.put_nothing_deferred().await?;
    failpoint!("vectors-noted", Failure::Heals);
    tracing::info!(
        seconds = began.elapsed().as_secs(),
        "the vector index is built"
    );
    Ok(())
}

/// Has every segment rewritten that has documents from before the mapping was changed.
async fn rewrite_all(index: &Index) -> Result<(), Failure> {
    /// The mark that keeps a segment from being alone may be gone before the merge looks.
    const TRIES: u32 = 5;
    // What is still in memory began before the change.
    index.refresh().await?;
    // And a merge that began before writes as it was then, under a name that is new.
    let mut all = index.segments().await?;
    let (early, mut pace) = (all.merging(), Pace::new());
    while !early.still_in(&all).is_empty() {
        if pace.wait().await {
            tracing::info!("building the vector index: waiting for merges that are under way");
        }
        index.refresh().await?;
        all = index.segments().await?;
    }
    let (mut left, mut tries) = (all.clone(), 0);
    while !left.is_empty() && tries < TRIES {
        merge(index, &all).await?;
        left = all.still_in(&index.segments().await?);
        tries += 1;
    }
    if !left.is_empty() {
        tracing::warn!(
            segments = left.len(),
            "Elasticsearch has left segments as they were: they are searched without a graph until it merges them"
        );
    }
    Ok(())
}

async fn merge(index: &Index, all: &Segments) -> Result<(), Failure> {
    let merge = index.rewrite(all).await?;
    failpoint!("vector-merge-begun", Failure::Heals);
    let mut pace = Pace::new();
    while index.is_under_way(&merge).await? {
        if pace.wait().await {
            let left = all.still_in(&index.segments().await?);
            let (total, done) = (all.len(), all.len() - left.len());
            tracing::info!(done, total, "building the vector index: segments rewritten");
        }
    }
    // Else the segments that were merged are still listed.
    Ok(index.refresh().await?)
}

/// Between two looks at something that takes a moment or hours.
struct Pace {
    pause: Duration,
    told: Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            pause: LOOK_FIRST,
            told: Instant::now(),
        }
    }

    /// Waits until the next look, and says whether it is time to tell that it goes on.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LOOK_MAX);
        let due = self.told.elapsed() >= TOLD_EVERY;
        if due {
            self.told = Instant::now();
        }
        due
    }
}
