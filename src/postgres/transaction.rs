//! Messages to operations: which write of which document does a transaction end in?
//!
//! - All operations of a transaction carry versions of its commit LSN; inside a window only the
//!   last operation of a key is left, so one (key, version) has one content on every replay.
//! - An update of the key is a delete of the old document and a write of the new one.
//! - An out-of-line value that an UPDATE did not touch is taken from the old row (REPLICA IDENTITY
//!   FULL) or from an earlier change of the row in the same window; what is still missing stays
//!   [`Cell::Unchanged`] and is the caller's to read again. It is never NULL.
//! - TRUNCATE stands between two windows of its own.
//!
//! Pure. Memory is bounded by a window: a transaction may be of any size.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    pgoutput::{Message, OldTuple, PgoutputError, RelationMessage},
    replication::Frame,
};
use crate::change::{
    Action, Cell, Key, KeyError, Lsn, Operation, Relation, Row, Version, WindowOverflow, Windows,
};

/// What the caller has to do next.
#[derive(Debug)]
pub enum Step {
    /// The table has a new look: resolve its types and [`Assembler::learn`] it before the next frame.
    Relation(RelationMessage),
    /// A transaction begins.
    Begin {
        /// Its 32-bit transaction id.
        xid: u32,
    },
    /// A window of the open transaction is complete.
    Window(Vec<Operation>),
    /// The table is emptied, after the operations before it and before all that follow.
    Truncate {
        /// What came before in the transaction and has not been handed out yet.
        before: Vec<Operation>,
        /// The version that every document's delete carries.
        version: Version,
    },
    /// The transaction is complete.
    Commit {
        /// What has not been handed out yet.
        rest: Vec<Operation>,
        /// The LSN just after the commit record: what may be confirmed once all of it is resolved.
        end: Lsn,
    },
    /// Nothing is open, and nothing up to this LSN concerns the table.
    Idle {
        /// What the server has decoded so far.
        wal_end: Lsn,
    },
}

/// A stream that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// A message that is not understood.
    #[error("pgoutput message at {lsn}: {source}")]
    Message {
        /// The commit LSN of the transaction.
        lsn: Lsn,
        /// What is wrong with it.
        source: PgoutputError,
    },
    /// A row whose key cannot be told.
    #[error("a change in the transaction that commits at {lsn} has no usable key: {source}")]
    Key {
        /// The commit LSN of the transaction.
        lsn: Lsn,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Frames in an order that the protocol does not have.
    #[error("{0}")]
    Order(&'static str),
    /// A commit LSN that is not 8-byte aligned: the version rule would not hold.
    #[error("commit LSN {0} is not 8-byte aligned")]
    Unaligned(Lsn),
    /// A transaction with more windows than can be versioned.
    #[error("the transaction that commits at {lsn} is too large to be versioned: {source}")]
    TooLarge {
        /// Its commit LSN.
        lsn: Lsn,
        /// The bound.
        source: WindowOverflow,
    },
    /// A row with another number of columns than its relation.
    #[error(
        "a row in the transaction that commits at {lsn} has {cells} columns, its relation {columns}"
    )]
    Columns {
        /// The commit LSN of the transaction.
        lsn: Lsn,
        /// Columns sent.
        cells: usize,
        /// Columns known.
        columns: usize,
    },
}

/// Collects one transaction after the other.
#[derive(Debug, Default)]
pub struct Assembler {
    table: u32,
    relation: Option<Arc<Relation>>,
    open: Option<Open>,
}

/// The transaction being received.
#[derive(Debug)]
struct Open {
    commit: Lsn,
    windows: Windows,
    window: Window,
}

impl Assembler {
    /// For the changes of the table with this oid; those of other tables are passed over.
    #[must_use]
    pub fn new(table: u32) -> Self {
        Self {
            table,
            relation: None,
            open: None,
        }
    }

    /// Tells what the table looks like from the next row on.
    pub fn learn(&mut self, relation: Arc<Relation>) {
        self.relation = Some(relation);
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// The stream cannot be understood or versioned. Nothing after that may be confirmed.
    pub fn push(&mut self, frame: Frame) -> Result<Option<Step>, TransactionError> {
        match frame {
            Frame::Begin { commit, xid } => self.begin(commit, xid).map(Some),
            Frame::Message(bytes) => self.message(&bytes),
            Frame::Commit { commit, end, .. } => self.commit(commit, end).map(Some),
            // While a transaction is open, its own end is the next LSN that can be confirmed.
            Frame::Keepalive { wal_end } => {
                Ok(self.open.is_none().then_some(Step::Idle { wal_end }))
            }
        }
    }

    fn begin(&mut self, commit: Lsn, xid: u32) -> Result<Step, TransactionError> {
        if self.open.is_some() {
            return Err(TransactionError::Order(
                "a transaction begins inside another",
            ));
        }
        if !commit.0.is_multiple_of(8) {
            return Err(TransactionError::Unaligned(commit));
        }
        self.open = Some(Open {
            commit,
            windows: Windows::new(commit),
            window: Window::default(),
        });
        Ok(Step::Begin { xid })
    }

    fn commit(&mut self, commit: Lsn, end: Lsn) -> Result<Step, TransactionError> {
        let mut open = self
            .open
            .take()
            .ok_or(TransactionError::Order("a commit without a begin"))?;
        if open.commit != commit {
            return Err(TransactionError::Order(
                "a commit at another LSN than its begin announced",
            ));
        }
        Ok(Step::Commit {
            rest: open.close_window()?,
            end,
        })
    }

    fn message(&mut self, bytes: &Bytes) -> Result<Option<Step>, TransactionError> {
        // A logical message outside a transaction is the one thing that can stand here without one.
        let Some(open) = &mut self.open else {
            return match Message::parse(bytes) {
                Ok(Message::Other) => Ok(None),
                _ => Err(TransactionError::Order("a change outside a transaction")),
            };
        };
        let lsn = open.commit;
        let message =
            Message::parse(bytes).map_err(|source| TransactionError::Message { lsn, source })?;
        let table = self.table;
        let ours = |relation: u32| relation == table;
        let known = || {
            self.relation
                .clone()
                .ok_or(TransactionError::Order("a change before its relation"))
        };
        match message {
            Message::Relation(relation) if ours(relation.oid) => {
                return Ok(Some(Step::Relation(relation)));
            }
            Message::Insert { relation, new } if ours(relation) => {
                open.write(&known()?, bytes, None, new)?;
            }
            Message::Update { relation, old, new } if ours(relation) => {
                open.write(&known()?, bytes, old, new)?;
            }
            Message::Delete { relation, old } if ours(relation) => {
                open.delete(&known()?, bytes, old)?;
            }
            Message::Truncate { relations } if relations.contains(&table) => {
                return open.truncate().map(Some);
            }
            _ => return Ok(None),
        }
        if open.windows.count(bytes.len()) {
            return open
                .close_window()
                .map(|operations| Some(Step::Window(operations)));
        }
        Ok(None)
    }
}

impl Open {
    fn write(
        &mut self,
        relation: &Arc<Relation>,
        bytes: &Bytes,
        old: Option<OldTuple>,
        mut new: Vec<Cell>,
    ) -> Result<(), TransactionError> {
        let (old, full) = match old {
            Some(OldTuple::Full(cells)) => (Some(cells), true),
            Some(OldTuple::Key(cells)) => (Some(cells), false),
            None => (None, false),
        };
        // Both tuples are of one message, and their cells over the same bytes. A key that is stored out of
        // line is unchanged in the new one; PostgreSQL sends the old one then, where it stands.
        for (column, (cell, was)) in new.iter_mut().zip(old.iter().flatten()).enumerate() {
            if *cell == Cell::Unchanged && (full || column == relation.key) {
                cell.clone_from(was);
            }
        }
        let old = old.map(|cells| self.row(relation, bytes, cells));
        let old_key = old.transpose()?.map(|old| self.key(&old)).transpose()?;
        let mut row = self.row(relation, bytes, new)?;
        let key = self.key(&row)?;
        if row.has_unchanged()
            && let Some(earlier) = self.window.row(old_key.as_ref().unwrap_or(&key))
        {
            row = filled(row, earlier);
        }
        if let Some(old_key) = old_key.filter(|old| *old != key) {
            self.window.put(old_key, Action::Delete);
        }
        self.window.put(key, Action::Index(row));
        Ok(())
    }

    fn delete(
        &mut self,
        relation: &Arc<Relation>,
        bytes: &Bytes,
        old: OldTuple,
    ) -> Result<(), TransactionError> {
        let (OldTuple::Key(cells) | OldTuple::Full(cells)) = old;
        let row = self.row(relation, bytes, cells)?;
        let key = self.key(&row)?;
        self.window.put(key, Action::Delete);
        Ok(())
    }

    fn truncate(&mut self) -> Result<Step, TransactionError> {
        let before = self.close_window()?;
        let version = self.version()?;
        self.windows.cut();
        Ok(Step::Truncate { before, version })
    }

    fn close_window(&mut self) -> Result<Vec<Operation>, TransactionError> {
        let version = self.version()?;
        self.windows.cut();
        Ok(std::mem::take(&mut self.window).into_operations(version))
    }

    fn version(&self) -> Result<Version, TransactionError> {
        self.windows
            .version()
            .map_err(|source| TransactionError::TooLarge {
                lsn: self.commit,
                source,
            })
    }

    fn row(
        &self,
        relation: &Arc<Relation>,
        bytes: &Bytes,
        cells: Vec<Cell>,
    ) -> Result<Row, TransactionError> {
        if cells.len() != relation.columns.len() {
            return Err(TransactionError::Columns {
                lsn: self.commit,
                cells: cells.len(),
                columns: relation.columns.len(),
            });
        }
        Ok(Row {
            relation: relation.clone(),
            bytes: bytes.clone(),
            cells,
        })
    }

    fn key(&self, row: &Row) -> Result<Key, TransactionError> {
        row.key().map_err(|source| TransactionError::Key {
            lsn: self.commit,
            source,
        })
    }
}

/// The last operation of each key, in the order in which the keys first came.
#[derive(Debug, Default)]
struct Window {
    actions: Vec<(Key, Action)>,
    places: HashMap<Key, usize>,
}

impl Window {
    fn put(&mut self, key: Key, action: Action) {
        if let Some(&place) = self.places.get(&key) {
            self.actions[place].1 = action;
        } else {
            self.places.insert(key.clone(), self.actions.len());
            self.actions.push((key, action));
        }
    }

    fn row(&self, key: &Key) -> Option<&Row> {
        match &self.actions[*self.places.get(key)?].1 {
            Action::Index(row) => Some(row),
            Action::Delete => None,
        }
    }

    fn into_operations(self, version: Version) -> Vec<Operation> {
        self.actions
            .into_iter()
            .map(|(key, action)| Operation {
                key,
                version,
                action,
            })
            .collect()
    }
}

/// `row` with its unchanged cells taken from `from`, where that has them. The two must be of one
/// relation; a relation that changed in between has its values read again instead.
fn filled(row: Row, from: &Row) -> Row {
    if !Arc::ptr_eq(&row.relation, &from.relation) {
        return row;
    }
    let mut bytes = BytesMut::from(&row.bytes[..]);
    let cells = row
        .cells
        .into_iter()
        .zip(&from.cells)
        .map(|(cell, other)| {
            if cell == Cell::Unchanged {
                moved(other, from, &mut bytes)
            } else {
                cell
            }
        })
        .collect();
    Row {
        relation: row.relation,
        bytes: bytes.freeze(),
        cells,
    }
}

fn moved(cell: &Cell, from: &Row, bytes: &mut BytesMut) -> Cell {
    let mut copy = |range: &std::ops::Range<usize>| {
        let start = bytes.len();
        bytes.extend_from_slice(&from.bytes[range.clone()]);
        start..bytes.len()
    };
    match cell {
        Cell::Binary(range) => Cell::Binary(copy(range)),
        Cell::Text(range) => Cell::Text(copy(range)),
        other => other.clone(),
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
