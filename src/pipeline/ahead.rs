//! Which rows are read again before they are written? Pure.
//!
//! A row that is read again by its key is read as it is now: newer, perhaps, than the change that
//! asked for it. Written as it stood at the next change, its document would go back in time. So from
//! then on every change is read again that commits below the WAL's end as it was just after the
//! reading: whatever the row shows comes from a commit below that LSN, and every later reading shows
//! at least as much. What commits behind it cannot have been seen and is written as it came.
//!
//! One LSN stands for all keys: nothing has to be remembered of each, and it lies no further ahead
//! than the stream lags. It must outlive the process, since a later one begins at an older position.
//! So no row that was read again is written before the run's record says up to where rows may have
//! been read (`bound.rs`), and a stream that begins while the alias is on begins with that.

use crate::change::{Action, Lsn, Operation, Version};

/// How far beyond a reading the record's bound is set: one store of the record does for so much WAL.
/// More would be fewer stores, and more changes that are read again for nothing after a start.
const MARGIN: u64 = 4 << 20;

/// The bound that the record should have for a reading that ended at `wal_end`, if `bound`, which it
/// has, leaves less than half of the margin. A reading beyond `bound` must wait for it, any other
/// need not.
#[must_use]
pub(super) fn further(bound: Lsn, wal_end: Lsn) -> Option<Lsn> {
    (wal_end.0 + MARGIN / 2 > bound.0).then_some(Lsn(wal_end.0 + MARGIN))
}

/// How new a document may be already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Ahead(Version);

impl Ahead {
    /// Documents may show whatever was committed below this LSN.
    #[must_use]
    pub(super) fn of(wal_end: Lsn) -> Self {
        Self(Version::of_commit(wal_end))
    }

    /// Whether any of these operations lacks a value, or is older than its document may be. Then all
    /// of them, which were committed before any of them is read again, are.
    #[must_use]
    pub(super) fn asks_again<'a>(
        self,
        operations: impl IntoIterator<Item = &'a Operation>,
    ) -> bool {
        operations
            .into_iter()
            .any(|operation| operation.version < self.0 || lacks(operation))
    }

    /// Rows were read again, and the WAL ended at `wal_end` just after that.
    pub(super) fn read(&mut self, wal_end: Lsn) {
        *self = Self::of(wal_end).max(*self);
    }
}

fn lacks(operation: &Operation) -> bool {
    matches!(&operation.action, Action::Index(row) if row.has_unchanged())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::change::{Cell, Key, Relation, Row};

    /// Bytes between two commits.
    const STEP: u64 = MARGIN / 4;

    /// A history of one row: commit number `n` leaves it at state `n`, or without a row.
    #[derive(Debug, Clone, Copy)]
    enum Change {
        Complete,
        Lacking,
        Delete,
    }

    fn operation(number: usize, change: Change) -> Operation {
        let relation = Relation {
            oid: 1,
            schema: String::new(),
            name: String::new(),
            columns: Vec::new(),
            key: 0,
        };
        let row = |cells| {
            Action::Index(Row {
                relation: Arc::new(relation),
                bytes: Bytes::new(),
                cells,
            })
        };
        Operation {
            key: Key::new("k"),
            version: Version::of_commit(Lsn(number as u64 * STEP)),
            action: match change {
                Change::Complete => row(Vec::new()),
                Change::Lacking => row(vec![Cell::Unchanged]),
                Change::Delete => Action::Delete,
            },
        }
    }

    /// A write, and what the record says by then.
    #[derive(Debug, Clone, Copy)]
    struct Shown {
        version: Version,
        state: usize,
        bound: Lsn,
    }

    /// Sends the changes from `first` on, in batches; `ahead_of[n]` tells how many further commits
    /// there are by the time that number `n` is taken. Begins with what the record says, and gives
    /// the state that each write shows.
    fn stream(
        history: &[Change],
        (first, batch): (usize, usize),
        ahead_of: &[usize],
        mut bound: Lsn,
    ) -> Vec<Shown> {
        let mut ahead = Ahead::of(bound);
        let mut shown = Vec::new();
        let mut now = 0;
        for start in (first..history.len()).step_by(batch) {
            let end = (start + batch).min(history.len());
            // The server only goes on, and all of the batch has been committed.
            now = (end - 1 + ahead_of[start]).min(history.len() - 1).max(now);
            let operations: Vec<Operation> = (start..end)
                .map(|number| operation(number, history[number]))
                .collect();
            let again = ahead.asks_again(&operations);
            if again {
                let wal_end = Lsn(now as u64 * STEP + STEP / 2);
                ahead.read(wal_end);
                if wal_end > bound {
                    bound = further(bound, wal_end).expect("a reading beyond it needs another");
                }
            }
            shown.extend(
                operations
                    .iter()
                    .zip(start..)
                    .map(|(operation, number)| Shown {
                        version: operation.version,
                        state: if again { now } else { number },
                        bound,
                    }),
            );
        }
        shown
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            Just(Change::Complete),
            Just(Change::Lacking),
            Just(Change::Delete)
        ];
        prop::collection::vec(change, 1..40)
    }

    proptest! {
        /// Elasticsearch takes a write of a higher version only. Whatever the lag, and wherever a
        /// crash makes the stream begin again, the document never shows an older state than before,
        /// and in the end the last one.
        #[test]
        fn a_document_never_goes_back_and_ends_with_its_row(
            history in changes(),
            batch in 1_usize..5,
            ahead_of in prop::collection::vec(0_usize..6, 40),
            crash in 0_usize..40,
            again_from in 0_usize..40,
        ) {
            let before = stream(&history, (0, batch), &ahead_of, Lsn(0));
            let crash = crash.min(before.len());
            // A new process: what was not acknowledged comes again, and the WAL goes on from its end.
            let bound = before[..crash].last().map_or(Lsn(0), |last| last.bound);
            let end = vec![history.len(); 40];
            let after = stream(&history, (again_from.min(crash), batch), &end, bound);
            let (mut stored, mut state) = (None, 0);
            for shown in before[..crash].iter().chain(&after) {
                if stored.is_none_or(|stored| stored < shown.version) {
                    prop_assert!(shown.state >= state, "{state} was shown, then {}", shown.state);
                    (stored, state) = (Some(shown.version), shown.state);
                }
            }
            prop_assert_eq!(state, history.len() - 1);
        }
    }

    #[test]
    fn a_process_that_read_nothing_again_leaves_nothing_to_read_again() {
        let history = [Change::Complete, Change::Delete, Change::Complete];
        let shown = stream(&history, (0, 2), &[2; 3], Lsn(0));
        assert!(shown.iter().all(|shown| shown.bound == Lsn(0)));
        let states: Vec<usize> = shown.iter().map(|shown| shown.state).collect();
        assert_eq!(states, [0, 1, 2]);
    }

    #[test]
    fn the_bound_is_set_anew_before_a_reading_has_to_wait_for_it() {
        let bound = further(Lsn(0), Lsn(8)).unwrap();
        assert_eq!(bound, Lsn(8 + MARGIN));
        assert_eq!(further(bound, Lsn(8 + MARGIN / 2)), None);
        assert_eq!(
            further(bound, Lsn(16 + MARGIN / 2)),
            Some(Lsn(16 + MARGIN / 2 + MARGIN))
        );
    }

    #[test]
    fn what_commits_behind_the_reading_is_written_as_it_came() {
        let mut ahead = Ahead::default();
        let change = |number, change| [operation(number, change)];
        assert!(!ahead.asks_again(&change(1, Change::Complete)));
        assert!(!ahead.asks_again(&change(2, Change::Delete)));
        assert!(ahead.asks_again(&change(3, Change::Lacking)));
        ahead.read(Lsn(5 * STEP));
        assert!(ahead.asks_again(&change(4, Change::Complete)));
        assert!(ahead.asks_again(&change(4, Change::Delete)));
        assert!(!ahead.asks_again(&change(5, Change::Complete)));
        ahead.read(Lsn(4 * STEP));
        assert_eq!(ahead, Ahead::of(Lsn(5 * STEP)));
    }
}
