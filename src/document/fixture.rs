//! Rows in PostgreSQL's binary form, for the tests of this room.

use std::sync::Arc;

use super::{Layout, Shape, TemplateOptions};
use crate::{
    change::{Cell, Column, Relation, Row},
    value::{Scalar, Type, TypeKind},
};

/// A column of a test's row: name, type, and the value's bytes unless it is NULL.
pub(super) type Given = (&'static str, Arc<Type>, Option<Vec<u8>>);

pub(super) fn ty(oid: u32, name: &str, kind: TypeKind) -> Arc<Type> {
    let name = name.to_owned();
    Arc::new(Type { oid, name, kind })
}

/// A base type under a name of its own, so that messages can be compared.
pub(super) fn scalar(scalar: Scalar) -> Arc<Type> {
    let name = format!("{scalar:?}").to_lowercase();
    ty(scalar as u32 + 1, &name, TypeKind::Scalar(scalar))
}

pub(super) fn array_of(element: Scalar) -> Arc<Type> {
    let element = scalar(element);
    let name = format!("{}[]", element.name);
    ty(element.oid + 1000, &name, TypeKind::Array(element))
}

pub(super) fn row(table: &str, given: Vec<Given>) -> Row {
    let mut bytes = Vec::new();
    let mut columns = Vec::new();
    let mut cells = Vec::new();
    for (name, ty, value) in given {
        let name = name.to_owned();
        columns.push(Column { name, ty });
        cells.push(value.map_or(Cell::Null, |value| {
            let start = bytes.len();
            bytes.extend_from_slice(&value);
            Cell::Binary(start..bytes.len())
        }));
    }
    Row {
        relation: Arc::new(Relation {
            oid: 16384,
            schema: "public".to_owned(),
            name: table.to_owned(),
            columns,
            key: 0,
        }),
        bytes: bytes.into(),
        cells,
    }
}

/// `array_send` of a one-dimensional array.
pub(super) fn array(element: Scalar, items: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let has_null = u32::from(items.iter().any(Option::is_none));
    let length = u32::try_from(items.len()).unwrap();
    let header = [1, has_null, element as u32 + 1, length, 1];
    let header: &[u32] = if items.is_empty() {
        &[0, 0, element as u32 + 1]
    } else {
        &header
    };
    bytes.extend(header.iter().flat_map(|word| word.to_be_bytes()));
    for item in items {
        match item {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(item) => {
                bytes.extend(u32::try_from(item.len()).unwrap().to_be_bytes());
                bytes.extend(item);
            }
        }
    }
    bytes
}

pub(super) fn real_array(floats: &[f32]) -> Vec<u8> {
    let items: Vec<_> = floats
        .iter()
        .map(|float| Some(float.to_be_bytes().to_vec()))
        .collect();
    array(Scalar::Float4, &items)
}

pub(super) fn text_array(items: &[&str]) -> Vec<u8> {
    let items: Vec<_> = items.iter().map(|item| Some(text(item))).collect();
    array(Scalar::Text, &items)
}

pub(super) fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

pub(super) fn jsonb(json: &str) -> Vec<u8> {
    [b"\x01", json.as_bytes()].concat()
}

pub(super) fn double(float: f64) -> Vec<u8> {
    float.to_be_bytes().to_vec()
}

/// `numeric_send` of a whole number below 10,000 and of hundredths.
pub(super) fn numeric(whole: u16, hundredths: u16) -> Vec<u8> {
    let words = [2, 0, 0, 2, whole, hundredths * 100];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// `numeric_send` of NaN.
pub(super) fn numeric_nan() -> Vec<u8> {
    let words = [0, 0, 0xC000, 0_u16];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A row of `integrated_records` without a NULL, its embedding of `dimensions` floats.
pub(super) fn organization(dimensions: u16) -> Vec<Given> {
    let embedding: Vec<f32> = (1..=dimensions).map(|i| 1.0 / f32::from(i)).collect();
    let mut given = Vec::new();
    for (name, value) in [
        ("hk", "a1"),
        ("name", "Müller \"Holz\" GmbH"),
        ("legal_name", "Müller Holz GmbH"),
        ("description", "Timber\nand more"),
        ("street", "Am Wald 3"),
        ("city", "Köln"),
        ("region", "NRW"),
        ("postal_code", "50667"),
        ("country_code", "DE"),
        ("website", "https://example.org/"),
    ] {
        given.push((name, scalar(Scalar::Text), text(value)));
    }
    given.push(("latitude", scalar(Scalar::Float8), double(50.9375)));
    given.push(("longitude", scalar(Scalar::Float8), double(6.9603)));
    for (name, items) in [
        ("emails", &["a@example.org", "b@example.org"][..]),
        ("phones", &["+49 221 1"]),
        ("industry_codes", &["16.10"]),
        ("source_systems", &["crm", "erp"]),
    ] {
        given.push((name, array_of(Scalar::Text), text_array(items)));
    }
    let int = |int: i32| int.to_be_bytes().to_vec();
    let micros = |micros: i64| micros.to_be_bytes().to_vec();
    let embedding = real_array(&embedding);
    given.extend([
        ("employee_count", scalar(Scalar::Int4), int(42)),
        ("annual_revenue", scalar(Scalar::Numeric), numeric(1234, 50)),
        ("founded_on", scalar(Scalar::Date), int(366)),
        (
            "identifiers",
            scalar(Scalar::Jsonb),
            jsonb(r#"{"vat": "DE1"}"#),
        ),
        (
            "attributes",
            scalar(Scalar::Jsonb),
            jsonb(r#"{"n": [1, 2]}"#),
        ),
        ("embedding", array_of(Scalar::Float4), embedding),
        ("created_at", scalar(Scalar::TimestampTz), micros(1)),
        ("updated_at", scalar(Scalar::TimestampTz), micros(0)),
    ]);
    given
        .into_iter()
        .map(|(name, ty, value)| (name, ty, Some(value)))
        .collect()
}

/// Options for [`organizations`].
pub(super) fn options() -> TemplateOptions {
    TemplateOptions {
        alias: "integrated_records".to_owned(),
        index: "integrated_records_v1".to_owned(),
        shards: 2,
        dimensions: 3,
        server_version: (8, 19),
    }
}

/// The layout of a table of these columns without a declaration by the user.
pub(super) fn layout(table: &str, given: Vec<Given>) -> Layout {
    let shape = Shape::for_table(table, None, 3).unwrap();
    shape.bind(&row(table, given).relation).unwrap()
}

/// The layout of [`organization`].
pub(super) fn organizations() -> Layout {
    layout("integrated_records", organization(3))
}
