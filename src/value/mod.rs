//! What a PostgreSQL column holds, decoded from its binary wire form without losing anything.
//!
//! One codec serves the snapshot, the stream and the re-read, so a row looks the same whichever
//! way it came. Pure: no I/O, no session setting has a say. docs/values.md has the form of every
//! type; what a send function writes is read from PostgreSQL's source (`src/backend/utils/adt`).

mod containers;
mod datetime;
mod decode;
mod floats;
mod geometric;
mod network;
mod numeric;
mod reader;
mod scalars;
mod text_search;
mod types;
mod vector;

#[cfg(test)]
mod captured;
#[cfg(test)]
mod properties;

pub use containers::every_element;
pub use decode::{DecodeError, decode};
pub use floats::{FloatLayout, Floats};
pub use types::{Field, Obstacle, Scalar, Type, TypeKind};

use std::borrow::Cow;

/// One value, borrowing from the wire bytes (and, for member names, from its type) where it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL; also an infinite date, timestamp or interval, and the empty range.
    Null,
    /// `boolean`.
    Bool(bool),
    /// Any integer that fits, exact.
    Int(i64),
    /// `real`; never widened, so that its shortest form stays its own.
    Float4(f32),
    /// `double precision`.
    Float8(f64),
    /// An exact decimal in PostgreSQL's own text form (`12.50`, `NaN`, `Infinity`, `-Infinity`);
    /// `xid8` too, whose range is wider than `i64`.
    Decimal(String),
    /// Anything whose document form is a string.
    Text(Cow<'a, str>),
    /// `json` and `jsonb`: JSON text, as PostgreSQL holds it. A `json` may hold line breaks and
    /// the same key twice.
    Json(&'a str),
    /// A one-dimensional run of finite or non-finite floats without NULLs: `real[]`, `vector`, `halfvec`.
    Floats(Floats<'a>),
    /// Any other array (nested for more dimensions), and multiranges.
    Array(Vec<Value<'a>>),
    /// Composites, ranges, geometric types, `hstore`: named members in order.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}
