//! The lanes as tasks: operations in, bounded in bytes; positions out.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    Acknowledgement, Fate, Reached, Ticket, Writer,
    lanes::{Batch, Write, lane},
};
use crate::{observe::Meter, stop::Stop};

/// Wire bytes of operations between the source and their acknowledgement, at most.
const BYTES_IN_FLIGHT_MAX: u32 = 16 << 20;
/// What an operation takes beside its wire bytes, roughly.
const OVERHEAD_BYTES: usize = 512;
/// Parcels waiting in a lane, at most; the byte bound is nearly always the nearer one.
const LANE_LENGTH: usize = 8_192;

/// Room for so many wire bytes of operations. Operations beside the source's own (rows read again, the
/// deletes of a sweep) need another budget than the source's: that one can be full of operations which
/// are queued behind them, and which give nothing back before they are through.
#[derive(Debug)]
pub struct Budget {
    room: Arc<Semaphore>,
    bytes_max: u32,
}

impl Budget {
    /// Room for `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u32) -> Self {
        let room = Semaphore::new(usize::try_from(bytes_max).unwrap_or(Semaphore::MAX_PERMITS));
        Self {
            room: Arc::new(room),
            bytes_max,
        }
    }

    /// Waits until there is room for so many operations of so many bytes together. More than all the
    /// room gets all of it, alone. Dropping the future takes nothing.
    pub async fn admit(&self, operations: usize, wire_bytes: usize) -> Share {
        let bytes = operations
            .saturating_mul(OVERHEAD_BYTES)
            .saturating_add(wire_bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        // Acquiring fails only on a closed semaphore, and this one is never closed.
        let permit = self.room.clone().acquire_many_owned(bytes).await.ok();
        Share {
            _permit: permit.map(Arc::new),
        }
    }
}

/// A share of the memory in flight; given back when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Share {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// An [`Acknowledgement`] that the lanes resolve in and others watch.
#[derive(Debug)]
pub struct Acknowledger<P> {
    state: Mutex<Acknowledgement<P>>,
    reached: watch::Sender<Option<Reached<P>>>,
}

impl<P: Clone + Send + Sync + 'static> Acknowledger<P> {
    /// Nothing open, nothing reached.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            reached: watch::Sender::new(None),
        })
    }

    /// A new ticket behind all others.
    pub fn begin(&self) -> Ticket {
        self.with(|state| (state.begin(), None))
    }

    /// `count` more operations are open under the ticket.
    ///
    /// # Panics
    /// The ticket is sealed and all of its operations are resolved.
    pub fn add(&self, ticket: Ticket, count: u64) {
        self.with(|state| (state.add(ticket, count), None));
    }

    /// No operation will be added to the ticket, which stands for `position`.
    ///
    /// # Panics
    /// The ticket is sealed already.
    pub fn seal(&self, ticket: Ticket, position: P) {
        self.with(|state| ((), state.seal(ticket, position)));
    }

    /// One operation of each of these tickets has ended so.
    ///
    /// # Panics
    /// More operations of a ticket are resolved than were added.
    pub fn resolve(&self, fate: Fate, tickets: impl IntoIterator<Item = Ticket>) {
        self.with(|state| {
            let mut reached = None;
            for ticket in tickets {
                reached = state.resolve(ticket, fate, 1).or(reached);
            }
            ((), reached)
        });
    }

    /// The highest position below which nothing is open, as it moves; the one that has been reached
    /// already counts as a change.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<Option<Reached<P>>> {
        let mut reached = self.reached.subscribe();
        reached.mark_changed();
        reached
    }

    fn with<T>(&self, act: impl FnOnce(&mut Acknowledgement<P>) -> (T, Option<Reached<P>>)) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, reached) = act(&mut state);
        if reached.is_some() {
            // Still under the lock, so that positions are published in their order.
            self.reached.send_replace(reached);
        }
        result
    }
}

/// The way into the lanes.
#[derive(Debug)]
pub struct Delivery {
    lanes: Vec<Lane>,
    budget: Budget,
    in_flight: Arc<watch::Sender<u64>>,
    meter: Arc<Meter>,
}

/// The way into a lane.
#[derive(Debug)]
struct Lane {
    sender: mpsc::Sender<Vec<Write>>,
    /// Operations in it that are not resolved.
    open: Arc<AtomicUsize>,
}

impl Delivery {
    /// Starts the lanes. The tasks end when the handle is dropped and all is resolved, or with the
    /// stop that one of them has met; dropping the set ends them at once, which is safe: what was
    /// not resolved will be sent again.
    #[must_use]
    pub fn start<P: Clone + Send + Sync + 'static>(
        writer: &Arc<Writer>,
        acknowledger: &Arc<Acknowledger<P>>,
        lanes: usize,
    ) -> (Self, JoinSet<Result<(), Stop>>) {
        let in_flight = Arc::new(watch::Sender::new(0));
        let meter = writer.meter().clone();
        meter.lanes_started(in_flight.subscribe());
        let mut tasks = JoinSet::new();
        let lanes = (0..lanes).map(|_| {
            let (sender, receiver) = mpsc::channel(LANE_LENGTH);
            let open = Arc::new(AtomicUsize::new(0));
            let (acknowledger, in_flight, left) =
                (acknowledger.clone(), in_flight.clone(), open.clone());
            let resolve = move |fate, tickets: Vec<Ticket>| {
                let count = tickets.len();
                // In this order: who sees that nothing is in flight may count on the acknowledgement.
                acknowledger.resolve(fate, tickets);
                left.fetch_sub(count, Ordering::Relaxed);
                in_flight.send_modify(|in_flight| *in_flight -= count as u64);
            };
            tasks.spawn(run_lane(receiver, writer.clone(), resolve));
            Lane { sender, open }
        });
        let lanes = lanes.collect();
        (
            Self {
                lanes,
                budget: Budget::new(BYTES_IN_FLIGHT_MAX),
                in_flight,
                meter,
            },
            tasks,
        )
    }

    /// Waits until there is room for so many operations from the source, of so many bytes together.
    pub async fn admit(&self, operations: usize, wire_bytes: usize) -> Share {
        self.budget.admit(operations, wire_bytes).await
    }

    /// Hands operations to their lanes. Operations of one key must come in their order.
    ///
    /// Many at a time cost a fraction of what they cost one by one: what is shared between tasks is
    /// touched once a lane.
    ///
    /// Not to be gone on after when the future is dropped: some lanes have their part then, and the rest
    /// is lost, its tickets open for ever.
    ///
    /// # Errors
    /// A lane has ended; why is the result of its task.
    pub async fn submit(&self, writes: Vec<Write>) -> Result<(), LaneEnded> {
        let mut parcels: Vec<Vec<Write>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for write in writes {
            parcels[lane(&write.operation.key, self.lanes.len())].push(write);
        }
        for (lane, parcel) in self.lanes.iter().zip(parcels) {
            if !parcel.is_empty() {
                self.send(lane, parcel).await?;
            }
        }
        Ok(())
    }

    /// Hands operations, each the only one of its key until all are resolved, to one lane: that which
    /// has least to do. Dropped before it is done, it has handed over nothing; the operations are lost.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_page(&self, writes: Vec<Write>) -> Result<(), LaneEnded> {
        let open = |lane: &&Lane| lane.open.load(Ordering::Relaxed);
        let lane = self.lanes.iter().min_by_key(open).ok_or(LaneEnded)?;
        self.send(lane, writes).await
    }

    async fn send(&self, lane: &Lane, writes: Vec<Write>) -> Result<(), LaneEnded> {
        let room = lane.sender.reserve().await.map_err(|_| LaneEnded)?;
        // Counted once nothing is waited for any more, so that a future which is dropped leaves nothing
        // counted that no lane resolves; and before the lane can resolve it.
        let count = writes.len();
        self.in_flight.send_modify(|open| *open += count as u64);
        lane.open.fetch_add(count, Ordering::Relaxed);
        self.meter.handed_over();
        room.send(writes);
        Ok(())
    }

    /// Waits until everything that was submitted is resolved; not for what a call that goes on at the same
    /// time has still to hand over.
    pub async fn drained(&self) {
        let mut in_flight = self.in_flight.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = in_flight.wait_for(|count| *count == 0).await;
    }
}

/// A lane has ended with a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delivery has stopped")]
pub struct LaneEnded;

async fn run_lane(
    receiver: mpsc::Receiver<Vec<Write>>,
    writer: Arc<Writer>,
    resolve: impl Fn(Fate, Vec<Ticket>),
) -> Result<(), Stop> {
    let mut waiting = Waiting {
        receiver,
        parcel: Vec::new().into_iter(),
    };
    // No timer: a request goes out as soon as the lane is free, with what has come meanwhile.
    while let Some(first) = waiting.next().await {
        let mut batch = Batch::default();
        batch.add(first);
        while !writer.is_full(&batch)
            && let Some(write) = waiting.next_at_once()
        {
            batch.add(write);
        }
        writer.deliver(batch, &resolve).await?;
    }
    Ok(())
}

/// The operations that wait in a lane.
struct Waiting {
    receiver: mpsc::Receiver<Vec<Write>>,
    parcel: std::vec::IntoIter<Write>,
}

impl Waiting {
    /// The next one, which is waited for; `None` once nobody can submit any more.
    async fn next(&mut self) -> Option<Write> {
        loop {
            if let Some(write) = self.parcel.next() {
                return Some(write);
            }
            self.parcel = self.receiver.recv().await?.into_iter();
        }
    }

    /// The next one if it is there.
    fn next_at_once(&mut self) -> Option<Write> {
        loop {
            if let Some(write) = self.parcel.next() {
                return Some(write);
            }
            self.parcel = self.receiver.try_recv().ok()?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_late_sees_what_was_reached_before() {
        let acknowledger = Acknowledger::<u64>::new();
        let ticket = acknowledger.begin();
        acknowledger.seal(ticket, 7);
        let mut reached = acknowledger.reached();
        assert!(reached.has_changed().unwrap());
        let seen = *reached.borrow_and_update();
        assert_eq!(seen.map(|reached| reached.position), Some(7));
        assert!(!reached.has_changed().unwrap());
    }
}
