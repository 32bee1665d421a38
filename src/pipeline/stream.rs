//! The stream loop: frames → operations at their commit's version → (rows read again) → delivery →
//! position stored → position confirmed.
//!
//! Three tasks on one connection each: the *decoder* takes frames and opens tickets in commit
//! order, the *submitter* completes rows and hands them to the lanes, the *keeper* stores what is
//! reached and only then lets it be confirmed. Memory between them is bounded in bytes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Failure, Shutdown,
    prepare::extend_mapping,
    record::{Record, STORE_INTERVAL},
    refill::{self, Missing, Refilled},
    snapshot::{DRAIN, Ended, drain, lane_failure, prefer_stop},
    sweep::Sweep,
    table::CurrentTable,
};
use crate::{
    change::{Action, Lsn, Operation, Relation, Version, Windows},
    delivery::{Acknowledger, Counters, Delivery, Share, Ticket, Write, Writer, wire_bytes},
    document::Layout,
    elasticsearch::{Client, Distribution, Index, swap_alias},
    postgres::{Assembler, Endpoint, Frame, RelationMessage, Step, Stream},
    stop::Stop,
};

/// Operations between decoder and submitter, at most; bytes are the nearer bound.
const QUEUE_LENGTH: usize = 4_096;
/// Operations that are looked at together for rows to be read again.
const REFILL_TOGETHER: usize = 1_000;

/// What the stream works with.
pub(super) struct Tail {
    /// The table, and the session to look at it through.
    pub table: Arc<CurrentTable>,
    /// Where the replication connection goes.
    pub endpoint: Endpoint,
    /// The slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// Elasticsearch.
    pub client: Client,
    /// The concrete index.
    pub index: Index,
    /// Which kind of server it is on.
    pub distribution: Distribution,
    /// The way to it.
    pub writer: Arc<Writer>,
    /// What the writer has counted.
    pub counters: Arc<Counters>,
    /// Requests in flight.
    pub lanes: usize,
    /// Points to the index once this LSN is reached; nothing to do when `None`.
    pub switch: Option<AliasSwitch>,
    /// The mapping is ours, so that a column which does not fit it is a stop.
    pub strict_mapping: bool,
}

/// When the alias goes to the index.
#[derive(Debug, Clone)]
pub(super) struct AliasSwitch {
    /// The alias.
    pub alias: String,
    /// Where it points until then.
    pub from: Vec<String>,
    /// The WAL's end when the snapshot was complete.
    pub at: Lsn,
}

impl Tail {
    /// Streams until asked to end.
    ///
    /// # Errors
    /// Either end failed; the record holds the position that was stored last.
    pub(super) async fn follow(
        self,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let stream = Stream::start(self.endpoint.clone(), &self.slot, &self.publication).await?;
        tracing::info!(slot = self.slot, "streaming changes");
        let acknowledger = Acknowledger::<Lsn>::new();
        let (delivery, mut lanes) = Delivery::start(&self.writer, &acknowledger, self.lanes);
        let delivery = Arc::new(delivery);
        let (items, queue) = mpsc::channel(QUEUE_LENGTH);
        let (confirm, confirmed) = watch::channel(None);
        let (stop_decoding, decoding_stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            tail: self,
            acknowledger,
            delivery,
        });
        let mut tasks: JoinSet<Result<Finished, Failure>> = JoinSet::new();
        tasks.spawn(
            Decoder::new(shared.clone(), items, confirmed)
                .run(stream, Shutdown::new(decoding_stopped)),
        );
        tasks.spawn(shared.clone().submit(queue));

        let mut keeper = Keeper::new(&shared, record, confirm);
        let failure = tokio::select! {
            biased;
            () = shutdown.requested() => None,
            Some(ended) = lanes.join_next() => Some(lane_failure(ended)),
            Some(ended) = tasks.join_next() => Some(task_failure(ended)),
            failure = keeper.run() => Some(failure),
        };
        if let Some(failure) = failure {
            return Err(prefer_stop(failure, &mut lanes).await);
        }
        tracing::info!("ending: waiting for requests in flight");
        stop_decoding.send_replace(true);
        let mut stream = None;
        let limit = Instant::now() + DRAIN;
        while let Ok(Some(ended)) = tokio::time::timeout_at(limit, tasks.join_next()).await {
            match ended {
                Ok(Ok(Finished::Decoder(open))) => stream = Some(open),
                Ok(Ok(Finished::Submitter)) => {}
                other => return Err(task_failure(other)),
            }
        }
        drain(&shared.delivery, &mut lanes, false).await?;
        keeper.store_last().await?;
        if let Some((stream, lsn)) = stream.zip(keeper.stored) {
            stream.confirm(lsn);
            stream.close().await?;
        }
        Ok(Ended::Interrupted)
    }
}

/// What the tasks share.
struct Shared {
    tail: Tail,
    acknowledger: Arc<Acknowledger<Lsn>>,
    delivery: Arc<Delivery>,
}

/// A task that ended because it was asked to.
enum Finished {
    Decoder(Stream),
    Submitter,
}

fn task_failure(ended: Result<Result<Finished, Failure>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(failure)) => failure,
        // The submitter ends when the decoder has; whichever is seen first, the stream is over.
        Ok(Ok(_)) => Failure::Heals("the stream has ended".to_owned()),
        Err(panicked) => Failure::Stop(Stop::Unexpected(format!(
            "a task of the stream ended: {panicked}"
        ))),
    }
}

/// What the decoder hands to the submitter.
enum Item {
    Write {
        operation: Operation,
        layout: Arc<Layout>,
        ticket: Ticket,
        share: Share,
        xid: u32,
    },
    Truncate {
        version: Version,
        layout: Arc<Layout>,
        ticket: Ticket,
    },
}

/// Frames to items.
struct Decoder {
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
    fn new(
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

    async fn run(
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
                    }
                }
                frame = stream.next() => {
                    let frame = frame?;
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

    async fn frame(&mut self, frame: Frame) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let acknowledger = &shared.acknowledger;
        if let Frame::Begin { commit, .. } = &frame {
            // Nothing that is stored can be newer than what has been sent, by this process or an earlier one.
            shared.tail.writer.raise_bound(Version(
                Version::of_commit(*commit).0 + Windows::MAX_WINDOWS,
            ));
        }
        match self.assembler.push(frame)? {
            None => {}
            Some(Step::Begin { xid }) => self.open = Some((acknowledger.begin(), xid)),
            Some(Step::Relation(message)) => self.relation(&message).await?,
            Some(Step::Window(operations)) => self.operations(operations).await?,
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
                self.operations(rest).await?;
                let (ticket, _) = self.transaction()?;
                acknowledger.seal(ticket, end);
                self.open = None;
                self.looks.drain(..self.looks.len().saturating_sub(1));
            }
            Some(Step::Idle { wal_end }) => {
                let ticket = acknowledger.begin();
                acknowledger.seal(ticket, wal_end);
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
        for operation in operations {
            let layout = self.layout(&operation)?;
            let share = self.shared.delivery.admit(wire_bytes(&operation)).await;
            self.send(Item::Write {
                operation,
                layout,
                ticket,
                share,
                xid,
            })
            .await?;
        }
        Ok(())
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
            extend_mapping(&tail.index, &layout, tail.strict_mapping).await?;
            tail.table.look_again().await?;
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

impl Shared {
    /// Items to the lanes, in order; rows with unchanged values are completed on the way.
    async fn submit(self: Arc<Self>, mut queue: mpsc::Receiver<Item>) -> Result<Finished, Failure> {
        let mut items = Vec::new();
        while queue.recv_many(&mut items, REFILL_TOGETHER).await > 0 {
            let missing: Vec<Missing> = items.iter().filter_map(missing).collect();
            let refilled = if missing.is_empty() {
                None
            } else {
                Some(refill::refill(&self.tail.table, &missing).await?)
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
                        match complete(write, refilled.as_ref()) {
                            Ok(write) => self.delivery.submit(write).await?,
                            // The row is gone; its delete follows.
                            Err(ticket) => self.acknowledger.resolve([ticket]),
                        }
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

/// The write with its row read again, if it lacks values; its ticket if the row is gone.
fn complete(mut write: Write, refilled: Option<&Refilled>) -> Result<Write, Ticket> {
    let lacks = matches!(&write.operation.action, Action::Index(row) if row.has_unchanged());
    let Some(refilled) = refilled.filter(|_| lacks) else {
        return Ok(write);
    };
    let Some(row) = refilled.rows.get(&write.operation.key) else {
        return Err(write.ticket);
    };
    write.operation.action = Action::Index(row.clone());
    write.layout = refilled.layout.clone();
    Ok(write)
}

/// The counts when the stream began.
struct Tally {
    input: u64,
    output: u64,
    delivered: u64,
    refused: u64,
}

/// Stores positions, then lets them be confirmed.
struct Keeper<'a> {
    tail: &'a Tail,
    record: &'a mut Record,
    reached: watch::Receiver<Option<Lsn>>,
    confirm: watch::Sender<Option<Lsn>>,
    switch: Option<AliasSwitch>,
    before: Tally,
    /// The last position that is stored.
    stored: Option<Lsn>,
}

impl<'a> Keeper<'a> {
    fn new(
        shared: &'a Shared,
        record: &'a mut Record,
        confirm: watch::Sender<Option<Lsn>>,
    ) -> Self {
        let before = Tally {
            input: record.run.n_input_records,
            output: record.run.n_output_records,
            delivered: shared.tail.counters.delivered.load(Ordering::Relaxed),
            refused: shared.tail.counters.dead_letters.load(Ordering::Relaxed),
        };
        let switch = shared.tail.switch.clone();
        Self {
            tail: &shared.tail,
            record,
            reached: shared.acknowledger.reached(),
            confirm,
            switch,
            before,
            stored: None,
        }
    }

    /// Runs until it fails.
    async fn run(&mut self) -> Failure {
        loop {
            if self.reached.changed().await.is_err() {
                return Failure::Lane;
            }
            let next = Instant::now() + STORE_INTERVAL;
            if let Err(failure) = self.store_reached().await {
                return failure;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn store_reached(&mut self) -> Result<(), Failure> {
        let Some(lsn) = *self.reached.borrow_and_update() else {
            return Ok(());
        };
        if self
            .record
            .run
            .acknowledged_lsn
            .is_some_and(|stored| lsn <= stored)
        {
            // A replay: what is stored is further than what has come again so far.
            return Ok(());
        }
        let counters = &self.tail.counters;
        let delivered = counters.delivered.load(Ordering::Relaxed) - self.before.delivered;
        let refused = counters.dead_letters.load(Ordering::Relaxed) - self.before.refused;
        self.record.run.n_input_records = self.before.input + delivered + refused;
        self.record.run.n_output_records = self.before.output + delivered;
        self.record.run.acknowledged_lsn = Some(lsn);
        self.record.store().await?;
        self.stored = Some(lsn);
        self.confirm.send_replace(Some(lsn));
        if let Some(switch) = self.switch.take_if(|switch| lsn >= switch.at) {
            swap_alias(
                &self.tail.client,
                &switch.alias,
                &switch.from,
                self.tail.index.name(),
            )
            .await?;
            tracing::info!(
                alias = switch.alias,
                index = self.tail.index.name(),
                "caught up: the alias points to the index"
            );
        }
        Ok(())
    }

    /// Stores the last position before the end.
    async fn store_last(&mut self) -> Result<(), Failure> {
        const LIMIT: Duration = Duration::from_secs(10);
        match tokio::time::timeout(LIMIT, self.store_reached()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Heals(
                "the last position could not be stored in time; it will come again".to_owned(),
            )),
        }
    }
}
