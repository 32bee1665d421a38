//! The snapshot loop: rows in key order → operations at V0 → delivery → last acknowledged key.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{
    Failure, Shutdown,
    record::{Record, STORE_INTERVAL},
    table::Look,
};
use crate::{
    change::{Action, Key, Operation, Version},
    delivery::{Acknowledger, Counters, Delivery, Write, Writer, wire_bytes},
    observe::progress::Progress,
    postgres::rows::{self, Cursor, View},
    stop::Stop,
};

/// Rows that are acknowledged together: what a kill repeats, at most, beside what is in flight.
const PAGE_ROWS: u64 = 500;
/// How long requests in flight may take to be answered when the program is asked to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// How far the snapshot is: everything up to this key is resolved.
#[derive(Debug, Clone)]
struct Mark {
    key: Key,
    /// Rows read by this process up to and with the key.
    rows: u64,
}

/// What the snapshot works with.
pub(super) struct Snapshot<'a> {
    /// The session that the cursor is opened in.
    pub client: &'a tokio_postgres::Client,
    /// The table.
    pub look: Arc<Look>,
    /// The exported snapshot of a new slot, or one taken after the barrier.
    pub view: View<'a>,
    /// V0.
    pub version: Version,
    /// Rows a fetch.
    pub fetch_rows: u32,
    /// The way to Elasticsearch.
    pub writer: Arc<Writer>,
    /// What the writer has counted.
    pub counters: Arc<Counters>,
    /// Requests in flight.
    pub lanes: usize,
}

/// How a loop ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All is done.
    Complete,
    /// The program was asked to end; the position is stored.
    Interrupted,
}

impl Snapshot<'_> {
    /// Copies every row after the record's last acknowledged key, and stores how far it is: now and
    /// then, and however it ends.
    ///
    /// # Errors
    /// Either end failed; the record holds the position to resume from.
    pub(super) async fn copy(
        self,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let after = record.run.last_synced_item.as_deref().map(Key::new);
        let cursor = rows::open(
            self.client,
            &self.look.query,
            self.view,
            after.as_ref(),
            self.fetch_rows,
        )
        .await?;
        let acknowledger = Acknowledger::new();
        let (delivery, mut lanes) = Delivery::start(&self.writer, &acknowledger, self.lanes);
        let read = AtomicU64::new(0);
        let mut tally = Tally::new(record, &self.counters);
        let mut shown = 0;
        let mut progress =
            Progress::start(self.look.table.estimated_rows, record.run.n_input_records);
        let reached = acknowledger.reached();
        let result = {
            let mut reading = pin!(self.read(&cursor, &delivery, &acknowledger, &read));
            let mut ticks = tokio::time::interval(STORE_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => break Ok(Ended::Interrupted),
                    Some(ended) = lanes.join_next() => break Err(lane_failure(ended)),
                    result = &mut reading => break result.map(|()| Ended::Complete),
                    _ = ticks.tick() => {
                        let now = read.load(Ordering::Relaxed);
                        progress.advance(now - shown);
                        shown = now;
                        if tally.note(record, reached.borrow().as_ref()) {
                            record.store_if_possible().await?;
                        }
                    }
                }
            }
        };
        // Whatever happened, what is in flight is waited for, so that the stored position is as far as it can be.
        let result = match drain(&delivery, &mut lanes, matches!(result, Ok(Ended::Complete))).await
        {
            Ok(()) => result,
            Err(failure) => result.and(Err(failure)),
        };
        progress.advance(read.load(Ordering::Relaxed) - shown);
        progress.finish(matches!(result, Ok(Ended::Complete)));
        tally.note(record, reached.borrow().as_ref());
        match result {
            Ok(Ended::Interrupted) => {
                record.store_if_possible().await?;
                Ok(Ended::Interrupted)
            }
            Ok(ended) => {
                record.store().await?;
                cursor.close().await?;
                Ok(ended)
            }
            Err(failure) => {
                record.store_if_possible().await?;
                Err(prefer_stop(failure, &mut lanes).await)
            }
        }
    }

    /// Reads all rows into the lanes; returns when the last one is handed over.
    async fn read(
        &self,
        cursor: &Cursor<'_>,
        delivery: &Delivery,
        acknowledger: &Arc<Acknowledger<Mark>>,
        read: &AtomicU64,
    ) -> Result<(), Failure> {
        let mut page = None;
        let mut last = None;
        loop {
            let mut fetched = pin!(cursor.fetch().await?);
            let mut any = false;
            while let Some(row) = fetched.try_next().await? {
                any = true;
                let key = row.key().map_err(|error| {
                    Stop::Unexpected(format!(
                        "a row of {} has no usable key: {error}",
                        self.look.table.quoted()
                    ))
                })?;
                let operation = Operation {
                    key: key.clone(),
                    version: self.version,
                    action: Action::Index(row),
                };
                let share = delivery.admit(wire_bytes(&operation)).await;
                let ticket = *page.get_or_insert_with(|| acknowledger.begin());
                acknowledger.add(ticket, 1);
                delivery
                    .submit(Write {
                        operation,
                        layout: self.look.layout.clone(),
                        ticket,
                        share,
                    })
                    .await?;
                let rows = read.fetch_add(1, Ordering::Relaxed) + 1;
                let mark = Mark { key, rows };
                if rows.is_multiple_of(PAGE_ROWS) {
                    acknowledger.seal(ticket, mark);
                    page = None;
                } else {
                    last = Some(mark);
                }
            }
            if !any {
                break;
            }
        }
        if let (Some(ticket), Some(mark)) = (page, last) {
            acknowledger.seal(ticket, mark);
        }
        Ok(())
    }
}

/// Run metadata's counts, which go on where an earlier process left them.
struct Tally {
    base_input: u64,
    base_output: u64,
    counters: Arc<Counters>,
}

impl Tally {
    fn new(record: &Record, counters: &Arc<Counters>) -> Self {
        Self {
            base_input: record.run.n_input_records,
            base_output: record.run.n_output_records,
            counters: counters.clone(),
        }
    }

    /// Writes the position into the record; true when it has moved.
    fn note(&mut self, record: &mut Record, mark: Option<&Mark>) -> bool {
        let Some(mark) = mark else { return false };
        let run = &mut record.run;
        let refused = self.counters.dead_letters.load(Ordering::Relaxed);
        run.n_input_records = self.base_input + mark.rows;
        run.n_output_records = self.base_output + mark.rows.saturating_sub(refused);
        let key = Some(mark.key.to_string());
        let moved = run.last_synced_item != key;
        run.last_synced_item = key;
        moved
    }
}

/// Waits for requests in flight: as long as it takes, or a while when the program is to end.
pub(super) async fn drain(
    delivery: &Delivery,
    lanes: &mut JoinSet<Result<(), Stop>>,
    to_the_end: bool,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        Some(ended) = lanes.join_next() => Err(lane_failure(ended)),
        () = delivery.drained() => Ok(()),
        () = tokio::time::sleep(DRAIN), if !to_the_end => Ok(()),
    }
}

/// Why a lane has ended.
pub(super) fn lane_failure(ended: Result<Result<(), Stop>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(stop)) => Failure::Stop(stop),
        Ok(Ok(())) => Failure::Lane,
        Err(panicked) => Failure::Stop(Stop::Unexpected(format!("a lane ended: {panicked}"))),
    }
}

/// A loop that found its lane gone only knows that; the lane's own result says why.
pub(super) async fn prefer_stop(
    failure: Failure,
    lanes: &mut JoinSet<Result<(), Stop>>,
) -> Failure {
    match failure {
        Failure::Lane => match lanes.join_next().await {
            Some(ended) => lane_failure(ended),
            None => Failure::Lane,
        },
        other => other,
    }
}
