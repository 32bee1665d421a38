//! How late is Elasticsearch? Commits that are not acknowledged yet, by the clock of PostgreSQL.
//!
//! Of commits that follow each other within [`SPACING`] only the first is kept, so that a stream of
//! small transactions pays for a hundred a second at most. The lag stays exact to that spacing.
//! Before anything has come, and when PostgreSQL has not yet decoded what is in its WAL, there is no
//! commit to tell the age of: then an end of the WAL that was seen and is not reached tells it.
//! Pure: times are given, in microseconds since 1970.

use std::collections::VecDeque;

/// Between two commits that are kept, at least.
pub(super) const SPACING: i64 = 10_000;
/// Commits that are kept, at most: beyond it they wait in a crowd, and the oldest tells the lag.
const OPEN_MAX: usize = 4_096;
/// A WAL end that is not reached for so long tells of a lag; before, it is only on its way.
const ON_ITS_WAY: i64 = 5_000_000;

/// The commits that are kept, and up to where they are acknowledged: what the lag is told from.
#[derive(Debug, Default)]
pub(super) struct Commits {
    open: VecDeque<Commit>,
    /// When the last kept commit was made that is acknowledged.
    before: Option<i64>,
    reached: u64,
    /// The oldest WAL end that was seen and is not reached, and when.
    unreached: Option<(u64, i64)>,
    /// A stream has begun; before, there is a snapshot, and no lag.
    begun: bool,
    /// It has reached a position.
    known: bool,
}

#[derive(Debug)]
struct Commit {
    /// Where the commit before it ended, kept or not.
    previous: u64,
    end: u64,
    at: i64,
}

impl Commits {
    /// A commit that ends at `end` was received, the one before it having ended at `previous`.
    pub(super) fn keep(&mut self, previous: u64, end: u64, at: i64) {
        if self.open.len() < OPEN_MAX {
            self.open.push_back(Commit { previous, end, at });
        }
    }

    /// Everything up to `reached` is acknowledged; calls `acknowledged` with the time of each kept
    /// commit that is by this.
    pub(super) fn reach(&mut self, reached: u64, mut acknowledged: impl FnMut(i64)) {
        self.reached = self.reached.max(reached);
        self.known = true;
        while let Some(commit) = self.open.pop_front_if(|commit| commit.end <= reached) {
            self.before = Some(commit.at);
            acknowledged(commit.at);
        }
        self.unreached.take_if(|(end, _)| *end <= reached);
    }

    /// The WAL was seen to end at `end`.
    pub(super) fn wal_ends(&mut self, end: u64, now: i64) {
        if end > self.reached {
            self.unreached.get_or_insert((end, now));
        }
    }

    /// A new stream begins at what was stored: what was under way comes again.
    pub(super) fn begin(&mut self) {
        *self = Self {
            unreached: self.unreached,
            begun: true,
            ..Self::default()
        };
    }

    /// Microseconds since the oldest commit up to `received` that is not acknowledged; `None` while
    /// nothing is known of that.
    pub(super) fn lag(&self, received: u64, now: i64) -> Option<i64> {
        if !self.begun {
            return None;
        }
        let of_commits = match self.open.front() {
            // Those between the last acknowledged one and this were made right behind that.
            Some(front) if self.reached < front.previous => Some(self.before.unwrap_or(front.at)),
            Some(front) => Some(front.at),
            None if self.reached < received => self.before,
            None => None,
        };
        let of_wal = self
            .unreached
            .map(|(_, seen)| seen)
            .filter(|seen| now - seen >= ON_ITS_WAY);
        match of_commits.into_iter().chain(of_wal).min() {
            Some(oldest) => Some((now - oldest).max(0)),
            None => self.known.then_some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Kept commits, each with what came before it.
    fn commits(kept: &[(u64, u64, i64)]) -> Commits {
        let mut commits = Commits::default();
        commits.begin();
        commits.reach(0, |_| {});
        for &(previous, end, at) in kept {
            commits.keep(previous, end, at);
        }
        commits
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_commit_that_is_open() {
        let mut commits = commits(&[(0, 10, SECOND), (10, 20, 3 * SECOND)]);
        assert_eq!(commits.lag(20, 4 * SECOND), Some(3 * SECOND));
        let mut seen = Vec::new();
        commits.reach(10, |at| seen.push(at));
        assert_eq!(seen, [SECOND]);
        assert_eq!(commits.lag(20, 4 * SECOND), Some(SECOND));
        commits.reach(20, |at| seen.push(at));
        assert_eq!(seen, [SECOND, 3 * SECOND]);
        assert_eq!(commits.lag(20, 9 * SECOND), Some(0));
    }

    #[test]
    fn one_that_was_not_kept_is_as_old_as_the_one_before_it() {
        let mut commits = commits(&[(0, 10, SECOND)]);
        commits.reach(10, |_| {});
        assert_eq!(commits.lag(15, 4 * SECOND), Some(3 * SECOND));
        commits.keep(15, 20, 3 * SECOND);
        assert_eq!(commits.lag(20, 4 * SECOND), Some(3 * SECOND));
        commits.reach(15, |_| {});
        assert_eq!(commits.lag(20, 4 * SECOND), Some(SECOND));
    }

    #[test]
    fn a_wal_end_that_is_not_reached_tells_of_a_lag_once_it_is_old() {
        let mut commits = commits(&[]);
        commits.wal_ends(100, 0);
        commits.wal_ends(200, SECOND);
        assert_eq!(commits.lag(0, 4 * SECOND), Some(0));
        assert_eq!(commits.lag(0, 6 * SECOND), Some(6 * SECOND));
        commits.reach(100, |_| {});
        assert_eq!(commits.lag(0, 6 * SECOND), Some(0));
    }

    #[test]
    fn nothing_is_known_before_the_first_position() {
        let mut commits = Commits::default();
        commits.wal_ends(5, 0);
        assert_eq!(commits.lag(0, 9 * SECOND), None, "no stream");
        commits.begin();
        assert_eq!(commits.lag(0, SECOND), None);
        commits.reach(5, |_| {});
        assert_eq!(commits.lag(5, SECOND), Some(0));
        commits.begin();
        assert_eq!(commits.lag(5, SECOND), None);
    }

    #[test]
    fn a_clock_that_is_behind_gives_no_lag_below_zero() {
        let commits = commits(&[(0, 10, 9 * SECOND)]);
        assert_eq!(commits.lag(10, SECOND), Some(0));
    }
}
