//! Positions: stored first, confirmed second, and never the other way round.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{
    Failure,
    generation::previous_alias,
    job::Role,
    record::{Record, STORE_INTERVAL},
    tail::{AliasSwitch, Shared, Tail},
};
use crate::{
    change::Lsn,
    delivery::{Books, Reached},
    elasticsearch::{Move, swap_alias},
};

/// Stores positions, then lets them be confirmed.
pub(super) struct Keeper<'a> {
    shared: &'a Shared,
    tail: &'a Tail,
    record: &'a mut Record,
    reached: watch::Receiver<Option<Reached<Lsn>>>,
    confirm: watch::Sender<Option<Lsn>>,
    switch: Option<AliasSwitch>,
    /// Whether the index has all of its vector graph.
    vectors: watch::Receiver<bool>,
    /// Whether the alias may go to it.
    may_serve: watch::Receiver<bool>,
    /// The books up to the stored position.
    counted: Books,
    /// The last position that this stream has stored, or that the record had at its beginning. The record's
    /// own can be ahead of it: it says what is stored next, and storing it can be broken off. At the
    /// beginning of a stream that follows one which was broken off there, so can this: what has been
    /// reached is then stored and confirmed with the next position.
    stored: Option<Lsn>,
}

impl<'a> Keeper<'a> {
    /// Watches `shared`'s acknowledgement; what is stored goes out through `confirm`.
    pub(super) fn new(
        shared: &'a Shared,
        record: &'a mut Record,
        confirm: watch::Sender<Option<Lsn>>,
    ) -> Self {
        let switch = shared.tail.switch.clone();
        let stored = record.run.acknowledged_lsn;
        let may_serve = match &shared.tail.role {
            Role::Serve { .. } => watch::Sender::new(true).subscribe(),
            Role::Rebuild { may_serve } => may_serve.clone(),
        };
        Self {
            shared,
            tail: &shared.tail,
            record,
            reached: shared.acknowledger.reached(),
            confirm,
            switch,
            vectors: shared.tail.vectors.subscribe(),
            may_serve,
            counted: Books::default(),
            stored,
        }
    }

    /// Runs until it fails.
    pub(super) async fn run(&mut self) -> Failure {
        let mut next = Instant::now();
        loop {
            let changed = async {
                tokio::time::sleep_until(next).await;
                tokio::select! {
                    changed = self.reached.changed() => changed.is_ok(),
                    // The alias may wait for nothing else.
                    Ok(()) = self.vectors.changed(), if self.switch.is_some() => true,
                    Ok(()) = self.may_serve.changed(), if self.switch.is_some() => true,
                }
            };
            let stored = tokio::select! {
                bound = self.shared.bound.asked() => self.store_bound(bound).await,
                changed = changed => {
                    if !changed {
                        return Failure::Lane;
                    }
                    next = Instant::now() + STORE_INTERVAL;
                    self.store_reached().await
                }
            };
            if let Err(failure) = stored {
                return failure;
            }
            if let Some(stored) = self.stored {
                self.tail.writer.meter().stored(stored.0);
            }
        }
    }

    /// Rows that are read again wait for this, so it does not wait for the next position.
    async fn store_bound(&mut self, bound: Lsn) -> Result<(), Failure> {
        self.record.run.read_ahead_to = Some(bound);
        self.record.store().await?;
        failpoint!("bound-stored", Failure::Heals);
        self.shared.bound.stored(bound);
        Ok(())
    }

    async fn store_reached(&mut self) -> Result<(), Failure> {
        let Some(reached) = *self.reached.borrow_and_update() else {
            return Ok(());
        };
        let lsn = reached.position;
        if self.stored.is_some_and(|stored| stored >= lsn) {
            // A replay: what is stored is further than what has come again so far, and has been counted.
            self.counted = reached.books;
        } else {
            failpoint!("position-reached", Failure::Heals);
            self.record.run.coverage = Some(self.tail.coverage.borrow().clone());
            self.record.count(reached.books.since(&self.counted));
            self.counted = reached.books;
            self.check_index().await?;
            self.record.run.acknowledged_lsn = Some(lsn);
            self.record.store().await?;
            failpoint!("position-stored", Failure::Heals);
            self.stored = Some(lsn);
            self.confirm.send_replace(Some(lsn));
        }
        self.switch_alias(lsn).await
    }

    /// What was acknowledged counts only while the index can be trusted with it.
    async fn check_index(&self) -> Result<(), Failure> {
        let mut attempt = 0;
        while let Err(failure) = self.tail.target.check().await {
            attempt += 1;
            failure
                .wait(self.record.retry, attempt, "looking at the index")
                .await?;
        }
        Ok(())
    }

    /// Points the alias to the index once all is in that was written before the snapshot's end, the
    /// index is as fast as it is to be, and nobody holds it back.
    async fn switch_alias(&mut self, reached: Lsn) -> Result<(), Failure> {
        let ready = *self.vectors.borrow_and_update() && *self.may_serve.borrow_and_update();
        let due = |switch: &mut AliasSwitch| ready && reached >= switch.at;
        let Some(switch) = self.switch.take_if(due) else {
            return Ok(());
        };
        let index = self.tail.target.index.name();
        let alias = &self.tail.alias;
        let previous = match self.tail.role {
            Role::Serve { .. } => None,
            Role::Rebuild { .. } => Some(previous_alias(alias)),
        };
        let swap = Move {
            alias,
            from: &switch.from,
            to: index,
            previous: previous.as_deref(),
        };
        // Searches find at once what they found in the index before.
        self.tail.target.index.refresh().await?;
        swap_alias(&self.tail.client, &swap).await?;
        self.tail.writer.meter().caught_up();
        tracing::info!(alias, index, "caught up: the alias points to the index");
        Ok(())
    }

    /// What was let be confirmed last.
    pub(super) fn confirmed(&self) -> Option<Lsn> {
        *self.confirm.borrow()
    }

    /// Stores the last position before the end.
    ///
    /// # Errors
    /// It could not be stored in time.
    pub(super) async fn store_last(&mut self) -> Result<(), Failure> {
        const LIMIT: Duration = Duration::from_secs(10);
        match tokio::time::timeout(LIMIT, self.store_reached()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Heals(
                "the last position could not be stored in time; it will come again".to_owned(),
            )),
        }
    }
}
