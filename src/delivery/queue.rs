//! The lanes as tasks: operations in, bounded in bytes; positions out.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    Acknowledgement, Fate, Reached, Ticket, Writer,
    lanes::{Batch, Write, lane},
};
use crate::stop::Stop;

/// Wire bytes of operations between the source and their acknowledgement, at most.
const BYTES_IN_FLIGHT_MAX: u32 = 16 << 20;
/// What an operation takes beside its wire bytes, roughly.
const OVERHEAD_BYTES: usize = 512;
/// Operations waiting in a lane, at most; the byte bound is nearly always the nearer one.
const LANE_LENGTH: usize = 8_192;

/// Room for so many wire bytes of operations. Who submits operations that come on top of those
/// from the source (rows read again, the deletes of a sweep) needs a budget of their own: the
/// source's may be held by operations that are queued behind them.
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

    /// Waits until there is room for an operation of this size. One that is larger than all the
    /// room gets all of it, alone.
    pub async fn admit(&self, wire_bytes: usize) -> Share {
        let bytes = u32::try_from(wire_bytes.saturating_add(OVERHEAD_BYTES)).unwrap_or(u32::MAX);
        let bytes = bytes.min(self.bytes_max);
        // Acquiring fails only on a closed semaphore, and this one is never closed.
        Share {
            _permit: self.room.clone().acquire_many_owned(bytes).await.ok(),
        }
    }
}

/// A share of the memory in flight; given back when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: Option<OwnedSemaphorePermit>,
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
    pub fn add(&self, ticket: Ticket, count: u64) {
        self.with(|state| (state.add(ticket, count), None));
    }

    /// No operation will be added to the ticket, which stands for `position`.
    pub fn seal(&self, ticket: Ticket, position: P) {
        self.with(|state| ((), state.seal(ticket, position)));
    }

    /// One operation of each of these tickets has ended so.
    pub fn resolve(&self, fate: Fate, tickets: impl IntoIterator<Item = Ticket>) {
        self.with(|state| {
            let mut reached = None;
            for ticket in tickets {
                reached = state.resolve(ticket, fate, 1).or(reached);
            }
            ((), reached)
        });
    }

    /// The highest position below which nothing is open, as it moves.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<Option<Reached<P>>> {
        self.reached.subscribe()
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
    lanes: Vec<mpsc::Sender<Write>>,
    budget: Budget,
    in_flight: Arc<watch::Sender<u64>>,
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
        let mut tasks = JoinSet::new();
        let lanes = (0..lanes).map(|_| {
            let (sender, receiver) = mpsc::channel(LANE_LENGTH);
            tasks.spawn(run_lane(
                receiver,
                writer.clone(),
                acknowledger.clone(),
                in_flight.clone(),
            ));
            sender
        });
        let lanes = lanes.collect();
        (
            Self {
                lanes,
                budget: Budget::new(BYTES_IN_FLIGHT_MAX),
                in_flight,
            },
            tasks,
        )
    }

    /// Waits until there is room for an operation from the source.
    pub async fn admit(&self, wire_bytes: usize) -> Share {
        self.budget.admit(wire_bytes).await
    }

    /// Hands an operation to its lane. Operations of one key must come in their order.
    ///
    /// # Errors
    /// The lane has ended; why is the result of its task.
    pub async fn submit(&self, write: Write) -> Result<(), LaneEnded> {
        self.in_flight.send_modify(|count| *count += 1);
        let lane = lane(&write.operation.key, self.lanes.len());
        self.lanes[lane].send(write).await.map_err(|_| LaneEnded)
    }

    /// Waits until everything that was submitted is resolved.
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

async fn run_lane<P: Clone + Send + Sync + 'static>(
    mut receiver: mpsc::Receiver<Write>,
    writer: Arc<Writer>,
    acknowledger: Arc<Acknowledger<P>>,
    in_flight: Arc<watch::Sender<u64>>,
) -> Result<(), Stop> {
    // No timer: a request goes out as soon as the lane is free, with what has come meanwhile.
    while let Some(first) = receiver.recv().await {
        let mut batch = Batch::default();
        batch.add(first);
        while !writer.is_full(&batch) {
            match receiver.try_recv() {
                Ok(write) => batch.add(write),
                Err(_) => break,
            }
        }
        let resolve = |fate, tickets: Vec<Ticket>| {
            let count = tickets.len() as u64;
            // In this order: who sees that nothing is in flight may count on the acknowledgement.
            acknowledger.resolve(fate, tickets);
            in_flight.send_modify(|in_flight| *in_flight -= count);
        };
        writer.deliver(batch, resolve).await?;
    }
    Ok(())
}
