//! Every form against bytes that a server sent: `captured.txt` has, a line each, the SQL that
//! sends a value, the bytes that PostgreSQL 15 answered (17 for pgvector and the infinite
//! interval), and what they must become. The same bytes, cut and garbled, must never make the
//! decoder panic.

use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Field, Scalar, Type, TypeKind, Value, decode};

struct Captured {
    sql: &'static str,
    ty: Type,
    bytes: Vec<u8>,
    expected: &'static str,
}

fn captured() -> Vec<Captured> {
    let lines = include_str!("captured.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let parts: Vec<&str> = line.split(" => ").collect();
            let [sql, hex, expected] = parts[..] else {
                panic!("not three parts: {line}");
            };
            let hex = hex.trim().as_bytes();
            let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
            Captured {
                sql,
                ty: type_of(sql),
                bytes: hex
                    .chunks(2)
                    .map(|p| digit(p[0]) * 16 + digit(p[1]))
                    .collect(),
                expected,
            }
        })
        .collect()
}

/// The type whose value the SQL sends: by the send function, or by the cast for a container.
fn type_of(sql: &str) -> Type {
    let (send, argument) = sql.split_once('(').unwrap();
    let known = Scalar::written_by(send).or_else(|| Scalar::written_by_extension(send));
    if let Some(scalar) = known {
        return Type {
            oid: 0,
            name: send.into(),
            kind: TypeKind::Scalar(scalar),
        };
    }
    let (_, name) = argument.trim_end_matches(')').rsplit_once("::").unwrap();
    named(name)
}

fn named(name: &str) -> Type {
    let child = |name: &str| Arc::new(named(name));
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: child(ty),
    };
    let (oid, kind) = match name {
        "int2vector" => (22, TypeKind::Array(child("int2"))),
        "text[]" => (1009, TypeKind::Array(child("text"))),
        _ if name.ends_with("[]") => (0, TypeKind::Array(child(&name[..name.len() - 2]))),
        "int2" => (21, TypeKind::Scalar(Scalar::Int2)),
        "int4" => (23, TypeKind::Scalar(Scalar::Int4)),
        "int8" => (20, TypeKind::Scalar(Scalar::Int8)),
        "text" => (25, TypeKind::Scalar(Scalar::Text)),
        "float4" => (700, TypeKind::Scalar(Scalar::Float4)),
        "float8" => (701, TypeKind::Scalar(Scalar::Float8)),
        "numeric" => (1700, TypeKind::Scalar(Scalar::Numeric)),
        "date" => (1082, TypeKind::Scalar(Scalar::Date)),
        "timestamp" => (1114, TypeKind::Scalar(Scalar::Timestamp)),
        "timestamptz" => (1184, TypeKind::Scalar(Scalar::TimestampTz)),
        "int4range" => (3904, TypeKind::Range(child("int4"))),
        "int8range" => (3926, TypeKind::Range(child("int8"))),
        "numrange" => (3906, TypeKind::Range(child("numeric"))),
        "daterange" => (3912, TypeKind::Range(child("date"))),
        "tsrange" => (3908, TypeKind::Range(child("timestamp"))),
        "tstzrange" => (3910, TypeKind::Range(child("timestamptz"))),
        "int4multirange" => (4451, TypeKind::Multirange(child("int4"))),
        "nummultirange" => (4532, TypeKind::Multirange(child("numeric"))),
        "mood" => (16808, TypeKind::Enum),
        "positive" => (16814, TypeKind::Domain(child("int4"))),
        "inner_pair" => (
            16818,
            TypeKind::Composite(vec![field("a", "int4"), field("b", "text")]),
        ),
        "outer_pair" => (
            16821,
            TypeKind::Composite(vec![
                field("the pair", "inner_pair"),
                field("moods", "text[]"),
                field("at", "date"),
            ]),
        ),
        _ => panic!("no such type here: {name}"),
    };
    Type {
        oid,
        name: name.into(),
        kind,
    }
}

/// A value in a line: floats between angle brackets are a run of `float4`, `n` marks a decimal.
fn render(value: &Value<'_>) -> String {
    let list = |values: &[Value<'_>]| values.iter().map(render).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float4(float) => format!("{float:?}f"),
        Value::Float8(float) => format!("{float:?}"),
        Value::Decimal(text) => format!("{text}n"),
        Value::Text(text) => format!("'{text}'"),
        Value::Json(text) => format!("json {text}"),
        Value::Floats(floats) => {
            let floats: Vec<String> = floats.iter().map(|float| format!("{float:?}")).collect();
            format!("<{}>", floats.join(" "))
        }
        Value::Array(values) => format!("[{}]", list(values)),
        Value::Object(members) => {
            let mut out = String::from("{");
            for (index, (name, value)) in members.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(out, "{comma}{name}: {}", render(value)).unwrap();
            }
            out + "}"
        }
    }
}

#[test]
fn what_a_server_sent_becomes_what_the_table_says() {
    for case in captured() {
        let decoded = decode(&case.ty, &case.bytes);
        let decoded = decoded.map_or_else(|error| error.to_string(), |value| render(&value));
        assert_eq!(decoded, case.expected, "{}", case.sql);
    }
}

#[test]
fn a_type_can_be_a_key_where_its_values_are_one_word_each() {
    for case in captured() {
        let value = match decode(&case.ty, &case.bytes) {
            Ok(Value::Null) | Err(_) => continue,
            Ok(value) => value,
        };
        // As `Key::from_value` has it.
        let one_word = matches!(
            value,
            Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Text(_)
        );
        assert_eq!(case.ty.can_be_key(), one_word, "{}", case.sql);
    }
}

#[test]
fn every_form_that_the_decoder_reads_was_captured() {
    // SentAsText alone is left out: it has no binary form.
    let cases = captured();
    for scalar in [
        Scalar::Bool,
        Scalar::Int2,
        Scalar::Int4,
        Scalar::Int8,
        Scalar::Oid,
        Scalar::Xid8,
        Scalar::Float4,
        Scalar::Float8,
        Scalar::Numeric,
        Scalar::Money,
        Scalar::Text,
        Scalar::Char,
        Scalar::VersionedText,
        Scalar::Json,
        Scalar::Jsonb,
        Scalar::Bytea,
        Scalar::Uuid,
        Scalar::Bit,
        Scalar::Date,
        Scalar::Time,
        Scalar::TimeTz,
        Scalar::Timestamp,
        Scalar::TimestampTz,
        Scalar::Interval,
        Scalar::Inet,
        Scalar::Cidr,
        Scalar::MacAddr,
        Scalar::Point,
        Scalar::Line,
        Scalar::LineSegment,
        Scalar::Box,
        Scalar::Path,
        Scalar::Polygon,
        Scalar::Circle,
        Scalar::TsVector,
        Scalar::TsQuery,
        Scalar::PgLsn,
        Scalar::Tid,
        Scalar::Snapshot,
        Scalar::Hstore,
        Scalar::Vector,
        Scalar::HalfVector,
        Scalar::SparseVector,
    ] {
        let kind = TypeKind::Scalar(scalar);
        assert!(cases.iter().any(|case| case.ty.kind == kind), "{scalar:?}");
    }
}

#[test]
fn a_value_cut_anywhere_or_with_a_byte_too_many_is_an_error() {
    let open_ended = |ty: &Type| match ty.kind {
        TypeKind::Enum => true,
        TypeKind::Scalar(scalar) => matches!(
            scalar,
            Scalar::Text | Scalar::VersionedText | Scalar::Json | Scalar::Jsonb | Scalar::Bytea
        ),
        _ => false,
    };
    for case in captured().into_iter().filter(|case| !open_ended(&case.ty)) {
        for length in 0..case.bytes.len() {
            // Six of the eight bytes of a macaddr8 are a macaddr.
            if case.sql.starts_with("macaddr8_send") && length == 6 {
                continue;
            }
            assert!(
                decode(&case.ty, &case.bytes[..length]).is_err(),
                "{} {length}",
                case.sql
            );
        }
        let longer = [&case.bytes[..], &[0]].concat();
        assert!(decode(&case.ty, &longer).is_err(), "{}", case.sql);
    }
}

#[test]
fn an_altered_type_is_noticed() {
    let case = |ty: &Type, sql: &str| {
        let cases = captured();
        let found = cases.iter().find(|case| case.sql.contains(sql)).unwrap();
        decode(ty, &found.bytes).unwrap_err().to_string()
    };
    let error = case(&named("int8[]"), "::int4[]");
    assert!(
        error.contains("type 23 stands where type 20 was expected"),
        "{error}"
    );
    let error = case(&named("inner_pair"), "::outer_pair");
    assert!(error.contains("3 members where 2 were expected"), "{error}");
}

proptest! {
    #[test]
    fn garbled_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut case in captured() {
            for (at, byte) in &flips {
                if !case.bytes.is_empty() {
                    let at = at.index(case.bytes.len());
                    case.bytes[at] = *byte;
                }
            }
            let _ = decode(&case.ty, &case.bytes);
            case.bytes.truncate(cut.index(case.bytes.len() + 1));
            let _ = decode(&case.ty, &case.bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for case in captured() {
            let _ = decode(&case.ty, &bytes);
        }
    }
}
