//! The declared shape of a document, and its binding to a relation's columns.

use crate::change::Relation;

/// What is declared of a document: the default for the table, with the user's overrides.
#[derive(Debug, Clone)]
pub struct Shape {}

/// A shape that does not fit the table.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {}

/// A shape bound to one relation: column indices instead of names. Cheap to encode with.
#[derive(Debug)]
pub struct Layout {}

impl Shape {
    /// Binds the shape to the relation's columns.
    ///
    /// # Errors
    /// The shape names columns that the relation has not, or two fields at one path.
    pub fn bind(&self, relation: &Relation) -> Result<Layout, ShapeError> {
        let _ = relation;
        Ok(Layout {})
    }
}
