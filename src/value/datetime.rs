//! Dates, times and intervals in ISO 8601, in the forms that Elasticsearch's default `date`
//! mapping (`strict_date_optional_time||epoch_millis`) accepts.
//!
//! A fraction is kept to the microsecond and printed without trailing zeros. 44 BC is the ISO year
//! -0043. Elasticsearch refuses an ISO year above 9999, so such a moment is written as the decimal
//! text of its milliseconds since 1970, which the same mapping accepts and orders rightly.
//! Infinite dates, timestamps and intervals have no such form: they become NULL.

use super::{DecodeError, Value};

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;
const DAY_MILLIS: i64 = 86_400_000;
/// From 1970-01-01, the ISO and Elasticsearch epoch, to 2000-01-01, PostgreSQL's.
const EPOCH_DAYS: i64 = 10_957;
/// PostgreSQL's calendar begins in 4714 BC (`MIN_TIMESTAMP`, `datatype/timestamp.h`).
const YEAR_MIN: i64 = -4713;
/// The last year of four digits.
const ISO_YEAR_MAX: i64 = 9999;

/// A `date`: days since 2000-01-01.
pub(super) fn date(days: i32) -> Result<Value<'static>, DecodeError> {
    if days == i32::MAX || days == i32::MIN {
        return Ok(Value::Null);
    }
    let days = i64::from(days) + EPOCH_DAYS;
    let civil = Civil::of_day(days)?;
    if civil.year > ISO_YEAR_MAX {
        return Ok(owned((days * DAY_MILLIS).to_string()));
    }
    let mut out = String::with_capacity(11);
    civil.push(&mut out);
    Ok(owned(out))
}

/// A `timestamp` or `timestamptz`: microseconds since 2000-01-01, in UTC for the latter, whose
/// text ends with `zone`.
pub(super) fn timestamp(micros: i64, zone: &str) -> Result<Value<'static>, DecodeError> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(Value::Null);
    }
    let civil = Civil::of_day(micros.div_euclid(DAY_MICROS) + EPOCH_DAYS)?;
    let mut out = String::with_capacity(28);
    if civil.year > ISO_YEAR_MAX {
        let millis = micros.div_euclid(1000) + EPOCH_DAYS * DAY_MILLIS;
        out.push_str(itoa::Buffer::new().format(millis));
        push_fraction(&mut out, micros.rem_euclid(1000) * 1000);
        return Ok(owned(out));
    }
    civil.push(&mut out);
    out.push('T');
    push_time(&mut out, micros.rem_euclid(DAY_MICROS));
    out.push_str(zone);
    Ok(owned(out))
}

/// A `time`: microseconds since midnight; 24:00:00 is one.
pub(super) fn time(micros: i64) -> Result<Value<'static>, DecodeError> {
    time_of_day(micros).map(owned)
}

/// A `timetz`: a time and its zone in seconds west of UTC, as PostgreSQL prints it
/// (`EncodeTimezone` in `datetime.c`).
pub(super) fn time_with_zone(micros: i64, west: i32) -> Result<Value<'static>, DecodeError> {
    const ZONE_SECONDS_MAX: u32 = 15 * 3600 + 59 * 60 + 59;
    let seconds = west.unsigned_abs();
    if seconds > ZONE_SECONDS_MAX {
        return Err(DecodeError::Invalid("the zone of a time"));
    }
    let mut out = time_of_day(micros)?;
    out.push(if west <= 0 { '+' } else { '-' });
    push_pair(&mut out, (seconds / 3600).into());
    if !seconds.is_multiple_of(3600) {
        out.push(':');
        push_pair(&mut out, (seconds / 60 % 60).into());
    }
    if !seconds.is_multiple_of(60) {
        out.push(':');
        push_pair(&mut out, (seconds % 60).into());
    }
    Ok(owned(out))
}

/// An `interval` as `intervalstyle = iso_8601` prints it: a sign stands at each part.
pub(super) fn interval(micros: i64, days: i32, months: i32) -> Value<'static> {
    const INFINITE: [(i64, i32, i32); 2] = [
        (i64::MAX, i32::MAX, i32::MAX),
        (i64::MIN, i32::MIN, i32::MIN),
    ];
    if INFINITE.contains(&(micros, days, months)) {
        return Value::Null;
    }
    let mut out = String::with_capacity(24);
    out.push('P');
    let mut digits = itoa::Buffer::new();
    let mut part = |out: &mut String, number: i64, unit: char| {
        if number != 0 {
            out.push_str(digits.format(number));
            out.push(unit);
        }
    };
    part(&mut out, (months / 12).into(), 'Y');
    part(&mut out, (months % 12).into(), 'M');
    part(&mut out, days.into(), 'D');
    if micros != 0 {
        out.push('T');
        part(&mut out, micros / (3600 * SECOND_MICROS), 'H');
        part(&mut out, micros / (60 * SECOND_MICROS) % 60, 'M');
        let seconds = micros % (60 * SECOND_MICROS);
        if seconds != 0 {
            if seconds < 0 {
                out.push('-');
            }
            let seconds = seconds.abs();
            out.push_str(itoa::Buffer::new().format(seconds / SECOND_MICROS));
            push_fraction(&mut out, seconds % SECOND_MICROS);
            out.push('S');
        }
    }
    if out.len() == 1 {
        out.push_str("T0S");
    }
    owned(out)
}

/// A day in the proleptic Gregorian calendar, with the ISO year (0 is 1 BC).
struct Civil {
    year: i64,
    month: i64,
    day: i64,
}

impl Civil {
    /// The day that stands `days` after 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date
    /// Algorithms": eras of 400 years, years that begin in March).
    fn of_day(days: i64) -> Result<Self, DecodeError> {
        const ERA_DAYS: i64 = 146_097;
        let from_march_0000 = days + 719_468;
        let era = from_march_0000.div_euclid(ERA_DAYS);
        let day_of_era = from_march_0000.rem_euclid(ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        if year < YEAR_MIN {
            return Err(DecodeError::Invalid("a date before PostgreSQL's first"));
        }
        Ok(Self { year, month, day })
    }

    fn push(&self, out: &mut String) {
        if self.year < 0 {
            out.push('-');
        }
        push_pair(out, self.year.abs() / 100);
        push_pair(out, self.year.abs() % 100);
        out.push('-');
        push_pair(out, self.month);
        out.push('-');
        push_pair(out, self.day);
    }
}

fn time_of_day(micros: i64) -> Result<String, DecodeError> {
    if !(0..=DAY_MICROS).contains(&micros) {
        return Err(DecodeError::Invalid("a time outside the day"));
    }
    let mut out = String::with_capacity(24);
    push_time(&mut out, micros);
    Ok(out)
}

fn push_time(out: &mut String, micros: i64) {
    let seconds = micros / SECOND_MICROS;
    push_pair(out, seconds / 3600);
    out.push(':');
    push_pair(out, seconds / 60 % 60);
    out.push(':');
    push_pair(out, seconds % 60);
    push_fraction(out, micros % SECOND_MICROS);
}

/// A fraction of a unit without trailing zeros; nothing for zero.
fn push_fraction(out: &mut String, millionths: i64) {
    if millionths != 0 {
        out.push('.');
        push_pair(out, millionths / 10_000);
        push_pair(out, millionths / 100 % 100);
        push_pair(out, millionths % 100);
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// A number of two digits.
fn push_pair(out: &mut String, number: i64) {
    for digit in [number / 10, number % 10] {
        // A decimal digit always fits.
        out.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

fn owned(text: String) -> Value<'static> {
    Value::Text(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, civil};
    use proptest::prelude::*;

    fn text(value: Result<Value<'static>, DecodeError>) -> String {
        match value {
            Ok(Value::Text(text)) => text.into_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    fn epoch() -> civil::DateTime {
        civil::date(2000, 1, 1).at(0, 0, 0, 0)
    }

    /// As jiff prints it, with the sign and width of the year that ISO asks for.
    fn iso(moment: civil::DateTime) -> String {
        let year = moment.year();
        let sign = if year < 0 { "-" } else { "" };
        format!(
            "{sign}{:04}{}",
            year.abs(),
            moment.strftime("-%m-%dT%H:%M:%S%.f")
        )
    }

    #[test]
    fn the_first_and_the_last_timestamp_have_a_form() {
        assert_eq!(
            text(timestamp(-211_813_488_000_000_000, "Z")),
            "-4713-11-24T00:00:00Z"
        );
        // 294276-12-31 23:59:59.999999
        assert_eq!(
            text(timestamp(9_223_371_331_199_999_999, "Z")),
            "9224318015999999.999"
        );
        assert_eq!(text(date(-2_451_545)), "-4713-11-24");
        // 5874897-12-31
        assert_eq!(text(date(2_145_031_948)), "185331706992000000");
    }

    #[test]
    fn a_year_above_9999_is_written_in_milliseconds() {
        let last_iso = 252_455_616_000_000_000;
        assert_eq!(
            text(timestamp(last_iso - 1, "Z")),
            "9999-12-31T23:59:59.999999Z"
        );
        assert_eq!(text(timestamp(last_iso, "Z")), "253402300800000");
        assert_eq!(text(timestamp(last_iso + 1, "Z")), "253402300800000.001");
        assert_eq!(text(timestamp(last_iso + 1500, "")), "253402300800001.5");
    }

    #[test]
    fn infinities_are_null() {
        for micros in [i64::MIN, i64::MAX] {
            assert_eq!(timestamp(micros, "Z"), Ok(Value::Null));
        }
        for days in [i32::MIN, i32::MAX] {
            assert_eq!(date(days), Ok(Value::Null));
        }
        assert_eq!(interval(i64::MAX, i32::MAX, i32::MAX), Value::Null);
        assert_eq!(interval(i64::MIN, i32::MIN, i32::MIN), Value::Null);
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        assert!(date(i32::MIN + 1).is_err());
        assert!(timestamp(i64::MIN + 1, "").is_err());
        assert!(time(-1).is_err());
        assert!(time(DAY_MICROS + 1).is_err());
        assert!(time_with_zone(0, i32::MIN).is_err());
    }

    proptest! {
        #[test]
        fn timestamps_agree_with_another_calendar(
            // 4713 BC to 9999.
            micros in -211_813_488_000_000_000_i64..252_455_616_000_000_000,
        ) {
            let moment = epoch().checked_add(SignedDuration::from_micros(micros)).unwrap();
            prop_assert_eq!(text(timestamp(micros, "")), iso(moment));
        }

        #[test]
        fn dates_agree_with_another_calendar(days in -2_451_545..2_921_939) {
            let moment = epoch().checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap();
            prop_assert_eq!(text(date(days)), &iso(moment)[..iso(moment).len() - 9]);
        }

        #[test]
        fn a_late_moment_is_its_milliseconds_since_1970(
            // 10000 to the last one that PostgreSQL has.
            micros in 252_455_616_000_000_000_i64..=9_223_371_331_199_999_999,
            days in 2_921_940..=2_145_031_948_i32,
        ) {
            let text = text(timestamp(micros, "Z"));
            let (millis, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let read: i128 = format!("{millis}{fraction:0<3}").parse().unwrap();
            prop_assert_eq!(read, i128::from(micros) + 946_684_800_000_000);
            let text = super::tests::text(date(days));
            prop_assert_eq!(text.parse::<i64>().unwrap(), (i64::from(days) + 10_957) * 86_400_000);
        }

        #[test]
        fn times_agree_with_another_clock(micros in 0..DAY_MICROS) {
            let moment = epoch().checked_add(SignedDuration::from_micros(micros)).unwrap();
            prop_assert_eq!(text(time(micros)), moment.strftime("%H:%M:%S%.f").to_string());
        }

        #[test]
        fn the_parts_of_an_interval_add_up_to_it(micros: i64, days: i32, months: i32) {
            let text = text(Ok(interval(micros, days, months)));
            prop_assert_eq!(sum(&text), (i128::from(micros), i128::from(days), i128::from(months)));
        }
    }

    /// Microseconds, days and months of an ISO 8601 duration.
    fn sum(duration: &str) -> (i128, i128, i128) {
        let (calendar, clock) = duration[1..]
            .split_once('T')
            .unwrap_or((&duration[1..], ""));
        let (mut micros, mut days, mut months) = (0, 0, 0);
        for part in calendar.split_inclusive(|c: char| c.is_alphabetic()) {
            let number: i128 = part[..part.len() - 1].parse().unwrap();
            match part.chars().last() {
                Some('Y') => months += number * 12,
                Some('M') => months += number,
                _ => days += number,
            }
        }
        for part in clock.split_inclusive(|c: char| c.is_alphabetic()) {
            let number = &part[..part.len() - 1];
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let digits: i128 = format!("{whole}{fraction:0<6}").parse().unwrap();
            micros += match part.chars().last() {
                Some('H') => digits * 3600,
                Some('M') => digits * 60,
                _ => digits,
            };
        }
        (micros, days, months)
    }
}
