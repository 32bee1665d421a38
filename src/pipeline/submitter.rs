//! Items to the lanes, in order; those whose rows were read again (`completer.rs`) with these rows.

use std::{mem, sync::Arc};

use tokio::sync::mpsc;

use super::{
    Failure,
    completer::Batch,
    refill::Refilled,
    sweep::Sweep,
    tail::{Finished, Item, Shared},
};
use crate::{
    change::{Action, Version},
    delivery::{Budget, Fate, Share, Ticket, Write},
    document::Layout,
};

/// Wire bytes of rows that were read again and are in flight, at most.
const REFILL_BYTES_MAX: u32 = 16 << 20;

impl Shared {
    /// Runs until the queue is closed and empty.
    ///
    /// # Errors
    /// A row cannot be read again, or delivery has stopped.
    pub(super) async fn submit(
        self: Arc<Self>,
        queue: mpsc::Receiver<Item>,
    ) -> Result<Finished, Failure> {
        let (batches, completed) = mpsc::channel(1);
        tokio::try_join!(self.complete(queue, batches), self.hand_over(completed))?;
        Ok(Finished::Submitter)
    }

    async fn hand_over(&self, mut batches: mpsc::Receiver<Batch>) -> Result<(), Failure> {
        let budget = Budget::new(REFILL_BYTES_MAX);
        while let Some(Batch { items, refilled }) = batches.recv().await {
            let refilled = match refilled {
                Some(refilled) => {
                    let share = budget.admit(refilled.rows.len(), refilled.bytes()).await;
                    Some((refilled, share))
                }
                None => None,
            };
            let mut writes = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Item::Write {
                        operation,
                        layout,
                        ticket,
                        share,
                        ..
                    } => {
                        let write = Write {
                            operation,
                            layout,
                            ticket,
                            share,
                        };
                        writes.push(match &refilled {
                            Some((refilled, share)) => renewed(write, refilled, share),
                            None => write,
                        });
                    }
                    Item::Truncate {
                        version,
                        layout,
                        ticket,
                    } => {
                        self.delivery.submit(mem::take(&mut writes)).await?;
                        self.truncate(version, layout, ticket).await?;
                    }
                }
            }
            self.delivery.submit(writes).await?;
        }
        Ok(())
    }

    /// Deletes every document that is older than the TRUNCATE at `version`. Only the index tells which
    /// there are, so all that was submitted before is waited for first.
    async fn truncate(
        &self,
        version: Version,
        layout: Arc<Layout>,
        ticket: Ticket,
    ) -> Result<(), Failure> {
        self.delivery.drained().await;
        failpoint!("truncate-begun", Failure::Heals);
        let Self {
            tail,
            acknowledger,
            delivery,
            ..
        } = self;
        let sweep = Sweep {
            index: &tail.target.index,
            distribution: tail.distribution,
            delivery,
            acknowledger,
            ticket,
            layout,
        };
        let swept = sweep.older_than(version).await?;
        failpoint!("truncate-swept", Failure::Heals);
        tail.writer.aside().clear_older(version).await;
        tracing::info!(documents = swept, "the table was truncated");
        acknowledger.resolve(Fate::Delivered, [ticket]);
        Ok(())
    }
}

/// The write with its row as it was read again. A row that is gone is a delete: that is how it ends,
/// and its own delete, or an insert of its key, follows with a higher version. A row that is there
/// again, though the change deleted it, is a write.
fn renewed(mut write: Write, refilled: &Refilled, share: &Share) -> Write {
    write.layout = refilled.layout.clone();
    if let Some(row) = refilled.rows.get(&write.operation.key) {
        write.share = share.clone();
        write.operation.action = Action::Index(row.clone());
    } else {
        write.operation.action = Action::Delete;
    }
    write
}
