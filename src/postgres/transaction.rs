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
            Frame::Commit { commit, end } => self.commit(commit, end).map(Some),
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
        new: Vec<Cell>,
    ) -> Result<(), TransactionError> {
        let mut row = self.row(relation, bytes, new)?;
        let (old_row, full) = match old {
            Some(OldTuple::Full(cells)) => (Some(self.row(relation, bytes, cells)?), true),
            Some(OldTuple::Key(cells)) => (Some(self.row(relation, bytes, cells)?), false),
            None => (None, false),
        };
        let key = self.key(&row)?;
        let old_key = old_row.as_ref().map(|old| self.key(old)).transpose()?;
        if row.has_unchanged() {
            if let Some(old) = old_row.filter(|_| full) {
                row = filled(row, &old);
            } else if let Some(earlier) = self.window.row(old_key.as_ref().unwrap_or(&key)) {
                row = filled(row, earlier);
            }
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
mod tests {
    use super::*;
    use crate::{
        change::Column,
        value::{Scalar, Type, TypeKind},
    };

    const TABLE: u32 = 7;
    const COMMIT: Lsn = Lsn(0x100_0000);

    /// An assembler that knows a table of two text columns, `hk` and `v`, inside a transaction.
    fn begun() -> Assembler {
        let text = Arc::new(Type {
            oid: 25,
            name: "text".to_owned(),
            kind: TypeKind::Scalar(Scalar::Text),
        });
        let column = |name: &str| Column {
            name: name.to_owned(),
            ty: text.clone(),
        };
        let mut assembler = Assembler::new(TABLE);
        assembler.learn(Arc::new(Relation {
            oid: TABLE,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            columns: vec![column("hk"), column("v")],
            key: 0,
        }));
        assert!(matches!(
            assembler.push(Frame::Begin {
                commit: COMMIT,
                xid: 3
            }),
            Ok(Some(Step::Begin { xid: 3 }))
        ));
        assembler
    }

    /// A tuple: `n` NULL, `u` unchanged, anything else a value.
    fn tuple(values: [&str; 2]) -> Vec<u8> {
        let mut bytes = 2_u16.to_be_bytes().to_vec();
        for value in values {
            match value {
                "n" | "u" => bytes.extend(value.bytes()),
                _ => {
                    bytes.push(b'b');
                    bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    bytes.extend(value.bytes());
                }
            }
        }
        bytes
    }

    fn message(kind: u8, relation: u32, parts: &[(u8, [&str; 2])]) -> Frame {
        let mut bytes = vec![kind];
        bytes.extend(relation.to_be_bytes());
        for (part, values) in parts {
            bytes.push(*part);
            bytes.extend(tuple(*values));
        }
        Frame::Message(bytes.into())
    }

    fn insert(key: &str, value: &str) -> Frame {
        message(b'I', TABLE, &[(b'N', [key, value])])
    }

    fn commit() -> Frame {
        Frame::Commit {
            commit: COMMIT,
            end: Lsn(COMMIT.0 + 48),
        }
    }

    /// Operations as `key=value`, `key=?` for an unchanged value, `key-` for a delete.
    fn told(operations: &[Operation]) -> Vec<String> {
        let tell = |operation: &Operation| match &operation.action {
            Action::Delete => format!("{}-", operation.key),
            Action::Index(row) => match row.value(1) {
                Ok(crate::value::Value::Text(text)) => format!("{}={text}", operation.key),
                Ok(_) => format!("{}=null", operation.key),
                Err(_) => format!("{}=?", operation.key),
            },
        };
        operations.iter().map(tell).collect()
    }

    /// What a transaction of these frames ends in, with the version of its only window.
    fn outcome(frames: impl IntoIterator<Item = Frame>) -> Vec<String> {
        let mut assembler = begun();
        for frame in frames {
            assert!(matches!(assembler.push(frame), Ok(None)));
        }
        let Ok(Some(Step::Commit { rest, end })) = assembler.push(commit()) else {
            panic!("no commit")
        };
        assert_eq!(end, Lsn(COMMIT.0 + 48));
        assert!(
            rest.iter()
                .all(|operation| operation.version == Version::of_commit(COMMIT))
        );
        told(&rest)
    }

    #[test]
    fn only_the_last_operation_of_a_key_is_left() {
        let delete = |key| message(b'D', TABLE, &[(b'K', [key, "n"])]);
        assert_eq!(
            outcome([
                insert("a", "1"),
                insert("b", "1"),
                delete("a"),
                insert("a", "2")
            ]),
            ["a=2", "b=1"]
        );
        assert_eq!(outcome([insert("a", "1"), delete("a")]), ["a-"]);
    }

    #[test]
    fn a_changed_key_is_a_delete_and_a_write_also_in_a_cycle() {
        let rename =
            |old, new, value| message(b'U', TABLE, &[(b'K', [old, "n"]), (b'N', [new, value])]);
        assert_eq!(outcome([rename("a", "b", "1")]), ["a-", "b=1"]);
        assert_eq!(
            outcome([
                rename("a", "t", "1"),
                rename("b", "a", "2"),
                rename("t", "b", "1")
            ]),
            ["a=2", "t-", "b=1"]
        );
    }

    #[test]
    fn an_unchanged_value_comes_from_the_old_row_or_an_earlier_change_and_is_never_null() {
        let full = message(b'U', TABLE, &[(b'O', ["a", "old"]), (b'N', ["a", "u"])]);
        assert_eq!(outcome([full]), ["a=old"]);
        let partial = || message(b'U', TABLE, &[(b'N', ["a", "u"])]);
        assert_eq!(outcome([insert("a", "1"), partial()]), ["a=1"]);
        assert_eq!(outcome([partial()]), ["a=?"]);
        let renamed = message(b'U', TABLE, &[(b'K', ["a", "n"]), (b'N', ["b", "u"])]);
        assert_eq!(outcome([insert("a", "1"), renamed]), ["a-", "b=1"]);
        let null = message(b'U', TABLE, &[(b'N', ["a", "n"])]);
        assert_eq!(outcome([insert("a", "1"), null, partial()]), ["a=null"]);
    }

    #[test]
    fn other_tables_of_the_publication_are_passed_over() {
        assert_eq!(
            outcome([message(b'I', 8, &[(b'N', ["x", "1"])]), insert("a", "1")]),
            ["a=1"]
        );
    }

    #[test]
    fn a_truncate_stands_between_two_windows() {
        let mut assembler = begun();
        assembler.push(insert("a", "1")).unwrap();
        let mut bytes = b"T\0\0\0\x01\0".to_vec();
        bytes.extend(TABLE.to_be_bytes());
        let Ok(Some(Step::Truncate { before, version })) =
            assembler.push(Frame::Message(bytes.into()))
        else {
            panic!("no truncate")
        };
        assembler.push(insert("b", "1")).unwrap();
        let Ok(Some(Step::Commit { rest, .. })) = assembler.push(commit()) else {
            panic!("no commit")
        };
        assert_eq!(
            (told(&before), told(&rest)),
            (vec!["a=1".to_owned()], vec!["b=1".to_owned()])
        );
        assert!(before[0].version < version && version < rest[0].version);
    }

    #[test]
    fn a_large_transaction_comes_in_windows_of_rising_versions() {
        let mut assembler = begun();
        let mut windows = Vec::new();
        for number in 0..=Windows::MAX_CHANGES {
            if let Some(Step::Window(operations)) =
                assembler.push(insert(&number.to_string(), "1")).unwrap()
            {
                windows.push(operations);
            }
        }
        let Ok(Some(Step::Commit { rest, .. })) = assembler.push(commit()) else {
            panic!("no commit")
        };
        assert_eq!(
            (windows.len(), windows[0].len(), rest.len()),
            (1, Windows::MAX_CHANGES as usize, 1)
        );
        assert_eq!(windows[0][0].version.0 + 1, rest[0].version.0);
    }

    #[test]
    fn a_keepalive_counts_only_between_transactions() {
        let mut assembler = begun();
        let keepalive = || Frame::Keepalive {
            wal_end: Lsn(0x200_0000),
        };
        assert!(matches!(assembler.push(keepalive()), Ok(None)));
        assembler.push(commit()).unwrap();
        assert!(matches!(
            assembler.push(keepalive()),
            Ok(Some(Step::Idle {
                wal_end: Lsn(0x200_0000)
            }))
        ));
    }

    #[test]
    fn a_stream_that_makes_no_sense_is_an_error() {
        assert!(matches!(
            begun().push(Frame::Begin {
                commit: COMMIT,
                xid: 4
            }),
            Err(TransactionError::Order(_))
        ));
        assert!(matches!(
            begun().push(Frame::Commit {
                commit: Lsn(8),
                end: Lsn(16)
            }),
            Err(TransactionError::Order(_))
        ));
        assert!(matches!(
            Assembler::new(TABLE).push(insert("a", "1")),
            Err(TransactionError::Order(_))
        ));
        assert!(matches!(
            Assembler::new(TABLE).push(Frame::Begin {
                commit: Lsn(12),
                xid: 1
            }),
            Err(TransactionError::Unaligned(_))
        ));
        assert!(matches!(
            begun().push(message(b'I', TABLE, &[(b'N', ["n", "1"])])),
            Err(TransactionError::Key { .. })
        ));
    }
}
