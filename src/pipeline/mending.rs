//! The way of operations that mend what a comparison has found.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Failure, drain::drain};
use crate::{
    change::Operation,
    delivery::{Acknowledger, Books, Budget, Delivery, Ticket, Write, Writer, wire_bytes},
    document::Layout,
    stop::Stop,
};

/// Wire bytes of operations in flight, at most.
const BYTES_MAX: u32 = 8 << 20;

/// Lanes of their own, which end with it: nothing is told but what came of all of them.
pub(super) struct Mending {
    delivery: Delivery,
    lanes: JoinSet<Result<(), Stop>>,
    acknowledger: Arc<Acknowledger<()>>,
    ticket: Ticket,
    budget: Budget,
    layout: Arc<Layout>,
}

impl Mending {
    /// Begins with so many requests in flight, at most.
    pub(super) fn start(writer: &Arc<Writer>, lanes: usize, layout: Arc<Layout>) -> Self {
        let acknowledger = Acknowledger::<()>::new();
        let (delivery, lanes) = Delivery::start(writer, &acknowledger, lanes);
        Self {
            delivery,
            lanes,
            ticket: acknowledger.begin(),
            acknowledger,
            budget: Budget::new(BYTES_MAX),
            layout,
        }
    }

    /// Hands operations over, once there is room for them.
    ///
    /// # Errors
    /// A lane has ended; [`Self::end`] knows why.
    pub(super) async fn submit(&self, operations: Vec<Operation>) -> Result<(), Failure> {
        if operations.is_empty() {
            return Ok(());
        }
        let bytes = operations.iter().map(wire_bytes).sum();
        let share = self.budget.admit(operations.len(), bytes).await;
        self.acknowledger.add(self.ticket, operations.len() as u64);
        let writes = operations.into_iter().map(|operation| Write {
            operation,
            layout: self.layout.clone(),
            ticket: self.ticket,
            share: share.clone(),
        });
        Ok(self.delivery.submit(writes.collect()).await?)
    }

    /// Waits for what is under way, as long as it takes or a while, and tells what came of all.
    ///
    /// # Errors
    /// What a lane was ended by.
    pub(super) async fn end(mut self, to_the_end: bool) -> Result<Books, Failure> {
        self.acknowledger.seal(self.ticket, ());
        drain(&self.delivery, &mut self.lanes, to_the_end).await?;
        let reached = *self.acknowledger.reached().borrow();
        Ok(reached.map(|reached| reached.books).unwrap_or_default())
    }
}
