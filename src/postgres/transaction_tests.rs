//! The assembler on frames as the server sends them.

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
        at: 0,
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
fn an_unchanged_key_is_the_one_of_the_old_tuple() {
    let change = |part, value| message(b'U', TABLE, &[(part, ["a", "n"]), (b'N', ["u", value])]);
    assert_eq!(outcome([change(b'K', "2")]), ["a=2"]);
    assert_eq!(outcome([change(b'K', "u")]), ["a=?"]);
    assert_eq!(outcome([insert("a", "1"), change(b'K', "u")]), ["a=1"]);
    assert_eq!(outcome([change(b'O', "u")]), ["a=null"]);
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
    let Ok(Some(Step::Truncate { before, version })) = assembler.push(Frame::Message(bytes.into()))
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
            end: Lsn(16),
            at: 0,
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
