//! The replication slot, and the barrier that stands in for its exported snapshot.
//!
//! A slot streams every transaction that commits at or after its consistent point; those before it
//! must be in the snapshot. The exported snapshot sees exactly them. When it is gone (a resume, or a
//! one-shot run that has no slot), an ordinary snapshot may miss a transaction whose commit is
//! written but not yet visible. So the end of every transaction that could be meant is awaited:
//! until `pg_snapshot_xmin` has reached a transaction id that was taken after the point was fixed.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, error::SqlState, types::PgLsn};

use super::{
    Error,
    lock::{LETTING_GO, PAUSE},
};
use crate::change::Lsn;

/// A slot as `pg_replication_slots` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database it belongs to.
    pub database: Option<String>,
    /// The process that streams from it.
    pub active_pid: Option<i32>,
    /// What was confirmed: changes before it are gone.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

impl Slot {
    /// Whether WAL that it needs was removed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }
}

/// Looks a slot up; `None` when there is none of that name.
///
/// # Errors
/// The query failed.
pub async fn look(client: &Client, name: &str) -> Result<Option<Slot>, Error> {
    let sql = "SELECT plugin::text, database::text, active_pid, confirmed_flush_lsn, wal_status
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text";
    let row = client
        .query_opt(sql, &[&name])
        .await
        .map_err(Error::doing(format!("looking up replication slot {name}")))?;
    Ok(row.map(|row| Slot {
        plugin: row.get(0),
        database: row.get(1),
        active_pid: row.get(2),
        confirmed_flush: row.get::<_, Option<PgLsn>>(3).map(|lsn| Lsn(lsn.into())),
        wal_status: row.get(4),
    }))
}

/// What PostgreSQL keeps for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Somebody streams from it.
    pub active: bool,
    /// What was confirmed: changes before it are gone.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL that is kept for it.
    pub retained_bytes: Option<u64>,
    /// WAL that can still be written before it is in danger of being removed; none without
    /// `max_slot_wal_keep_size`.
    pub safe_bytes: Option<i64>,
}

/// The end of the WAL, and what is kept for the slot; `None` when there is none of that name.
///
/// # Errors
/// The query failed.
pub async fn retention(client: &Client, name: &str) -> Result<(Lsn, Option<Retention>), Error> {
    let sql = "WITH w AS (SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_insert_lsn() END AS wal_end)
        SELECT w.wal_end, s.active, s.confirmed_flush_lsn, s.wal_status,
            pg_catalog.pg_wal_lsn_diff(w.wal_end, s.restart_lsn)::int8, s.safe_wal_size
        FROM w LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1::text";
    let row = client
        .query_one(sql, &[&name])
        .await
        .map_err(Error::doing(format!("looking at replication slot {name}")))?;
    let lsn = |column| {
        row.get::<_, Option<PgLsn>>(column)
            .map(|lsn| Lsn(lsn.into()))
    };
    let retention = row.get::<_, Option<bool>>(1).map(|active| Retention {
        active,
        confirmed_flush: lsn(2),
        wal_status: row.get(3),
        retained_bytes: row
            .get::<_, Option<i64>>(4)
            .map(|bytes| bytes.max(0).unsigned_abs()),
        safe_bytes: row.get(5),
    });
    Ok((lsn(0).unwrap_or_default(), retention))
}

/// Drops a slot that nobody streams from; false when there is none of that name. One whose making was
/// broken off goes by itself, a moment later.
///
/// # Errors
/// The slot is in use (55006), or the role may not.
pub async fn drop_slot(client: &Client, name: &str) -> Result<bool, Error> {
    let sql = "SELECT pg_catalog.pg_drop_replication_slot($1::text)";
    match client.execute(sql, &[&name]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(false),
        Err(error) => Err(error).map_err(Error::doing(format!("dropping replication slot {name}"))),
    }
}

/// [`drop_slot`], once whoever has just ended has let it go.
///
/// # Errors
/// The slot is still in use (55006), or the role may not.
pub async fn drop_slot_once_let_go(client: &Client, name: &str) -> Result<bool, Error> {
    let since = Instant::now();
    loop {
        match drop_slot(client, name).await {
            Err(error) if error.is_in_use() && since.elapsed() < LETTING_GO => {
                tokio::time::sleep(PAUSE).await;
            }
            dropped => return dropped,
        }
    }
}

/// A transaction id above that of every transaction that has begun. A snapshot's `xmax` would not do:
/// it is one past the last transaction that has *ended*, and one that has written its commit but
/// cannot be seen yet can be above it. On a standby it does, for what is replayed there can be seen.
///
/// # Errors
/// The query failed.
pub async fn next_transaction_id(client: &Client) -> Result<u64, Error> {
    let sql = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                 THEN pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
                 ELSE pg_catalog.pg_current_xact_id() END::text";
    transaction_id(client, sql).await
}

/// Waits until every transaction below `next_xid` has ended, and so is visible or gone. Calls `waiting`
/// now and then with the id it waits for.
///
/// # Errors
/// The query failed.
pub async fn barrier(
    client: &Client,
    next_xid: u64,
    mut waiting: impl FnMut(u64),
) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(100);
    const REPORT_EVERY: u32 = 100;
    let sql = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text";
    let mut looks = 0_u32;
    loop {
        let xmin = transaction_id(client, sql).await?;
        if xmin >= next_xid {
            return Ok(());
        }
        if looks.is_multiple_of(REPORT_EVERY) {
            waiting(xmin);
        }
        looks += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until the given transactions, taken from the stream, are visible to the next statement. A
/// commit reaches the stream when it is written; it becomes visible a moment later, with
/// synchronous replication an unbounded one.
///
/// # Errors
/// The query failed.
pub async fn until_visible(client: &Client, xids: &[u32]) -> Result<(), Error> {
    // Nearly always a moment is enough; while a synchronous standby is away, it can be hours.
    const PAUSE_MAX: Duration = Duration::from_millis(250);
    let mut pause = Duration::from_millis(2);
    let sql = "SELECT pg_catalog.pg_current_snapshot()::text";
    loop {
        let row = client
            .query_one(sql, &[])
            .await
            .map_err(Error::doing("reading the current snapshot"))?;
        let snapshot = Snapshot::parse(row.get(0));
        if snapshot.is_some_and(|snapshot| xids.iter().all(|&xid| snapshot.sees(xid))) {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

async fn transaction_id(client: &Client, sql: &str) -> Result<u64, Error> {
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(Error::doing("reading the current snapshot"))?;
    Ok(row.get::<_, &str>(0).parse().unwrap_or_default())
}

/// `pg_snapshot` in its text form `xmin:xmax:xip,…` (manual: "Transaction ID and Snapshot
/// Information Functions").
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (xmin, xmax) = (number()?, number()?);
        let running = parts
            .next()?
            .split(',')
            .filter(|id| !id.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        Some(Self {
            xmin,
            xmax,
            running,
        })
    }

    /// Whether a committed transaction is visible, by the 32 bits of its id that the stream has. It
    /// is at most 2^31 away from `xmax`, as PostgreSQL does not let ids grow further apart.
    fn sees(&self, xid: u32) -> bool {
        let ahead = xid
            .wrapping_sub(u32::try_from(self.xmax & 0xFFFF_FFFF).unwrap_or_default())
            .cast_signed();
        let id = self.xmax.saturating_add_signed(ahead.into());
        id < self.xmin || (id < self.xmax && !self.running.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_has_ended_before_it() {
        let snapshot = Snapshot::parse("10:20:10,14").unwrap();
        assert!(snapshot.sees(9) && snapshot.sees(11) && snapshot.sees(19));
        assert!(
            !snapshot.sees(10) && !snapshot.sees(14) && !snapshot.sees(20) && !snapshot.sees(1000)
        );
        assert_eq!(
            Snapshot::parse("5:5:"),
            Some(Snapshot {
                xmin: 5,
                xmax: 5,
                running: vec![]
            })
        );
        assert_eq!(Snapshot::parse("5:x:"), None);
    }

    #[test]
    fn ids_are_compared_across_a_wraparound_of_their_32_bits() {
        let epoch = 1_u64 << 32;
        let snapshot = Snapshot {
            xmin: epoch + 5,
            xmax: epoch + 5,
            running: vec![],
        };
        assert!(snapshot.sees(4) && snapshot.sees(u32::MAX));
        assert!(!snapshot.sees(5) && !snapshot.sees(6));
    }
}
