//! Decides about suspects: what still differs once every change that could explain it has arrived.
//!
//! A mark is written into the WAL behind the moment in which a row was seen, and the stream is waited for
//! until it has come past it. Then the document is read, and after it the row. If the row is still what
//! it was before the mark, and no newer change has written the document, then this row's document should
//! have been there: the difference is real. A row that has changed meanwhile is seen once more.

use std::time::{Duration, Instant};

use super::{Difference, Verification};
use crate::{
    change::{Key, Lsn, Version, Windows},
    pipeline::{
        Failure,
        comparison::{Pair, Suspect},
        refill::Together,
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
    pub(super) differ: Vec<(Suspect, Difference)>,
    /// Those of which it cannot be said.
    pub(super) undecided: Vec<Key>,
}

impl Verification<'_> {
    /// Decides about all suspects so far, mends what is to be mended, and enters it into the report.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        let mut suspects = std::mem::take(&mut self.suspects);
        // A document without a row can be of a row that came after its page.
        suspects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        suspects.dedup_by(|one, other| one.key == other.key);
        let mut decided = self.decide(suspects).await?;
        if self.wanted.repair && !decided.differ.is_empty() {
            self.repair(&mut decided).await?;
        }
        self.report.undecided += decided.undecided.len() as u64;
        decided
            .differ
            .sort_unstable_by(|one, other| one.0.key.cmp(&other.0.key));
        for (_, difference) in decided.differ {
            self.report.add(difference, self.wanted.kept);
        }
        Ok(())
    }

    /// Which of the suspects do differ.
    pub(super) async fn decide(&self, mut suspects: Vec<Suspect>) -> Result<Decided, Failure> {
        let mut decided = Decided::default();
        let mut together = Together::default();
        for _ in 0..ROUNDS {
            if suspects.is_empty() {
                break;
            }
            let mark = catalog::mark(&self.comparison.session.client).await?;
            if !self.stream_passes(mark).await? {
                break;
            }
            // No document that shows the row as it was at the mark has a higher version.
            let newest = Version(Version::of_commit(mark).0 + Windows::MAX_WINDOWS);
            let mut again = Vec::new();
            let mut rest = suspects.as_slice();
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(together.rows().min(rest.len()));
                let keys: Vec<Key> = part.iter().map(|suspect| suspect.key.clone()).collect();
                let Some(mut pairs) = self.comparison.pairs(&keys, &mut together).await? else {
                    continue;
                };
                rest = behind;
                for suspect in part {
                    let Some(Pair {
                        row,
                        difference: Some(difference),
                    }) = pairs.remove(&suspect.key)
                    else {
                        continue;
                    };
                    let newer = difference.version.is_some_and(|version| version > newest);
                    if row == suspect.row && !newer {
                        decided.differ.push((suspect.clone(), difference));
                    } else {
                        let key = suspect.key.clone();
                        again.push(Suspect { key, row });
                    }
                }
            }
            suspects = again;
        }
        decided.undecided = suspects.into_iter().map(|suspect| suspect.key).collect();
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
            let run = self.runs.latest_of(&self.job.names.index, true).await?;
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
