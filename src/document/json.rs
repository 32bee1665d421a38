//! JSON by hand: strings, numbers, and the text of `json` and `jsonb` values.
//!
//! What must hold: whatever comes out is one JSON value without a raw line break (a bulk body is
//! parted by them), equal values come out as equal bytes, and a number is printed from its own type
//! (an `f32` is never widened: twice the bytes, and digits that nobody stored). Pure.

use std::collections::HashMap;

/// Elasticsearch's parser takes no longer number (`StreamReadConstraints` of Jackson).
const NUMBER_CHARS_MAX: usize = 1000;

/// Appends a string with its quotes.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Appends a text with quotes if it stands in JSON as it is: ASCII without anything to be escaped. False,
/// and nothing is appended, if not.
pub(super) fn write_plain(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let (blocks, rest) = text.as_chunks();
    let is_plain = |block: &[u8; 8]| marks(*block) | (u64::from_ne_bytes(*block) & HIGH_BITS) == 0;
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let plain = blocks.iter().all(is_plain) && is_plain(&last);
    if plain {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    }
    plain
}

/// Appends an integer.
pub(super) fn write_int(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a float, or says that JSON has no number for it.
pub(super) fn write_float<F: zmij::Float + Into<f64>>(out: &mut Vec<u8>, float: F) -> bool {
    if !float.into().is_finite() {
        return false;
    }
    out.extend_from_slice(zmij::Buffer::new().format_finite(float).as_bytes());
    true
}

/// Whether the text of a JSON value is an object's.
pub(super) fn is_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}

/// Appends the text of a `jsonb` value. PostgreSQL writes it with unique keys and without line
/// breaks or escapes of broken characters, so it is copied as it is; only one that is long enough
/// to hold a number that Elasticsearch would refuse is looked through. So is one with a line break,
/// which no server writes: in a bulk body it would begin another operation.
pub(super) fn write_jsonb(out: &mut Vec<u8>, text: &str) {
    if text.len() <= NUMBER_CHARS_MAX && !text.contains('\n') {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_json(out, text);
    }
}

/// Appends the text of any JSON value as `jsonb` would hold it: without white space between tokens,
/// the last of several members of one name, U+FFFD for an escape that is no character (`\u0000`
/// and lone surrogates, which a `json` may hold). A number of more than 1000 characters becomes a
/// string, since Elasticsearch would refuse it. The text is valid: PostgreSQL checked it.
pub(super) fn write_json(out: &mut Vec<u8>, text: &str) {
    let mut open: Vec<Container> = Vec::new();
    let mut at_name = false;
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        let mut length = 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' => {
                let start = out.len();
                length = write_token_string(out, rest);
                if at_name && let Some(Container::Object(members)) = open.last_mut() {
                    members.begin(start, &out[start..]);
                    at_name = false;
                }
            }
            b'{' | b'[' => {
                out.push(byte);
                at_name = byte == b'{';
                open.push(if at_name {
                    Container::Object(Members::default())
                } else {
                    Container::Array
                });
            }
            b'}' | b']' => {
                if let Some(Container::Object(members)) = open.pop() {
                    members.drop_superseded(out);
                }
                at_name = false;
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                at_name = matches!(open.last(), Some(Container::Object(_)));
            }
            b':' => out.push(byte),
            _ => length = write_token(out, rest),
        }
        rest = &rest[length..];
    }
}

/// What an open bracket holds.
enum Container {
    Array,
    Object(Members),
}

/// The members of an open object, in the output.
#[derive(Default)]
struct Members {
    /// Where each begins; it ends where the next begins, its comma included.
    starts: Vec<usize>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// Those whose name came again.
    superseded: Vec<usize>,
}

impl Members {
    /// A member begins with its name, in the one form that names are written in.
    fn begin(&mut self, start: usize, name: &[u8]) {
        let member = self.starts.len();
        self.starts.push(start);
        self.superseded
            .extend(self.by_name.insert(name.into(), member));
    }

    /// Takes superseded members out. The last member is never one, so the commas stay right.
    fn drop_superseded(mut self, out: &mut Vec<u8>) {
        let Some(&first) = self.superseded.iter().min() else {
            return;
        };
        self.superseded.sort_unstable();
        self.starts.push(out.len());
        let mut end = self.starts[first];
        for member in first..self.starts.len() - 1 {
            if self.superseded.binary_search(&member).is_err() {
                let kept = self.starts[member]..self.starts[member + 1];
                let length = kept.len();
                out.copy_within(kept, end);
                end += length;
            }
        }
        out.truncate(end);
    }
}

/// Copies a string token and gives its length in the text. One without escapes is copied as it is.
fn write_token_string(out: &mut Vec<u8>, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = 1;
    let mut escaped = false;
    while let Some(&byte) = bytes.get(end)
        && byte != b'"'
    {
        // A control character stands in no valid string, and here it must not stay a line break.
        escaped |= byte == b'\\' || byte < 0x20;
        end += if byte == b'\\' { 2 } else { 1 };
    }
    let inner = text.get(1..end).unwrap_or_default();
    if escaped {
        write_string(out, &unescaped(inner));
    } else {
        out.push(b'"');
        out.extend_from_slice(inner.as_bytes());
        out.push(b'"');
    }
    (end + 1).min(text.len())
}

/// The text that a string token without its quotes stands for.
fn unescaped(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    let mut rest = token;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (char, length) = unicode_escape(escape);
                text.push(char);
                rest = &escape[length..];
                continue;
            }
            Some(itself) => text.push(itself),
            None => {}
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    text
}

/// The character of `uXXXX` or, for a surrogate pair, `uXXXX\uXXXX`, and the escape's length.
fn unicode_escape(escape: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(1) else {
        return (char::REPLACEMENT_CHARACTER, 1);
    };
    if (0xD800..0xDC00).contains(&first)
        && escape.get(5..7) == Some("\\u")
        && let Some(second) = unit(7)
        && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
    {
        return (pair, 11);
    }
    let char = char::from_u32(first.into()).filter(|char| *char != '\0');
    (char.unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

/// Copies a number, `true`, `false` or `null`, and gives its length.
fn write_token(out: &mut Vec<u8>, text: &str) -> usize {
    let length = text
        .find([',', ':', '}', ']', ' ', '\t', '\n', '\r'])
        .unwrap_or(text.len());
    let token = &text[..length];
    if length > NUMBER_CHARS_MAX {
        write_string(out, token);
    } else {
        out.extend_from_slice(token.as_bytes());
    }
    length
}

/// What a byte of a string is escaped to: 0 for itself, `u` for `\u00XX`.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0A] = b'n';
    escapes[0x0C] = b'f';
    escapes[0x0D] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = first_escaped(rest) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', ESCAPES[usize::from(byte)]]);
        if ESCAPES[usize::from(byte)] == b'u' {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"00");
            out.extend_from_slice(&digits);
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte stands that is not itself in a string.
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks();
    let plain = blocks
        .iter()
        .take_while(|block| marks(**block) == 0)
        .count()
        * 8;
    let tail = bytes[plain..]
        .iter()
        .position(|byte| ESCAPES[usize::from(*byte)] != 0)?;
    Some(plain + tail)
}

/// The highest bit of each byte.
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The highest bit of each byte that is escaped in a string, of eight at once; none if none is.
///
/// A subtraction leaves it where it went below zero. It may borrow from the next byte, but only where
/// there is a mark already.
const fn marks(block: [u8; 8]) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let block = u64::from_ne_bytes(block);
    let control = block.wrapping_sub(each(0x20));
    let quote = (block ^ each(b'"')).wrapping_sub(each(1));
    let backslash = (block ^ each(b'\\')).wrapping_sub(each(1));
    (control | quote | backslash) & !block & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        write_json(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn white_space_between_tokens_goes_and_in_strings_stays() {
        let text = "{\n\t\"a b\" : [ 1 , -2.50e+3,\r\n true, null, \"x  y\" ] , \"c\":{ } }\n";
        assert_eq!(
            json(text),
            r#"{"a b":[1,-2.50e+3,true,null,"x  y"],"c":{}}"#
        );
    }

    #[test]
    fn the_last_of_several_members_of_one_name_wins() {
        for (text, expected) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2,"a":3}"#),
            (
                r#"{"a":1,"b":2,"a":3,"b":4,"c":5,"a":6}"#,
                r#"{"b":4,"c":5,"a":6}"#,
            ),
            (
                r#"{"a":{"x":1,"x":2},"a":{"x":3,"x":[4]}}"#,
                r#"{"a":{"x":[4]}}"#,
            ),
            (r#"[{"a":1,"\u0061":2},{"a":3}]"#, r#"[{"a":2},{"a":3}]"#),
            (r#"{"k":{"a":1,"a":"}"},"l":0}"#, r#"{"k":{"a":"}"},"l":0}"#),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn escapes_that_are_no_character_become_the_replacement_character() {
        for (text, expected) in [
            (r#""\u0000""#, "\"\u{fffd}\""),
            (r#""x\ud800y""#, "\"x\u{fffd}y\""),
            (r#""\udc00\ud800""#, "\"\u{fffd}\u{fffd}\""),
            (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
            (r#""\ud83d\u0041""#, "\"\u{fffd}A\""),
            (r#""\/\\\"\b\u001f""#, r#""/\\\"\b\u001f""#),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn a_number_too_long_for_the_parser_becomes_a_string() {
        let digits = "7".repeat(NUMBER_CHARS_MAX + 1);
        let text = format!("[{digits}, {}]", &digits[1..]);
        let expected = format!("[\"{digits}\",{}]", &digits[1..]);
        assert_eq!(json(&text), expected);
        let mut out = Vec::new();
        write_jsonb(&mut out, &text);
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn not_even_a_broken_server_gets_a_line_break_through() {
        for (text, expected) in [
            ("{\"a\":\n1}", r#"{"a":1}"#),
            ("\"a\nb\"", r#""a\nb""#),
            ("\"a\\\n\"", r#""a\n""#),
            ("1\n{}", "1{}"),
        ] {
            let mut out = Vec::new();
            write_jsonb(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded_by_the_text_alone() {
        let text = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(json(&text), text);
    }

    /// Any JSON value.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn strings_come_back_as_they_were(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn plain_text_is_copied_and_no_other(text in prop::collection::vec(any::<u8>(), 0..40), plain in any::<bool>()) {
            let text: Vec<u8> = if plain {
                text.iter().map(|byte| byte % 0x5c).map(|byte| byte.max(b'#')).collect()
            } else {
                text
            };
            let mut out = Vec::new();
            let written = write_plain(&mut out, &text);
            let is_plain = |byte: &u8| (0x20..0x80).contains(byte) && !b"\"\\".contains(byte);
            prop_assert_eq!(written, text.iter().all(is_plain));
            let mut expected = Vec::new();
            if written {
                write_string(&mut expected, std::str::from_utf8(&text).unwrap());
            }
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn floats_come_back_bit_by_bit(double in any::<u64>(), single in any::<u32>()) {
            let (double, single) = (f64::from_bits(double), f32::from_bits(single));
            let mut out = Vec::new();
            prop_assert_eq!(write_float(&mut out, double), double.is_finite());
            if double.is_finite() {
                let text = std::str::from_utf8(&out).unwrap();
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), double.to_bits());
                prop_assert!(serde_json::from_str::<Value>(text).unwrap().is_number());
            }
            out.clear();
            prop_assert_eq!(write_float(&mut out, single), single.is_finite());
            if single.is_finite() {
                let text = std::str::from_utf8(&out).unwrap();
                prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), single.to_bits());
                prop_assert!(serde_json::from_str::<Value>(text).unwrap().is_number());
            }
        }

        #[test]
        fn any_text_stays_one_line(text in "\\PC*|[\"\\\\{}\\[\\]:,u0-9a-f\n\r\t ]{0,60}") {
            prop_assert!(!json(&text).contains('\n'));
            let mut out = Vec::new();
            write_jsonb(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
        }

        #[test]
        fn units_of_utf_16_are_characters_or_are_replaced(
            units in prop::collection::vec(prop_oneof![any::<u16>(), 0xd800..0xe000_u16, Just(0)], 0..12),
        ) {
            let escapes: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escapes = escapes.concat();
            let expected = String::from_utf16_lossy(&units).replace('\0', "\u{fffd}");
            let read: String = serde_json::from_str(&json(&format!("\"{escapes}\""))).unwrap();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn of_members_of_one_name_the_last_is_left(
            members in prop::collection::vec(("[abc]", any::<i32>()), 0..12),
        ) {
            let text: Vec<String> = members
                .iter()
                .map(|(name, number)| format!("{name:?}:{{\"n\":0,\"n\":{number}}}"))
                .collect();
            let text = format!("{{{}}}", text.join(" , "));
            let written = json(&text);
            prop_assert_eq!(
                serde_json::from_str::<Value>(&written).unwrap(),
                serde_json::from_str::<Value>(&text).unwrap()
            );
            let names: std::collections::BTreeSet<_> = members.iter().map(|(name, _)| name).collect();
            prop_assert_eq!(written.matches(":{").count(), names.len());
        }

        #[test]
        fn json_keeps_its_meaning(value in values(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let written = json(&text);
            prop_assert!(!written.contains('\n'));
            let expected: Value = serde_json::from_str(&text.replace("\\u0000", "\u{fffd}")).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), expected);
        }
    }
}
