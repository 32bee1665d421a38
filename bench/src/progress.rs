//! How far a follower has come, by the count of who takes its operations; and how long it took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::Method;

use crate::{
    Bench,
    changes::{Burst, Change},
    data::Kind,
    follower::{Follower, LOOK_INTERVAL, until},
    operations::Operations,
    process::{Running, Usage},
    sink::Sink,
};

/// Who counts the operations that were acknowledged.
#[derive(Debug, Clone, Copy)]
pub enum Books<'a> {
    /// The sink.
    Sink(&'a Sink),
    /// Elasticsearch itself, for this index.
    Index(&'a Bench, &'a str),
}

impl Books<'_> {
    /// How many until now.
    ///
    /// # Errors
    /// Elasticsearch does not say.
    pub async fn operations(self) -> Result<u64> {
        match self {
            Self::Sink(sink) => Ok(sink.operations()),
            Self::Index(bench, index) => Ok(Indexing::look(bench, index).await?.done),
        }
    }

    /// Waits until there are `count`; gives the moment.
    ///
    /// # Errors
    /// The program has ended, or takes too long.
    pub async fn reach(self, running: &Running, count: u64) -> Result<Instant> {
        let interval = match self {
            Self::Sink(_) => LOOK_INTERVAL,
            // It costs Elasticsearch something.
            Self::Index(..) => 10 * LOOK_INTERVAL,
        };
        until(running, interval, async || {
            Ok(self.operations().await? >= count)
        })
        .await
        .context("waiting for the operations")
    }
}

/// How long it took to catch up.
#[derive(Debug)]
pub struct CaughtUp {
    /// From before the process was started.
    pub since_start: Duration,
    /// From when it asked for the stream.
    pub since_streaming: Duration,
    /// What the process used, its end included.
    pub usage: Usage,
}

/// Starts a follower that `changes` wait for, the last of them before `end`, and stops it when it has
/// them all.
///
/// # Errors
/// It has ended, or takes too long.
pub async fn catch_up(
    follower: &Follower<'_>,
    books: Books<'_>,
    changes: u64,
    end: u64,
) -> Result<CaughtUp> {
    let before = books.operations().await?;
    let running = follower.start()?;
    let streaming = until(&running, LOOK_INTERVAL, async || {
        Ok(running.log()?.contains("\"streaming changes\""))
    })
    .await
    .context("waiting for the stream")?;
    let done = books.reach(&running, before + changes).await?;
    let since_start = done - running.started();
    // That it has them all is its claim, not only the count's.
    follower.confirmed(&running, end).await?;
    Ok(CaughtUp {
        since_start,
        since_streaming: done - streaming,
        usage: follower.stop(running).await?,
    })
}

/// How long it took to follow.
#[derive(Debug)]
pub struct Followed {
    /// From before the first commit to the last acknowledgement.
    pub all: Duration,
    /// From before the first commit until the last was on the disk.
    pub writing: Duration,
    /// What the process used, its start and its end included.
    pub usage: Usage,
}

/// Starts a follower, changes the table while it runs, and stops it when it has all changes.
///
/// # Errors
/// It has ended, or takes too long.
pub async fn follow(
    follower: &Follower<'_>,
    books: Books<'_>,
    change: Change,
    burst: Burst,
) -> Result<Followed> {
    let running = follower.start_and_catch_up().await?;
    let before = books.operations().await?;
    let (start, _) = follower.change(change, burst).await?;
    let writing = start.elapsed();
    let done = books.reach(&running, before + burst.changes()).await?;
    Ok(Followed {
        all: done - start,
        writing,
        usage: follower.stop(running).await?,
    })
}

/// A second `sync-es` beside a follower, with a slot and an index of its own: what it sends is kept, so
/// that the raw client can send it too.
#[derive(Debug)]
pub struct Recorder<'a> {
    follower: Follower<'a>,
    sink: Sink,
}

impl<'a> Recorder<'a> {
    /// Beside `follower`, of the same table.
    ///
    /// # Errors
    /// A server refused something.
    pub async fn new(follower: &Follower<'a>, kind: Kind) -> Result<Self> {
        let name = format!("{}_recorder", follower.name);
        let bench = follower.bench;
        let sink = Sink::start(&bench.elasticsearch, &format!("{name}_v"), true).await?;
        let follower = Follower::beside(bench, &follower.database, kind, &name, sink.url()).await?;
        Ok(Self { follower, sink })
    }

    /// The table's documents: a snapshot, as operations.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn documents(&self) -> Result<Operations> {
        let running = self.follower.start_and_catch_up().await?;
        self.follower.stop(running).await?;
        Ok(self.sink.take_kept())
    }

    /// So many changes since then, the last of them before `end`, as operations.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub async fn changes(&self, changes: u64, end: u64) -> Result<Operations> {
        catch_up(&self.follower, Books::Sink(&self.sink), changes, end).await?;
        Ok(self.sink.take_kept())
    }
}

/// What Elasticsearch has counted for an index.
#[derive(Debug, Clone, Copy)]
pub struct Indexing {
    /// Documents written and deleted.
    pub done: u64,
    /// Operations that wrote nothing, since a newer version was there.
    pub refused: u64,
}

impl Indexing {
    /// As it stands.
    ///
    /// # Errors
    /// Elasticsearch does not say; an index that is not there yet has counted nothing.
    pub async fn look(bench: &Bench, index: &str) -> Result<Self> {
        let path = format!("/{index}/_stats/indexing?filter_path=_all.primaries.indexing");
        let (_, stats) = bench
            .elasticsearch
            .try_request(Method::GET, &path, None)
            .await?;
        let indexing = &stats["_all"]["primaries"]["indexing"];
        let count = |name: &str| indexing[name].as_u64().unwrap_or_default();
        Ok(Self {
            done: count("index_total") + count("delete_total"),
            refused: count("index_failed"),
        })
    }
}

/// Waits until Elasticsearch has merged what it has to merge in an index.
///
/// # Errors
/// It does not say.
pub async fn settled(bench: &Bench, index: &str) -> Result<()> {
    let elasticsearch = &bench.elasticsearch;
    let refresh = format!("/{index}/_refresh");
    elasticsearch.request(Method::POST, &refresh, None).await?;
    let path = format!("/{index}/_stats/merge?filter_path=_all.primaries.merges.current");
    loop {
        let stats = elasticsearch.request(Method::GET, &path, None).await?;
        if stats["_all"]["primaries"]["merges"]["current"] == 0 {
            return Ok(());
        }
        tokio::time::sleep(25 * LOOK_INTERVAL).await;
    }
}
