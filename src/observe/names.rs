//! The names of all metrics, by Prometheus' conventions: `sync_es_`, the unit last, counters end in
//! `_total`. docs/metrics.md has the same list, and `tests/house.rs` compares the two. Pure.

/// A metric's name as it is exposed, and what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) full: &'static str,
    /// Without the full stop, which the encoder adds.
    pub(super) help: &'static str,
}

impl Name {
    const fn new(full: &'static str, help: &'static str) -> Self {
        Self { full, help }
    }

    /// As it is registered: the encoder adds the ending of a counter.
    pub(super) fn registered(&self) -> &'static str {
        self.full.strip_suffix("_total").unwrap_or(self.full)
    }
}

pub(super) const BUILD: Name = Name::new("sync_es_build_info", "1, with the program's version");
pub(super) const START: Name = Name::new(
    "sync_es_start_time_seconds",
    "When the process began, in seconds since 1970",
);
pub(super) const PHASE: Name = Name::new(
    "sync_es_phase",
    "1 for the phase that the run is in, 0 for all others",
);
pub(super) const READY: Name = Name::new("sync_es_ready", "1 if /readyz says yes, else 0");
pub(super) const WEDGED: Name = Name::new("sync_es_wedged", "1 if /healthz says no, else 0");
pub(super) const FAILED_ATTEMPTS: Name = Name::new(
    "sync_es_failed_attempts_total",
    "Attempts that ended with a trouble that heals, after which both ends were looked at anew",
);
pub(super) const SNAPSHOT_ROWS: Name = Name::new(
    "sync_es_snapshot_rows_read_total",
    "Rows read by the snapshot in this process",
);
pub(super) const SNAPSHOT_ROWS_ESTIMATED: Name = Name::new(
    "sync_es_snapshot_rows_estimated",
    "Rows of the table, as PostgreSQL's planner estimated them when the snapshot began",
);
pub(super) const REREAD_ROWS: Name = Name::new(
    "sync_es_rows_read_again_total",
    "Rows of changes that were read again by key",
);
pub(super) const OPERATIONS: Name = Name::new(
    "sync_es_operations_total",
    "Operations that came to their end: applied, superseded by a newer one of their key, or stored as a dead letter",
);
pub(super) const OPEN: Name = Name::new(
    "sync_es_operations_open",
    "Operations that were handed to the lanes and have not come to their end",
);
pub(super) const LEFT_OUT: Name = Name::new(
    "sync_es_values_left_out_total",
    "Values left out of documents that were sent, because Elasticsearch or JSON has no form for them",
);
pub(super) const DEAD_LETTERS: Name =
    Name::new("sync_es_dead_letters", "Keys that have a dead letter now");
pub(super) const REQUESTS: Name = Name::new(
    "sync_es_bulk_requests_total",
    "Bulk requests by what became of them: taken whole, in part, or not at all",
);
pub(super) const REQUEST_SECONDS: Name = Name::new(
    "sync_es_bulk_request_duration_seconds",
    "From sending a bulk request to its answer, or to the failure",
);
pub(super) const REQUEST_BYTES: Name = Name::new(
    "sync_es_bulk_request_bytes_total",
    "Bytes of the bodies of bulk requests",
);
pub(super) const REQUEST_OPERATIONS: Name = Name::new(
    "sync_es_bulk_request_operations_total",
    "Operations in bulk requests; one that is sent again counts again",
);
pub(super) const RETRIES: Name = Name::new(
    "sync_es_retries_total",
    "Requests around documents and dead letters that were sent again after a wait",
);
pub(super) const RETRYING: Name = Name::new(
    "sync_es_lanes_retrying",
    "Lanes whose request has failed and was not taken since; of four",
);
pub(super) const CAPACITY: Name = Name::new(
    "sync_es_capacity_ratio",
    "How much of its size and number bulk requests have at present: below 1 after an overload",
);
pub(super) const POSITION: Name = Name::new(
    "sync_es_wal_position_bytes",
    "Positions in PostgreSQL's WAL: its end, and what was received, acknowledged, stored and confirmed",
);
pub(super) const LAG_BYTES: Name = Name::new(
    "sync_es_lag_bytes",
    "From the position that Elasticsearch has acknowledged to the end of PostgreSQL's WAL",
);
pub(super) const LAG_SECONDS: Name = Name::new(
    "sync_es_lag_seconds",
    "Age of the oldest commit that Elasticsearch has not acknowledged, 0 if it has all",
);
pub(super) const LAG_TARGET: Name = Name::new(
    "sync_es_lag_target_seconds",
    "The lag above which /readyz says no",
);
pub(super) const RETAINED: Name = Name::new(
    "sync_es_slot_retained_bytes",
    "WAL that PostgreSQL keeps for the slot",
);
pub(super) const SAFE: Name = Name::new(
    "sync_es_slot_safe_bytes",
    "WAL that can still be written before the slot is in danger; absent without max_slot_wal_keep_size",
);
pub(super) const ACKNOWLEDGED_SECONDS: Name = Name::new(
    "sync_es_commit_to_acknowledged_seconds",
    "From a commit to the moment when Elasticsearch has acknowledged it and all before it",
);
pub(super) const SEARCHABLE_SECONDS: Name = Name::new(
    "sync_es_commit_to_searchable_seconds",
    "From a commit to the moment when a search found its document",
);
