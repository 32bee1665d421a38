//! A lost slot, healed in place: the changes that it would have streamed are found by comparison.
//!
//! There is a new slot, and nothing streams from it yet. Every document that is not its row's is written
//! at the version of a snapshot at the slot's consistent point, and deleted where there is no row: above
//! all that was written of older commits, below all that the slot will stream. The barrier has been
//! passed, so every commit before the point is seen; what is seen of later ones comes again from the slot,
//! as behind a resumed snapshot. What is equal is not written, so an index of which little has changed
//! costs a comparison and no load.

use std::sync::Arc;

use super::{Attempt, LANES, snapshot_version};
use crate::{
    change::{Action, Key, Operation, Row, Version},
    delivery::{Books, Writer},
    elasticsearch::Phase,
    observe::{self, progress::Progress},
    pipeline::{
        Failure, Shutdown,
        comparison::Comparison,
        drain::Ended,
        job::Role,
        mending::Mending,
        record::Record,
        refill::{BYTES_TOGETHER, Together},
    },
    postgres::pages::{Pages, Range},
};

impl Attempt<'_> {
    /// What the lost slot would have streamed is found by comparison; it begins with a new slot, unless
    /// that is `slot_made`.
    pub(super) async fn heal(
        &self,
        slot_made: bool,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let why = match self.job.role {
            Role::Serve { .. } => "the slot was lost",
            Role::Rebuild { .. } => "nothing has streamed into it for a while",
        };
        tracing::warn!(
            slot = self.job.names.slot,
            "{why}: comparing the index with the table, and mending what differs"
        );
        if !slot_made {
            let drop_slot = self.facts.slot.is_some();
            let made = self.make_slot(Phase::Heal, drop_slot, record, shutdown);
            if made.await?.is_none() {
                return Ok(Ended::Interrupted);
            }
        }
        if self.barrier(record, shutdown).await? == Ended::Interrupted {
            return Ok(Ended::Interrupted);
        }
        self.job.meter.phase(observe::Phase::Heal);
        let version = snapshot_version(record)?;
        self.writer.raise_bound(version);
        let heal = Heal {
            comparison: Comparison {
                session: self.table.session(),
                look: self.table.look().await,
                index: self.target.index.clone(),
                server: self.elasticsearch.clone(),
                retry: self.job.retry,
            },
            writer: &self.writer,
            version,
        };
        let (ended, mended) = heal.carry_out(shutdown).await?;
        if ended == Ended::Complete {
            self.writer.aside().clear_older(version).await;
            // Its rows are newer than its point.
            record.run.read_ahead_to = Some(self.wal_end().await?);
            record.count(mended.books);
            record.run.sync_finished = true;
            record.run.phase = Phase::Stream;
            record.store().await?;
            tracing::info!(
                written = mended.written,
                deleted = mended.deleted,
                "the index is mended, going on with the new slot"
            );
        }
        Ok(ended)
    }
}

/// What is compared, and how what differs is mended.
struct Heal<'a> {
    /// Table and index.
    comparison: Comparison<'a>,
    /// The way into the index.
    writer: &'a Arc<Writer>,
    /// The version that all mended documents carry.
    version: Version,
}

/// What was mended.
#[derive(Debug, Default)]
struct Mended {
    /// Documents that were written.
    written: u64,
    /// Documents that were deleted.
    deleted: u64,
    /// What came of both.
    books: Books,
}

impl Heal<'_> {
    /// Compares all, and mends what differs.
    ///
    /// # Errors
    /// One of the ends cannot be asked, or delivery has stopped.
    async fn carry_out(&self, shutdown: &Shutdown) -> Result<(Ended, Mended), Failure> {
        let layout = self.comparison.look.layout.clone();
        let mending = Mending::start(self.writer, LANES, layout);
        let mut mended = Mended::default();
        let compared = self.compare(&mending, shutdown, &mut mended).await;
        mended.books = mending.end(matches!(compared, Ok(Ended::Complete))).await?;
        Ok((compared?, mended))
    }

    async fn compare(
        &self,
        mending: &Mending,
        shutdown: &Shutdown,
        mended: &mut Mended,
    ) -> Result<Ended, Failure> {
        if self.rows(mending, shutdown, mended).await? == Ended::Interrupted {
            return Ok(Ended::Interrupted);
        }
        self.documents(mending, shutdown, mended).await
    }

    async fn rows(
        &self,
        mending: &Mending,
        shutdown: &Shutdown,
        mended: &mut Mended,
    ) -> Result<Ended, Failure> {
        let Comparison { session, look, .. } = &self.comparison;
        let mut pages = Pages::new(&session.client, &look.query, Range::default());
        let mut together = Together::default();
        let mut progress = Progress::start("healing", look.table.estimated_rows, 0);
        let mut page = pages.next(together.rows(), BYTES_TOGETHER).await?;
        while !page.is_empty() {
            if shutdown.is_requested() {
                return Ok(Ended::Interrupted);
            }
            together.came(page.len(), page.iter().map(|row| row.bytes.len()).sum());
            // The next rows are read while these documents are.
            let (suspects, next) = tokio::join!(
                self.comparison.suspects_among(&page),
                pages.next(together.rows(), BYTES_TOGETHER)
            );
            let compared = page.len() as u64;
            let writes = self.writes(page, &suspects?)?;
            mended.written += writes.len() as u64;
            mending.submit(writes).await?;
            progress.advance(compared);
            page = next?;
        }
        progress.finish(true);
        Ok(Ended::Complete)
    }

    /// Those of the rows whose document is not theirs.
    fn writes(&self, rows: Vec<Row>, suspects: &[Key]) -> Result<Vec<Operation>, Failure> {
        let mut operations = Vec::with_capacity(suspects.len());
        for row in rows {
            let key = self.comparison.look.key(&row)?;
            if suspects.contains(&key) {
                operations.push(self.operation(key, Action::Index(row)));
            }
        }
        Ok(operations)
    }

    async fn documents(
        &self,
        mending: &Mending,
        shutdown: &Shutdown,
        mended: &mut Mended,
    ) -> Result<Ended, Failure> {
        let Comparison { index, server, .. } = &self.comparison;
        let mut documents = index.documents(server.distribution, None).await?;
        while let Some(page) = documents.next().await? {
            if shutdown.is_requested() {
                return Ok(Ended::Interrupted);
            }
            let keys = page.into_iter().map(|(key, _)| key).collect();
            let gone = self.comparison.without_row(keys).await?;
            mended.deleted += gone.len() as u64;
            let deletes = gone
                .into_iter()
                .map(|key| self.operation(key, Action::Delete));
            mending.submit(deletes.collect()).await?;
        }
        Ok(Ended::Complete)
    }

    fn operation(&self, key: Key, action: Action) -> Operation {
        Operation {
            key,
            version: self.version,
            action,
        }
    }
}
