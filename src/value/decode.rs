//! Wire bytes to [`Value`]: which type is read by whom.
//!
//! Recursion follows the type, never the bytes, and a type's depth is bounded where it is
//! resolved; so no bytes can exhaust the stack.

use super::{
    FloatLayout, Scalar, Type, TypeKind, Value, containers, datetime, geometric, network, numeric,
    reader::Reader, scalars, text_search, vector,
};

/// Bytes that are not what a type's send function writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An unchanged out-of-line value was asked for.
    #[error("the value was not sent (unchanged TOAST)")]
    Unchanged,
    /// Not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The bytes end within the value.
    #[error("the bytes end within the value")]
    Truncated,
    /// Bytes are left behind the value.
    #[error("bytes are left behind the value")]
    Trailing,
    /// A part holds what the send function never writes.
    #[error("not a binary form that PostgreSQL writes: {0}")]
    Invalid(&'static str),
    /// An array, or a composite's member, is of another type than the catalog said when the type
    /// was resolved (`ALTER TYPE` came in between): resolve the type again.
    #[error(
        "a value of type {found} stands where type {expected} was expected (both are OIDs): the type was altered"
    )]
    TypeChanged {
        /// OID of the resolved type.
        expected: u32,
        /// OID in the bytes.
        found: u32,
    },
    /// A composite has more or fewer members than the catalog said: resolve the type again.
    #[error(
        "a composite value has {found} members where {expected} were expected: the type was altered"
    )]
    MembersChanged {
        /// How many the resolved type has.
        expected: usize,
        /// How many the bytes have.
        found: usize,
    },
    /// The type's binary form is not known ([`super::Obstacle::UnknownForm`]).
    #[error("the binary form of the type is not known")]
    UnknownForm,
}

/// Decodes the binary form of a value of type `ty`.
///
/// # Errors
/// The bytes are not of the form that the type's send function writes.
pub fn decode<'a>(ty: &'a Type, bytes: &'a [u8]) -> Result<Value<'a>, DecodeError> {
    match &ty.kind {
        TypeKind::Scalar(scalar) => decode_scalar(*scalar, bytes),
        TypeKind::Enum => scalars::text(bytes),
        TypeKind::Domain(base) => decode(base, bytes),
        TypeKind::Array(element) => containers::array(element, bytes),
        TypeKind::Composite(fields) => containers::composite(fields, bytes),
        TypeKind::Range(subtype) => containers::range(subtype, bytes),
        TypeKind::Multirange(subtype) => containers::multirange(subtype, bytes),
        TypeKind::Opaque { .. } => Err(DecodeError::UnknownForm),
    }
}

fn decode_scalar(scalar: Scalar, bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = read_scalar(scalar, &mut reader)?;
    reader.end()?;
    Ok(value)
}

fn read_scalar<'a>(scalar: Scalar, reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match scalar {
        Scalar::Text | Scalar::SentAsText => scalars::text(reader.all())?,
        Scalar::VersionedText => scalars::versioned(reader).and_then(scalars::text)?,
        Scalar::Json => scalars::json(reader.all())?,
        Scalar::Jsonb => scalars::versioned(reader).and_then(scalars::json)?,
        Scalar::Bytea => scalars::bytea(reader.all()),
        Scalar::Hstore => containers::hstore(reader)?,
        Scalar::Bool => Value::Bool(reader.u8()? != 0),
        Scalar::Int2 => Value::Int(reader.i16()?.into()),
        Scalar::Int4 => Value::Int(reader.i32()?.into()),
        Scalar::Int8 | Scalar::Money => Value::Int(reader.i64()?),
        Scalar::Oid => Value::Int(reader.u32()?.into()),
        Scalar::Xid8 => Value::Decimal(reader.u64()?.to_string()),
        Scalar::Float4 => Value::Float4(reader.f32()?),
        Scalar::Float8 => Value::Float8(reader.f64()?),
        Scalar::Numeric => Value::Decimal(numeric::text(reader)?),
        Scalar::Char => scalars::single_byte(reader.u8()?),
        Scalar::Uuid => scalars::uuid(reader.array()?),
        Scalar::Bit => scalars::bits(reader)?,
        Scalar::PgLsn => scalars::lsn(reader.u64()?),
        Scalar::Tid => scalars::tid(reader.u32()?, reader.u16()?),
        Scalar::Snapshot => scalars::snapshot(reader)?,
        Scalar::Date => datetime::date(reader.i32()?)?,
        Scalar::Time => datetime::time(reader.i64()?)?,
        Scalar::TimeTz => datetime::time_with_zone(reader.i64()?, reader.i32()?)?,
        Scalar::Timestamp => datetime::timestamp(reader.i64()?, "")?,
        Scalar::TimestampTz => datetime::timestamp(reader.i64()?, "Z")?,
        Scalar::Interval => datetime::interval(reader.i64()?, reader.i32()?, reader.i32()?),
        Scalar::Inet | Scalar::Cidr => network::address(reader)?,
        Scalar::MacAddr => network::hardware_address(reader)?,
        Scalar::Point => geometric::point(reader)?,
        Scalar::Line => geometric::line(reader)?,
        Scalar::LineSegment => geometric::line_segment(reader)?,
        Scalar::Box => geometric::rectangle(reader)?,
        Scalar::Path => geometric::path(reader)?,
        Scalar::Polygon => geometric::polygon(reader)?,
        Scalar::Circle => geometric::circle(reader)?,
        Scalar::TsVector => text_search::vector(reader)?,
        Scalar::TsQuery => text_search::query(reader)?,
        Scalar::Vector => vector::dense(reader, FloatLayout::Single)?,
        Scalar::HalfVector => vector::dense(reader, FloatLayout::Half)?,
        Scalar::SparseVector => vector::sparse(reader)?,
    })
}
