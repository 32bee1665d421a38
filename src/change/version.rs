//! LSN and version: which of two writes of a document is the newer one?
//!
//! `V = ((commit_lsn >> 3) << 12) + window`. The commit LSN, never a change's own: a blocked INSERT
//! writes its record before it commits, so change LSNs run against commit order. `window` counts
//! fixed groups of changes inside a transaction, and only the last operation per key and window is
//! sent, so one (key, version) has one content however often it is replayed.
//!
//! WAL is 8-byte aligned and a commit record takes at least 40 bytes, so five steps of
//! `lsn >> 3`, that is 5 × 4,096 windows, cannot reach the next commit's versions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in the write-ahead log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Text that is not an LSN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an LSN: {0:?} (expected the form 16/B374D848)")]
pub struct ParseLsnError(String);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some(Self(u64::from(high) << 32 | u64::from(low)))
        };
        parse().ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Bits of a version that count windows; a commit's versions start at a multiple of 2^12.
const WINDOW_BITS: u32 = 12;
/// WAL records start at multiples of 8.
const ALIGNMENT_BITS: u32 = 3;

/// An Elasticsearch external version. Valid to 16 PiB of WAL, where it would pass 2^63.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Version(pub u64);

impl Version {
    /// The first version that a commit at `commit` gives.
    #[must_use]
    pub fn of_commit(commit: Lsn) -> Self {
        Self((commit.0 >> ALIGNMENT_BITS) << WINDOW_BITS)
    }

    /// Above every version that commits up to `commit` have given: what is stored above it is another
    /// writer's, or of an index that was restored.
    #[must_use]
    pub fn bound_of_commits_to(commit: Lsn) -> Self {
        Self(Self::of_commit(commit).0 + Windows::MAX_WINDOWS)
    }

    /// V0, which all rows of a snapshot carry: just below every version of a commit at or after
    /// `point` (a slot's consistent point, or an LSN taken before the barrier of a one-shot run).
    #[must_use]
    pub fn of_snapshot(point: Lsn) -> Self {
        Self(Self::of_commit(point).0.saturating_sub(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Cuts a transaction into windows, the same way each time it is sent: by number of changes or by
/// bytes on the wire, whichever comes first.
#[derive(Debug)]
pub struct Windows {
    base: Version,
    window: u64,
    changes: u32,
    bytes: u64,
}

/// A transaction with more windows than can be versioned below the next commit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a transaction of more than {} windows of {} changes or {} MiB", Windows::MAX_WINDOWS, Windows::MAX_CHANGES, Windows::MAX_BYTES >> 20)]
pub struct WindowOverflow;

impl Windows {
    /// Row changes in a window, at most.
    pub const MAX_CHANGES: u32 = 16_384;
    /// Wire bytes of row changes in a window; the change that reaches it is the window's last.
    pub const MAX_BYTES: u64 = 8 << 20;
    /// Windows in a transaction, at most: more would reach the next commit's versions.
    pub const MAX_WINDOWS: u64 = 5 << WINDOW_BITS;
    /// Names these constants and the formula in an index's `_meta`: a change of any is a new scheme.
    pub const SCHEME: &'static str = "commit-lsn>>3<<12+window/16384x8MiB/binary/1";

    /// The windows of the transaction that committed at `commit`.
    #[must_use]
    pub fn new(commit: Lsn) -> Self {
        Self {
            base: Version::of_commit(commit),
            window: 0,
            changes: 0,
            bytes: 0,
        }
    }

    /// Counts a row change of `wire_bytes`; true when it is the last of its window, which the
    /// caller then takes away with [`Self::cut`].
    #[must_use]
    pub fn count(&mut self, wire_bytes: usize) -> bool {
        self.changes += 1;
        self.bytes += wire_bytes as u64;
        self.changes >= Self::MAX_CHANGES || self.bytes >= Self::MAX_BYTES
    }

    /// The version of the window that is open.
    ///
    /// # Errors
    /// The transaction has too many windows; nothing of this window may be sent.
    pub fn version(&self) -> Result<Version, WindowOverflow> {
        if self.window < Self::MAX_WINDOWS {
            Ok(Version(self.base.0 + self.window))
        } else {
            Err(WindowOverflow)
        }
    }

    /// Closes the open window and opens the next.
    pub fn cut(&mut self) {
        self.window += 1;
        self.changes = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_prints_and_parses_as_postgresql_writes_it() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        for wrong in ["", "16", "16/", "/1", "x/1", "1/123456789"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_snapshot_row_is_older_than_every_commit_from_its_point_on() {
        let point = Lsn(0x15A_AD08);
        assert!(Version::of_snapshot(point) < Version::of_commit(point));
        assert!(Version::of_snapshot(point) > Version::of_commit(Lsn(point.0 - 8)));
        assert_eq!(Version::of_snapshot(Lsn(0)), Version(0));
    }

    #[test]
    fn the_last_window_stays_below_the_nearest_next_commit() {
        let commit = Lsn(0x100_0000);
        let mut windows = Windows::new(commit);
        for _ in 0..Windows::MAX_WINDOWS - 1 {
            windows.cut();
        }
        let next = Version::of_commit(Lsn(commit.0 + 40));
        assert!(windows.version().unwrap() < next);
        windows.cut();
        assert_eq!(windows.version(), Err(WindowOverflow));
    }

    #[test]
    fn windows_are_cut_by_changes_and_by_bytes_alike_on_every_replay() {
        let mut windows = Windows::new(Lsn(8));
        for _ in 1..Windows::MAX_CHANGES {
            assert!(!windows.count(1));
        }
        assert!(windows.count(1));
        windows.cut();
        assert!(!windows.count(usize::try_from(Windows::MAX_BYTES).unwrap() - 1));
        assert!(windows.count(1));
        windows.cut();
        assert_eq!(
            windows.version(),
            Ok(Version(Version::of_commit(Lsn(8)).0 + 2))
        );
    }
}
