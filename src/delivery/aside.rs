//! Refused documents: stored as dead letters, bounded, and cleared when their keys are good again.
//!
//! A refused operation counts as resolved only once its letter is stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{
    Retry, Ticket, WriterOptions,
    refusals::{Refusals, TooMany},
    request::Refusal,
    retry::jittered,
};
use crate::{
    change::{Key, Operation, Version},
    elasticsearch::{DeadLetter, DeadLetters, RecordsError},
    observe::{Meter, Retrying},
    stop::Stop,
};

/// What happens to a document that Elasticsearch refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// It is stored as a dead letter, while there are fewer keys with one than this.
    SetAside {
        /// Keys that may have a dead letter.
        limit: usize,
    },
    /// The program stops.
    Stop,
}

/// Keeps what Elasticsearch refuses as dead letters, and clears those whose keys are good again.
#[derive(Debug)]
pub struct Aside {
    dead_letters: DeadLetters,
    refusals: Mutex<Refusals>,
    on_refusal: OnRefusal,
    retry: Retry,
    meter: Arc<Meter>,
    run: u64,
}

impl Aside {
    /// `letters` are the keys that have a dead letter now.
    pub(super) fn new(
        dead_letters: DeadLetters,
        letters: HashMap<Key, Version>,
        options: &WriterOptions,
    ) -> Self {
        options.meter.dead_letters(letters.len());
        let limit = match options.on_refusal {
            OnRefusal::SetAside { limit } => limit,
            OnRefusal::Stop => 0,
        };
        Self {
            dead_letters,
            refusals: Mutex::new(Refusals::new(limit, letters)),
            on_refusal: options.on_refusal,
            retry: options.retry,
            meter: options.meter.clone(),
            run: options.run,
        }
    }

    /// How many dead letters there are of this version or a newer one, and the first of them: what a
    /// one-shot run was refused, also by an earlier process of the same run.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn refused_at(
        &self,
        version: Option<Version>,
    ) -> Result<Option<(u64, DeadLetter)>, RecordsError> {
        let mut pages = self.dead_letters.letters().await?;
        let (mut count, mut first) = (0, None);
        while let Some(page) = pages.next().await? {
            for letter in page
                .into_iter()
                .filter(|letter| Some(letter.version) >= version)
            {
                count += 1;
                first.get_or_insert(letter);
            }
        }
        Ok(first.map(|first| (count, first)))
    }

    /// Whether the operation's key has a letter that is older than the operation.
    pub(super) fn holds_older(&self, operation: &Operation) -> bool {
        self.refusals().hold_older(operation)
    }

    /// So many documents were taken.
    pub(super) fn taken(&self, documents: usize) {
        self.refusals().taken(documents);
    }

    /// Stores refused operations as dead letters, and only then counts them as resolved.
    pub(super) async fn set_aside(&self, mut refused: Vec<Refusal>) -> Result<Vec<Ticket>, Stop> {
        let Some(first) = refused.first() else {
            return Ok(Vec::new());
        };
        let (key, reason) = first.told();
        if self.on_refusal == OnRefusal::Stop {
            return Err(Stop::Refused { key, reason });
        }
        let too_many = self.too_many(&mut refused);
        if !refused.is_empty() {
            tracing::warn!(
                documents = refused.len(),
                key,
                reason,
                "documents refused, setting them aside as dead letters; the first is named"
            );
        }
        let letters: Vec<DeadLetter> = refused
            .iter()
            .map(|refusal| refusal.letter(self.run, Timestamp::now()))
            .collect();
        failpoint!("dead-letters-to-be-stored");
        let mut attempt = 0;
        let mut retrying = None;
        while let Err(error) = self.dead_letters.store(&letters).await {
            attempt += 1;
            // The one before goes first: a lane counts once.
            drop(retrying.take());
            retrying = Some(self.retrying(attempt, &error));
            self.pause(attempt, &error).await?;
        }
        drop(retrying);
        failpoint!("dead-letters-stored");
        self.meter.ended(0, 0, letters.len());
        let mut refusals = self.refusals();
        refusals.stored(letters.iter().map(|letter| &letter.key));
        self.meter.dead_letters(refusals.count());
        drop(refusals);
        match too_many {
            None => Ok(refused.iter().map(|refusal| refusal.write.ticket).collect()),
            Some(stop) => Err(stop),
        }
    }

    /// Leaves those that may be set aside, and says why the others may not.
    fn too_many(&self, refused: &mut Vec<Refusal>) -> Option<Stop> {
        let mut refusals = self.refusals();
        let (place, too_many) = refused.iter().enumerate().find_map(|(place, refusal)| {
            let operation = &refusal.write.operation;
            let counted = refusals.refused(operation, &refusal.kind, &refusal.reason);
            counted.err().map(|too_many| (place, too_many))
        })?;
        let (key, reason) = refused[place].told();
        refused.truncate(place);
        let index = self.dead_letters.index();
        let found = match too_many {
            TooMany::Limit(limit) => {
                format!("{limit} keys have dead letters in {index}, and there is another")
            }
            TooMany::Alike(run) => {
                format!("{run} documents were refused alike, and hardly any was taken meanwhile")
            }
        };
        Some(Stop::TooManyRefused { found, key, reason })
    }

    /// Looks whether somebody else has removed letters, or had their documents tried again.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn look_again(&self) -> Result<(), RecordsError> {
        // Most looks end with a number.
        let count = self.refusals().count() as u64;
        if count == 0 || self.dead_letters.count_seen().await? >= count {
            return Ok(());
        }
        let known = self.refusals().known();
        let found = self.dead_letters.keys().await?;
        let mut refusals = self.refusals();
        refusals.removed(&known, &found);
        self.meter.dead_letters(refusals.count());
        Ok(())
    }

    /// Clears the dead letters that are older than this version: the table was emptied, or read whole,
    /// and what was refused before is of no row any more.
    pub async fn clear_older(&self, version: Version) {
        let older = self.refusals().older_than(version);
        let gone = older.into_iter().map(|key| (key, version));
        self.clear(gone.collect()).await;
    }

    /// Clears the dead letters of keys whose document is good again. One that cannot be cleared now
    /// stays until the key's next change, or until a person purges it.
    pub(super) async fn clear(&self, mended: Vec<(Key, Version)>) {
        if mended.is_empty() {
            return;
        }
        match self.dead_letters.clear(&mended).await {
            Ok(()) => {
                failpoint!("dead-letters-cleared");
                let mut refusals = self.refusals();
                refusals.cleared(&mended);
                self.meter.dead_letters(refusals.count());
            }
            Err(error) => {
                tracing::warn!(%error, keys = mended.len(), "dead letters of documents that are good again could not be cleared");
            }
        }
    }

    fn retrying(&self, attempt: u32, error: &RecordsError) -> Retrying {
        let trouble = format!("storing dead letters: {error}");
        self.meter
            .retrying(self.retry.waits_longest(attempt), &trouble)
    }

    /// Waits before the letters are stored again, or gives up.
    async fn pause(&self, attempt: u32, error: &RecordsError) -> Result<(), Stop> {
        let Some(backoff) = self.retry.wait(attempt) else {
            return Err(Stop::RetriesExhausted {
                attempts: attempt,
                cause: format!("storing dead letters: {error}"),
            });
        };
        let wait = jittered(backoff, fastrand::f64(), None);
        tracing::warn!(
            %error,
            attempt,
            wait_seconds = wait.as_secs_f64(),
            "dead letters cannot be stored: nothing after them is confirmed until they are"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
