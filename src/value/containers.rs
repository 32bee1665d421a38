//! Arrays, composites, ranges, multiranges and `hstore`: values made of values.
//!
//! A container says in its bytes of which types its members are; they are compared with the
//! resolved ones, so that an altered type is noticed and not misread.

use std::borrow::Cow;

use super::{
    DecodeError, Field, FloatLayout, Floats, Scalar, Type, TypeKind, Value, decode, reader::Reader,
    scalars,
};

/// `MAXDIM` in PostgreSQL's `array.h`.
const DIMENSIONS_MAX: usize = 6;

/// An array (`array_send`): dimensions, a NULL flag, the element type's OID, then length and lower
/// bound of each dimension, then the elements. Lower bounds have no place in JSON: they are left out.
pub(super) fn array<'a>(element: &'a Type, bytes: &'a [u8]) -> Result<Value<'a>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let dimensions = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    reader.u32()?; // whether there is a bitmap of NULLs, which need not have any
    expect_type(element, reader.u32()?)?;
    if dimensions > DIMENSIONS_MAX {
        return Err(DecodeError::Invalid("an array of more than 6 dimensions"));
    }
    let mut lengths = [0; DIMENSIONS_MAX];
    for length in &mut lengths[..dimensions] {
        *length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        reader.u32()?; // the lower bound
    }
    let lengths = &lengths[..dimensions];
    if element.kind == TypeKind::Scalar(Scalar::Float4)
        && dimensions <= 1
        && let Some(floats) = Floats::new(reader.peek(), FloatLayout::LengthPrefixed)
        && floats.len() == lengths.first().copied().unwrap_or(0)
    {
        return Ok(Value::Floats(floats));
    }
    // An empty array has no dimensions, an empty int2vector or oidvector one of length 0.
    if lengths.contains(&0) {
        reader.end()?;
        return Ok(Value::Array(Vec::new()));
    }
    check_element_count(lengths, reader.peek().len())?;
    let value = elements(element, lengths, &mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Whether `bytes` are an array of one dimension at most, of elements of type `element` (its OID) and
/// without a NULL, and `each` takes the bytes of every one. Where this is false, [`array`] has another
/// value, or tells what is wrong.
pub fn every_element<'a>(
    element: u32,
    bytes: &'a [u8],
    mut each: impl FnMut(&'a [u8]) -> bool,
) -> bool {
    let mut reader = Reader::new(bytes);
    let mut taken = || {
        let dimensions = reader.u32()?;
        reader.u32()?; // whether there is a bitmap of NULLs
        if dimensions > 1 || reader.u32()? != element {
            return Ok(false);
        }
        let mut count = 0;
        if dimensions == 1 {
            count = reader.u32()?;
            reader.u32()?; // the lower bound
        }
        for _ in 0..count {
            if !reader.sized()?.is_some_and(&mut each) {
                return Ok(false);
            }
        }
        Ok::<_, DecodeError>(reader.peek().is_empty())
    };
    taken() == Ok(true)
}

/// A composite (`record_send`): the number of members, then each member's type and value.
pub(super) fn composite<'a>(
    fields: &'a [Field],
    bytes: &'a [u8],
) -> Result<Value<'a>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let found = reader.count(8)?;
    if found != fields.len() {
        return Err(DecodeError::MembersChanged {
            expected: fields.len(),
            found,
        });
    }
    let mut members = Vec::with_capacity(found);
    for field in fields {
        expect_type(&field.ty, reader.u32()?)?;
        let value = nullable(&field.ty, reader.sized()?)?;
        members.push((Cow::Borrowed(field.name.as_str()), value));
    }
    reader.end()?;
    Ok(Value::Object(members))
}

/// A range (`range_send`): flags, then the bounds that there are. The form is that of
/// Elasticsearch's range fields; the empty range is NULL there, since `{}` would match everything.
pub(super) fn range<'a>(subtype: &'a Type, bytes: &'a [u8]) -> Result<Value<'a>, DecodeError> {
    const EMPTY: u8 = 0x01;
    const LOWER_INCLUSIVE: u8 = 0x02;
    const UPPER_INCLUSIVE: u8 = 0x04;
    const LOWER_ABSENT: u8 = 0x08 | 0x20;
    const UPPER_ABSENT: u8 = 0x10 | 0x40;
    let mut reader = Reader::new(bytes);
    let flags = reader.u8()?;
    if flags & EMPTY != 0 {
        reader.end()?;
        return Ok(Value::Null);
    }
    let mut bound = |absent| match flags & absent {
        0 => reader.sized()?.map_or(
            Err(DecodeError::Invalid("a range's bound is NULL")),
            |bytes| Ok(Some(bytes)),
        ),
        _ => Ok(None),
    };
    let (lower, upper) = (bound(LOWER_ABSENT)?, bound(UPPER_ABSENT)?);
    reader.end()?;

    let mut members = Vec::with_capacity(2);
    let lower_name = if flags & LOWER_INCLUSIVE == 0 {
        "gt"
    } else {
        "gte"
    };
    let upper_name = if flags & UPPER_INCLUSIVE == 0 {
        "lt"
    } else {
        "lte"
    };
    for (bytes, name, outward) in [
        (lower, lower_name, Infinity::Negative),
        (upper, upper_name, Infinity::Positive),
    ] {
        let Some(bytes) = bytes else { continue };
        let value = decode(subtype, bytes)?;
        match infinity(&value, bytes) {
            None => members.push((Cow::Borrowed(name), value)),
            // No finite value lies beyond: the same as no bound.
            Some(side) if side == outward => {}
            // No finite value lies within.
            Some(_) => return Ok(Value::Null),
        }
    }
    Ok(Value::Object(members))
}

/// A multirange (`multirange_send`): a count, then ranges, each behind its length.
pub(super) fn multirange<'a>(subtype: &'a Type, bytes: &'a [u8]) -> Result<Value<'a>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(5)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = reader
            .sized()?
            .ok_or(DecodeError::Invalid("a NULL within a multirange"))?;
        match range(subtype, bytes)? {
            Value::Null => {}
            range => ranges.push(range),
        }
    }
    reader.end()?;
    Ok(Value::Array(ranges))
}

/// `hstore_send`: a count, then keys and values, each behind its length.
pub(super) fn hstore<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    let count = reader.count(8)?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        let key = reader
            .sized()?
            .ok_or(DecodeError::Invalid("a key of hstore is NULL"))?;
        let key = std::str::from_utf8(key).map_err(|_| DecodeError::NotUtf8)?;
        let value = reader.sized()?.map_or(Ok(Value::Null), scalars::text)?;
        members.push((Cow::Borrowed(key), value));
    }
    Ok(Value::Object(members))
}

fn expect_type(expected: &Type, found: u32) -> Result<(), DecodeError> {
    if expected.oid == found {
        return Ok(());
    }
    Err(DecodeError::TypeChanged {
        expected: expected.oid,
        found,
    })
}

/// That the elements can be in `bytes`, each with its length before it; so what is allocated for
/// them is bounded by what was received.
fn check_element_count(lengths: &[usize], bytes: usize) -> Result<(), DecodeError> {
    let count = lengths
        .iter()
        .fold(1_usize, |count, length| count.saturating_mul(*length));
    if !lengths.is_empty() && count > bytes / 4 {
        return Err(DecodeError::Truncated);
    }
    Ok(())
}

/// The elements in nested arrays, one level a dimension.
fn elements<'a>(
    element: &'a Type,
    lengths: &[usize],
    reader: &mut Reader<'a>,
) -> Result<Value<'a>, DecodeError> {
    let Some((&length, inner)) = lengths.split_first() else {
        return Ok(Value::Array(Vec::new()));
    };
    let mut values = Vec::with_capacity(length);
    for _ in 0..length {
        values.push(if inner.is_empty() {
            nullable(element, reader.sized()?)?
        } else {
            elements(element, inner, reader)?
        });
    }
    Ok(Value::Array(values))
}

fn nullable<'a>(ty: &'a Type, bytes: Option<&'a [u8]>) -> Result<Value<'a>, DecodeError> {
    bytes.map_or(Ok(Value::Null), |bytes| decode(ty, bytes))
}

/// On which side of every finite value a bound lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Infinity {
    Negative,
    Positive,
}

/// The infinity that a bound is, if it is one: a date or time (NULL in a document) by its sign bit;
/// NaN is above everything in PostgreSQL's order.
fn infinity(bound: &Value<'_>, bytes: &[u8]) -> Option<Infinity> {
    let (negative, positive) = match bound {
        Value::Null => {
            let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
            (negative, !negative)
        }
        Value::Float4(float) => (*float == f32::NEG_INFINITY, !float.is_finite()),
        Value::Float8(float) => (*float == f64::NEG_INFINITY, !float.is_finite()),
        Value::Decimal(text) => (text == "-Infinity", text == "Infinity" || text == "NaN"),
        _ => (false, false),
    };
    match (negative, positive) {
        (true, _) => Some(Infinity::Negative),
        (_, true) => Some(Infinity::Positive),
        _ => None,
    }
}
