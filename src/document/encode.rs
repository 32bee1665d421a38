//! Row to JSON bytes.
//!
//! What must hold: equal rows give equal bytes, whichever way they came; no number goes through
//! another type than its own; the document is one line; and a field without a value (NULL, and what
//! JSON or Elasticsearch has no value for) is left out, which clears it, since documents are always
//! written whole. Pure.

use super::{
    declaration::InvalidVectors,
    json,
    layout::{Content, Form, Layout, Leaf, Node},
    value::ValueWriter,
    vector::{self, VectorFault},
};
use crate::{
    change::{Cell, Row},
    value::{DecodeError, Value, every_element},
};

/// A row that no document can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A column's bytes cannot be decoded.
    #[error("column {column:?}: {source}")]
    Decode {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A vector that Elasticsearch would refuse, and `invalid_vectors` is `refuse`.
    #[error("column {column:?}: {fault}")]
    Vector {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        fault: VectorFault,
    },
}

/// What was left out of a document although the row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Vectors that Elasticsearch would refuse.
    pub vectors_dropped: u32,
    /// Geo points with one coordinate alone, or outside ±90 and ±180 degrees.
    pub points_dropped: u32,
    /// Floats that are NaN or infinite: JSON has no number for them. In an array they are `null`.
    pub floats_dropped: u32,
}

impl Encoded {
    /// Counts what was left out of another document too.
    pub fn add(&mut self, other: Self) {
        self.vectors_dropped += other.vectors_dropped;
        self.points_dropped += other.points_dropped;
        self.floats_dropped += other.floats_dropped;
    }
}

impl Layout {
    /// Appends the row's document, one line of JSON without a line break, to `out`.
    ///
    /// # Errors
    /// A value cannot be decoded or its vector is refused; `out` is then as it was.
    ///
    /// # Panics
    /// The row has another number of columns than the relation that the shape was bound to.
    pub fn encode(&self, row: &Row, out: &mut Vec<u8>) -> Result<Encoded, EncodeError> {
        assert_eq!(
            row.cells.len(),
            self.columns.len(),
            "another relation's row"
        );
        let start = out.len();
        let mut writer = Writer {
            layout: self,
            row,
            json: ValueWriter {
                out,
                floats_dropped: 0,
            },
            vectors_dropped: 0,
            points_dropped: 0,
        };
        match writer.object(&self.nodes) {
            Ok(_) => Ok(writer.encoded()),
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }
}

/// A document being written.
struct Writer<'a> {
    layout: &'a Layout,
    row: &'a Row,
    json: ValueWriter<'a>,
    vectors_dropped: u32,
    points_dropped: u32,
}

impl<'a> Writer<'a> {
    fn encoded(&self) -> Encoded {
        Encoded {
            vectors_dropped: self.vectors_dropped,
            points_dropped: self.points_dropped,
            floats_dropped: self.json.floats_dropped,
        }
    }

    /// Writes an object; false when no field of it has a value.
    fn object(&mut self, nodes: &[Node]) -> Result<bool, EncodeError> {
        self.json.out.push(b'{');
        let mut empty = true;
        for node in nodes {
            let start = self.json.out.len();
            self.json
                .out
                .extend_from_slice(&node.key[usize::from(empty)..]);
            let has_value = match &node.content {
                Content::Object(nodes) => self.object(nodes)?,
                Content::Column(leaf) => self.column(leaf)?,
                Content::GeoPoint {
                    latitude,
                    longitude,
                } => self.geo_point(*latitude, *longitude)?,
            };
            if has_value {
                empty = false;
            } else {
                self.json.out.truncate(start);
            }
        }
        self.json.out.push(b'}');
        Ok(!empty)
    }

    /// Writes a column's value; false when there is none.
    fn column(&mut self, leaf: &Leaf) -> Result<bool, EncodeError> {
        if self.plain(leaf) {
            return Ok(true);
        }
        let value = self.value(leaf.column)?;
        match (leaf.form, &value) {
            (_, Value::Null) => return Ok(false),
            (Form::Vector { dimensions }, _) => {
                return self.vector(&value, leaf.column, dimensions);
            }
            (Form::String | Form::Text | Form::Texts { .. }, _) => self.json.string(&value),
            (Form::Natural { jsonb: true, wrap }, Value::Json(text)) => {
                self.json.json(text, wrap, json::write_jsonb);
            }
            (Form::Natural { wrap, .. }, _) => {
                let dropped = self.json.floats_dropped;
                self.json.natural(&value, wrap);
                let is_scalar = matches!(value, Value::Float4(_) | Value::Float8(_));
                return Ok(!is_scalar || self.json.floats_dropped == dropped);
            }
        }
        Ok(true)
    }

    /// Writes a text, or an array of texts, that needs no escape in JSON. For any other value it writes
    /// nothing and gives false. Most columns of most tables are text, and most text is plain: it is
    /// looked at once and copied.
    fn plain(&mut self, leaf: &Leaf) -> bool {
        let Cell::Binary(range) = &self.row.cells[leaf.column] else {
            return false;
        };
        let bytes = &self.row.bytes[range.clone()];
        let out = &mut *self.json.out;
        match leaf.form {
            Form::Text => json::write_plain(out, bytes),
            Form::Texts { element } => {
                let start = out.len();
                let mut separator = b'[';
                let plain = every_element(element, bytes, |text| {
                    out.push(separator);
                    separator = b',';
                    json::write_plain(out, text)
                });
                match (plain, separator) {
                    (true, b'[') => out.extend_from_slice(b"[]"),
                    (true, _) => out.push(b']'),
                    (false, _) => out.truncate(start),
                }
                plain
            }
            _ => false,
        }
    }

    fn value(&self, column: usize) -> Result<Value<'a>, EncodeError> {
        self.row
            .value(column)
            .map_err(|source| EncodeError::Decode {
                column: self.layout.columns[column].clone(),
                source,
            })
    }

    /// Writes a vector that Elasticsearch takes; false when it is dropped.
    fn vector(
        &mut self,
        value: &Value<'_>,
        column: usize,
        dimensions: u32,
    ) -> Result<bool, EncodeError> {
        match (
            vector::check(value, dimensions),
            self.layout.invalid_vectors,
        ) {
            (Ok(()), _) => {
                self.json.natural(value, false);
                Ok(true)
            }
            (Err(_), InvalidVectors::Drop) => {
                self.vectors_dropped += 1;
                Ok(false)
            }
            (Err(fault), InvalidVectors::Refuse) => Err(EncodeError::Vector {
                column: self.layout.columns[column].clone(),
                fault,
            }),
        }
    }

    /// Writes a point whose coordinates are both there and on the globe.
    fn geo_point(&mut self, latitude: usize, longitude: usize) -> Result<bool, EncodeError> {
        let (latitude, longitude) = (self.value(latitude)?, self.value(longitude)?);
        if latitude == Value::Null && longitude == Value::Null {
            return Ok(false);
        }
        let within = |value, limit| degrees(value).is_some_and(|degrees| degrees.abs() <= limit);
        if !within(&latitude, 90.0) || !within(&longitude, 180.0) {
            self.points_dropped += 1;
            return Ok(false);
        }
        self.json.out.extend_from_slice(b"{\"lat\":");
        self.json.natural(&latitude, false);
        self.json.out.extend_from_slice(b",\"lon\":");
        self.json.natural(&longitude, false);
        self.json.out.push(b'}');
        Ok(true)
    }
}

/// A number as degrees, for the check of their range alone.
fn degrees(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(number) => i32::try_from(*number).ok().map(f64::from),
        Value::Float4(float) => Some(f64::from(*float)),
        Value::Float8(float) => Some(*float),
        Value::Decimal(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::super::fixture::*;
    use super::*;
    use crate::{document::Shape, value::Scalar};

    /// The document of a row, and what was left out, under the `[document]` table `declared`.
    fn encode(given: Vec<Given>, declared: &str) -> Result<(String, Encoded), EncodeError> {
        encode_declared(given, &declared.parse().unwrap())
    }

    fn encode_declared(
        given: Vec<Given>,
        declared: &toml::Table,
    ) -> Result<(String, Encoded), EncodeError> {
        let row = row("things", given);
        let shape = Shape::for_table("things", Some(declared), 3).unwrap();
        let mut out = b"before".to_vec();
        let encoded = shape.bind(&row.relation).unwrap().encode(&row, &mut out);
        let text = String::from_utf8(out).unwrap();
        let document = text.strip_prefix("before").unwrap();
        assert!(encoded.is_ok() || document.is_empty(), "left: {document}");
        encoded.map(|encoded| (document.to_owned(), encoded))
    }

    fn document(given: Vec<Given>, declared: &str) -> String {
        encode(given, declared).unwrap().0
    }

    #[test]
    fn an_organization_has_the_built_in_shape() {
        let row = row("integrated_records", organization(3));
        let shape = Shape::for_table("integrated_records", None, 3).unwrap();
        let mut out = Vec::new();
        let encoded = shape.bind(&row.relation).unwrap().encode(&row, &mut out);
        assert_eq!(encoded, Ok(Encoded::default()));
        assert!(!out.contains(&b'\n'));
        let expected = json!({
            "hk": "a1",
            "name": "Müller \"Holz\" GmbH",
            "legal_name": "Müller Holz GmbH",
            "description": "Timber\nand more",
            "address": {
                "street": "Am Wald 3",
                "city": "Köln",
                "region": "NRW",
                "postal_code": "50667",
                "country_code": "DE",
            },
            "website": "https://example.org/",
            "emails": ["a@example.org", "b@example.org"],
            "phones": ["+49 221 1"],
            "industry_codes": ["16.10"],
            "source_systems": ["crm", "erp"],
            "employee_count": 42,
            "annual_revenue": "1234.50",
            "founded_on": "2001-01-01",
            "identifiers": { "vat": "DE1" },
            "attributes": { "n": [1, 2] },
            "embedding": [1.0, 0.5, 0.333_333_34],
            "created_at": "2000-01-01T00:00:00.000001Z",
            "updated_at": "2000-01-01T00:00:00Z",
            "location": { "lat": 50.9375, "lon": 6.9603 },
        });
        assert_eq!(serde_json::from_slice::<Json>(&out).unwrap(), expected);
    }

    #[test]
    fn the_example_of_the_manual_is_true() {
        let manual = include_str!("../../docs/document.md");
        let example = manual.split("```toml").nth(1).unwrap();
        let example: toml::Table = example.split("```").next().unwrap().parse().unwrap();
        let declared = example["document"].as_table().unwrap();
        let vector = real_array(&[0.5; 384]);
        let given = vec![
            (
                "id",
                scalar(Scalar::Int8),
                Some(vec![0, 0, 0, 0, 0, 0, 0, 7]),
            ),
            ("title", scalar(Scalar::Text), Some(text("Desk"))),
            ("street", scalar(Scalar::Text), Some(text("Am Wald 3"))),
            ("price", scalar(Scalar::Numeric), Some(numeric(129, 0))),
            ("settings", scalar(Scalar::Jsonb), Some(jsonb("[1]"))),
            ("summary_vec", array_of(Scalar::Float4), Some(vector)),
            ("lat", scalar(Scalar::Float8), Some(double(50.9))),
            ("lon", scalar(Scalar::Float8), Some(double(6.9))),
            ("internal_note", scalar(Scalar::Text), Some(text("no"))),
        ];
        let (text, _) = encode_declared(given, declared).unwrap();
        let read: Json = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "id": 7,
            "name": "Desk",
            "address": { "street": "Am Wald 3" },
            "price": "129.00",
            "config": [1],
            "summary_vec": vec![0.5; 384],
            "location": { "lat": 50.9, "lon": 6.9 },
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_field_without_a_value_is_left_out_and_so_is_its_empty_object() {
        let given = || {
            vec![
                ("a", scalar(Scalar::Text), None),
                ("b", scalar(Scalar::Text), None),
                ("c", scalar(Scalar::Bool), Some(vec![1])),
            ]
        };
        let declared = "columns = { a = 'o.a', b = 'o.p.b' }";
        assert_eq!(document(given(), declared), r#"{"c":true}"#);
        assert_eq!(document(given()[..2].to_vec(), declared), "{}");
        let mut given = given();
        given[1].2 = Some(text("x"));
        assert_eq!(
            document(given, declared),
            r#"{"o":{"p":{"b":"x"}},"c":true}"#
        );
    }

    #[test]
    fn a_float_that_json_has_no_number_for_is_left_out_and_counted() {
        let given = || {
            let array = real_array(&[1.0, f32::INFINITY, -0.0]);
            vec![
                ("a", scalar(Scalar::Float8), Some(double(f64::NAN))),
                ("b", array_of(Scalar::Float4), Some(array)),
                ("c", scalar(Scalar::Numeric), Some(numeric_nan())),
            ]
        };
        let (text, encoded) = encode(given(), "").unwrap();
        assert_eq!(text, r#"{"b":[1.0,null,-0.0],"c":"NaN"}"#);
        assert_eq!(encoded.floats_dropped, 2);
        let declared = "columns = { a = { type = 'keyword' }, b = { type = 'text' } }";
        let (text, encoded) = encode(given(), declared).unwrap();
        assert_eq!(
            text,
            r#"{"a":"NaN","b":["1.0","Infinity","-0.0"],"c":"NaN"}"#
        );
        assert_eq!(encoded, Encoded::default());
    }

    #[test]
    fn texts_are_the_same_whether_they_could_be_copied_or_not() {
        let document_of = |items: &[&str]| {
            let given = vec![("t", array_of(Scalar::Text), Some(text_array(items)))];
            document(given, "")
        };
        for items in [
            &[][..],
            &[""],
            &["plain", "a text of more than eight bytes"],
            &["plain", "Köln"],
            &["plain", "a \"quoted\" one", "line\nbreak"],
        ] {
            let expected = json!({ "t": items }).to_string();
            assert_eq!(document_of(items), expected);
        }
        let with_null = array(Scalar::Text, &[Some(text("a")), None]);
        let given = vec![("t", array_of(Scalar::Text), Some(with_null))];
        assert_eq!(document(given, ""), r#"{"t":["a",null]}"#);
        let altered = array(Scalar::Int4, &[Some(vec![0, 0, 0, 1])]);
        let given = vec![("t", array_of(Scalar::Text), Some(altered))];
        let error = encode(given, "").unwrap_err();
        assert!(matches!(error, EncodeError::Decode { .. }), "{error}");
    }

    #[test]
    fn a_vector_that_would_be_refused_is_dropped_or_refuses_the_document() {
        for vector in [
            real_array(&[0.0, 0.0, 0.0]),
            real_array(&[1.0, 2.0]),
            real_array(&[1.0, f32::NAN, 2.0]),
            array(Scalar::Float4, &vec![None; 3]),
        ] {
            let given = || vec![("v", array_of(Scalar::Float4), Some(vector.clone()))];
            let declared = "columns = { v = { type = 'dense_vector' } }";
            let (text, encoded) = encode(given(), declared).unwrap();
            assert_eq!((text.as_str(), encoded.vectors_dropped), ("{}", 1));
            let declared = format!("invalid_vectors = 'refuse'\n{declared}");
            let error = encode(given(), &declared).unwrap_err();
            assert!(matches!(error, EncodeError::Vector { .. }), "{error}");
        }
    }

    #[test]
    fn a_vector_of_doubles_keeps_its_digits() {
        let items = [0.1, 0.2, 0.3].map(|float| Some(double(float)));
        let vector = array(Scalar::Float8, &items);
        let given = vec![("v", array_of(Scalar::Float8), Some(vector))];
        let declared = "columns = { v = { type = 'dense_vector' } }";
        assert_eq!(document(given, declared), r#"{"v":[0.1,0.2,0.3]}"#);
    }

    #[test]
    fn a_point_needs_both_coordinates_on_the_globe() {
        let declared = "geo_points = { here = { latitude = 'y', longitude = 'x' } }";
        for (y, x, text, dropped) in [
            (
                Some(1.5),
                Some(-180.0),
                r#"{"here":{"lat":1.5,"lon":-180.0}}"#,
                0,
            ),
            (None, None, "{}", 0),
            (Some(1.5), None, "{}", 1),
            (Some(90.1), Some(0.0), "{}", 1),
            (Some(0.0), Some(f64::NAN), "{}", 1),
        ] {
            let given = vec![
                ("x", scalar(Scalar::Float8), x.map(double)),
                ("y", scalar(Scalar::Float8), y.map(double)),
            ];
            let expected = Encoded {
                points_dropped: dropped,
                ..Encoded::default()
            };
            assert_eq!(
                encode(given, declared).unwrap(),
                (text.to_owned(), expected)
            );
        }
    }

    #[test]
    fn json_that_is_no_object_stands_in_one_where_the_field_takes_objects_alone() {
        let given = || {
            vec![
                ("a", scalar(Scalar::Jsonb), Some(jsonb("[1, 2]"))),
                (
                    "b",
                    scalar(Scalar::Json),
                    Some(text("\n{\"x\":\n1,\"x\":2}")),
                ),
                ("c", scalar(Scalar::Jsonb), Some(jsonb("null"))),
            ]
        };
        let expected = r#"{"a":{"value":[1, 2]},"b":{"x":2},"c":{"value":null}}"#;
        assert_eq!(document(given(), ""), expected);
        let declared = "columns.a = { type = 'unindexed' }
            columns.b = { type = 'keyword' }
            columns.c = { type = 'object' }";
        let expected = r#"{"a":[1, 2],"b":"\n{\"x\":\n1,\"x\":2}","c":{"value":null}}"#;
        assert_eq!(document(given(), declared), expected);
    }

    #[test]
    fn bytes_that_cannot_be_decoded_name_their_column_and_leave_nothing_behind() {
        let given = vec![
            ("a", scalar(Scalar::Bool), Some(vec![1])),
            ("b", scalar(Scalar::Int4), Some(vec![1])),
        ];
        let error = encode(given, "").unwrap_err();
        assert!(error.to_string().contains("column \"b\""), "{error}");
    }

    proptest! {
        #[test]
        fn every_row_gives_one_line_that_means_what_the_row_holds(
            string in any::<Option<String>>(),
            integer in any::<Option<i64>>(),
            single in any::<Option<f32>>(),
            singles in prop::collection::vec(any::<f32>(), 0..9),
            strings in prop::collection::vec(any::<String>(), 0..5),
        ) {
            let texts: Vec<&str> = strings.iter().map(String::as_str).collect();
            let given = vec![
                ("s", scalar(Scalar::Text), string.as_deref().map(text)),
                ("i", scalar(Scalar::Int8), integer.map(|i| i.to_be_bytes().to_vec())),
                ("f", scalar(Scalar::Float4), single.map(|f| f.to_be_bytes().to_vec())),
                ("fs", array_of(Scalar::Float4), Some(real_array(&singles))),
                ("ss", array_of(Scalar::Text), Some(text_array(&texts))),
            ];
            let line = document(given, "columns = { s = 'o.s', i = 'o.i', f = 'o.p.f' }");
            prop_assert!(!line.contains(['\n', '\r']));
            let read: Json = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["o"]["s"].as_str(), string.as_deref());
            prop_assert_eq!(read["o"]["i"].as_i64(), integer);
            let bits = |json: &Json| json.as_number().map(|n| n.to_string().parse::<f32>().unwrap().to_bits());
            let finite = single.filter(|f| f.is_finite());
            prop_assert_eq!(bits(&read["o"]["p"]["f"]), finite.map(f32::to_bits));
            for (json, single) in read["fs"].as_array().unwrap().iter().zip(&singles) {
                let finite = Some(single).filter(|f| f.is_finite());
                prop_assert_eq!(bits(json), finite.map(|f| f.to_bits()));
            }
            prop_assert_eq!(&read["ss"], &json!(strings));
        }
    }
}
