//! Mends what differs, and nothing else, while the stream goes on.
//!
//! A repair carries the version just below every commit from a point on, as a snapshot's rows do, and the
//! barrier behind that point makes every commit before it visible. So it beats all that was written of
//! older commits, and nothing that is newer. Only a row that is then what it was when it was compared is
//! written, so no document shows what the stream has yet to bring; a row that has changed gets its
//! document from the stream.

use std::collections::HashSet;

use super::{Difference, Subject, Verification, settle::Decided};
use crate::{
    change::{Action, Key, Operation, Version},
    pipeline::{
        Failure,
        comparison::{Comparison, Seen},
        mending::Mending,
        prepare,
        refill::Together,
    },
    postgres::{catalog, slot},
    stop::Stop,
};

/// Requests in flight.
const LANES: usize = 2;

impl Verification<'_> {
    /// Writes the documents that differ as their rows make them, deletes those without a row, and decides
    /// about them again: what is equal now is repaired. A document whose version is above every commit's
    /// stays as it is.
    pub(super) async fn repair(&self, decided: &mut Decided) -> Result<(), Failure> {
        let bound = self.subject.bound().await?;
        let is_foreign =
            |(_, difference): &(Seen, Difference)| difference.version.is_some_and(|v| v > bound);
        let (foreign, differ): (Vec<_>, Vec<_>) = std::mem::take(&mut decided.differ)
            .into_iter()
            .partition(is_foreign);
        decided.differ = foreign;
        if differ.is_empty() {
            return Ok(());
        }
        let seen: Vec<Seen> = differ.iter().map(|(seen, _)| seen.clone()).collect();
        self.subject.write_again(&self.comparison, &seen).await?;
        let keys = seen.into_iter().map(|seen| seen.key).collect();
        let after = self.decide(keys).await?;
        let undecided: HashSet<&Key> = after.undecided.iter().collect();
        let left: HashSet<&Key> = after.differ.iter().map(|(seen, _)| &seen.key).collect();
        for (seen, mut difference) in differ {
            if !undecided.contains(&seen.key) {
                difference.repaired = !left.contains(&seen.key);
                decided.differ.push((seen, difference));
            }
        }
        decided.undecided.extend(after.undecided);
        Ok(())
    }
}

impl Subject<'_> {
    /// Writes documents as their rows make them and deletes those without a row; but of a row that is not
    /// what it was when it was seen, the document is left to the stream.
    pub(in crate::pipeline) async fn write_again(
        &self,
        comparison: &Comparison<'_>,
        seen: &[Seen],
    ) -> Result<(), Failure> {
        let client = &self.session.client;
        let point = catalog::wal_insert(client, &self.facts.server).await?;
        let xmax = slot::next_transaction_id(client).await?;
        slot::barrier(client, xmax, |transaction| {
            tracing::info!(
                transaction,
                "waiting for a transaction that was running when the repair began"
            );
        })
        .await?;
        let version = Version::of_snapshot(point);
        let mut bound = self.bound().await?;
        loop {
            let written = self.write_below(bound, comparison, seen, version).await;
            let Err(Failure::Stop(Stop::ForeignVersion { stored, .. })) = &written else {
                return written;
            };
            // The stream goes on: what it has written since the bound was read is not another's.
            bound = self.bound().await?;
            if *stored > bound {
                return written;
            }
        }
    }

    /// Writes them once; a stored version above `bound` is another writer's.
    async fn write_below(
        &self,
        bound: Version,
        comparison: &Comparison<'_>,
        seen: &[Seen],
        version: Version,
    ) -> Result<(), Failure> {
        let (uuid, run) = (&self.run.index_uuid, self.run.number);
        let writer = prepare::writer(self.job, &self.server, uuid, run, LANES).await?;
        writer.raise_bound(bound);
        writer.raise_bound(version);
        let mending = Mending::start(&writer, LANES, comparison.look.layout.clone());
        let submitted = submit(comparison, seen, version, &mending).await;
        mending.end(true).await?;
        submitted
    }

    /// The highest version that the stream can have written until now.
    pub(super) async fn bound(&self) -> Result<Version, Failure> {
        let server = catalog::server(&self.session.client).await?;
        Ok(Version::bound_of_commits_to(server.wal_flush))
    }
}

/// Hands over what makes these documents their rows', of those rows that are as they were seen.
async fn submit(
    comparison: &Comparison<'_>,
    seen: &[Seen],
    version: Version,
    mending: &Mending,
) -> Result<(), Failure> {
    let keys: Vec<Key> = seen.iter().map(|seen| seen.key.clone()).collect();
    let (mut rest, mut together) = (keys.as_slice(), Together::default());
    let mut seen = seen;
    while let Some((part, mut rows)) = comparison.next_rows(&mut rest, &mut together).await? {
        let (these, behind) = seen.split_at(part.len());
        seen = behind;
        let operation = |seen: &Seen| {
            let row = rows.remove(&seen.key);
            (comparison.state(row.as_ref()) == seen.row).then(|| Operation {
                key: seen.key.clone(),
                version,
                action: row.map_or(Action::Delete, Action::Index),
            })
        };
        let operations = these.iter().filter_map(operation).collect();
        mending.submit(operations).await?;
    }
    Ok(())
}
