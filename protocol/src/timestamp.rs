//! Points in time as the protocol shows them: RFC 3339 in UTC with milliseconds (PROTOCOL §1). Reads no clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fields::FieldValue;
use crate::text::{InvalidText, ParsedVisitor};

/// Milliseconds since 1970-01-01T00:00:00Z, within the years 0000 to 9999 that RFC 3339 can represent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const EXPECTED: &str = "a time as RFC 3339 writes it, such as 2026-01-02T03:04:05.678Z";

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z
    pub const MIN: Timestamp = Timestamp(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);

    /// Values beyond [`Timestamp::MIN`] and [`Timestamp::MAX`] are clamped.
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        if unix_ms < Self::MIN.0 {
            Self::MIN
        } else if unix_ms > Self::MAX.0 {
            Self::MAX
        } else {
            Self(unix_ms)
        }
    }

    pub const fn unix_ms(self) -> i64 {
        self.0
    }
}

impl Timestamp {
    /// Formatted by hand: times are in every frame and row, and `write!` takes ten times as long.
    fn text(self) -> [u8; 24] {
        // The range of the type is within that of `OffsetDateTime`, so the fallback is never taken.
        let time = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = time.to_hms();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[..4], time.year().unsigned_abs());
        put_digits(&mut text[5..7], u8::from(time.month()).into());
        put_digits(&mut text[8..10], time.day().into());
        put_digits(&mut text[11..13], hour.into());
        put_digits(&mut text[14..16], minute.into());
        put_digits(&mut text[17..19], second.into());
        put_digits(&mut text[20..23], u32::try_from(self.0.rem_euclid(1_000)).unwrap_or_default());
        text
    }
}

fn put_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[number as usize % 10];
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidText;

    /// Accepts any offset; anything finer than a millisecond is truncated.
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidText { expected: EXPECTED })?;
        Ok(Self::from_unix_ms(time.unix_timestamp() * 1_000 + i64::from(time.millisecond())))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ParsedVisitor::<Self>::new(EXPECTED))
    }
}

impl FieldValue for Timestamp {
    const EXPECTED: &'static str = EXPECTED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(unix_ms: i64, text: &str) {
        assert_eq!(Timestamp::from_unix_ms(unix_ms).to_string(), text);
        assert_eq!(text.parse(), Ok(Timestamp::from_unix_ms(unix_ms)));
    }

    #[test]
    fn always_shows_milliseconds() {
        shows(0, "1970-01-01T00:00:00.000Z");
        shows(1_767_323_045_678, "2026-01-02T03:04:05.678Z");
        shows(-1, "1969-12-31T23:59:59.999Z");
        shows(Timestamp::MIN.unix_ms(), "0000-01-01T00:00:00.000Z");
        shows(Timestamp::MAX.unix_ms(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn is_cut_to_what_rfc_3339_can_write() {
        for past in [Timestamp::MIN.unix_ms() - 1, i64::MIN] {
            assert_eq!(Timestamp::from_unix_ms(past), Timestamp::MIN);
        }
        for past in [Timestamp::MAX.unix_ms() + 1, i64::MAX] {
            assert_eq!(Timestamp::from_unix_ms(past), Timestamp::MAX);
        }
        assert_eq!("0000-01-01T00:00:00+01:00".parse(), Ok(Timestamp::MIN));
    }

    #[test]
    fn takes_any_offset_and_precision() {
        let expected = Timestamp::from_unix_ms(1_767_323_045_678);
        for text in ["2026-01-02T05:04:05.678+02:00", "2026-01-01T23:34:05.6789999-03:30"] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("1969-12-31T23:59:59.9999Z".parse(), Ok(Timestamp::from_unix_ms(-1)));
        for text in ["", "2026-01-02", "2026-01-02T03:04:05", "2026-02-30T00:00:00Z", "1767323045678"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_and_number_are_the_same_time(unix_ms in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let timestamp = Timestamp::from_unix_ms(unix_ms);
            proptest::prop_assert_eq!(timestamp.to_string().parse(), Ok(timestamp));
        }
    }
}
