//! RFC 3339 times: text to instant and back.
//!
//! Strict as the grammar of the RFC is: date, `T`, time, zone, all there. An instant keeps nanoseconds; digits beyond them are dropped,
//! which is why whoever must give a text back unchanged compares it with [`render`] and keeps the text where they differ.

use chainring::Timestamp;

const DAY_SECONDS: i64 = 86_400;

/// Days from 1970-01-01 to this date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March here, so that the leap day is the last one: then month lengths follow one line.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of this many days after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

/// Two or four digits, and nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn month_days(year: i64, month: i64) -> i64 {
    if month == 12 { 31 } else { days(year, month + 1, 1) - days(year, month, 1) }
}

/// The instant a text names; `None` if it is not RFC 3339.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() < 20
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || !matches!(bytes[10], b'T' | b't')
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    let in_range = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range {
        return None;
    }
    let (nanoseconds, zone) = fraction(&bytes[19..])?;
    let east = offset(zone)?;
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - east;
    // A leap second ends a day of UTC and nothing else; as an instant it is the second that follows.
    (second < 60 || seconds.rem_euclid(DAY_SECONDS) == 0).then_some(Timestamp { seconds, nanoseconds })
}

/// Splits `[.digits]zone`.
fn fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = (0..9).fold(0, |n, at| n * 10 + if at < length { u32::from(rest[at] - b'0') } else { 0 });
    (length > 0).then_some((value, &rest[length..]))
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// The one canonical text of an instant: UTC with `Z`, no more digits behind the second than needed.
pub(crate) fn render(time: Timestamp) -> String {
    let (year, month, day) = date(time.seconds.div_euclid(DAY_SECONDS));
    let second = time.seconds.rem_euclid(DAY_SECONDS);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if time.nanoseconds > 0 {
        let digits = format!(".{:09}", time.nanoseconds);
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// This instant, as the system tells it.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() }
}

/// An instant of the engine's clock.
pub(crate) fn from_nanoseconds(ns: u64) -> Timestamp {
    Timestamp { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
}

/// An instant as the engine's clock counts; before 1970 there was no such clock, after 2554 there is none any more.
pub(crate) fn to_nanoseconds(time: Timestamp) -> u64 {
    let Ok(seconds) = u64::try_from(time.seconds) else { return 0 };
    seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(time.nanoseconds.into())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64, nanoseconds: u32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanoseconds })
    }

    #[test]
    fn known_instants() {
        let cases = [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("1969-12-31T23:59:59.5Z", at(-1, 500_000_000)),
            ("2004-11-24T01:04:44Z", at(1_101_258_284, 0)),
            ("2025-08-01T15:57:32.620908Z", at(1_754_063_852, 620_908_000)),
            ("2025-08-01T17:57:32.000000+02:00", at(1_754_063_852, 0)),
            ("2000-02-29t00:00:00z", at(951_782_400, 0)),
            ("0000-01-01T00:00:00Z", at(-62_167_219_200, 0)),
            ("9999-12-31T23:59:59.9999999999Z", at(253_402_300_799, 999_999_999)),
            ("2016-12-31T23:59:60Z", at(1_483_228_800, 0)),
            ("2017-01-01T00:59:60+01:00", at(1_483_228_800, 0)),
        ];
        for (text, instant) in cases {
            assert_eq!(parse(text), instant, "{text}");
        }
    }

    #[test]
    fn refuses_what_the_grammar_does_not_have() {
        for text in [
            "",
            "2025-08-01",
            "2025-08-01T15:57:32",
            "2025-08-01 15:57:32Z",
            "2025-8-01T15:57:32Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-00T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:60:00Z",
            "2025-01-01T00:00:61Z",
            "2025-01-01T12:00:60Z",
            "2025-01-01T00:00:00.Z",
            "2025-01-01T00:00:00+0100",
            "2025-01-01T00:00:00+24:00",
            "2025-01-01T00:00:00Zx",
            "+025-01-01T00:00:00Z",
            "2025-01-01T00:00:00ZZ",
            "2025-01-01T00:00:0\u{e9}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rendering_comes_back(seconds in -62_167_219_200_i64..253_402_300_800, nanoseconds in 0_u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(parse(&render(time)), Some(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
