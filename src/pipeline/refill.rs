//! Rows read again, whole, by key: those with an out-of-line value that an UPDATE did not bring, and those
//! whose document may be newer than the change (`ahead.rs`).
//!
//! What is read may be newer than the change; then the newer change is still to come and writes its
//! own version, with a row that is as new at least (`ahead.rs`). It is never older: the read waits
//! until the change's transaction is visible. A row that is gone is deleted at the change's version;
//! its own delete is still to come.

use std::{collections::HashMap, sync::Arc};

use super::{Failure, table::Look, tail::Tail};
use crate::{
    change::{Key, Lsn, Row},
    document::Layout,
    postgres::{catalog, rows::Found, slot},
};

/// Wire bytes of rows that are read again together, as far as their size can be foreseen. Twice as
/// many are not taken.
pub(super) const BYTES_TOGETHER: usize = 2 << 20;
/// Rows that are read again together, at most.
const ROWS_TOGETHER: usize = 512;

/// How many rows are read again together: what those of the last time make likely to be of the
/// right size.
#[derive(Debug)]
pub(super) struct Together(usize);

impl Default for Together {
    fn default() -> Self {
        Self(64)
    }
}

impl Together {
    /// So many; one at least.
    #[must_use]
    pub(super) fn rows(&self) -> usize {
        self.0
    }

    /// So many rows of so many bytes came. The number at most doubles.
    pub(super) fn came(&mut self, rows: usize, bytes: usize) {
        let fit = (rows * BYTES_TOGETHER)
            .checked_div(bytes)
            .unwrap_or(ROWS_TOGETHER);
        self.0 = fit.clamp(1, ROWS_TOGETHER.min(self.0 * 2));
    }
}

/// A row that is to be read again: its key, and the transaction that changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whose row.
    pub key: Key,
    /// The 32-bit transaction id.
    pub xid: u32,
}

/// Rows by key, all of one look of the table.
#[derive(Debug)]
pub(super) struct Refilled {
    /// How the rows become documents.
    pub layout: Arc<Layout>,
    /// Those that still exist.
    pub rows: HashMap<Key, Row>,
    /// The WAL's end just after the reading: no row shows what committed behind it.
    pub wal_end: Lsn,
}

/// Reads the rows as they are now; `None` when they are larger than was foreseen: then fewer are to
/// be asked for.
///
/// # Errors
/// PostgreSQL cannot be asked, or the table has changed so that no document can be made of it.
pub(super) async fn refill(
    tail: &Tail,
    wanted: &[Wanted],
    together: &mut Together,
) -> Result<Option<Refilled>, Failure> {
    let table = &tail.table;
    let mut xids: Vec<u32> = wanted.iter().map(|wanted| wanted.xid).collect();
    xids.sort_unstable();
    xids.dedup();
    slot::until_visible(table.client(), &xids).await?;
    let mut keys: Vec<Key> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    // A row by itself is taken whatever its size.
    let bytes_max = if keys.len() > 1 {
        2 * BYTES_TOGETHER
    } else {
        usize::MAX
    };
    let mut look = table.look().await;
    let mut found = look.by_keys(table.client(), &keys, bytes_max).await?;
    if matches!(found, Found::Altered) {
        look = table
            .look_again(&tail.target.index, tail.strict_mapping)
            .await?;
        found = look.by_keys(table.client(), &keys, bytes_max).await?;
    }
    let rows = match found {
        Found::Rows(rows) => rows,
        Found::TooLarge { rows, bytes } => {
            together.came(rows, bytes);
            return Ok(None);
        }
        Found::Altered => return Err(Failure::Heals("the table is being altered".to_owned())),
    };
    together.came(rows.len(), rows.iter().map(|row| row.bytes.len()).sum());
    tail.writer.meter().rows_read_again(rows.len() as u64);
    let wal_end = catalog::wal_insert(table.client(), table.server()).await?;
    Refilled::new(&look, rows, wal_end).map(Some)
}

impl Refilled {
    /// Bytes of the rows on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.rows.values().map(|row| row.bytes.len()).sum()
    }

    fn new(look: &Look, rows: Vec<Row>, wal_end: Lsn) -> Result<Self, Failure> {
        let keyed = rows.into_iter().map(|row| Ok((look.key(&row)?, row)));
        Ok(Self {
            layout: look.layout.clone(),
            rows: keyed.collect::<Result<_, Failure>>()?,
            wal_end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_rows_are_read_together_as_fit() {
        let mut together = Together::default();
        for _ in 0..10 {
            together.came(together.rows(), together.rows() * 600);
        }
        assert_eq!(together.rows(), ROWS_TOGETHER);
        together.came(ROWS_TOGETHER, ROWS_TOGETHER * 8_192);
        assert_eq!(together.rows(), BYTES_TOGETHER / 8_192);
        together.came(1, 100 << 20);
        assert_eq!(together.rows(), 1);
        together.came(0, 0);
        assert_eq!(together.rows(), 2);
    }

    /// Else the same rows would be asked for again and again.
    #[test]
    fn fewer_are_asked_for_when_they_were_too_large() {
        for rows in 2..=ROWS_TOGETHER {
            let mut together = Together(rows);
            together.came(rows, 2 * BYTES_TOGETHER + 1);
            assert!(together.rows() < rows, "{rows}");
        }
    }
}
