//! Items to batches, in their order: rows that came without a value, or that their document may be
//! ahead of, are read again. One batch is read while the one before it is handed over.

use std::mem;

use tokio::sync::mpsc;

use super::{
    Failure,
    refill::{Refilled, Together, Wanted, refill},
    tail::{Item, Shared},
};

/// Items that are taken from the queue at once, at most.
const ITEMS_TOGETHER: usize = 512;

/// Items that are looked at together, with their rows if they were read again.
pub(super) struct Batch {
    pub items: Vec<Item>,
    pub refilled: Option<Refilled>,
}

impl Shared {
    /// Runs until the queue is closed and empty.
    ///
    /// # Errors
    /// A row cannot be read again.
    pub(super) async fn complete(
        &self,
        mut queue: mpsc::Receiver<Item>,
        batches: mpsc::Sender<Batch>,
    ) -> Result<(), Failure> {
        let mut items = Vec::new();
        let mut together = Together::default();
        let mut ahead = self.tail.ahead;
        while queue.recv_many(&mut items, ITEMS_TOGETHER).await > 0 {
            while !items.is_empty() {
                // A batch is read only once there is room for it: two are held, at most.
                let room = batches.reserve().await.map_err(|_| Failure::Lane)?;
                if !ahead.asks_again(items.iter().filter_map(Item::operation)) {
                    let items = mem::take(&mut items);
                    let refilled = None;
                    room.send(Batch { items, refilled });
                    break;
                }
                let taken = together.rows().min(items.len());
                let wanted: Vec<Wanted> = items[..taken].iter().filter_map(wanted).collect();
                let Some(refilled) = refill(&self.tail, &wanted, &mut together).await? else {
                    continue;
                };
                ahead.read(refilled.wal_end);
                failpoint!("rows-read-again", Failure::Heals);
                tracing::debug!(rows = refilled.rows.len(), "rows read again");
                self.bound.covers(refilled.wal_end).await;
                let items = items.drain(..taken).collect();
                let refilled = Some(refilled);
                room.send(Batch { items, refilled });
            }
        }
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
