//! The stream loop: frames → operations at their commit's version → (rows read again) → delivery →
//! position stored → position confirmed.
//!
//! Three tasks on one connection each: the *decoder* takes frames and opens tickets in commit
//! order, the *submitter* completes rows and hands them to the lanes, the *keeper* stores what is
//! reached and only then lets it be confirmed. Memory between them is bounded in bytes.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Failure, Shutdown,
    decoder::Decoder,
    keeper::Keeper,
    record::Record,
    refill::{self, Missing, Refilled},
    snapshot::{DRAIN, Ended, drain, lane_failure, prefer_stop},
    sweep::Sweep,
    table::CurrentTable,
    watch::watch,
};
use crate::{
    change::{Action, Lsn, Operation, Version},
    delivery::{Acknowledger, Budget, Counters, Delivery, Share, Ticket, Write, Writer},
    document::Layout,
    elasticsearch::{Client, Distribution, Index},
    postgres::{Endpoint, Stream},
    stop::Stop,
};

/// Operations between decoder and submitter, at most; bytes are the nearer bound.
const QUEUE_LENGTH: usize = 4_096;
/// Operations that are looked at together for rows to be read again: so many rows are held beside
/// what is in flight, at most.
const REFILL_TOGETHER: usize = 64;
/// Wire bytes of rows that were read again and are in flight, at most.
const REFILL_BYTES_MAX: u32 = 16 << 20;

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
    /// Its UUID.
    pub index_uuid: String,
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
            failure = watch(&shared.tail) => Some(failure),
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
pub(super) struct Shared {
    pub(super) tail: Tail,
    pub(super) acknowledger: Arc<Acknowledger<Lsn>>,
    pub(super) delivery: Delivery,
}

/// A task that ended because it was asked to.
pub(super) enum Finished {
    /// With the stream, for the last confirmation.
    Decoder(Stream),
    /// With nothing left in the queue.
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
pub(super) enum Item {
    /// An operation, in its order.
    Write {
        operation: Operation,
        layout: Arc<Layout>,
        ticket: Ticket,
        share: Share,
        /// The transaction that it is of.
        xid: u32,
    },
    /// Everything before is to be removed.
    Truncate {
        version: Version,
        layout: Arc<Layout>,
        ticket: Ticket,
    },
}

impl Shared {
    /// Items to the lanes, in order; rows with unchanged values are completed on the way.
    async fn submit(self: Arc<Self>, mut queue: mpsc::Receiver<Item>) -> Result<Finished, Failure> {
        let mut items = Vec::new();
        let budget = Budget::new(REFILL_BYTES_MAX);
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
                        match complete(write, refilled.as_ref(), &budget).await {
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
async fn complete(
    mut write: Write,
    refilled: Option<&Refilled>,
    budget: &Budget,
) -> Result<Write, Ticket> {
    let lacks = matches!(&write.operation.action, Action::Index(row) if row.has_unchanged());
    let Some(refilled) = refilled.filter(|_| lacks) else {
        return Ok(write);
    };
    let Some(row) = refilled.rows.get(&write.operation.key) else {
        return Err(write.ticket);
    };
    write.share = budget.admit(row.bytes.len()).await;
    write.operation.action = Action::Index(row.clone());
    write.layout = refilled.layout.clone();
    Ok(write)
}
