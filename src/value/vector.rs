//! pgvector's types (`vector_send`, `halfvec_send`, `sparsevec_send` in its source).

use super::{DecodeError, FloatLayout, Floats, Value, reader::Reader};

/// `vector` or `halfvec`: the number of dimensions, two unused bytes, the floats.
pub(super) fn dense<'a>(
    reader: &mut Reader<'a>,
    layout: FloatLayout,
) -> Result<Value<'a>, DecodeError> {
    let dimensions = usize::from(reader.u16()?);
    reader.u16()?;
    let bytes = reader.take(dimensions * layout.element_bytes())?;
    Floats::new(bytes, layout)
        .map(Value::Floats)
        .ok_or(DecodeError::Truncated)
}

/// `sparsevec`: dimensions, the number of elements, four unused bytes, the elements' indices from
/// 0, their values. In its text form `{1:0.5,3:2}/5`, which counts the indices from 1; the floats
/// are printed as in JSON.
pub(super) fn sparse(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let dimensions = reader.i32()?;
    let count = reader.count(8)?;
    reader.u32()?;
    let mut indices = Reader::new(reader.take(count * 4)?);
    let mut out = String::with_capacity(count * 16 + 16);
    out.push('{');
    for nth in 0..count {
        if nth > 0 {
            out.push(',');
        }
        let index = i64::from(indices.i32()?) + 1;
        out.push_str(itoa::Buffer::new().format(index));
        out.push(':');
        let mut digits = zmij::Buffer::new();
        let value = digits.format(reader.f32()?);
        out.push_str(value.strip_suffix(".0").unwrap_or(value));
    }
    out.push_str("}/");
    out.push_str(itoa::Buffer::new().format(dimensions));
    Ok(Value::Text(out.into()))
}
