//! Up to which LSN rows may have been read ahead of the stream: the record says it first.
//!
//! The completer asks for a bound, the keeper, who alone writes the record, stores it. A row that was
//! read again goes out only once the stored bound covers what it may show, so that the process after
//! a crash knows it too. The bound lies ahead of the readings (`ahead.rs`): it is nearly always there
//! before it is needed.

use tokio::sync::watch;

use super::ahead::further;
use crate::change::Lsn;

/// The bound, as it is asked for and as it is stored.
#[derive(Debug)]
pub(super) struct Bound {
    asked: watch::Sender<Lsn>,
    stored: watch::Sender<Lsn>,
}

impl Bound {
    /// The record in Elasticsearch has this one.
    #[must_use]
    pub(super) fn stored_as(bound: Lsn) -> Self {
        Self {
            asked: watch::Sender::new(bound),
            stored: watch::Sender::new(bound),
        }
    }

    /// Waits until the record covers rows that were read before the WAL ended at `wal_end`.
    pub(super) async fn covers(&self, wal_end: Lsn) {
        let asked = *self.asked.borrow();
        if let Some(bound) = further(asked, wal_end) {
            self.asked.send_replace(bound);
        }
        let mut stored = self.stored.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = stored.wait_for(|stored| *stored >= wal_end).await;
    }

    /// Waits until more is asked for than is stored; gives what.
    pub(super) async fn asked(&self) -> Lsn {
        let stored = *self.stored.borrow();
        let mut asked = self.asked.subscribe();
        match asked.wait_for(|asked| *asked > stored).await {
            Ok(asked) => *asked,
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// The record has it now.
    pub(super) fn stored(&self, bound: Lsn) {
        self.stored.send_replace(bound);
    }
}
