//! Rows in PostgreSQL's binary form, for the tests of this room.

use std::sync::Arc;

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
    for word in [1, has_null, element as u32 + 1, length, 1] {
        bytes.extend(word.to_be_bytes());
    }
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
    let texts = || array_of(Scalar::Text);
    vec![
        ("hk", scalar(Scalar::Text), Some(text("a1"))),
        (
            "name",
            scalar(Scalar::Text),
            Some(text("Müller \"Holz\" GmbH")),
        ),
        (
            "legal_name",
            scalar(Scalar::Text),
            Some(text("Müller Holz GmbH")),
        ),
        (
            "description",
            scalar(Scalar::Text),
            Some(text("Timber\nand more")),
        ),
        ("street", scalar(Scalar::Text), Some(text("Am Wald 3"))),
        ("city", scalar(Scalar::Text), Some(text("Köln"))),
        ("region", scalar(Scalar::Text), Some(text("NRW"))),
        ("postal_code", scalar(Scalar::Text), Some(text("50667"))),
        ("country_code", scalar(Scalar::Text), Some(text("DE"))),
        (
            "website",
            scalar(Scalar::Text),
            Some(text("https://example.org/")),
        ),
        ("latitude", scalar(Scalar::Float8), Some(double(50.9375))),
        ("longitude", scalar(Scalar::Float8), Some(double(6.9603))),
        (
            "emails",
            texts(),
            Some(text_array(&["a@example.org", "b@example.org"])),
        ),
        ("phones", texts(), Some(text_array(&["+49 221 1"]))),
        ("industry_codes", texts(), Some(text_array(&["16.10"]))),
        ("source_systems", texts(), Some(text_array(&["crm", "erp"]))),
        (
            "employee_count",
            scalar(Scalar::Int4),
            Some(42_i32.to_be_bytes().to_vec()),
        ),
        (
            "annual_revenue",
            scalar(Scalar::Numeric),
            Some(numeric(1234, 50)),
        ),
        (
            "founded_on",
            scalar(Scalar::Date),
            Some(366_i32.to_be_bytes().to_vec()),
        ),
        (
            "identifiers",
            scalar(Scalar::Jsonb),
            Some(jsonb(r#"{"vat": "DE1"}"#)),
        ),
        (
            "attributes",
            scalar(Scalar::Jsonb),
            Some(jsonb(r#"{"n": [1, 2]}"#)),
        ),
        (
            "embedding",
            array_of(Scalar::Float4),
            Some(real_array(&embedding)),
        ),
        (
            "created_at",
            scalar(Scalar::TimestampTz),
            Some(1_i64.to_be_bytes().to_vec()),
        ),
        (
            "updated_at",
            scalar(Scalar::TimestampTz),
            Some(0_i64.to_be_bytes().to_vec()),
        ),
    ]
}
