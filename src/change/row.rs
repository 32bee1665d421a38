//! Relation, row, key, operation: the words that every later room speaks.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use super::Version;
use crate::value::{DecodeError, Type, Value, decode};

/// The table as it stood when a row was read or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid` of the table (of the root, for a partitioned table).
    pub oid: u32,
    /// Schema name, unquoted.
    pub schema: String,
    /// Table name, unquoted.
    pub name: String,
    /// The published columns, in the table's order.
    pub columns: Vec<Column>,
    /// Index of the key column in `columns`.
    pub key: usize,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Column name, unquoted.
    pub name: String,
    /// Its resolved type.
    pub ty: Arc<Type>,
}

/// One column's content in a row, by its place in the row's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// An out-of-line value that an UPDATE did not touch: not sent, and not NULL
    /// (manual: "Logical Replication Message Formats", `TupleData`, kind `u`).
    Unchanged,
    /// The binary form of the type's send function.
    Binary(Range<usize>),
    /// The text form, for a type without a send function.
    Text(Range<usize>),
}

/// A row: its relation and its cells over one shared buffer.
#[derive(Debug, Clone)]
pub struct Row {
    /// The relation that the cells belong to, column by column.
    pub relation: Arc<Relation>,
    /// The bytes that the cells point into.
    pub bytes: Bytes,
    /// One cell a column.
    pub cells: Vec<Cell>,
}

impl Row {
    /// The value of a column, decoded. An [`Cell::Unchanged`] cell is an error of the caller's:
    /// it must have been filled before anybody asks for the value.
    ///
    /// # Errors
    /// The bytes are not what the type's send function writes, or the cell is unchanged TOAST.
    pub fn value(&self, column: usize) -> Result<Value<'_>, DecodeError> {
        match &self.cells[column] {
            Cell::Null => Ok(Value::Null),
            Cell::Unchanged => Err(DecodeError::Unchanged),
            Cell::Binary(range) => decode(
                &self.relation.columns[column].ty,
                &self.bytes[range.clone()],
            ),
            Cell::Text(range) => std::str::from_utf8(&self.bytes[range.clone()])
                .map(|text| Value::Text(text.into()))
                .map_err(|_| DecodeError::NotUtf8),
        }
    }

    /// The key of this row.
    ///
    /// # Errors
    /// The key column is NULL, infinite, unchanged or not decodable.
    pub fn key(&self) -> Result<Key, KeyError> {
        let column = self.relation.key;
        match self.value(column)? {
            Value::Null if self.cells[column] != Cell::Null => Err(KeyError::Infinite),
            value => Key::from_value(&value),
        }
    }

    /// Whether a value is missing because an UPDATE did not touch it.
    #[must_use]
    pub fn has_unchanged(&self) -> bool {
        self.cells.contains(&Cell::Unchanged)
    }
}

/// A row's key in the text form that is its document's `_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

/// A key column that names no row.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key column holds NULL.
    #[error("the key is NULL")]
    Null,
    /// The key column holds `infinity` or `-infinity`, which is [`Value::Null`] to us.
    #[error("the key is an infinite date or time, for which a document has no form")]
    Infinite,
    /// The key's value has no text form that identifies a row.
    #[error("a key cannot be made from a value of this type")]
    Unsupported,
    /// The key's bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Key {
    /// A key from its text form.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text form of a key column's value: as PostgreSQL prints it for integers, text, uuid and
    /// decimals, and the document's form for dates and times.
    ///
    /// # Errors
    /// NULL, or a type that no key can have.
    pub fn from_value(value: &Value<'_>) -> Result<Self, KeyError> {
        match value {
            Value::Null => Err(KeyError::Null),
            Value::Bool(flag) => Ok(Self::new(if *flag { "true" } else { "false" })),
            Value::Int(number) => Ok(Self::new(itoa::Buffer::new().format(*number))),
            Value::Decimal(text) => Ok(Self::new(text)),
            Value::Text(text) => Ok(Self::new(text)),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is to be done with one key's document, at one version.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Whose document.
    pub key: Key,
    /// The external version that Elasticsearch compares.
    pub version: Version,
    /// Write or remove.
    pub action: Action,
}

/// The two things that can happen to a document.
#[derive(Debug, Clone)]
pub enum Action {
    /// The document becomes this row.
    Index(Row),
    /// The document goes.
    Delete,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Scalar, TypeKind};

    fn key(cell: Cell, bytes: &'static [u8]) -> Result<Key, KeyError> {
        let ty = Type {
            oid: 1082,
            name: "date".to_owned(),
            kind: TypeKind::Scalar(Scalar::Date),
        };
        let relation = Relation {
            oid: 1,
            schema: "public".to_owned(),
            name: "days".to_owned(),
            columns: vec![Column {
                name: "day".to_owned(),
                ty: Arc::new(ty),
            }],
            key: 0,
        };
        let row = Row {
            relation: Arc::new(relation),
            bytes: Bytes::from_static(bytes),
            cells: vec![cell],
        };
        row.key()
    }

    #[test]
    fn an_infinite_key_is_told_from_one_that_is_null() {
        assert_eq!(
            key(Cell::Binary(0..4), &[0; 4]).unwrap().as_str(),
            "2000-01-01"
        );
        let infinite = key(Cell::Binary(0..4), &[0x7f, 0xff, 0xff, 0xff]);
        assert!(matches!(infinite, Err(KeyError::Infinite)));
        assert!(matches!(key(Cell::Null, &[]), Err(KeyError::Null)));
    }
}
