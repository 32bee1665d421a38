//! `numeric` to its text, digit for digit.
//!
//! The wire has base-10000 digits, the weight of the first and the scale to print
//! (`numeric_send` in `numeric.c`); the text is the one that `numeric_out` writes. Nothing goes
//! through a float, and no digit is ever cut.

use super::{DecodeError, reader::Reader};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
const DIGITS_PER_GROUP: usize = 4;

/// Reads a `numeric` and prints it as PostgreSQL does.
pub(super) fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let count = usize::from(reader.u16()?);
    let weight = i32::from(reader.i16()?);
    let sign = reader.u16()?;
    let scale = usize::from(reader.u16()?);
    let groups = Groups {
        bytes: reader.take(count * 2)?,
        weight,
    };
    match sign {
        0 | NEGATIVE => groups.print(sign == NEGATIVE, scale),
        NAN => Ok("NaN".into()),
        POSITIVE_INFINITY => Ok("Infinity".into()),
        NEGATIVE_INFINITY => Ok("-Infinity".into()),
        _ => Err(DecodeError::Invalid("the sign of a numeric")),
    }
}

/// The base-10000 digits, the first of which counts 10000 to the power of `weight`.
struct Groups<'a> {
    bytes: &'a [u8],
    weight: i32,
}

impl Groups<'_> {
    fn print(&self, negative: bool, scale: usize) -> Result<String, DecodeError> {
        let whole_groups = usize::try_from(self.weight + 1).unwrap_or(0);
        let mut out =
            String::with_capacity(whole_groups * DIGITS_PER_GROUP + scale.next_multiple_of(4) + 3);
        if negative {
            out.push('-');
        }
        let whole_start = out.len();
        for power in (0..=self.weight).rev() {
            self.push_group(power, &mut out)?;
        }
        strip_leading_zeros(&mut out, whole_start);
        let mut power = -1;
        if scale > 0 {
            out.push('.');
            let fraction_end = out.len() + scale;
            while out.len() < fraction_end {
                self.push_group(power, &mut out)?;
                power -= 1;
            }
            if out[fraction_end..].bytes().any(|digit| digit != b'0') {
                return Err(DecodeError::Invalid("a numeric has digits below its scale"));
            }
            out.truncate(fraction_end);
        }
        if self.lowest_power() <= power {
            return Err(DecodeError::Invalid("a numeric has digits below its scale"));
        }
        Ok(out)
    }

    /// The four decimal digits that stand at 10000 to the power of `power`.
    fn push_group(&self, power: i32, out: &mut String) -> Result<(), DecodeError> {
        let index = usize::try_from(self.weight - power).unwrap_or(usize::MAX);
        let group = self.bytes.chunks_exact(2).nth(index);
        let group = group.map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]));
        if group > 9999 {
            return Err(DecodeError::Invalid("a digit of a numeric is above 9999"));
        }
        for divisor in [1000, 100, 10, 1] {
            // A decimal digit always fits.
            out.push(char::from(
                b'0' + u8::try_from(group / divisor % 10).unwrap_or(0),
            ));
        }
        Ok(())
    }

    /// The power of the last group; above every power when there is none.
    fn lowest_power(&self) -> i32 {
        match i32::try_from(self.bytes.len() / 2) {
            Ok(count) if count > 0 => self.weight + 1 - count,
            _ => i32::MAX,
        }
    }
}

/// Leaves one digit at least.
fn strip_leading_zeros(out: &mut String, start: usize) {
    let digits = &out[start..];
    let kept = digits.trim_start_matches('0').len();
    let zeros = digits.len() - kept;
    if kept == 0 {
        out.truncate(start);
        out.push('0');
    } else {
        out.replace_range(start..start + zeros, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(bytes: &[u8]) -> Result<String, DecodeError> {
        let mut reader = Reader::new(bytes);
        let text = text(&mut reader)?;
        reader.end()?;
        Ok(text)
    }

    /// What `numeric_send` writes for the decimal text, zero groups at both ends left out.
    fn wire(text: &str) -> Vec<u8> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (NEGATIVE, rest),
            None => (0, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole_width = whole.len().next_multiple_of(DIGITS_PER_GROUP);
        let fraction_width = fraction.len().next_multiple_of(DIGITS_PER_GROUP);
        let zeros = |width: usize, text: &str| "0".repeat(width - text.len());
        let (before, behind) = (zeros(whole_width, whole), zeros(fraction_width, fraction));
        let padded = format!("{before}{whole}{fraction}{behind}");
        let mut groups: Vec<u16> = padded
            .as_bytes()
            .chunks(DIGITS_PER_GROUP)
            .map(|group| std::str::from_utf8(group).unwrap().parse().unwrap())
            .collect();
        let mut weight = i16::try_from(whole_width / DIGITS_PER_GROUP).unwrap() - 1;
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        while groups.last() == Some(&0) {
            groups.pop();
        }
        if groups.is_empty() {
            weight = 0;
        }
        let count = u16::try_from(groups.len()).unwrap();
        let scale = u16::try_from(fraction.len()).unwrap();
        let mut bytes = count.to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        for group in groups {
            bytes.extend(group.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn digits_below_the_scale_are_an_error_and_never_cut() {
        // 0.5 with scale 0, 0.12345 with scale 4, 0.55 with scale 1.
        for bytes in [
            [&[0, 1, 255, 255, 0, 0, 0, 0][..], &[0x13, 0x88]].concat(),
            [&[0, 2, 255, 255, 0, 0, 0, 4][..], &[4, 210, 0x13, 0x88]].concat(),
            [&[0, 1, 255, 255, 0, 0, 0, 1][..], &[0x15, 0x7c]].concat(),
        ] {
            let expected = DecodeError::Invalid("a numeric has digits below its scale");
            assert_eq!(print(&bytes), Err(expected));
        }
    }

    #[test]
    fn a_digit_above_9999_is_an_error() {
        let bytes = [0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10];
        assert!(matches!(print(&bytes), Err(DecodeError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_decimal_comes_back_digit_for_digit(
            negative in any::<bool>(),
            whole in "0|[1-9][0-9]{0,40}",
            fraction in "|[0-9]{1,40}",
        ) {
            let digits = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            let zero = digits.bytes().all(|b| b == b'0' || b == b'.');
            let text = if negative && !zero { format!("-{digits}") } else { digits };
            prop_assert_eq!(print(&wire(&text)), Ok(text));
        }
    }
    proptest! {
        // The most digits that PostgreSQL allows take their time.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_numeric_of_the_most_digits_loses_none(
            seed: u64,
            whole in 1..=131_072_usize,
            fraction in 0..=16_383_usize,
        ) {
            let mut state = seed | 1;
            let mut digits = |count: usize| -> String {
                (0..count)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        char::from(b'0' + u8::try_from(state >> 33 & 7).unwrap())
                    })
                    .collect()
            };
            let whole = format!("9{}", digits(whole - 1));
            let text = match fraction {
                0 => whole,
                _ => format!("{whole}.{}", digits(fraction)),
            };
            prop_assert_eq!(print(&wire(&text)), Ok(text));
        }
    }
}
