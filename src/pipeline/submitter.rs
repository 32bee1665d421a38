//! Items to the lanes, in order; rows with unchanged values are completed on the way.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Failure,
    refill::{self, Missing, Refilled},
    sweep::Sweep,
    tail::{Finished, Item, Shared},
};
use crate::{
    change::{Action, Operation, Version},
    delivery::{Budget, Ticket, Write},
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
        while queue.recv_many(&mut items, REFILL_TOGETHER).await > 0 {
            let missing: Vec<Missing> = items.iter().filter_map(missing).collect();
            let refilled = if missing.is_empty() {
                None
            } else {
                let refilled = refill::refill(&self.tail, &missing).await?;
                failpoint!("rows-read-again", Failure::Heals);
                Some(refilled)
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
                        let write = complete(write, refilled.as_ref(), &budget).await;
                        self.delivery.submit(write).await?;
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
            index: &tail.index,
            distribution: tail.distribution,
            delivery,
            acknowledger,
            ticket,
            layout,
        };
        let swept = sweep.older_than(version).await?;
        failpoint!("truncate-swept", Failure::Heals);
        tracing::info!(documents = swept, "the table was truncated");
        acknowledger.resolve([ticket]);
        Ok(())
    }
}

fn missing(item: &Item) -> Option<Missing> {
    match item {
        Item::Write {
            operation:
                Operation {
                    key,
                    action: Action::Index(row),
                    ..
                },
            xid,
            ..
        } if row.has_unchanged() => Some(Missing {
            key: key.clone(),
            xid: *xid,
        }),
        _ => None,
    }
}

/// The write with its row read again, if it lacks values. A row that is gone is a delete: that is how
/// it ends, and its own delete, or an insert of its key, follows with a higher version.
async fn complete(mut write: Write, refilled: Option<&Refilled>, budget: &Budget) -> Write {
    let lacks = matches!(&write.operation.action, Action::Index(row) if row.has_unchanged());
    let Some(refilled) = refilled.filter(|_| lacks) else {
        return write;
    };
    write.layout = refilled.layout.clone();
    if let Some(row) = refilled.rows.get(&write.operation.key) {
        write.share = budget.admit(row.bytes.len()).await;
        write.operation.action = Action::Index(row.clone());
    } else {
        write.operation.action = Action::Delete;
    }
    write
}
