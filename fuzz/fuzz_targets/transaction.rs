//! A stream of frames: each is taken or the stream ends, a window has a key once, and versions never
//! go back.
//!
//! Input: frames, each a byte for its kind and then its content; a message has its length before it.

#![no_main]

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sync_es::{
    change::{Column, Lsn, Operation, Relation, Version},
    postgres::{Assembler, Frame, RelationMessage, Step},
    value::{Scalar, Type, TypeKind},
};

const TABLE: u32 = 7;

fuzz_target!(|input: &[u8]| {
    let mut assembler = Assembler::new(TABLE);
    let mut last = Version(0);
    for frame in frames(input) {
        let Ok(step) = assembler.push(frame) else {
            return;
        };
        match step {
            Some(Step::Relation(message)) => match relation(&message) {
                Some(relation) => assembler.learn(Arc::new(relation)),
                None => return,
            },
            Some(
                Step::Window(operations)
                | Step::Commit {
                    rest: operations, ..
                },
            ) => {
                check(&operations, &mut last);
            }
            Some(Step::Truncate { before, version }) => {
                check(&before, &mut last);
                assert!(before.iter().all(|operation| operation.version < version));
                last = version;
            }
            Some(Step::Begin { .. } | Step::Idle { .. }) | None => {}
        }
    }
});

/// Commits come in LSN order, as the server sends them.
fn frames(input: &[u8]) -> impl Iterator<Item = Frame> {
    let mut rest = input;
    let mut commit = Lsn(1 << 20);
    std::iter::from_fn(move || {
        let (&kind, after) = rest.split_first()?;
        rest = after;
        Some(match kind {
            b'B' => Frame::Begin { commit, xid: 1 },
            b'C' => {
                let frame = Frame::Commit {
                    commit,
                    end: Lsn(commit.0 + 40),
                    at: 0,
                };
                commit = Lsn(commit.0 + 48);
                frame
            }
            b'K' => Frame::Keepalive { wal_end: commit },
            _ => {
                let (length, after) = rest.split_first_chunk::<2>()?;
                let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
                let (message, after) = after.split_at(length);
                rest = after;
                Frame::Message(Bytes::copy_from_slice(message))
            }
        })
    })
}

/// The table as the message describes it, its columns of a few types in turn.
fn relation(message: &RelationMessage) -> Option<Relation> {
    let kinds = [Scalar::Text, Scalar::Int4, Scalar::Numeric, Scalar::Jsonb];
    let columns = message.columns.iter().zip(kinds.into_iter().cycle());
    let columns: Vec<Column> = columns
        .map(|(column, scalar)| Column {
            name: column.name.clone(),
            ty: Arc::new(Type {
                oid: column.type_oid,
                name: "t".to_owned(),
                kind: TypeKind::Scalar(scalar),
            }),
        })
        .collect();
    (!columns.is_empty()).then(|| Relation {
        oid: message.oid,
        schema: message.schema.clone(),
        name: message.name.clone(),
        columns,
        key: 0,
    })
}

fn check(operations: &[Operation], last: &mut Version) {
    let mut keys = HashSet::new();
    for operation in operations {
        assert!(
            keys.insert(operation.key.as_str()),
            "a key twice in a window"
        );
        assert!(operation.version >= *last, "a version goes back");
    }
    if let Some(operation) = operations.first() {
        *last = operation.version;
    }
}
