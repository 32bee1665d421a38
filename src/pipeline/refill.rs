//! Rows with an out-of-line value that an UPDATE did not bring: read again, whole, by key.
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
    postgres::{catalog, rows, slot},
};

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

/// Reads the rows as they are now.
///
/// # Errors
/// PostgreSQL cannot be asked, or the table has changed so that no document can be made of it.
pub(super) async fn refill(tail: &Tail, wanted: &[Wanted]) -> Result<Refilled, Failure> {
    let table = &tail.table;
    let mut xids: Vec<u32> = wanted.iter().map(|wanted| wanted.xid).collect();
    xids.sort_unstable();
    xids.dedup();
    slot::until_visible(table.client(), &xids).await?;
    let mut keys: Vec<Key> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut look = table.look().await;
    let mut rows = rows::by_keys(table.client(), &look.query, &keys).await?;
    if rows.is_none() {
        look = table
            .look_again(&tail.target.index, tail.strict_mapping)
            .await?;
        rows = rows::by_keys(table.client(), &look.query, &keys).await?;
    }
    let rows = rows.ok_or_else(|| Failure::Heals("the table is being altered".to_owned()))?;
    let wal_end = catalog::wal_insert(table.client(), table.server()).await?;
    Refilled::new(&look, rows, wal_end)
}

impl Refilled {
    fn new(look: &Look, rows: Vec<Row>, wal_end: Lsn) -> Result<Self, Failure> {
        let keyed = rows.into_iter().map(|row| Ok((look.key(&row)?, row)));
        Ok(Self {
            layout: look.layout.clone(),
            rows: keyed.collect::<Result<_, Failure>>()?,
            wal_end,
        })
    }
}
