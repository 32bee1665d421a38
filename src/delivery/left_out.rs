//! Values that a row has and its document has not, since Elasticsearch or JSON has no form for them:
//! counted, and told at the first and now and then, not a line for each.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{change::Key, document::Encoded};

/// Between two lines of the log.
const TELL_INTERVAL: Duration = Duration::from_mins(1);

/// What was left out of documents since the start, re-sent ones counted again.
#[derive(Debug, Default)]
pub struct LeftOut {
    vectors: AtomicU64,
    points: AtomicU64,
    floats: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl LeftOut {
    /// Counts what was left out of the document with this key.
    pub(super) fn count(&self, key: &Key, encoded: Encoded) {
        if encoded == Encoded::default() {
            return;
        }
        let add = |sum: &AtomicU64, more: u32| sum.fetch_add(more.into(), Ordering::Relaxed);
        add(&self.vectors, encoded.vectors_dropped);
        add(&self.points, encoded.points_dropped);
        add(&self.floats, encoded.floats_dropped);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| last.elapsed() >= TELL_INTERVAL) {
            *told = Some(Instant::now());
            tracing::warn!(
                key = %key,
                vectors = self.vectors(),
                points = self.points(),
                floats = self.floats(),
                "values are left out of documents: Elasticsearch or JSON has no form for them; the key is that of the latest, the numbers are since the start"
            );
        }
    }

    /// Vectors that Elasticsearch would refuse.
    #[must_use]
    pub fn vectors(&self) -> u64 {
        self.vectors.load(Ordering::Relaxed)
    }

    /// Geo points that are none.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }

    /// Floats that are NaN or infinite.
    #[must_use]
    pub fn floats(&self) -> u64 {
        self.floats.load(Ordering::Relaxed)
    }
}
