//! What a person declares of a document: the `[document]` table of the settings' file, and the
//! built-in declaration of `integrated_records`, which is read by the same code.
//!
//! A declaration names only what shall differ from the flat shape, so an empty one is valid for
//! every table. Pure.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The `[document]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declaration {
    /// What happens to a row whose vector Elasticsearch would refuse.
    pub(super) invalid_vectors: Option<InvalidVectors>,
    /// By column name; a column that is not here is a field of its own name.
    #[serde(default)]
    pub(super) columns: BTreeMap<String, ColumnRule>,
    /// By the field's path. The user's table replaces the built-in one as a whole.
    pub(super) geo_points: Option<BTreeMap<String, GeoRule>>,
}

/// What happens to a row whose vector Elasticsearch would refuse: one that is not
/// `EMBEDDING_DIMENSIONS` long, has an element that is NULL or not finite, or has no magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidVectors {
    /// The document is written without its vector, and [`super::Encoded`] counts it.
    #[default]
    Drop,
    /// The document is not written: [`super::EncodeError::Vector`].
    Refuse,
}

/// What is declared of a column: `false`, a path, or a table.
#[derive(Debug, Clone)]
pub(super) enum ColumnRule {
    /// The column has no field.
    Drop,
    /// The column's field is declared.
    Field(FieldRule),
}

/// The table form of a [`ColumnRule`]; each key may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldRule {
    /// Where it goes: a name, or a path with dots for nested objects.
    pub(super) field: Option<String>,
    /// The Elasticsearch type, when it shall not follow from the column's.
    #[serde(rename = "type")]
    pub(super) field_type: Option<FieldType>,
    /// Length of the vectors, when it is not `EMBEDDING_DIMENSIONS`.
    pub(super) dimensions: Option<u32>,
}

impl FieldRule {
    /// These keys, and where one was left out that of `under`.
    pub(super) fn over(self, under: Self) -> Self {
        Self {
            field: self.field.or(under.field),
            field_type: self.field_type.or(under.field_type),
            dimensions: self.dimensions.or(under.dimensions),
        }
    }
}

/// The types that can be asked for, by Elasticsearch's names but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FieldType {
    /// The value as a string, found as a whole.
    Keyword,
    /// The value as a string, found by its words.
    Text,
    /// A 64-bit integer.
    Long,
    /// A 64-bit float.
    Double,
    /// A date, with or without a time.
    Date,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A JSON object whose leaves are all found as keywords.
    Flattened,
    /// A JSON object whose members get fields of their own as they come.
    Object,
    /// A vector for nearest-neighbour search.
    DenseVector,
    /// Kept in the document, not searchable; any JSON may stand in it.
    Unindexed,
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyword => "keyword",
            Self::Text => "text",
            Self::Long => "long",
            Self::Double => "double",
            Self::Date => "date",
            Self::Ip => "ip",
            Self::Flattened => "flattened",
            Self::Object => "object",
            Self::DenseVector => "dense_vector",
            Self::Unindexed => "unindexed",
        })
    }
}

/// The two columns of a geo point, in degrees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GeoRule {
    /// Column of the latitude.
    pub(super) latitude: String,
    /// Column of the longitude.
    pub(super) longitude: String,
}

impl<'de> Deserialize<'de> for ColumnRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RuleVisitor)
    }
}

/// Reads the three forms of a [`ColumnRule`], so that an error speaks of the form that was meant.
struct RuleVisitor;

impl<'de> Visitor<'de> for RuleVisitor {
    type Value = ColumnRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "false (no field), \"a.path\" (the field's place), or a table of field, type, dimensions",
        )
    }

    fn visit_bool<E: de::Error>(self, keep: bool) -> Result<ColumnRule, E> {
        if keep {
            return Err(E::invalid_value(de::Unexpected::Bool(keep), &self));
        }
        Ok(ColumnRule::Drop)
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<ColumnRule, E> {
        Ok(ColumnRule::Field(FieldRule {
            field: Some(path.to_owned()),
            ..FieldRule::default()
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnRule, A::Error> {
        FieldRule::deserialize(MapAccessDeserializer::new(map)).map(ColumnRule::Field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Declaration, String> {
        let table: toml::Table = text.parse().unwrap();
        table
            .try_into()
            .map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn a_column_is_dropped_moved_or_given_a_type() {
        let declaration = read(
            "[columns]
             secret = false
             street = 'address.street'
             amount = { type = 'keyword' }",
        )
        .unwrap();
        assert!(matches!(declaration.columns["secret"], ColumnRule::Drop));
        let ColumnRule::Field(street) = &declaration.columns["street"] else {
            panic!("street has a field")
        };
        assert_eq!(street.field.as_deref(), Some("address.street"));
        let ColumnRule::Field(amount) = &declaration.columns["amount"] else {
            panic!("amount has a field")
        };
        assert_eq!(amount.field_type, Some(FieldType::Keyword));
    }

    #[test]
    fn a_wrong_declaration_names_its_key_and_what_would_be_right() {
        for (text, parts) in [
            ("column = {}", ["column", "columns"]),
            ("[columns]\na = true", ["a", "false (no field)"]),
            ("[columns]\na = 1", ["a", "\"a.path\""]),
            ("[columns]\na = { typ = 'text' }", ["typ", "dimensions"]),
            ("[columns]\na = { type = 'string' }", ["string", "keyword"]),
            ("[geo_points]\na = { lat = 'x' }", ["lat", "longitude"]),
            ("invalid_vectors = 'keep'", ["keep", "refuse"]),
        ] {
            let message = read(text).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
