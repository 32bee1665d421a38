//! Row to document: which column becomes which field, its JSON bytes, and the mapping and index
//! template that take them.
//!
//! `declaration` → `shape` → (bound to a relation) `layout` → `encode`, `mapping`, `template`.
//! Everything here is pure, and everything that does not depend on a row is worked out when the
//! shape is bound.

mod declaration;
mod encode;
#[cfg(test)]
mod fixture;
mod json;
mod layout;
mod mapping;
mod shape;
mod template;
mod vector;

pub use declaration::InvalidVectors;
pub use encode::{EncodeError, Encoded};
pub use layout::Layout;
pub use shape::{Shape, ShapeError};
pub use template::{
    TemplateError, TemplateOptions, check_template, index_patterns, own_template, template,
};
pub use vector::VectorFault;
