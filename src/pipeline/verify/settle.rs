//! Decides about suspects: what still differs once every change that could explain it has arrived.
//!
//! A suspect is seen again and again: each time a mark is written into the WAL, the stream is waited for
//! until it has come past it, and then the document is read, and after it the row. Seen twice with the same
//! version, a document has met no change that was committed before the second mark, so it should show the
//! row as it was seen the first time: then the difference is real. Once would not do, for a row can be
//! gone, be there when the mark is written, and be gone again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Difference, Keys, Verification};
use crate::{
    change::{Key, Lsn},
    pipeline::{
        Failure,
        comparison::{Pair, Seen},
    },
    postgres::catalog,
};

/// How often a row that goes on changing is seen.
const ROUNDS: u32 = 20;
/// How often is looked where the stream stands.
const PAUSE: Duration = Duration::from_millis(250);

/// What has become of suspects.
#[derive(Default)]
pub(super) struct Decided {
    /// Those that differ, each with the state of the row that was compared.
    pub(super) differ: Vec<(Seen, Difference)>,
    /// Those of which it cannot be said.
    pub(super) undecided: Vec<Key>,
}

impl Verification<'_> {
    /// Decides about all suspects so far, mends what is to be mended, and enters it into the report.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        let mut suspects = std::mem::take(&mut self.suspects);
        // A document without a row can be of a row that came after its page.
        suspects.sort_unstable();
        suspects.dedup();
        let mut decided = self.decide(suspects).await?;
        if self.wanted.repair && !decided.differ.is_empty() {
            self.repair(&mut decided).await?;
        }
        self.report.undecided += decided.undecided.len() as u64;
        decided
            .differ
            .sort_unstable_by(|one, other| one.0.key.cmp(&other.0.key));
        if let Keys::AtRandom(_) = self.wanted.what {
            let bound = self.subject.bound().await?;
            let versions = decided.differ.iter().filter_map(|(seen, difference)| {
                let above = difference.version.filter(|version| *version > bound)?;
                Some((seen.key.clone(), above))
            });
            self.report.add_foreign(versions.collect());
        }
        for (_, difference) in decided.differ {
            self.report.add(difference, self.wanted.kept);
        }
        Ok(())
    }

    /// Which of the suspects do differ.
    pub(super) async fn decide(&self, mut suspects: Vec<Key>) -> Result<Decided, Failure> {
        let mut decided = Decided::default();
        // The row's state and the document's version, as they were the time before.
        let mut before = HashMap::new();
        for _ in 0..ROUNDS {
            if suspects.is_empty() {
                break;
            }
            let mark = catalog::mark(&self.comparison.session.client).await?;
            if !self.stream_passes(mark).await? {
                break;
            }
            let mut again = Vec::new();
            for (key, Pair { row, difference }) in self.comparison.pairs(&suspects).await? {
                let Some(difference) = difference else {
                    continue;
                };
                let sight = (row, difference.version);
                if before.insert(key.clone(), sight) == Some(sight) {
                    decided.differ.push((Seen { key, row }, difference));
                } else {
                    again.push(key);
                }
            }
            suspects = again;
        }
        decided.undecided = suspects;
        Ok(decided)
    }

    /// Waits until the stream has come past `mark`; false when it does not within the time that it may
    /// take. Where there is no stream, there is nothing to wait for.
    async fn stream_passes(&self, mark: Lsn) -> Result<bool, Failure> {
        if !self.streams() {
            return Ok(true);
        }
        let since = Instant::now();
        loop {
            let run = self.subject.runs.latest_of(true).await?;
            let position = run.and_then(|run| run.acknowledged_lsn);
            if position.is_some_and(|position| position >= mark) {
                return Ok(true);
            }
            if since.elapsed() >= self.wanted.patience {
                tracing::warn!(
                    %mark,
                    position = position.map(|position| position.to_string()),
                    "the stream has not come past the comparison: is `sync-es run` at work?"
                );
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
