//! Geometric types as objects: `point` in the form of Elasticsearch's `point` field, lines and
//! areas as `GeoJSON` in the form of its `shape` field. Coordinates are planar and stay `float8`.

use std::borrow::Cow;

use super::{DecodeError, Value, reader::Reader};

/// Bytes of a point: two `float8`.
const POINT_BYTES: usize = 16;

/// `{x, y}`.
pub(super) fn point(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let (x, y) = (reader.f64()?, reader.f64()?);
    Ok(object([("x", Value::Float8(x)), ("y", Value::Float8(y))]))
}

/// The endless line ax + by + c = 0: `{a, b, c}`.
pub(super) fn line(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let (a, b, c) = (reader.f64()?, reader.f64()?, reader.f64()?);
    Ok(object([
        ("a", Value::Float8(a)),
        ("b", Value::Float8(b)),
        ("c", Value::Float8(c)),
    ]))
}

/// A line string of two points.
pub(super) fn line_segment(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let ends = vec![position(reader)?, position(reader)?];
    Ok(geometry("LineString", Value::Array(ends)))
}

/// Elasticsearch's `envelope`: the upper left and the lower right corner. PostgreSQL sends the
/// upper right one and the lower left one.
pub(super) fn rectangle(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let (right, top) = (reader.f64()?, reader.f64()?);
    let (left, bottom) = (reader.f64()?, reader.f64()?);
    let corners = vec![pair(left, top), pair(right, bottom)];
    Ok(geometry("envelope", Value::Array(corners)))
}

/// A line string; a closed path ends where it began.
pub(super) fn path(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let closed = reader.u8()? != 0;
    let mut points = positions(reader)?;
    if closed {
        close(&mut points);
    }
    Ok(geometry("LineString", Value::Array(points)))
}

/// A polygon of one ring, which ends where it began.
pub(super) fn polygon(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let mut ring = positions(reader)?;
    close(&mut ring);
    let rings = Value::Array(vec![Value::Array(ring)]);
    Ok(geometry("Polygon", rings))
}

/// Elasticsearch's `circle` (of its circle ingest processor; no field takes it as it is).
pub(super) fn circle(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let center = position(reader)?;
    Ok(object([
        ("type", Value::Text("circle".into())),
        ("coordinates", center),
        ("radius", Value::Float8(reader.f64()?)),
    ]))
}

fn positions(reader: &mut Reader<'_>) -> Result<Vec<Value<'static>>, DecodeError> {
    let count = reader.count(POINT_BYTES)?;
    let mut positions = Vec::with_capacity(count + 1);
    for _ in 0..count {
        positions.push(position(reader)?);
    }
    Ok(positions)
}

fn close(positions: &mut Vec<Value<'static>>) {
    positions.extend(positions.first().cloned());
}

fn position(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    Ok(pair(reader.f64()?, reader.f64()?))
}

fn pair(x: f64, y: f64) -> Value<'static> {
    Value::Array(vec![Value::Float8(x), Value::Float8(y)])
}

fn geometry(name: &'static str, coordinates: Value<'static>) -> Value<'static> {
    object([
        ("type", Value::Text(name.into())),
        ("coordinates", coordinates),
    ])
}

fn object<const N: usize>(members: [(&'static str, Value<'static>); N]) -> Value<'static> {
    let members = members.map(|(name, value)| (Cow::Borrowed(name), value));
    Value::Object(members.into())
}
