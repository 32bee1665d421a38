//! Items to the lanes, in order; those whose rows were read again (`completer.rs`) with these rows.

use std::sync::Arc;

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
    delivery::{Budget, Fate, Ticket, Write},
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
                        let write = renewed(write, refilled.as_ref(), &budget).await;
                        self.delivery.submit(vec![write]).await?;
                    }
                    Item::Truncate {
                        version,
                        layout,
                        ticket,
                    } => self.truncate(version, layout, ticket).await?,
                }
            }
        }
        Ok(())
    }

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

/// The write with its row as it was read again, if it was. A row that is gone is a delete: that is
/// how it ends, and its own delete, or an insert of its key, follows with a higher version. A row
/// that is there again, though the change deleted it, is a write.
async fn renewed(mut write: Write, refilled: Option<&Refilled>, budget: &Budget) -> Write {
    let Some(refilled) = refilled else {
        return write;
    };
    write.layout = refilled.layout.clone();
    if let Some(row) = refilled.rows.get(&write.operation.key) {
        write.share = budget.admit(1, row.bytes.len()).await;
        write.operation.action = Action::Index(row.clone());
    } else {
        write.operation.action = Action::Delete;
    }
    write
}
