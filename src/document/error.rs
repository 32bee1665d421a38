//! What can be wrong with a declared shape. Each message names the setting or column and what would
//! be right.

use crate::value::Obstacle;

/// Elasticsearch's limit of `dims` for a `dense_vector` of floats.
pub(super) const DIMENSIONS_MAX: u32 = 4096;

/// A shape that is not well declared, or does not fit the table.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The `[document]` table cannot be read.
    #[error("[document]: {0}")]
    Declaration(#[from] toml::de::Error),
    /// A template that came with the program cannot be read.
    #[error("built-in template: {0}")]
    Template(#[from] serde_json::Error),
    /// A number of dimensions that no `dense_vector` can have.
    #[error("{key} is {found}: a vector has 1 to {DIMENSIONS_MAX} dimensions")]
    Dimensions {
        /// The setting.
        key: String,
        /// Its value.
        found: u32,
    },
    /// A declared column that the table has not.
    #[error("{key}: the table has no column {column:?}; it has {existing}")]
    UnknownColumn {
        /// The setting.
        key: String,
        /// The column that it names.
        column: String,
        /// The columns that there are.
        existing: String,
    },
    /// Two values for one place.
    #[error(
        "the field {path:?} would hold both {first} and {second}: move or drop one in \
         [document.columns], for example a_column = \"another_name\""
    )]
    SamePath {
        /// The field.
        path: String,
        /// What stands there.
        first: String,
        /// What cannot stand there too.
        second: String,
    },
    /// A place that Elasticsearch has for no field.
    #[error(
        "{from} cannot be the field {path:?}: {reason}; give it another name, for example under \
         [document.columns] a_column = \"another_name\""
    )]
    Path {
        /// The column or point.
        from: String,
        /// The field that it would be.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A geo point from a column that holds no degrees.
    #[error("geo point {path:?}: column {column:?} is {type_name}, not a number")]
    GeoPoint {
        /// The point's field.
        path: String,
        /// Its column.
        column: String,
        /// The column's type.
        type_name: String,
    },
    /// A column whose values cannot be read.
    #[error("{obstacle} (to drop it: [document.columns] {column:?} = false)")]
    Unreadable {
        /// The column.
        column: String,
        /// What stands against it.
        obstacle: Obstacle,
    },
    /// A type that cannot be made from the column's.
    #[error(
        "[document.columns] {column:?}: a column of type {type_name} cannot be {asked}; it can be {possible}"
    )]
    Type {
        /// The column.
        column: String,
        /// Its type in PostgreSQL.
        type_name: String,
        /// The declared type.
        asked: String,
        /// Those that there are for it.
        possible: String,
    },
    /// `dimensions` for a field that is no vector.
    #[error("[document.columns] {0:?}: dimensions belong to type = \"dense_vector\" alone")]
    NotAVector(String),
}
