//! What a PostgreSQL column holds, decoded from its binary wire form without losing anything.
//!
//! One codec serves the snapshot, the stream and the re-read, so a row looks the same whichever
//! way it came. Pure: no I/O, no session setting has a say.

mod decode;
mod types;

pub use decode::{DecodeError, decode};
pub use types::{Field, Scalar, Type, TypeKind};

use std::borrow::Cow;

/// One value, borrowing from the wire bytes where it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// Any integer that fits, exact.
    Int(i64),
    /// `real`; never widened, so that its shortest form stays its own.
    Float4(f32),
    /// `double precision`.
    Float8(f64),
    /// An exact decimal in PostgreSQL's own text form (`12.50`, `NaN`, `Infinity`).
    Decimal(String),
    /// Anything whose document form is a string.
    Text(Cow<'a, str>),
    /// `json` and `jsonb`: JSON text, as PostgreSQL holds it.
    Json(&'a str),
    /// A one-dimensional run of finite or non-finite floats without NULLs: `real[]`, `vector`, `halfvec`.
    Floats(Floats<'a>),
    /// Any other array (nested for more dimensions), and multiranges.
    Array(Vec<Value<'a>>),
    /// Composites and ranges: named members in order.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// A run of floats still in wire form (big-endian), so that an embedding is never copied to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floats<'a> {
    bytes: &'a [u8],
    layout: FloatLayout,
}

/// How the elements of a [`Floats`] stand in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatLayout {
    /// Array elements: a 4-byte length (always 4) before each `float4`.
    LengthPrefixed,
    /// pgvector `vector`: bare `float4`s.
    Single,
    /// pgvector `halfvec`: bare IEEE half-precision floats.
    Half,
}
