//! The lanes' common way to Elasticsearch: lets as many requests through as it takes at present, and
//! learns from what becomes of them.
//!
//! Lanes pass in the order in which they came. A pass is held while a request is under way and not
//! while its lane waits to try again, so one that has to wait does not hold up the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Queue, Notify};

use super::capacity::{Capacity, SentAt};

/// Bounds how many requests of all lanes are under way together.
#[derive(Debug)]
pub(super) struct Gate {
    capacity: Mutex<Capacity>,
    /// Whoever holds it is next.
    turn: Queue<()>,
    left: Notify,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    sent_at: SentAt,
}

impl Gate {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity: Mutex::new(capacity),
            turn: Queue::default(),
            left: Notify::new(),
        }
    }

    /// Waits until one more request may be under way.
    pub(super) async fn pass(&self) -> Pass<'_> {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(sent_at) = self.capacity().begin() {
                return Pass {
                    gate: self,
                    sent_at,
                };
            }
            // One waits here at a time, and a request that ends before leaves its permit.
            self.left.notified().await;
        }
    }

    pub(super) fn capacity(&self) -> MutexGuard<'_, Capacity> {
        self.capacity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The request was taken whole.
    pub(super) fn succeeded(self) {
        let full = self.gate.capacity().succeeded();
        if full {
            tracing::info!("Elasticsearch takes full requests again");
        }
    }

    /// There was no room for the request, or for a part of it.
    pub(super) fn overloaded(self) {
        self.gate.capacity().overloaded(self.sent_at);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.capacity().end();
        self.gate.left.notify_one();
    }
}
