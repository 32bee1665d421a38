//! What the stream works with, and what its tasks share.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{
    ahead::Ahead, bound::Bound, job::Role, probe::Sought, table::CurrentTable, target::Target,
};
use crate::{
    change::{Coverage, Lsn, Operation, Version},
    delivery::{Acknowledger, Delivery, Share, Ticket, Writer},
    document::Layout,
    elasticsearch::{Client, Distribution},
    postgres::{Endpoint, Stream},
};

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
    /// What the stream tells of, as it was when the table was read or has become since.
    pub coverage: watch::Sender<Coverage>,
    /// Elasticsearch.
    pub client: Client,
    /// The index.
    pub target: Target,
    /// Which kind of server it is on.
    pub distribution: Distribution,
    /// The way to it.
    pub writer: Arc<Writer>,
    /// Requests in flight.
    pub lanes: usize,
    /// What documents may show already when the stream begins.
    pub ahead: Ahead,
    /// What the stored record says of it.
    pub read_ahead_to: Lsn,
    /// The alias that the index is served under.
    pub alias: String,
    /// What the run is for.
    pub role: Role,
    /// Points the alias to the index once this LSN is reached; nothing to do when `None`.
    pub switch: Option<AliasSwitch>,
    /// Whether the index has all of its vector graph.
    pub vectors: watch::Sender<bool>,
    /// The mapping is ours, so that a column which does not fit it is a stop.
    pub strict_mapping: bool,
}

/// When the alias goes to the index.
#[derive(Debug, Clone)]
pub(super) struct AliasSwitch {
    /// Where it points until then.
    pub from: Vec<String>,
    /// A mark that was put into the WAL when the snapshot was complete.
    pub at: Lsn,
}

/// What the tasks share.
pub(super) struct Shared {
    pub(super) tail: Tail,
    pub(super) acknowledger: Arc<Acknowledger<Lsn>>,
    pub(super) delivery: Delivery,
    pub(super) bound: Bound,
    /// Documents that a search is to find; when there is no room, none is wanted.
    pub(super) sought: mpsc::Sender<Sought>,
}

/// A task that ended because it was asked to.
pub(super) enum Finished {
    /// With the stream, for the last confirmation.
    Decoder(Stream),
    /// With nothing left in the queue.
    Submitter,
}

/// What the decoder hands to the completer, and that to the submitter.
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

impl Item {
    /// The operation, if it is one of a row.
    pub(super) fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Write { operation, .. } => Some(operation),
            Self::Truncate { .. } => None,
        }
    }
}
