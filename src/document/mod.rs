//! Row to document: which column becomes which field, its JSON bytes, and the mapping and index
//! template that take them.
//!
//! `declaration` → `shape` → (bound to a relation) `layout` → `encode`, `mapping`, `template`.
//! Everything here is pure, and everything that does not depend on a row is worked out when the
//! shape is bound.

mod declaration;
mod deferral;
mod dialect;
mod difference;
mod encode;
mod error;
#[cfg(test)]
mod fixture;
mod guard;
mod json;
mod layout;
mod mapping;
mod shape;
mod template;
mod value;
mod vector;

pub use declaration::InvalidVectors;
pub use deferral::{Deferral, deferral};
pub use dialect::Dialect;
pub use encode::{EncodeError, Encoded};
pub use error::ShapeError;
pub use guard::{TemplateError, check_template, own_template};
pub use layout::Layout;
pub use shape::Shape;
pub use template::{TemplateOptions, index_patterns, template};
pub use vector::VectorFault;
