//! For how long PostgreSQL keeps WAL for a slot, and what it keeps now: what the disk can run full
//! of, and what a slot can be lost by.

use tokio_postgres::Client;

use super::{Error, catalog::Server};

/// The first version that says why a slot was invalidated.
const TELLS_INVALIDATION: u32 = 170_000;

/// The limits, and what a slot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `max_slot_wal_keep_size` in bytes; `None` when there is no limit.
    pub keep_bytes_max: Option<u64>,
    /// `idle_replication_slot_timeout` as PostgreSQL writes it, where it is in force (18 and newer).
    pub idle_timeout: Option<String>,
    /// What the slot keeps; `None` when there is no slot of that name.
    pub kept: Option<Kept>,
}

/// The WAL that is kept for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Bytes from what it needs to the WAL's end; `None` when it has lost what it needs.
    pub bytes: Option<u64>,
    /// `pg_replication_slots.safe_wal_size`: bytes that can still be written before it is in danger.
    pub safe_bytes: Option<i64>,
    /// Why it was invalidated (17 and newer).
    pub invalidation: Option<String>,
}

/// Looks at the limits, and at a slot.
///
/// # Errors
/// A query failed.
pub async fn look(client: &Client, server: &Server, slot: &str) -> Result<Retention, Error> {
    const LIMITS: &str = "SELECT (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
            NULLIF(pg_catalog.current_setting('idle_replication_slot_timeout', true), '0')";
    let doing = || Error::doing(format!("looking at the WAL kept for slot {slot}"));
    let limits = client.query_one(LIMITS, &[]).await.map_err(doing())?;
    let reason = if server.version >= TELLS_INVALIDATION {
        "invalidation_reason"
    } else {
        "NULL::text"
    };
    let sql = format!(
        "SELECT (pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn))::int8, safe_wal_size, {reason}
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text"
    );
    let kept = client.query_opt(&sql, &[&slot]).await.map_err(doing())?;
    let megabytes: i64 = limits.get(0);
    Ok(Retention {
        // -1 is no limit.
        keep_bytes_max: u64::try_from(megabytes).ok().map(|limit| limit << 20),
        idle_timeout: limits.get(1),
        kept: kept.map(|row| Kept {
            bytes: row
                .get::<_, Option<i64>>(0)
                .map(|bytes| bytes.try_into().unwrap_or_default()),
            safe_bytes: row.get(1),
            invalidation: row.get(2),
        }),
    })
}
