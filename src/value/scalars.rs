//! Types whose document form is a text, borrowed where the wire already holds it.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{DecodeError, Value, reader::Reader};

/// Text as it is. The session's `client_encoding` is UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    utf8(bytes).map(|text| Value::Text(text.into()))
}

/// JSON text as it is.
pub(super) fn json(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    utf8(bytes).map(Value::Json)
}

/// What stands behind the version byte of `jsonb`, `jsonpath` and `ltree`; every PostgreSQL so far
/// writes version 1.
pub(super) fn versioned<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    match reader.u8()? {
        1 => Ok(reader.all()),
        _ => Err(DecodeError::Invalid("the version byte")),
    }
}

/// Base64 with padding, as Elasticsearch's `binary` field takes it.
pub(super) fn bytea(bytes: &[u8]) -> Value<'static> {
    Value::Text(STANDARD.encode(bytes).into())
}

/// `"char"` as PostgreSQL 16 prints it (`charout`): nothing for 0, `\ooo` for a byte that is no
/// character by itself.
pub(super) fn single_byte(byte: u8) -> Value<'static> {
    Value::Text(match byte {
        0 => "".into(),
        1..=0x7f => char::from(byte).to_string().into(),
        _ => format!("\\{byte:03o}").into(),
    })
}

/// Five groups of small hexadecimal digits.
pub(super) fn uuid(bytes: [u8; 16]) -> Value<'static> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
    Value::Text(out.into())
}

/// `bit` and `varbit`: the number of bits, then the bits, the first one highest.
pub(super) fn bits(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let count =
        usize::try_from(reader.i32()?).map_err(|_| DecodeError::Invalid("a negative count"))?;
    let bytes = reader.take(count.div_ceil(8))?;
    let mut out = String::with_capacity(bytes.len() * 8);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:08b}");
    }
    out.truncate(count);
    Ok(Value::Text(out.into()))
}

/// `pg_lsn`: two hexadecimal halves.
pub(super) fn lsn(position: u64) -> Value<'static> {
    Value::Text(format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff).into())
}

/// `tid`: block and offset.
pub(super) fn tid(block: u32, offset: u16) -> Value<'static> {
    Value::Text(format!("({block},{offset})").into())
}

/// `pg_snapshot`: `xmin:xmax:` and the running transactions between them.
pub(super) fn snapshot(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let count = reader.count(8)?;
    let (xmin, xmax) = (reader.u64()?, reader.u64()?);
    let mut out = format!("{xmin}:{xmax}:");
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        out.push_str(itoa::Buffer::new().format(reader.u64()?));
    }
    Ok(Value::Text(out.into()))
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
}
