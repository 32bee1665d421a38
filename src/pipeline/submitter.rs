//! Items to the lanes, in order; rows with unchanged values are completed on the way, and those that
//! their document may be ahead of are renewed.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Failure,
    refill::{self, Refilled, Wanted},
    sweep::Sweep,
    tail::{Finished, Item, Shared},
};
use crate::{
    change::{Action, Version},
    delivery::{Budget, Fate, Ticket, Write},
    document::Layout,
};

/// Operations that are looked at together for rows to be read again: so many rows are held beside
/// what is in flight, at most.
const REFILL_TOGETHER: usize = 64;
/// Wire bytes of rows that were read again and are in flight, at most.
const REFILL_BYTES_MAX: u32 = 16 << 20;

impl Shared {
    /// Runs until the queue is closed and empty.
    ///
    /// # Errors
    /// A row cannot be read again, or delivery has stopped.
    pub(super) async fn submit(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<Item>,
    ) -> Result<Finished, Failure> {
        let mut items = Vec::new();
        let budget = Budget::new(REFILL_BYTES_MAX);
        let mut ahead = self.tail.ahead;
        while queue.recv_many(&mut items, REFILL_TOGETHER).await > 0 {
            let refilled = if ahead.asks_again(items.iter().filter_map(Item::operation)) {
                let wanted: Vec<Wanted> = items.iter().filter_map(wanted).collect();
                let refilled = refill::refill(&self.tail, &wanted).await?;
                ahead.read(refilled.wal_end);
                failpoint!("rows-read-again", Failure::Heals);
                Some(refilled)
            } else {
                None
            };
            for item in items.drain(..) {
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
        Ok(Finished::Submitter)
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

fn wanted(item: &Item) -> Option<Wanted> {
    match item {
        Item::Write { operation, xid, .. } => Some(Wanted {
            key: operation.key.clone(),
            xid: *xid,
        }),
        Item::Truncate { .. } => None,
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
