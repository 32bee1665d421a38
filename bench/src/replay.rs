//! The raw client: documents that are already encoded, sent to `_bulk` with nothing done to them. What it
//! reaches at its best is what Elasticsearch takes at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{elasticsearch::Elasticsearch, operations::Operations, process::own_cpu};

/// The index that is written to; `sync-es` never looks at it.
pub const RAW_INDEX: &str = "bench_raw";

/// What is tried: operations in a request, and requests at a time.
const WAYS: [Way; 4] = [
    Way::new(500, 2),
    Way::new(1000, 2),
    Way::new(1000, 4),
    Way::new(5000, 2),
];

/// How the operations are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Operations in a request.
    pub batch: usize,
    /// Requests at a time.
    pub requests: usize,
}

impl Way {
    /// So many operations in a request, and requests at a time.
    pub const fn new(batch: usize, requests: usize) -> Self {
        Self { batch, requests }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {}", self.batch, self.requests)
    }
}

/// What a replay took.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Of this process.
    pub cpu: Duration,
}

/// Sends all operations to an index that exists.
///
/// # Errors
/// A request or an operation in it failed.
pub async fn replay(
    elasticsearch: &Elasticsearch,
    index: &str,
    operations: &Operations,
    way: Way,
) -> Result<Replayed> {
    let bodies = Arc::new(operations.batches(way.batch));
    let next = Arc::new(AtomicUsize::new(0));
    let (started, cpu) = (Instant::now(), own_cpu()?);
    let mut senders = JoinSet::new();
    for _ in 0..way.requests {
        let (elasticsearch, index) = (elasticsearch.clone(), index.to_owned());
        let (bodies, next) = (bodies.clone(), next.clone());
        senders.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                elasticsearch.bulk(&index, body.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(Replayed {
        wall: started.elapsed(),
        cpu: own_cpu()?.saturating_sub(cpu),
    })
}

/// As [`replay`], into [`RAW_INDEX`], which is made anew with this shape
/// ([`Elasticsearch::shape`]).
///
/// # Errors
/// A request or an operation in it failed.
pub async fn replay_anew(
    elasticsearch: &Elasticsearch,
    shape: &Value,
    operations: &Operations,
    way: Way,
) -> Result<Replayed> {
    elasticsearch.delete(RAW_INDEX).await?;
    elasticsearch.create(RAW_INDEX, shape).await?;
    replay(elasticsearch, RAW_INDEX, operations, way).await
}

/// The way that sends these operations fastest into such an index; each is tried once, after a first
/// replay that warms Elasticsearch up.
///
/// # Errors
/// A replay failed.
pub async fn best_way(
    elasticsearch: &Elasticsearch,
    shape: &Value,
    operations: &Operations,
) -> Result<Way> {
    replay_anew(elasticsearch, shape, operations, WAYS[0]).await?;
    let mut best = (Duration::MAX, WAYS[0]);
    for way in WAYS {
        let wall = replay_anew(elasticsearch, shape, operations, way)
            .await?
            .wall;
        eprintln!(
            "bench: raw {way}: {:.0} operations/s",
            rate(operations.len(), wall)
        );
        if wall < best.0 {
            best = (wall, way);
        }
    }
    elasticsearch.delete(RAW_INDEX).await?;
    Ok(best.1)
}

/// So many in a second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn rate(count: usize, wall: Duration) -> f64 {
    count as f64 / wall.as_secs_f64()
}
