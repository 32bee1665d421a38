//! What the meter cannot see by itself while an attempt goes on: what Elasticsearch has acknowledged,
//! at the moment when it has; when searches find it; and how PostgreSQL keeps the slot.
//!
//! When a search finds a document is asked by a search: every few seconds for one document that was
//! just acknowledged, until its version is found. That costs a request in a while, and no refresh.

use std::{convert::Infallible, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{job::Job, tail::Shared};
use crate::{
    change::{Action, Key, Lsn, Operation, Version},
    delivery::Reached,
    observe::{Meter, SlotState},
    postgres::{Error, Session, slot},
};

/// Between two looks at the slot.
const INTERVAL: Duration = Duration::from_secs(5);

/// It warns when the slot keeps more than so many percent of the WAL that it may keep.
const WARN_ABOVE: u64 = 50;
/// After a warning, the slot must be down to so many percent before it warns again.
const WARN_AGAIN_BELOW: u64 = 40;

/// Between two documents that are sought.
const SEEK_EVERY: Duration = Duration::from_secs(10);
/// Between two searches for one, at first; then a twentieth of the time that it has taken.
const SEEK_PAUSE: Duration = Duration::from_millis(50);
/// A document that is not found by then was refused, or is deleted again.
const SEEK_LIMIT: Duration = Duration::from_mins(2);

/// A document of a commit.
#[derive(Debug)]
pub(super) struct Sought {
    key: Key,
    version: Version,
    /// Where the commit ends.
    end: Lsn,
    /// When it was made, in microseconds since 1970 by PostgreSQL's clock.
    at: i64,
}

impl Sought {
    /// Offers the last document of a transaction, if one is wanted now.
    pub(super) fn offer(to: &mpsc::Sender<Self>, operations: &[Operation], end: Lsn, at: i64) {
        let Ok(room) = to.try_reserve() else {
            return;
        };
        let Some(last) = operations.last() else {
            return;
        };
        if matches!(last.action, Action::Index(_)) {
            room.send(Self {
                key: last.key.clone(),
                version: last.version,
                end,
                at,
            });
        }
    }
}

/// Measures while the stream goes on.
pub(super) async fn measure(shared: &Shared, offered: mpsc::Receiver<Sought>) -> Infallible {
    tokio::select! {
        never = acknowledged(shared) => never,
        never = searchable(shared, offered) => never,
    }
}

/// Seeks one document after the other.
async fn searchable(shared: &Shared, mut offered: mpsc::Receiver<Sought>) -> Infallible {
    while let Some(sought) = offered.recv().await {
        // One that is given up counts as nothing.
        let _ = tokio::time::timeout(SEEK_LIMIT, seek(shared, &sought)).await;
        tokio::time::sleep(SEEK_EVERY).await;
        // What was offered meanwhile has been there for long.
        while offered.try_recv().is_ok() {}
    }
    // The sender lives in `shared`.
    std::future::pending().await
}

async fn seek(shared: &Shared, sought: &Sought) {
    let tail = &shared.tail;
    let acknowledged = |reached: &Option<Reached<Lsn>>| {
        reached.is_some_and(|reached| reached.position >= sought.end)
    };
    let mut reached = shared.acknowledger.reached();
    // The sender lives in `shared`, so this cannot fail.
    let _ = reached.wait_for(acknowledged).await;
    let began = Instant::now();
    loop {
        match tail.target.index.found(&sought.key).await {
            Ok(Some(version)) if version >= sought.version => break,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "seeking a document"),
        }
        tokio::time::sleep(SEEK_PAUSE.max(began.elapsed() / 20)).await;
    }
    tail.writer.meter().found(sought.at);
}

/// Tells the meter of each position as it is reached, not only when it is stored.
async fn acknowledged(shared: &Shared) -> Infallible {
    let mut reached = shared.acknowledger.reached();
    while reached.changed().await.is_ok() {
        if let Some(reached) = *reached.borrow_and_update() {
            shared.tail.writer.meter().reached(reached.position.0);
        }
    }
    // The sender lives in `shared`.
    std::future::pending().await
}

/// Looks at the slot and at the WAL's end now and then, and warns when the slot comes near its loss. What
/// cannot be asked is no failure here: whoever needs the answer meets the same trouble.
pub(super) async fn slot(job: &Job, session: &Session) -> Infallible {
    let name = &job.names.slot;
    let mut warned = false;
    loop {
        match look(&job.meter, session, name).await {
            Ok(slot) => warned = slot.is_some_and(|slot| warn(name, &slot, warned)),
            Err(error) => tracing::debug!(%error, "looking at the slot"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Warns once when more than half of the limit is kept for the slot, and again only after it was
/// well below; gives whether it has warned.
fn warn(name: &str, slot: &SlotState, warned: bool) -> bool {
    let Some(kept) = kept_percent(slot) else {
        return false;
    };
    if kept > WARN_ABOVE && !warned {
        tracing::warn!(
            slot = name,
            retained_bytes = slot.retained_bytes,
            safe_bytes = slot.safe_bytes,
            wal_status = slot.wal_status,
            "PostgreSQL keeps more than half of the WAL that it may for the slot (max_slot_wal_keep_size): at the limit the slot is lost"
        );
    }
    kept > WARN_ABOVE || (warned && kept > WARN_AGAIN_BELOW)
}

/// How much of the WAL that PostgreSQL may keep for the slot is kept, in percent; none without a limit.
fn kept_percent(slot: &SlotState) -> Option<u64> {
    let retained = slot.retained_bytes?;
    let safe = slot.safe_bytes?.max(0).unsigned_abs();
    // So little WAL that a hundredth of it is 0 is no danger.
    let hundredth = retained.saturating_add(safe) / 100;
    Some(retained.checked_div(hundredth).unwrap_or(0))
}

async fn look(meter: &Meter, session: &Session, name: &str) -> Result<Option<SlotState>, Error> {
    let (wal_end, found) = slot::retention(&session.client, name).await?;
    let slot = found.map(|found| SlotState {
        wal_status: found.wal_status,
        retained_bytes: found.retained_bytes,
        safe_bytes: found.safe_bytes,
    });
    meter.postgres_seen(wal_end.0, slot.clone());
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_once_when_half_of_the_limit_is_kept_and_again_after_it_was_well_below() {
        let at = |retained, safe| SlotState {
            wal_status: None,
            retained_bytes: Some(retained),
            safe_bytes: safe,
        };
        let warned = |slot, warned| warn("s", &slot, warned);
        assert!(!warned(at(50, Some(50)), false));
        assert!(warned(at(51, Some(49)), false));
        assert!(warned(at(110, Some(-10)), false), "past the limit");
        // Between the two marks it stays as it was.
        assert!(warned(at(45, Some(55)), true));
        assert!(!warned(at(45, Some(55)), false));
        assert!(!warned(at(40, Some(60)), true));
        assert!(!warned(at(1 << 40, None), false), "no limit");
    }
}
