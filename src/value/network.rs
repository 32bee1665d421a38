//! Network addresses, printed as PostgreSQL prints them.

use std::fmt::Write;

use super::{DecodeError, Value, reader::Reader};

/// PostgreSQL's own numbers of the address families (`PGSQL_AF_INET` in `utils/inet.h`).
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

/// `inet` or `cidr` (`network_send`): family, bits of the netmask, whether it is a `cidr`, the
/// address's length and its bytes. A `cidr` always shows its netmask, an `inet` unless it is full.
pub(super) fn address(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let (family, bits, is_cidr, length) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let mut out = String::with_capacity(43);
    let bits_max = match (family, length) {
        (FAMILY_V4, 4) => {
            push_dotted(&mut out, reader.array()?);
            32
        }
        (FAMILY_V6, 16) => {
            push_v6(&mut out, reader.array()?);
            128
        }
        _ => return Err(DecodeError::Invalid("the family of a network address")),
    };
    if bits > bits_max {
        return Err(DecodeError::Invalid("the netmask of a network address"));
    }
    if is_cidr != 0 || bits != bits_max {
        out.push('/');
        out.push_str(itoa::Buffer::new().format(bits));
    }
    Ok(Value::Text(out.into()))
}

/// `macaddr` (6 bytes) or `macaddr8` (8 bytes).
pub(super) fn hardware_address(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let bytes = reader.all();
    if bytes.len() != 6 && bytes.len() != 8 {
        return Err(DecodeError::Invalid("the length of a MAC address"));
    }
    let mut out = String::with_capacity(23);
    for byte in bytes {
        if !out.is_empty() {
            out.push(':');
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    Ok(Value::Text(out.into()))
}

/// As `inet_net_ntop_ipv6` (`inet_net_ntop.c`) prints it: the first longest run of two zero words
/// or more is cut, and an address with an IPv4 address inside ends in that one's form. The standard
/// library prints fewer of them so.
fn push_v6(out: &mut String, bytes: [u8; 16]) {
    let mut words = [0_u16; 8];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let (start, length) = longest_zero_run(&words);
    let has_v4 = start == 0
        && (length == 6 || (length == 7 && words[7] != 1) || (length == 5 && words[5] == 0xffff));
    let shown = if has_v4 { 6 } else { 8 };
    let mut index = 0;
    while index < shown {
        if length > 0 && index == start {
            out.push_str("::");
            index += length;
            continue;
        }
        if index > 0 && !out.ends_with(':') {
            out.push(':');
        }
        let _ = write!(out, "{:x}", words[index]);
        index += 1;
    }
    if has_v4 {
        if !out.ends_with(':') {
            out.push(':');
        }
        push_dotted(out, [bytes[12], bytes[13], bytes[14], bytes[15]]);
    }
}

/// Start and length of the run that is cut; a length of 0 when there is none.
fn longest_zero_run(words: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0, 0), (0, 0));
    for (index, word) in words.iter().enumerate() {
        run = match (word, run.1) {
            (0, 0) => (index, 1),
            (0, length) => (run.0, length + 1),
            _ => (0, 0),
        };
        if run.1 > best.1 {
            best = run;
        }
    }
    if best.1 < 2 { (0, 0) } else { best }
}

fn push_dotted(out: &mut String, bytes: [u8; 4]) {
    let [a, b, c, d] = bytes;
    let _ = write!(out, "{a}.{b}.{c}.{d}");
}
