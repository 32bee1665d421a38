//! Wire bytes of any type to a document: decoded or refused, and what comes out is one line, of JSON
//! that another parser reads.
//!
//! Input: a byte that chooses the type, then the value's bytes.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sync_es::{
    change::{Cell, Column, Relation, Row},
    document::{Layout, Shape},
    value::{Field, Scalar, Type, TypeKind, Value},
};

/// A table of one column, and how its document is made.
struct Table {
    relation: Arc<Relation>,
    layout: Layout,
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| types().into_iter().map(table).collect());

fuzz_target!(|input: &[u8]| {
    let Some((&chosen, bytes)) = input.split_first() else {
        return;
    };
    let table = &TABLES[usize::from(chosen) % TABLES.len()];
    let row = Row {
        relation: table.relation.clone(),
        bytes: bytes.to_vec().into(),
        cells: vec![Cell::Binary(0..bytes.len())],
    };
    let Ok(value) = row.value(0) else {
        return;
    };
    let mut document = Vec::new();
    table
        .layout
        .encode(&row, &mut document)
        .expect("a value that was read can be written");
    assert!(
        !document.contains(&b'\n'),
        "a line of its own in a bulk body"
    );
    // PostgreSQL has checked the JSON that it sends; what it would not send may become anything.
    if holds_broken_json(&value) {
        return;
    }
    let mut reader = serde_json::Deserializer::from_slice(&document);
    reader.disable_recursion_limit();
    let read = <serde::de::IgnoredAny as serde::Deserialize>::deserialize(&mut reader);
    read.and_then(|_| reader.end())
        .expect("the document is JSON");
});

fn holds_broken_json(value: &Value<'_>) -> bool {
    match value {
        Value::Json(text) => serde_json::from_str::<serde::de::IgnoredAny>(text).is_err(),
        Value::Array(values) => values.iter().any(holds_broken_json),
        Value::Object(members) => members.iter().any(|(_, value)| holds_broken_json(value)),
        _ => false,
    }
}

fn table(ty: Type) -> Table {
    let relation = Relation {
        oid: 1,
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns: vec![Column {
            name: "c".to_owned(),
            ty: Arc::new(ty),
        }],
        key: 0,
    };
    let shape = Shape::for_table("t", None, 3).expect("the default shape");
    let layout = shape.bind(&relation).expect("the shape fits");
    Table {
        relation: Arc::new(relation),
        layout,
    }
}

/// Every form by itself, then the types that are made of types.
fn types() -> Vec<Type> {
    let mut types: Vec<Type> = SCALARS
        .iter()
        .map(|(_, scalar)| Type::clone(&ty(*scalar)))
        .collect();
    let named = |oid, kind| Type {
        oid,
        name: "made".to_owned(),
        kind,
    };
    for (_, element) in SCALARS {
        types.push(named(9000, TypeKind::Array(ty(element))));
    }
    for bound in [
        Scalar::Int4,
        Scalar::Int8,
        Scalar::Numeric,
        Scalar::Date,
        Scalar::Timestamp,
        Scalar::TimestampTz,
        Scalar::Float8,
    ] {
        types.push(named(9001, TypeKind::Range(ty(bound))));
        types.push(named(9002, TypeKind::Multirange(ty(bound))));
    }
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    let inner = Arc::new(named(
        9003,
        TypeKind::Composite(vec![
            field("a", ty(Scalar::Int4)),
            field("b\"\n", ty(Scalar::Text)),
        ]),
    ));
    types.push(named(9004, TypeKind::Array(inner.clone())));
    types.push(named(
        9005,
        TypeKind::Composite(vec![
            field("pair", inner),
            field("json", ty(Scalar::Jsonb)),
            field(
                "list",
                Arc::new(named(9006, TypeKind::Array(ty(Scalar::Float4)))),
            ),
        ]),
    ));
    types.push(named(9007, TypeKind::Enum));
    types.push(named(9008, TypeKind::Domain(ty(Scalar::Numeric))));
    types
}

fn ty(scalar: Scalar) -> Arc<Type> {
    let oid = SCALARS
        .iter()
        .find(|(_, one)| *one == scalar)
        .map_or(0, |(oid, _)| *oid);
    Arc::new(Type {
        oid,
        name: "base".to_owned(),
        kind: TypeKind::Scalar(scalar),
    })
}

/// With the OIDs that PostgreSQL gives them, so that captured bytes fit.
const SCALARS: [(u32, Scalar); 43] = [
    (16, Scalar::Bool),
    (21, Scalar::Int2),
    (23, Scalar::Int4),
    (20, Scalar::Int8),
    (26, Scalar::Oid),
    (5069, Scalar::Xid8),
    (700, Scalar::Float4),
    (701, Scalar::Float8),
    (1700, Scalar::Numeric),
    (790, Scalar::Money),
    (25, Scalar::Text),
    (18, Scalar::Char),
    (4072, Scalar::VersionedText),
    (114, Scalar::Json),
    (3802, Scalar::Jsonb),
    (17, Scalar::Bytea),
    (2950, Scalar::Uuid),
    (1560, Scalar::Bit),
    (1082, Scalar::Date),
    (1083, Scalar::Time),
    (1266, Scalar::TimeTz),
    (1114, Scalar::Timestamp),
    (1184, Scalar::TimestampTz),
    (1186, Scalar::Interval),
    (869, Scalar::Inet),
    (650, Scalar::Cidr),
    (829, Scalar::MacAddr),
    (600, Scalar::Point),
    (628, Scalar::Line),
    (601, Scalar::LineSegment),
    (603, Scalar::Box),
    (602, Scalar::Path),
    (604, Scalar::Polygon),
    (718, Scalar::Circle),
    (3614, Scalar::TsVector),
    (3615, Scalar::TsQuery),
    (3220, Scalar::PgLsn),
    (27, Scalar::Tid),
    (5038, Scalar::Snapshot),
    (8001, Scalar::Hstore),
    (8002, Scalar::Vector),
    (8003, Scalar::HalfVector),
    (8004, Scalar::SparseVector),
];
