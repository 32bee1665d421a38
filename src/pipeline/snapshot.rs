//! The snapshot loop: rows in key order → operations at V0 → delivery → last acknowledged key.

use std::{
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::TryStreamExt;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    Failure, Shutdown,
    drain::{Ended, drain, lane_failure, prefer_stop},
    record::{Record, STORE_INTERVAL},
    table::Look,
    target::Target,
};
use crate::{
    change::{Action, Key, Operation, Row, Version},
    delivery::{Acknowledger, Books, Delivery, Reached, Write, Writer},
    observe::{Phase, progress::Progress},
    postgres::{
        catalog,
        rows::{self, Cursor, View},
    },
};

/// Rows of a page, at most, and their bytes on the wire: what a kill repeats beside what is in flight.
const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 512 << 10;

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
    /// Where they go.
    pub target: &'a Target,
    /// Requests in flight.
    pub lanes: usize,
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
        self.check_table(record).await?;
        failpoint!("snapshot-taken-up", Failure::Heals);
        let acknowledger = Acknowledger::new();
        let (delivery, mut lanes) = Delivery::start(&self.writer, &acknowledger, self.lanes);
        let mut course = Course::new(record, &self, &acknowledger);
        let meter = self.writer.meter();
        meter.rows_estimated(self.look.table.estimated_rows);
        meter.phase(Phase::Snapshot);
        let read = course.read.clone();
        let reading = async {
            self.read(&cursor, &delivery, &acknowledger, &read).await?;
            // Waited for here, so that the position goes on being stored meanwhile.
            delivery.drained().await;
            Ok(())
        };
        let result = tokio::select! {
            biased;
            () = shutdown.requested() => Ok(Ended::Interrupted),
            Some(ended) = lanes.join_next() => Err(lane_failure(ended)),
            result = reading => result.map(|()| Ended::Complete),
            fenced = course.keep(record) => Err(fenced),
        };
        // What is in flight is waited for, so that the stored position is as far as it can be.
        let drained = match &result {
            Err(Failure::Stop(_)) => Ok(()),
            Ok(Ended::Complete) => drain(&delivery, &mut lanes, true).await,
            _ => drain(&delivery, &mut lanes, false).await,
        };
        let result = match (result, drained) {
            // A loop that only found its lane gone: the lane says why.
            (Ok(_) | Err(Failure::Lane), Err(failure)) => Err(failure),
            (result, _) => result,
        };
        failpoint!("snapshot-drained", Failure::Heals);
        let complete = matches!(result, Ok(Ended::Complete));
        let noted = course.end(record, complete).await;
        if complete {
            noted?;
            record.store().await?;
            cursor.close().await?;
        } else {
            record.store_if_possible().await?;
        }
        match result {
            Ok(ended) => Ok(ended),
            Err(failure) => Err(prefer_stop(failure, &mut lanes).await),
        }
    }

    /// From here on the cursor's lock keeps the table as it is. A rewrite between the snapshot's point
    /// and the lock leaves a snapshot without rows, and is not in the stream either; nor are the
    /// values that a column added in between gave to every row.
    async fn check_table(&self, record: &Record) -> Result<(), Failure> {
        let table = &self.look.table;
        let now = catalog::table(self.client, &table.schema, &table.name).await?;
        let same = now
            .is_some_and(|now| now.storage == record.run.storage && now.columns == table.columns);
        if same {
            return Ok(());
        }
        Err(Failure::Heals(format!(
            "{} was changed while its snapshot was prepared",
            table.quoted()
        )))
    }

    /// Reads all rows into the lanes; returns when the last one is handed over.
    async fn read(
        &self,
        cursor: &Cursor<'_>,
        delivery: &Delivery,
        acknowledger: &Arc<Acknowledger<Key>>,
        read: &AtomicU64,
    ) -> Result<(), Failure> {
        loop {
            let mut fetched = pin!(cursor.fetch().await?);
            let mut page = Page::default();
            let mut any = false;
            while let Some(row) = fetched.try_next().await? {
                any = true;
                page.bytes += row.bytes.len();
                page.rows.push((self.look.key(&row)?, row));
                if page.is_full(self.writer.documents_max()) {
                    self.note_read(&page, read);
                    self.hand_over(mem::take(&mut page), delivery, acknowledger)
                        .await?;
                }
            }
            if !any {
                return Ok(());
            }
            self.note_read(&page, read);
            self.hand_over(page, delivery, acknowledger).await?;
        }
    }

    fn note_read(&self, page: &Page, read: &AtomicU64) {
        let rows = page.rows.len() as u64;
        read.fetch_add(rows, Ordering::Relaxed);
        self.writer.meter().rows_read(rows);
    }

    async fn hand_over(
        &self,
        page: Page,
        delivery: &Delivery,
        acknowledger: &Arc<Acknowledger<Key>>,
    ) -> Result<(), Failure> {
        let Some((last, _)) = page.rows.last() else {
            return Ok(());
        };
        let last = last.clone();
        let share = delivery.admit(page.rows.len(), page.bytes).await;
        let ticket = acknowledger.begin();
        acknowledger.add(ticket, page.rows.len() as u64);
        let writes = page.rows.into_iter().map(|(key, row)| Write {
            operation: Operation {
                key,
                version: self.version,
                action: Action::Index(row),
            },
            layout: self.look.layout.clone(),
            ticket,
            share: share.clone(),
        });
        // The table has each key once, and nothing else is written meanwhile.
        delivery.submit_page(writes.collect()).await?;
        acknowledger.seal(ticket, last);
        failpoint!("page-handed-over", Failure::Heals);
        Ok(())
    }
}

/// Rows that are handed over and acknowledged together.
#[derive(Default)]
struct Page {
    rows: Vec<(Key, Row)>,
    /// Their bytes on the wire.
    bytes: usize,
}

impl Page {
    /// It is one request if it can be, so that it is acknowledged with its first answer.
    fn is_full(&self, documents_max: usize) -> bool {
        self.rows.len() >= PAGE_ROWS.min(documents_max) || self.bytes >= PAGE_BYTES
    }
}

/// How far the snapshot is: in the record, whose counts go on where an earlier process left them,
/// and before a person's eyes.
struct Course<'a> {
    target: &'a Target,
    /// Rows read by this process.
    read: Arc<AtomicU64>,
    /// Everything up to this key is resolved.
    reached: watch::Receiver<Option<Reached<Key>>>,
    /// The books up to the key in the record.
    counted: Books,
    progress: Progress,
    shown: u64,
}

impl<'a> Course<'a> {
    fn new(record: &Record, snapshot: &Snapshot<'a>, acknowledger: &Acknowledger<Key>) -> Self {
        Self {
            target: snapshot.target,
            read: Arc::default(),
            reached: acknowledger.reached(),
            counted: Books::default(),
            progress: Progress::start(
                "snapshot",
                snapshot.look.table.estimated_rows,
                record.run.n_input_records,
            ),
            shown: 0,
        }
    }

    /// Shows and stores it now and then, until it may not be stored any more.
    async fn keep(&mut self, record: &mut Record) -> Failure {
        let mut ticks = tokio::time::interval(STORE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.show();
            match self.note(record).await {
                Ok(true) => {
                    failpoint!("snapshot-position-reached");
                    if let Err(failure) = record.store_if_possible().await {
                        return failure;
                    }
                    failpoint!("snapshot-position-stored");
                }
                Ok(false) => {}
                // The lanes meet the same trouble, and wait.
                Err(Failure::Heals(trouble)) => tracing::debug!(trouble, "looking at the index"),
                Err(failure) => return failure,
            }
        }
    }

    async fn end(mut self, record: &mut Record, complete: bool) -> Result<bool, Failure> {
        self.show();
        let noted = self.note(record).await;
        self.progress.finish(complete);
        noted
    }

    fn show(&mut self) {
        let read = self.read.load(Ordering::Relaxed);
        self.progress.advance(read - self.shown);
        self.shown = read;
    }

    /// Writes the position into the record, unless the index cannot be trusted with it; true when it
    /// has moved.
    async fn note(&mut self, record: &mut Record) -> Result<bool, Failure> {
        let Some(Reached { position, books }) = self.reached.borrow().clone() else {
            return Ok(false);
        };
        let key = Some(position.to_string());
        if record.run.last_synced_item == key {
            return Ok(false);
        }
        self.target.check().await?;
        record.count(books.since(&self.counted));
        self.counted = books;
        record.run.last_synced_item = key;
        Ok(true)
    }
}
