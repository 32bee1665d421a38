//! What is kept of a run: where it reads and writes, how far it is, and what its snapshot rests on. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::change::{Coverage, Lsn, Version};

/// A run of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// One more than the run before it into the same index; see [`RunWriter::number`].
    pub number: u64,
    /// What it is doing, or did last.
    pub phase: Phase,
    /// The table, `schema.name`.
    pub input_postgres_table: String,
    /// The concrete index.
    pub output_es_index: String,
    /// How PostgreSQL is reached and read, without any secret.
    pub input_db_backend_config: Map<String, Value>,
    /// How Elasticsearch is reached and written, without any secret.
    pub output_db_backend_config: Map<String, Value>,
    /// Rows and changes read, up to the position: the sum of the two below.
    pub n_input_records: u64,
    /// Those of them that Elasticsearch has acknowledged, or that a newer one of their key replaced.
    pub n_output_records: u64,
    /// Those of them that were refused and stored as dead letters.
    #[serde(default)]
    pub n_dead_letters: u64,
    /// The last key, in key order, below which every snapshot row is acknowledged.
    pub last_synced_item: Option<String>,
    /// The snapshot has reached its end.
    pub sync_finished: bool,
    /// The replication slot.
    pub slot: Option<String>,
    /// The slot's consistent point.
    pub consistent_point: Option<Lsn>,
    /// What the snapshot's version is made of: the consistent point, or for a one-shot run an LSN
    /// from before its barrier.
    pub snapshot_point: Option<Lsn>,
    /// A later snapshot may be read once `pg_snapshot_xmin` has passed this.
    pub barrier_xmax: Option<u64>,
    /// The position: every change up to it is resolved.
    pub acknowledged_lsn: Option<Lsn>,
    /// No row that was written shows what committed at or behind this LSN, but for changes that came
    /// so from the slot. `None` when that is not known: records of older programs have no such field.
    pub read_ahead_to: Option<Lsn>,
    /// PostgreSQL's system identifier.
    pub system_identifier: String,
    /// PostgreSQL's timeline.
    pub timeline: u32,
    /// UUID of the concrete index.
    pub index_uuid: String,
    /// The index was made by this snapshot, so nothing older can be in it.
    pub index_was_new: bool,
    /// The published columns with their types.
    pub relation_fingerprint: String,
    /// Changes when the table is rewritten.
    pub storage: String,
    /// The publication and the partitions when the table was read, and those that have come since
    /// without rows; none before a snapshot has begun.
    pub coverage: Option<Coverage>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was last saved.
    pub updated_at: Timestamp,
    /// When it ended, if it could say so.
    pub finished_at: Option<Timestamp>,
    /// What stopped it.
    pub error: Option<String>,
    /// The program's version.
    pub program_version: String,
    /// The host it ran on.
    pub host: String,
}

impl Run {
    /// The version that its snapshot rows carry.
    #[must_use]
    pub fn snapshot_version(&self) -> Option<Version> {
        self.snapshot_point.map(Version::of_snapshot)
    }

    /// Whether it is a healing that has not noted its new slot yet.
    #[must_use]
    pub fn heals_without_a_slot(&self) -> bool {
        self.phase == Phase::Heal && self.barrier_xmax.is_none()
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Checks, publication, slot, index.
    Preparing,
    /// Reading the table.
    Snapshot,
    /// Deleting documents whose rows have gone (one-shot runs).
    Sweep,
    /// Comparing the index with the table and mending it, after a slot was lost.
    Heal,
    /// Following the slot.
    Stream,
    /// Ended in order.
    Done,
}

/// The mapping of a run's document: what one searches for is typed, the rest only kept.
pub(super) fn properties() -> Value {
    let keyword = || json!({"type": "keyword", "ignore_above": 1024});
    let number = || json!({"type": "long"});
    let date = || json!({"type": "date"});
    let kept = || json!({"type": "object", "enabled": false});
    json!({
        "writer": keyword(),
        "number": number(),
        "phase": keyword(),
        "input_postgres_table": keyword(),
        "output_es_index": keyword(),
        "input_db_backend_config": kept(),
        "output_db_backend_config": kept(),
        "n_input_records": number(),
        "n_output_records": number(),
        "n_dead_letters": number(),
        "last_synced_item": keyword(),
        "sync_finished": {"type": "boolean"},
        "slot": keyword(),
        "consistent_point": keyword(),
        "snapshot_point": keyword(),
        "barrier_xmax": number(),
        "acknowledged_lsn": keyword(),
        "read_ahead_to": keyword(),
        "system_identifier": keyword(),
        "timeline": number(),
        "index_uuid": keyword(),
        "index_was_new": {"type": "boolean"},
        "relation_fingerprint": keyword(),
        "storage": keyword(),
        "coverage": kept(),
        "started_at": date(),
        "updated_at": date(),
        "finished_at": date(),
        "error": {"type": "text"},
        "program_version": keyword(),
        "host": keyword(),
    })
}
