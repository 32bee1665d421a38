//! The types that a column can have: what the catalog says, resolved to what the decoder needs.

use std::sync::Arc;

/// A column's, element's or member's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// The name as `format_type` prints it, for messages.
    pub name: String,
    /// What it is made of.
    pub kind: TypeKind,
}

/// How a type's binary form is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type that the decoder knows.
    Scalar(Scalar),
    /// An enum: its label is sent as text.
    Enum,
    /// An array of any dimension.
    Array(Arc<Type>),
    /// A domain: the form of its base type.
    Domain(Arc<Type>),
    /// A composite (row) type, its live attributes in order.
    Composite(Vec<Field>),
    /// A range over the subtype.
    Range(Arc<Type>),
    /// A multirange over ranges of the subtype.
    Multirange(Arc<Type>),
}

/// A member of a composite type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The attribute's name.
    pub name: String,
    /// Its type.
    pub ty: Arc<Type>,
}

/// The base types whose binary form the decoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// Any text-like type: text, varchar, char(n), name, citext, xml, unknown extension text.
    Text,
}
