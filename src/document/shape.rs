//! The declared shape of a document, and its binding to a relation's columns.
//!
//! What must hold: every column has exactly one place or is dropped on purpose, no two values share
//! a path, and a column that no declaration names is a field of its own name. So a column that is
//! added while the stream runs appears in the document without a setting, and a declaration that
//! does not fit is an error before anything is written. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    declaration::{ColumnRule, Declaration, FieldRule, FieldType, GeoRule, InvalidVectors},
    dialect::Dialect,
    error::{DIMENSIONS_MAX, ShapeError},
    layout::{Content, Form, Layout, Leaf, Tree},
    mapping, template,
};
use crate::{
    change::{Column, Relation},
    value::Type,
};

/// The built-in declaration; a settings' file could hold the same text.
const INTEGRATED_RECORDS: &str = include_str!("../../templates/integrated_records.toml");

/// What is declared of a document: the default for the table, with the user's overrides.
#[derive(Debug, Clone)]
pub struct Shape {
    columns: BTreeMap<String, Declared>,
    geo_points: BTreeMap<String, GeoRule>,
    geo_points_by_user: bool,
    invalid_vectors: InvalidVectors,
    dimensions: u32,
    template: &'static str,
    dialect: Dialect,
}

/// A column's rule: the built-in one, with the keys that the user gave over it.
#[derive(Debug, Clone)]
struct Declared {
    rule: ColumnRule,
    /// A built-in rule may name a column that the table has not; the user's may not.
    by_user: bool,
    /// A built-in mapping gives way to a type that the user declared.
    type_by_user: bool,
}

impl Shape {
    /// The shape of a table's documents: what is built in for `integrated_records`, a flat shape
    /// for any other table, and over it `overrides`, the `[document]` table of the settings' file.
    /// `table` is the name without its schema, `dimensions` is `EMBEDDING_DIMENSIONS`.
    ///
    /// # Errors
    /// The overrides cannot be read, or a number of dimensions is out of range.
    pub fn for_table(
        table: &str,
        overrides: Option<&toml::Table>,
        dimensions: u32,
    ) -> Result<Self, ShapeError> {
        check_dimensions("EMBEDDING_DIMENSIONS", dimensions)?;
        let (built_in, template) = if table == "integrated_records" {
            (built_in()?, template::INTEGRATED_RECORDS)
        } else {
            (Declaration::default(), template::ANY_TABLE)
        };
        let user: Declaration = match overrides {
            Some(table) => table.clone().try_into()?,
            None => Declaration::default(),
        };
        check_dimensions_declared(&user)?;
        Ok(Self {
            columns: merged(built_in.columns, user.columns),
            geo_points_by_user: user.geo_points.is_some(),
            geo_points: user.geo_points.or(built_in.geo_points).unwrap_or_default(),
            invalid_vectors: user.invalid_vectors.unwrap_or_default(),
            dimensions,
            template,
            dialect: Dialect::default(),
        })
    }

    /// The same shape for whoever reads mappings in these words.
    #[must_use]
    pub fn in_words_of(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Binds the shape to the relation's columns, in the table's order.
    ///
    /// # Errors
    /// The user's declaration names columns that the relation has not, a type that cannot be made
    /// from the column's, or two values have one path.
    pub fn bind(&self, relation: &Relation) -> Result<Layout, ShapeError> {
        self.check_columns(relation)?;
        let points = self.points(relation)?;
        let mut tree = Tree::default();
        for point in &points {
            tree.claim(point.path, &format!("geo point {:?}", point.path))?;
        }
        for (index, column) in relation.columns.iter().enumerate() {
            let unruled = FieldRule::default();
            let declared = self.columns.get(&column.name);
            let rule = match declared.map(|declared| &declared.rule) {
                Some(ColumnRule::Drop) => continue,
                Some(ColumnRule::Field(rule)) => rule,
                None if points.iter().any(|point| point.is_made_from(index)) => continue,
                None => &unruled,
            };
            let path = rule.field.as_ref().unwrap_or(&column.name);
            tree.claim(path, &format!("column {:?}", column.name))?;
            let type_by_user = declared.is_some_and(|declared| declared.type_by_user);
            let leaf = self.leaf(index, column, rule, type_by_user)?;
            tree.put(path, Content::Column(leaf));
        }
        for point in points {
            let content = Content::GeoPoint {
                latitude: point.latitude,
                longitude: point.longitude,
            };
            tree.put(point.path, content);
        }
        Ok(Layout {
            nodes: tree.into_nodes(),
            columns: relation.columns.iter().map(|c| c.name.clone()).collect(),
            invalid_vectors: self.invalid_vectors,
            template: serde_json::from_str(self.template)?,
            dialect: self.dialect,
        })
    }

    /// Every column that the user names must be there.
    fn check_columns(&self, relation: &Relation) -> Result<(), ShapeError> {
        let ruled = self.columns.iter().filter(|(_, rule)| rule.by_user);
        let ruled = ruled.map(|(column, _)| ("[document.columns]".to_owned(), column));
        let points = self.geo_points.iter().filter(|_| self.geo_points_by_user);
        let points = points.flat_map(|(path, rule)| {
            [&rule.latitude, &rule.longitude]
                .map(|column| (format!("[document.geo_points] {path:?}"), column))
        });
        for (key, column) in ruled.chain(points) {
            if position(relation, column).is_none() {
                let existing: Vec<_> = relation.columns.iter().map(|c| &*c.name).collect();
                return Err(ShapeError::UnknownColumn {
                    key,
                    column: column.clone(),
                    existing: existing.join(", "),
                });
            }
        }
        Ok(())
    }

    /// The geo points whose columns are there; only a built-in one may lack them.
    fn points(&self, relation: &Relation) -> Result<Vec<Point<'_>>, ShapeError> {
        let mut points = Vec::new();
        for (path, rule) in &self.geo_points {
            let (Some(latitude), Some(longitude)) = (
                position(relation, &rule.latitude),
                position(relation, &rule.longitude),
            ) else {
                continue;
            };
            for index in [latitude, longitude] {
                let column = &relation.columns[index];
                if !mapping::is_number(&column.ty) {
                    return Err(ShapeError::GeoPoint {
                        path: path.clone(),
                        column: column.name.clone(),
                        type_name: column.ty.name.clone(),
                    });
                }
            }
            points.push(Point {
                path,
                latitude,
                longitude,
            });
        }
        Ok(points)
    }

    /// How a column is encoded and mapped.
    fn leaf(
        &self,
        index: usize,
        column: &Column,
        rule: &FieldRule,
        type_by_user: bool,
    ) -> Result<Leaf, ShapeError> {
        let ty = &column.ty;
        if let Some(obstacle) = ty.obstacle() {
            return Err(ShapeError::Unreadable {
                column: column.name.clone(),
                obstacle,
            });
        }
        let asked = rule
            .field_type
            .or_else(|| mapping::is_vector(ty).then_some(FieldType::DenseVector));
        if let Some(asked) = asked {
            check_possible(column, asked)?;
        }
        if rule.dimensions.is_some() && asked != Some(FieldType::DenseVector) {
            return Err(ShapeError::NotAVector(column.name.clone()));
        }
        let dimensions = rule.dimensions.unwrap_or(self.dimensions);
        Ok(Leaf {
            column: index,
            form: form(ty, asked, dimensions),
            mapping: match asked {
                Some(asked) => mapping::of_field_type(asked, dimensions),
                None => mapping::of_type(ty),
            },
            type_by_user,
        })
    }
}

/// How the values of a type are written into a field that is asked to be of a type.
fn form(ty: &Type, asked: Option<FieldType>, dimensions: u32) -> Form {
    match (asked, mapping::text_element(ty)) {
        (Some(FieldType::DenseVector), _) => Form::Vector { dimensions },
        (_, Some(element)) => Form::Texts {
            element: element.oid,
        },
        _ if mapping::is_text(ty) => Form::Text,
        (Some(FieldType::Keyword | FieldType::Text), _) => Form::String,
        _ => Form::Natural {
            wrap: asked != Some(FieldType::Unindexed),
            jsonb: mapping::is_jsonb(ty),
        },
    }
}

/// A geo point with its columns found.
struct Point<'a> {
    path: &'a String,
    latitude: usize,
    longitude: usize,
}

impl Point<'_> {
    fn is_made_from(&self, column: usize) -> bool {
        self.latitude == column || self.longitude == column
    }
}

fn built_in() -> Result<Declaration, toml::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        document: Declaration,
    }
    toml::from_str(INTEGRATED_RECORDS).map(|File { document }| document)
}

/// The built-in rules with the user's over them, key by key.
fn merged(
    built_in: BTreeMap<String, ColumnRule>,
    user: BTreeMap<String, ColumnRule>,
) -> BTreeMap<String, Declared> {
    let declared = |rule| Declared {
        rule,
        by_user: false,
        type_by_user: false,
    };
    let mut columns: BTreeMap<_, _> = built_in
        .into_iter()
        .map(|(column, rule)| (column, declared(rule)))
        .collect();
    for (column, rule) in user {
        let (rule, type_by_user) = match rule {
            ColumnRule::Drop => (ColumnRule::Drop, false),
            ColumnRule::Field(user) => {
                let type_by_user = user.field_type.is_some();
                let under = match columns.remove(&column).map(|declared| declared.rule) {
                    Some(ColumnRule::Field(built_in)) => built_in,
                    _ => FieldRule::default(),
                };
                (ColumnRule::Field(user.over(under)), type_by_user)
            }
        };
        columns.insert(
            column,
            Declared {
                rule,
                by_user: true,
                type_by_user,
            },
        );
    }
    columns
}

fn position(relation: &Relation, column: &str) -> Option<usize> {
    relation.columns.iter().position(|c| c.name == column)
}

fn check_possible(column: &Column, asked: FieldType) -> Result<(), ShapeError> {
    let possible = mapping::possible(&column.ty);
    if possible.contains(&asked) {
        return Ok(());
    }
    let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
    Err(ShapeError::Type {
        column: column.name.clone(),
        type_name: column.ty.name.clone(),
        asked: asked.to_string(),
        possible: possible.join(", "),
    })
}

fn check_dimensions_declared(declaration: &Declaration) -> Result<(), ShapeError> {
    for (column, rule) in &declaration.columns {
        if let ColumnRule::Field(FieldRule {
            dimensions: Some(dimensions),
            ..
        }) = rule
        {
            let key = format!("[document.columns] {column:?}, dimensions,");
            check_dimensions(&key, *dimensions)?;
        }
    }
    Ok(())
}

fn check_dimensions(key: &str, found: u32) -> Result<(), ShapeError> {
    if (1..=DIMENSIONS_MAX).contains(&found) {
        return Ok(());
    }
    Err(ShapeError::Dimensions {
        key: key.to_owned(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::value::{Scalar, TypeKind};

    /// Binds the shape that `declared` makes of a table with these columns.
    fn bind(columns: &[(&'static str, Scalar)], declared: &str) -> Result<Layout, String> {
        let given = columns.iter().map(|(name, ty)| (*name, scalar(*ty), None));
        let relation = row("things", given.collect()).relation;
        let declared = declared.parse().unwrap();
        Shape::for_table("things", Some(&declared), 3)
            .and_then(|shape| shape.bind(&relation))
            .map_err(|error| error.to_string())
    }

    fn names(layout: &Layout) -> Vec<String> {
        let properties = layout.properties();
        properties.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_table_without_a_declaration_is_flat() {
        let columns = [
            ("id", Scalar::Int8),
            ("Name", Scalar::Text),
            ("v", Scalar::Vector),
        ];
        let layout = bind(&columns, "").unwrap();
        assert_eq!(names(&layout), ["id", "Name", "v"]);
        assert_eq!(layout.properties()["v"]["dims"], 3);
    }

    #[test]
    fn a_column_that_is_not_named_is_a_field_of_its_own_name() {
        let declared = "columns = { a = 'b.c', d = false }";
        let columns = [
            ("a", Scalar::Text),
            ("d", Scalar::Text),
            ("new", Scalar::Text),
        ];
        let layout = bind(&columns, declared).unwrap();
        assert_eq!(names(&layout), ["b", "new"]);
    }

    #[test]
    fn the_columns_of_a_point_are_no_fields_unless_they_are_named() {
        let columns = [("x", Scalar::Float4), ("y", Scalar::Numeric)];
        let point = "geo_points.p = { latitude = 'y', longitude = 'x' }";
        assert_eq!(names(&bind(&columns, point).unwrap()), ["p"]);
        let named = format!("columns.x = 'lon'\n{point}");
        assert_eq!(names(&bind(&columns, &named).unwrap()), ["lon", "p"]);
    }

    #[test]
    fn a_shape_that_does_not_fit_names_what_does_not() {
        let columns = [
            ("a", Scalar::Text),
            ("b", Scalar::Int4),
            ("_id", Scalar::Int4),
        ];
        for (declared, parts) in [
            ("columns.c = 'd'", ["no column \"c\"", "a, b, _id"]),
            (
                "columns.a = 'b'",
                ["column \"a\" and column \"b\"", "field \"b\""],
            ),
            (
                "columns.a = 'b.x'",
                ["the object around column \"a\"", "column \"b\""],
            ),
            ("columns.a = 'x..y'", ["column \"a\"", "name is empty"]),
            ("", ["column \"_id\"", "keeps this name"]),
            (
                "columns.b = { type = 'ip' }",
                ["type int4 cannot be ip", "long"],
            ),
            ("columns.a = { dimensions = 3 }", ["\"a\"", "dense_vector"]),
            ("columns.a = { dimensions = 5000 }", ["\"a\"", "1 to 4096"]),
            (
                "geo_points.p = { latitude = 'a', longitude = 'b' }",
                ["column \"a\" is text", "not a number"],
            ),
            (
                "geo_points.p = { latitude = 'b', longitude = 'z' }",
                ["no column \"z\"", "geo_points] \"p\""],
            ),
            (
                "columns.a = 'p'\ngeo_points.p = { latitude = 'b', longitude = 'b' }",
                ["geo point \"p\" and column \"a\"", "move or drop"],
            ),
        ] {
            let message = bind(&columns, declared).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{declared}: {message}");
            }
        }
    }

    #[test]
    fn a_column_that_cannot_be_read_must_be_dropped() {
        let send = "cube_send".to_owned();
        let cube = ty(70_000, "cube", TypeKind::Opaque { send });
        let relation = row("things", vec![("c", cube, None)]).relation;
        let bind = |declared: &str| {
            let declared = declared.parse().unwrap();
            Shape::for_table("things", Some(&declared), 3)
                .and_then(|shape| shape.bind(&relation))
                .map_err(|error| error.to_string())
        };
        let message = bind("").unwrap_err();
        assert!(message.contains("\"c\" = false"), "{message}");
        assert!(bind("columns.c = false").is_ok());
    }

    #[test]
    fn the_user_s_keys_go_over_the_built_in_ones() {
        let declared = "columns.street = { type = 'keyword' }
            columns.embedding = { field = 'vector', dimensions = 5 }
            columns.attributes = false
            columns.name = 'title'";
        let relation = row("integrated_records", organization(5)).relation;
        let declared = declared.parse().unwrap();
        let shape = Shape::for_table("integrated_records", Some(&declared), 3).unwrap();
        let properties = shape.bind(&relation).unwrap().properties();
        assert_eq!(
            properties["address"]["properties"]["street"]["type"],
            "keyword"
        );
        assert_eq!(properties["address"]["properties"]["city"]["type"], "text");
        assert_eq!(properties["vector"]["dims"], 5);
        assert_eq!(properties["title"]["type"], "text");
        assert_eq!(properties.get("attributes"), None);
        assert_eq!(properties["location"]["type"], "geo_point");
    }

    #[test]
    fn a_built_in_rule_does_not_ask_for_its_column() {
        let mut columns = organization(3);
        columns.retain(|(name, ..)| !["street", "latitude"].contains(name));
        let relation = row("integrated_records", columns).relation;
        let shape = Shape::for_table("integrated_records", None, 3).unwrap();
        let layout = shape.bind(&relation).unwrap();
        let names = names(&layout);
        assert!(!names.contains(&"location".to_owned()), "{names:?}");
        assert!(names.contains(&"longitude".to_owned()), "{names:?}");
    }
}
