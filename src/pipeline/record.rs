//! The run's own record, kept in Elasticsearch beside the data: it is stored before anything that
//! rests on it is done, and confirmed to nobody before it is stored.

use std::time::Duration;

use super::Failure;
use crate::{
    change::Lsn,
    delivery::{Books, Retry},
    elasticsearch::{RecordsError, Run, RunWriter},
    stop::Stop,
};

/// The record and the way to store it.
#[derive(Debug)]
pub(super) struct Record {
    writer: RunWriter,
    /// How requests around the record are repeated.
    pub retry: Retry,
    /// What is stored next.
    pub run: Run,
}

impl Record {
    /// A record to be stored through `writer`, under its number.
    #[must_use]
    pub(super) fn new(writer: RunWriter, mut run: Run, retry: Retry) -> Self {
        run.number = writer.number();
        Self { writer, retry, run }
    }

    /// How far the run is: what a resume would go on from.
    #[must_use]
    pub(super) fn position(&self) -> (Option<Lsn>, Option<String>) {
        (self.run.acknowledged_lsn, self.run.last_synced_item.clone())
    }

    /// Enters operations that came and ended. What came is counted apart from what became of it, so
    /// that the two can be held against each other.
    pub(super) fn count(&mut self, books: Books) {
        self.run.n_input_records += books.operations;
        self.run.n_output_records += books.delivered;
        self.run.n_dead_letters += books.refused;
    }

    /// Stores the record; tries again while the trouble is one that heals, as often as the retry
    /// settings say.
    ///
    /// # Errors
    /// Another instance has written it, or it cannot be stored.
    pub(super) async fn store(&mut self) -> Result<(), Failure> {
        let mut attempt = 0;
        while let Err(error) = self.save().await {
            attempt += 1;
            of_save(error)
                .wait(self.retry, attempt, "storing run metadata")
                .await?;
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), RecordsError> {
        self.run.updated_at = jiff::Timestamp::now();
        self.writer.save(&self.run).await
    }

    /// Stores the record once; a trouble that heals is left to the next time.
    ///
    /// # Errors
    /// Another instance has written it.
    pub(super) async fn store_if_possible(&mut self) -> Result<(), Failure> {
        match self.save().await.map_err(of_save) {
            Err(Failure::Heals(trouble)) => {
                tracing::warn!(trouble, "run metadata could not be stored now");
            }
            other => other?,
        }
        Ok(())
    }
}

impl From<RecordsError> for Failure {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Fenced { .. } => Self::Stop(Stop::Fenced(error.to_string())),
            error if error.heals() => Self::Heals(error.to_string()),
            error => Self::Stop(Stop::Elasticsearch(error.to_string())),
        }
    }
}

/// What a save that failed means once the program is at work: a right that was withdrawn or a block
/// that was set is waited for, as it is for documents.
fn of_save(error: RecordsError) -> Failure {
    match error {
        RecordsError::Request(error) => Failure::Heals(error.to_string()),
        error => error.into(),
    }
}

/// How often a moving position is stored: what a crash repeats is bounded by it.
pub(super) const STORE_INTERVAL: Duration = Duration::from_millis(500);
