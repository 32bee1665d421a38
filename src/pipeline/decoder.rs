//! Frames to items: opens a ticket a transaction, in commit order, and seals it at the commit.
//!
//! This is the only place where positions enter, so it is the only one that fixes their order.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{
    Failure, Shutdown,
    prepare::extend_mapping,
    probe::Sought,
    tail::{Finished, Item, Shared},
};
use crate::{
    change::{Action, Lsn, Operation, Relation, Version},
    delivery::{Ticket, wire_bytes},
    document::Layout,
    postgres::{Assembler, Frame, RelationMessage, ReplicationError, Step, Stream},
    stop::Stop,
};

/// Operations that room is taken for at once. Each alone would cost more than its encoding.
const ADMITTED_TOGETHER: usize = 64;

/// Frames to items.
pub(super) struct Decoder {
    shared: Arc<Shared>,
    items: mpsc::Sender<Item>,
    confirmed: watch::Receiver<Option<Lsn>>,
    assembler: Assembler,
    /// What the table has looked like since the open transaction began, latest last.
    looks: Vec<(Arc<Relation>, Arc<Layout>)>,
    /// Ticket and id of the open transaction.
    open: Option<(Ticket, u32)>,
}

impl Decoder {
    /// Sends to `items`, and confirms what comes through `confirmed`.
    pub(super) fn new(
        shared: Arc<Shared>,
        items: mpsc::Sender<Item>,
        confirmed: watch::Receiver<Option<Lsn>>,
    ) -> Self {
        Self {
            shared,
            items,
            confirmed,
            assembler: Assembler::default(),
            looks: Vec::new(),
            open: None,
        }
    }

    /// Runs until asked to end; gives the stream back for the last confirmation.
    ///
    /// # Errors
    /// The stream broke or cannot be understood, or the table has changed beyond its mapping.
    pub(super) async fn run(
        mut self,
        mut stream: Stream,
        mut shutdown: Shutdown,
    ) -> Result<Finished, Failure> {
        self.assembler = Assembler::new(self.shared.tail.table.look().await.table.oid);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(Finished::Decoder(stream)),
                Ok(()) = self.confirmed.changed() => {
                    if let Some(lsn) = *self.confirmed.borrow_and_update() {
                        stream.confirm(lsn);
                        self.shared.tail.writer.meter().confirmed(lsn.0);
                        failpoint!("position-confirmed", Failure::Heals);
                    }
                }
                frame = stream.next() => {
                    let frame = frame.map_err(|error| self.failed(error))?;
                    // With Elasticsearch away this waits for room; asked to end, it does not.
                    tokio::select! {
                        biased;
                        () = shutdown.requested() => return Ok(Finished::Decoder(stream)),
                        handled = self.frame(frame) => handled?,
                    }
                }
            }
        }
    }

    fn failed(&self, error: ReplicationError) -> Failure {
        if error.is_publication_gone() {
            let publication = self.shared.tail.publication.clone();
            let lacks = "is gone";
            return Stop::PublicationLost { publication, lacks }.into();
        }
        error.into()
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let acknowledger = &shared.acknowledger;
        if let Frame::Begin { commit, .. } = &frame {
            // Nothing that is stored can be newer than what has been sent, by this process or an earlier one.
            let bound = Version::bound_of_commits_to(*commit);
            shared.tail.writer.raise_bound(bound);
        }
        let mut committed_at = 0;
        if let Frame::Commit { end, at, .. } = &frame {
            // Before it can be acknowledged.
            shared.tail.writer.meter().commit_received(end.0, *at);
            committed_at = *at;
        }
        match self.assembler.push(frame)? {
            None => {}
            Some(Step::Begin { xid }) => self.open = Some((acknowledger.begin(), xid)),
            Some(Step::Relation(message)) => self.relation(&message).await?,
            Some(Step::Window(operations)) => {
                self.operations(operations).await?;
                failpoint!("window-handed-over", Failure::Heals);
            }
            Some(Step::Truncate { before, version }) => {
                self.operations(before).await?;
                let (ticket, _) = self.transaction()?;
                acknowledger.add(ticket, 1);
                let layout = self.shared.tail.table.look().await.layout.clone();
                self.send(Item::Truncate {
                    version,
                    layout,
                    ticket,
                })
                .await?;
            }
            Some(Step::Commit { rest, end }) => {
                Sought::offer(&shared.sought, &rest, end, committed_at);
                self.operations(rest).await?;
                failpoint!("commit-seen", Failure::Heals);
                let (ticket, _) = self.transaction()?;
                acknowledger.seal(ticket, end);
                self.open = None;
                self.looks.drain(..self.looks.len().saturating_sub(1));
            }
            Some(Step::Idle { wal_end }) => {
                let ticket = acknowledger.begin();
                shared.tail.writer.meter().idle_until(wal_end.0);
                acknowledger.seal(ticket, wal_end);
                failpoint!("keepalive-noted", Failure::Heals);
            }
        }
        Ok(())
    }

    async fn operations(&mut self, operations: Vec<Operation>) -> Result<(), Failure> {
        if operations.is_empty() {
            return Ok(());
        }
        let (ticket, xid) = self.transaction()?;
        self.shared
            .acknowledger
            .add(ticket, operations.len() as u64);
        let mut operations = operations.into_iter();
        loop {
            let part: Vec<Operation> = operations.by_ref().take(ADMITTED_TOGETHER).collect();
            if part.is_empty() {
                return Ok(());
            }
            let bytes = part.iter().map(wire_bytes).sum();
            let share = self.shared.delivery.admit(part.len(), bytes).await;
            for operation in part {
                let layout = self.layout(&operation)?;
                let share = share.clone();
                self.send(Item::Write {
                    operation,
                    layout,
                    ticket,
                    share,
                    xid,
                })
                .await?;
            }
        }
    }

    /// The table looks otherwise from here on: fields that are new go into the mapping first.
    async fn relation(&mut self, message: &RelationMessage) -> Result<(), Failure> {
        let tail = &self.shared.tail;
        let (relation, layout) = tail.table.described(message).await?;
        let known = tail.table.look().await;
        if *relation != *known.relation {
            tracing::info!(
                table = relation.name,
                "the table's columns differ from those known so far"
            );
            extend_mapping(&tail.target.index, &layout, tail.strict_mapping).await?;
            tail.table
                .look_again(&tail.target.index, tail.strict_mapping)
                .await?;
        }
        self.assembler.learn(relation.clone());
        self.looks.push((relation, layout));
        Ok(())
    }

    fn transaction(&self) -> Result<(Ticket, u32), Failure> {
        self.open
            .ok_or_else(|| Stop::Stream("a change outside a transaction".to_owned()).into())
    }

    /// The layout that goes with the operation's row; rows from before and after a DDL can stand in
    /// one window.
    fn layout(&self, operation: &Operation) -> Result<Arc<Layout>, Failure> {
        let look = match &operation.action {
            Action::Index(row) => self
                .looks
                .iter()
                .find(|(relation, _)| Arc::ptr_eq(relation, &row.relation)),
            Action::Delete => self.looks.last(),
        };
        look.map(|(_, layout)| layout.clone())
            .ok_or_else(|| Stop::Stream("a change before its relation".to_owned()).into())
    }

    async fn send(&self, item: Item) -> Result<(), Failure> {
        self.items.send(item).await.map_err(|_| Failure::Lane)
    }
}
