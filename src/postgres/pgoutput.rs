//! One pgoutput message: bytes to typed (manual: "Logical Replication Message Formats").
//!
//! Cells stay where they came, as ranges over the message, so a row is never copied. Begin, Commit and
//! logical messages are read by the replication client and do not come here. Every length is checked: a
//! message that is not understood ends the stream, because going on past it would lose changes.

use std::ops::Range;

use crate::change::Cell;

/// A message about a relation or a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// `R`: what a relation looks like; sent before its first change and after each DDL.
    Relation(RelationMessage),
    /// `I`
    Insert {
        /// The relation's oid.
        relation: u32,
        /// The new row.
        new: Vec<Cell>,
    },
    /// `U`
    Update {
        /// The relation's oid.
        relation: u32,
        /// The old row or key, if it was sent.
        old: Option<OldTuple>,
        /// The new row; out-of-line values that were not touched are [`Cell::Unchanged`].
        new: Vec<Cell>,
    },
    /// `D`
    Delete {
        /// The relation's oid.
        relation: u32,
        /// The old row or key.
        old: OldTuple,
    },
    /// `T`: CASCADE and RESTART IDENTITY do not matter here, every relation hit is listed.
    Truncate {
        /// Oids of the emptied relations.
        relations: Vec<u32>,
    },
    /// `Y`, `O`: types (their facts come from the catalog) and origins; `M`, a logical message, would be
    /// another, but the client does not pass it on.
    Other,
}

/// The content of an `R` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name; empty for `pg_catalog`.
    pub schema: String,
    /// Table name.
    pub name: String,
    /// The published columns in order.
    pub columns: Vec<ColumnMessage>,
}

/// A column of an `R` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMessage {
    /// Part of the replica identity.
    pub identity: bool,
    /// Column name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
}

/// What an UPDATE or DELETE tells of the row before it.
#[derive(Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// `K`: the replica identity's columns; the others are not sent and stand as NULL.
    Key(Vec<Cell>),
    /// `O`: the whole row (REPLICA IDENTITY FULL).
    Full(Vec<Cell>),
}

/// Bytes that are no pgoutput message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgoutputError {
    /// The message ends inside a field.
    #[error("the message ends at byte {at}, inside a field")]
    Truncated {
        /// Where the field starts.
        at: usize,
    },
    /// Bytes are left after the message's end.
    #[error("{count} bytes are left after the message's end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A kind byte that the protocol version asked for does not have.
    #[error("unknown {what} {:?}", char::from(*kind))]
    Unknown {
        /// Kind of what.
        what: &'static str,
        /// The byte.
        kind: u8,
    },
    /// A name is not UTF-8.
    #[error("a name is not UTF-8")]
    NotUtf8,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// The bytes are not a message of protocol version 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, PgoutputError> {
        let mut reader = Reader { bytes, at: 0 };
        let message = match reader.u8()? {
            b'R' => Self::Relation(relation(&mut reader)?),
            b'I' => {
                let relation = reader.u32()?;
                reader.expect(b'N', "tuple in an INSERT")?;
                Self::Insert {
                    relation,
                    new: reader.tuple()?,
                }
            }
            b'U' => update(&mut reader)?,
            b'D' => Self::Delete {
                relation: reader.u32()?,
                old: old_tuple(&mut reader)?,
            },
            b'T' => truncate(&mut reader)?,
            b'Y' | b'O' | b'M' => return Ok(Self::Other),
            kind => {
                return Err(PgoutputError::Unknown {
                    what: "message",
                    kind,
                });
            }
        };
        match bytes.len() - reader.at {
            0 => Ok(message),
            count => Err(PgoutputError::Trailing { count }),
        }
    }
}

fn relation(reader: &mut Reader<'_>) -> Result<RelationMessage, PgoutputError> {
    let (oid, schema, name) = (reader.u32()?, reader.name()?, reader.name()?);
    let (_identity, count) = (reader.u8()?, reader.u16()?);
    let mut columns = Vec::with_capacity(count.into());
    for _ in 0..count {
        let identity = reader.u8()? & 1 == 1;
        let (name, type_oid) = (reader.name()?, reader.u32()?);
        let _type_modifier = reader.u32()?;
        columns.push(ColumnMessage {
            identity,
            name,
            type_oid,
        });
    }
    Ok(RelationMessage {
        oid,
        schema,
        name,
        columns,
    })
}

fn update(reader: &mut Reader<'_>) -> Result<Message, PgoutputError> {
    let relation = reader.u32()?;
    let old = if reader.peek()? == b'N' {
        None
    } else {
        Some(old_tuple(reader)?)
    };
    reader.expect(b'N', "tuple in an UPDATE")?;
    Ok(Message::Update {
        relation,
        old,
        new: reader.tuple()?,
    })
}

fn old_tuple(reader: &mut Reader<'_>) -> Result<OldTuple, PgoutputError> {
    match reader.u8()? {
        b'K' => Ok(OldTuple::Key(reader.tuple()?)),
        b'O' => Ok(OldTuple::Full(reader.tuple()?)),
        kind => Err(PgoutputError::Unknown {
            what: "old tuple",
            kind,
        }),
    }
}

fn truncate(reader: &mut Reader<'_>) -> Result<Message, PgoutputError> {
    let count = reader.u32()?;
    let _options = reader.u8()?;
    let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(Message::Truncate { relations })
}

/// Reads big-endian fields in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<Range<usize>, PgoutputError> {
        let start = self.at;
        match start.checked_add(count) {
            Some(end) if end <= self.bytes.len() => {
                self.at = end;
                Ok(start..end)
            }
            _ => Err(PgoutputError::Truncated { at: start }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgoutputError> {
        let range = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    fn peek(&self) -> Result<u8, PgoutputError> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(PgoutputError::Truncated { at: self.at })
    }

    fn u8(&mut self) -> Result<u8, PgoutputError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, PgoutputError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, PgoutputError> {
        self.array().map(u32::from_be_bytes)
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), PgoutputError> {
        match self.u8()? {
            kind if kind == wanted => Ok(()),
            kind => Err(PgoutputError::Unknown { what, kind }),
        }
    }

    fn name(&mut self) -> Result<String, PgoutputError> {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(PgoutputError::Truncated { at: self.at })?;
        let name = std::str::from_utf8(&rest[..end])
            .map_err(|_| PgoutputError::NotUtf8)?
            .to_owned();
        self.at += end + 1;
        Ok(name)
    }

    fn tuple(&mut self) -> Result<Vec<Cell>, PgoutputError> {
        let count = self.u16()?;
        (0..count).map(|_| self.cell()).collect()
    }

    fn cell(&mut self) -> Result<Cell, PgoutputError> {
        match self.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => self.sized().map(Cell::Text),
            b'b' => self.sized().map(Cell::Binary),
            kind => Err(PgoutputError::Unknown {
                what: "column kind",
                kind,
            }),
        }
    }

    fn sized(&mut self) -> Result<Range<usize>, PgoutputError> {
        let at = self.at;
        let length = usize::try_from(self.u32()?).map_err(|_| PgoutputError::Truncated { at })?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_relation_message_gives_its_columns_and_identity() {
        let bytes = b"R\0\0\x40\x01public\0t\0d\0\x02\x01hk\0\0\0\0\x19\xff\xff\xff\xff\0n\0\0\0\0\x17\xff\xff\xff\xff";
        let Message::Relation(relation) = Message::parse(bytes).unwrap() else {
            panic!("not a relation")
        };
        assert_eq!(relation.oid, 0x4001);
        assert_eq!(
            (relation.schema.as_str(), relation.name.as_str()),
            ("public", "t")
        );
        assert!(relation.columns[0].identity && !relation.columns[1].identity);
        assert_eq!(relation.columns[1].type_oid, 23);
    }

    #[test]
    fn an_update_keeps_unchanged_apart_from_null() {
        let bytes = b"U\0\0\0\x07K\0\x01b\0\0\0\x01aN\0\x03b\0\0\0\x01cun";
        let Message::Update {
            relation: 7,
            old: Some(OldTuple::Key(old)),
            new,
        } = Message::parse(bytes).unwrap()
        else {
            panic!("not an update with an old key")
        };
        assert_eq!(old, [Cell::Binary(13..14)]);
        assert_eq!(new, [Cell::Binary(22..23), Cell::Unchanged, Cell::Null]);
        assert_eq!(&bytes[22..23], b"c");
    }

    #[test]
    fn a_truncate_lists_every_relation() {
        let bytes = b"T\0\0\0\x02\x01\0\0\0\x07\0\0\0\x08";
        assert_eq!(
            Message::parse(bytes).unwrap(),
            Message::Truncate {
                relations: vec![7, 8]
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_never_skipped() {
        assert_eq!(
            Message::parse(b"Z"),
            Err(PgoutputError::Unknown {
                what: "message",
                kind: b'Z'
            })
        );
        assert_eq!(
            Message::parse(b"I\0\0\0\x07N\0\x01x"),
            Err(PgoutputError::Unknown {
                what: "column kind",
                kind: b'x'
            })
        );
        assert_eq!(
            Message::parse(b"I\0\0\0\x07N\0\x01b\0\0\0\x09a"),
            Err(PgoutputError::Truncated { at: 13 })
        );
        assert_eq!(
            Message::parse(b"I\0\0\0\x07N\0\0!"),
            Err(PgoutputError::Trailing { count: 1 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in prop::sample::select(b"RIUDTYOM".to_vec()), rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = vec![kind];
            bytes.extend(rest);
            let _ = Message::parse(&bytes);
        }
    }
}
