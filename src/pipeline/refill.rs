//! Rows with an out-of-line value that an UPDATE did not bring: read again, whole, by key.
//!
//! What is read may be newer than the change; then the newer change is still to come and writes its
//! own version. It is never older: the read waits until the change's transaction is visible. A row
//! that is gone is deleted at the change's version; its own delete is still to come.

use std::{collections::HashMap, sync::Arc};

use super::{Failure, table::Look, tail::Tail};
use crate::{
    change::{Key, Row},
    document::Layout,
    postgres::{rows, slot},
};

/// A row that lacks values: its key, and the transaction that changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
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
}

/// Reads the rows as they are now.
///
/// # Errors
/// PostgreSQL cannot be asked, or the table has changed so that no document can be made of it.
pub(super) async fn refill(tail: &Tail, missing: &[Missing]) -> Result<Refilled, Failure> {
    let table = &tail.table;
    let mut xids: Vec<u32> = missing.iter().map(|missing| missing.xid).collect();
    xids.sort_unstable();
    xids.dedup();
    slot::until_visible(table.client(), &xids).await?;
    let mut keys: Vec<Key> = missing.iter().map(|missing| missing.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    let look = table.look().await;
    match rows::by_keys(table.client(), &look.query, &keys).await {
        // A column went since the table was looked at: look again, once.
        Err(error) if error.is_undefined_column() => {
            let look = table.look_again(&tail.index, tail.strict_mapping).await?;
            let rows = rows::by_keys(table.client(), &look.query, &keys).await?;
            Refilled::new(&look, rows)
        }
        rows => Refilled::new(&look, rows?),
    }
}

impl Refilled {
    fn new(look: &Look, rows: Vec<Row>) -> Result<Self, Failure> {
        let keyed = rows.into_iter().map(|row| Ok((look.key(&row)?, row)));
        Ok(Self {
            layout: look.layout.clone(),
            rows: keyed.collect::<Result<_, Failure>>()?,
        })
    }
}
