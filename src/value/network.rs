//! Network addresses, printed as PostgreSQL prints them.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

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
            push_v4(&mut out, reader.array()?);
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

/// As `inet_net_ntop_ipv6` (`inet_net_ntop.c`) prints it: like the standard library, but an IPv4
/// address behind six zero words (`::1.2.3.4`) is shown as one too.
fn push_v6(out: &mut String, bytes: [u8; 16]) {
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
            out.push_str("::");
            push_v4(out, [a, b, c, d]);
        }
        _ => {
            let _ = write!(out, "{}", Ipv6Addr::from(bytes));
        }
    }
}

fn push_v4(out: &mut String, bytes: [u8; 4]) {
    let _ = write!(out, "{}", Ipv4Addr::from(bytes));
}
