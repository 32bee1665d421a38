//! Row to document: which column becomes which field, and its JSON bytes.

mod encode;
mod shape;

pub use encode::{EncodeError, Encoded};
pub use shape::{Layout, Shape, ShapeError};
