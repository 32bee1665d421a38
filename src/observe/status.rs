//! What a run says of itself at `/status`: the answer's form, read by the page, by `sync-es status`
//! and by whoever asks. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connecting, and looking at both ends.
    Starting,
    /// Another instance is at work; this one takes over when it is gone.
    Standby,
    /// Making what is missing, and waiting for a slot.
    Preparing,
    /// Reading the table.
    Snapshot,
    /// Removing documents whose rows are gone, and what else ends a snapshot.
    Sweep,
    /// Comparing the index with the table and mending it, after a slot was lost.
    Heal,
    /// Following the slot.
    Stream,
    /// Between an attempt that failed and the next.
    Waiting,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Standby,
        Self::Preparing,
        Self::Snapshot,
        Self::Sweep,
        Self::Heal,
        Self::Stream,
        Self::Waiting,
    ];

    /// As it stands in JSON and in a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Preparing => "preparing",
            Self::Snapshot => "snapshot",
            Self::Sweep => "sweep",
            Self::Heal => "heal",
            Self::Stream => "stream",
            Self::Waiting => "waiting",
        }
    }

    /// For a person.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::Starting => "starting: looking at both ends",
            Self::Standby => "standing by: another instance is at work",
            Self::Preparing => "preparing the snapshot",
            Self::Snapshot => "reading the table",
            Self::Sweep => "removing documents whose rows are gone",
            Self::Heal => "comparing and mending, after the slot was lost",
            Self::Stream => "following the changes",
            Self::Waiting => "waiting to go on from the stored position",
        }
    }
}

/// What the run is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subject {
    /// The table, `schema.name`.
    pub table: String,
    /// The concrete index.
    pub index: String,
    /// The alias.
    pub alias: String,
    /// The replication slot; none for a one-shot run.
    pub slot: Option<String>,
}

/// The answer of `/status`. LSNs are written as PostgreSQL writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// What it is about.
    pub subject: Subject,
    /// Number of the run, once it has a record.
    pub run: Option<u64>,
    /// When the process began.
    pub started_at: Timestamp,
    /// When this was said.
    pub at: Timestamp,
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Timestamp,
    /// Whether searches see what was committed, within the target.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<String>,
    /// Rows of the snapshot that this process has read.
    pub snapshot_rows: u64,
    /// Rows of the table, estimated.
    pub snapshot_rows_estimated: Option<u64>,
    /// The lag.
    pub lag: Lag,
    /// Where it stands in the WAL.
    pub positions: Positions,
    /// The slot as PostgreSQL shows it.
    pub slot: Option<SlotState>,
    /// Operations that this process handed over.
    pub operations: Operations,
    /// In the last seconds.
    pub throughput: Throughput,
    /// How much of their size and number requests have at present, up to 1.
    pub capacity: f64,
    /// Lanes whose request has failed and was not taken since.
    pub lanes_retrying: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Keys that have a dead letter now.
    pub dead_letters: u64,
    /// The last trouble, over or not.
    pub last_error: Option<Trouble>,
}

/// How late Elasticsearch is; none while it is not known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Lag {
    /// Up to the WAL's end.
    pub bytes: Option<u64>,
    /// Age of the oldest commit that is not acknowledged.
    pub seconds: Option<f64>,
    /// What readiness asks for.
    pub target_seconds: f64,
}

/// Positions in the WAL; none while they are not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Positions {
    /// Where it ended when it was looked at last.
    pub wal_end: Option<String>,
    /// What has come.
    pub received: Option<String>,
    /// What Elasticsearch has.
    pub acknowledged: Option<String>,
    /// What is stored.
    pub stored: Option<String>,
    /// What PostgreSQL was told.
    pub confirmed: Option<String>,
}

/// The slot as PostgreSQL showed it last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlotState {
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL that is kept for it.
    pub retained_bytes: Option<u64>,
    /// What can still be written before it is in danger; none without a limit.
    pub safe_bytes: Option<i64>,
}

/// Operations, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operations {
    /// In the lanes.
    pub open: u64,
    /// Written.
    pub applied: u64,
    /// A newer one of their key was there.
    pub superseded: u64,
    /// Set aside.
    pub dead_letters: u64,
}

/// Per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Throughput {
    /// Operations that came to their end.
    pub operations: f64,
    /// Bytes of request bodies.
    pub bytes: f64,
}

/// What went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// What.
    pub text: String,
}
