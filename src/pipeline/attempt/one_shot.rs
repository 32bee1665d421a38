//! How a one-shot run begins and ends.

use jiff::Timestamp;

use super::Attempt;
use crate::{
    elasticsearch::{Move, Phase, alias_targets, swap_alias},
    pipeline::{
        Failure, Shutdown, drain::Ended, generation::stay, job::Outcome, prepare, record::Record,
        vectors,
    },
    postgres::catalog,
    stop::Stop,
};

impl Attempt<'_> {
    /// An LSN, then the barrier: every transaction that committed before it is visible afterwards.
    pub(super) async fn begin_one_shot(
        &self,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let point = catalog::wal_insert(&self.session.client, &self.facts.server).await?;
        record.run.last_synced_item = None;
        self.note_begin(record, Phase::Snapshot, point).await?;
        record.store().await?;
        failpoint!("snapshot-point-stored", Failure::Heals);
        self.resume(record, shutdown).await
    }

    /// The end of a one-shot run. A trouble is waited for here: another attempt would copy all again.
    pub(super) async fn finish(
        &self,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Outcome, Failure> {
        let names = &self.job.names;
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(Outcome::Interrupted),
            built = vectors::build(&self.target.index, self.job.retry) => built?,
        }
        let mut attempt = 0;
        while let Err(failure) = self.point_alias().await {
            attempt += 1;
            failure
                .wait(self.job.retry, attempt, "pointing the alias to the index")
                .await?;
        }
        record.run.phase = Phase::Done;
        record.run.finished_at = Some(Timestamp::now());
        record.store().await?;
        failpoint!("run-done-stored", Failure::Heals);
        match self
            .writer
            .aside()
            .refused_at(record.run.snapshot_version())
            .await?
        {
            Some((count, first)) => Err(Stop::DeadLetters {
                count,
                index: prepare::dead_letters_index(names),
                key: first.key.to_string(),
                reason: first.why(),
            }
            .into()),
            None => Ok(Outcome::Complete),
        }
    }

    async fn point_alias(&self) -> Result<(), Failure> {
        let (client, names) = (&self.job.elasticsearch, &self.job.names);
        let targets = alias_targets(client, &names.alias).await?;
        stay(client, &targets, &names.index, &self.job.role).await?;
        let swap = Move {
            alias: &names.alias,
            from: &targets,
            to: &names.index,
            previous: None,
        };
        swap_alias(client, &swap).await?;
        Ok(self.target.index.refresh().await?)
    }
}
