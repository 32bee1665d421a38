//! At which fields does a document differ from the one that its row makes? Pure.
//!
//! What must hold: a document that the row's own bytes were stored as differs nowhere, also when
//! Elasticsearch has rewritten it (it leaves vectors out of `_source` and puts them back from 9.2 on:
//! members in another order, floats in other digits).

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::layout::Layout;

impl Layout {
    /// The paths (`address.city`) at which the document `found` has another value than `expected`, or
    /// one of them has none; empty if they are equal. Numbers are compared by value, elements of a
    /// vector as the `f32` that they are.
    ///
    /// What is no JSON object differs as a whole, at the empty path.
    #[must_use]
    pub fn differences(&self, expected: &[u8], found: &[u8]) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        if expected == found {
            return paths;
        }
        match (
            serde_json::from_slice(expected),
            serde_json::from_slice(found),
        ) {
            (Ok(expected @ Json::Object(_)), Ok(found @ Json::Object(_))) => {
                let vectors = self.vector_paths();
                differ(&expected, &found, "", &vectors, &mut paths);
            }
            _ => {
                paths.insert(String::new());
            }
        }
        paths
    }
}

fn differ(
    expected: &Json,
    found: &Json,
    path: &str,
    vectors: &BTreeSet<String>,
    paths: &mut BTreeSet<String>,
) {
    let (Json::Object(expected_members), Json::Object(found_members)) = (expected, found) else {
        if !same(expected, found, vectors.contains(path)) {
            paths.insert(path.to_owned());
        }
        return;
    };
    let names: BTreeSet<&String> = expected_members
        .keys()
        .chain(found_members.keys())
        .collect();
    for name in names {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match (expected_members.get(name), found_members.get(name)) {
            (Some(expected), Some(found)) => differ(expected, found, &path, vectors, paths),
            _ => {
                paths.insert(path);
            }
        }
    }
}

fn same(expected: &Json, found: &Json, vector: bool) -> bool {
    match (expected, found) {
        (Json::Number(expected), Json::Number(found)) => {
            if expected == found {
                return true;
            }
            // Whole numbers are equal only if they are the same: an f64 has not all of them.
            let whole = !expected.is_f64() && !found.is_f64();
            match (expected.as_f64(), found.as_f64()) {
                (Some(expected), Some(found)) if vector => single(expected) == single(found),
                (Some(expected), Some(found)) => {
                    !whole && (expected + 0.0).to_bits() == (found + 0.0).to_bits()
                }
                _ => false,
            }
        }
        (Json::Array(expected), Json::Array(found)) => {
            expected.len() == found.len()
                && expected
                    .iter()
                    .zip(found)
                    .all(|(expected, found)| same(expected, found, vector))
        }
        (Json::Object(expected), Json::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, expected)| {
                    found
                        .get(name)
                        .is_some_and(|found| same(expected, found, vector))
                })
        }
        _ => expected == found,
    }
}

/// The bits of the nearest `f32`; the two zeros are one.
fn single(double: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "elements of vectors are stored as f32"
    )]
    let single = double as f32;
    (single + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::fixture::*;
    use super::*;
    use crate::{document::Shape, value::Scalar};

    /// A layout of the columns `n` and, as a vector field `o.v`, `v`.
    fn layout() -> Layout {
        let columns = vec![
            ("n", scalar(Scalar::Int8), None),
            ("v", array_of(Scalar::Float4), None),
        ];
        let declared = "columns = { v = { field = 'o.v', type = 'dense_vector' } }";
        let shape = Shape::for_table("t", Some(&declared.parse().unwrap()), 2).unwrap();
        shape.bind(&row("t", columns).relation).unwrap()
    }

    fn paths(expected: &Json, found: &Json) -> Vec<String> {
        let (expected, found) = (expected.to_string(), found.to_string());
        let paths = layout().differences(expected.as_bytes(), found.as_bytes());
        paths.into_iter().collect()
    }

    #[test]
    fn each_field_that_differs_is_named_by_its_path() {
        let expected = json!({"a": 1, "b": {"c": "x", "d": [1, 2]}, "e": true, "g": {}});
        let found = json!({"a": 2, "b": {"d": [2, 1], "c": "x"}, "f": null, "g": {}});
        assert_eq!(paths(&expected, &found), ["a", "b.d", "e", "f"]);
        assert_eq!(paths(&expected, &json!({"b": 1})), ["a", "b", "e", "g"]);
        assert_eq!(paths(&expected, &json!([])), [""]);
    }

    #[test]
    fn numbers_are_compared_by_value_and_whole_ones_exactly() {
        assert_eq!(
            paths(
                &json!({"n": 1.0, "m": 1e16}),
                &json!({"n": 1, "m": 10_000_000_000_000_000_u64})
            ),
            [""; 0]
        );
        assert_eq!(
            paths(&json!({"n": i64::MAX}), &json!({"n": i64::MAX - 1})),
            ["n"]
        );
        assert_eq!(
            paths(&json!({"n": 0.1}), &json!({"n": 0.100_000_001})),
            ["n"]
        );
    }

    #[test]
    fn elements_of_a_vector_are_compared_as_floats_of_32_bits() {
        let of = |first: f64| json!({"o": {"v": [first, 1]}, "w": [0.1]});
        assert_eq!(paths(&of(0.1), &of(0.100_000_001)), [""; 0]);
        assert_eq!(paths(&of(0.1), &of(0.100_001)), ["o.v"]);
    }

    proptest! {
        #[test]
        fn a_document_that_was_rewritten_is_the_same(
            numbers in prop::collection::btree_map("[a-f]{1,3}", any::<f64>().prop_filter("finite", |f| f.is_finite()), 0..6),
        ) {
            let expected = json!(numbers);
            let turned: serde_json::Map<String, Json> =
                numbers.iter().rev().map(|(name, number)| (name.clone(), json!(number))).collect();
            prop_assert_eq!(paths(&expected, &Json::Object(turned)), [""; 0]);
        }
    }
}
