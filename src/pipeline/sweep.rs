//! Removes every document that is older than a version: after a snapshot those of rows that are not
//! in the table any more, at a TRUNCATE all.
//!
//! Each delete carries the version itself, so it can neither remove nor overtake anything newer,
//! and doing it twice is doing it once.

use std::sync::Arc;

use super::Failure;
use crate::{
    change::{Action, Operation, Version},
    delivery::{Acknowledger, Budget, Delivery, Ticket, Write},
    document::Layout,
    elasticsearch::{Distribution, Index},
};

/// Wire bytes of deletes in flight, at most.
const BYTES_MAX: u32 = 4 << 20;
/// Deletes that are handed over at once.
const DELETES_TOGETHER: usize = 64;

/// The index to sweep, and the way to it.
pub(super) struct Sweep<'a, P> {
    /// The concrete index.
    pub index: &'a Index,
    /// Which kind of server it is on.
    pub distribution: Distribution,
    /// The way to its documents.
    pub delivery: &'a Delivery,
    /// Where the deletes are answered for.
    pub acknowledger: &'a Arc<Acknowledger<P>>,
    /// The ticket they are counted under; the caller keeps it open until the sweep is done.
    pub ticket: Ticket,
    /// Deletes need none, but travel with one.
    pub layout: Arc<Layout>,
}

impl<P: Clone + Send + Sync + 'static> Sweep<'_, P> {
    /// Submits a delete at `version` for every acknowledged document that is older; returns how
    /// many. Everything submitted before must be resolved, or documents could be missed.
    ///
    /// # Errors
    /// The index cannot be read, or delivery has stopped.
    pub(super) async fn older_than(&self, version: Version) -> Result<u64, Failure> {
        let mut documents = self
            .index
            .documents(self.distribution, Some(version))
            .await?;
        let budget = Budget::new(BYTES_MAX);
        let mut swept = 0;
        while let Some(page) = documents.next().await? {
            self.acknowledger.add(self.ticket, page.len() as u64);
            swept += page.len() as u64;
            for keys in page.chunks(DELETES_TOGETHER) {
                let bytes = keys.iter().map(|(key, _)| key.as_str().len()).sum();
                let share = budget.admit(keys.len(), bytes).await;
                let deletes = keys.iter().map(|(key, _)| Write {
                    operation: Operation {
                        key: key.clone(),
                        version,
                        action: Action::Delete,
                    },
                    layout: self.layout.clone(),
                    ticket: self.ticket,
                    share: share.clone(),
                });
                self.delivery.submit(deletes.collect()).await?;
                failpoint!("sweep-under-way", Failure::Heals);
            }
        }
        Ok(swept)
    }
}
