//! A user's quiet hours, in their time zone. Zones come from the built-in database, so that all nodes agree, whatever
//! their machines have installed.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Timestamp;

use crate::invalid::InvalidField;

/// Daily hours in a time zone: from `from` until `to`, which is on the next day if it is earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// The form in HTTP bodies and in the store.
#[derive(Clone, Serialize, Deserialize)]
struct Text {
    from: String,
    to: String,
    time_zone: String,
}

impl QuietHours {
    /// # Errors
    /// If a time is not written `HH:MM`, both are the same, or the zone is none of the IANA database.
    pub fn new(from: &str, to: &str, time_zone: &str) -> Result<Self, InvalidField> {
        let (from, to) = (time("quiet_hours.from", from)?, time("quiet_hours.to", to)?);
        if from == to {
            return Err(InvalidField { field: "quiet_hours.to", expected: "another time than quiet_hours.from" });
        }
        let zone = TimeZone::get(time_zone).ok().filter(|zone| zone.iana_name().is_some());
        let expected = "a time zone of the IANA database, such as Europe/Berlin";
        let zone = zone.ok_or(InvalidField { field: "quiet_hours.time_zone", expected })?;
        Ok(Self { from, to, zone })
    }

    /// The end of the quiet hours that contain `at`; `None` outside of them.
    pub fn end(&self, at: Timestamp) -> Option<Timestamp> {
        let instant = jiff::Timestamp::from_millisecond(at.unix_ms()).ok()?;
        let local = self.zone.to_datetime(instant);
        let time = local.time();
        let overnight = self.to < self.from;
        let inside = if overnight { time >= self.from || time < self.to } else { self.from <= time && time < self.to };
        if !inside {
            return None;
        }
        let date = local.date();
        let date = if overnight && time >= self.from { date.tomorrow().ok()? } else { date };
        self.instant_after(date.to_datetime(self.to), instant).map(|end| Timestamp::from_unix_ms(end.as_millisecond()))
    }

    /// The instant at which clocks show `local`. If they show it twice, the first one after `now`; if they skip it, as
    /// long after the skip as it would have been.
    fn instant_after(&self, local: DateTime, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let instant = self.zone.to_ambiguous_timestamp(local);
        let first = instant.compatible().ok()?;
        if first > now { Some(first) } else { instant.later().ok().filter(|later| *later > now) }
    }
}

fn time(field: &'static str, text: &str) -> Result<Time, InvalidField> {
    let two =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i8>().ok()).flatten();
    let parsed = match text.split_once(':') {
        Some((hour, minute)) if hour.len() == 2 && minute.len() == 2 => two(hour).zip(two(minute)),
        _ => None,
    };
    let time = parsed.and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok());
    time.ok_or(InvalidField { field, expected: "a time of the day, HH:MM" })
}

impl TryFrom<Text> for QuietHours {
    type Error = InvalidField;

    fn try_from(text: Text) -> Result<Self, InvalidField> {
        Self::new(&text.from, &text.to, &text.time_zone)
    }
}

impl From<QuietHours> for Text {
    fn from(hours: QuietHours) -> Self {
        let time = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        let time_zone = hours.zone.iana_name().unwrap_or("UTC").to_owned();
        Self { from: time(hours.from), to: time(hours.to), time_zone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str, zone: &str) -> QuietHours {
        QuietHours::new(from, to, zone).unwrap()
    }

    #[track_caller]
    fn ends(hours: &QuietHours, at: &str, expected: Option<&str>) {
        let end = hours.end(at.parse().unwrap()).map(|end| end.to_string());
        assert_eq!(end.as_deref(), expected, "at {at}");
    }

    #[test]
    fn begin_on_the_minute_and_end_on_it() {
        let day = hours("12:00", "13:30", "UTC");
        ends(&day, "2026-01-02T11:59:59.999Z", None);
        ends(&day, "2026-01-02T12:00:00Z", Some("2026-01-02T13:30:00.000Z"));
        ends(&day, "2026-01-02T13:29:59.999Z", Some("2026-01-02T13:30:00.000Z"));
        ends(&day, "2026-01-02T13:30:00Z", None);
    }

    #[test]
    fn go_over_midnight_where_the_user_lives() {
        let night = hours("22:00", "07:00", "Asia/Kolkata");
        ends(&night, "2026-01-02T16:29:00Z", None);
        ends(&night, "2026-01-02T16:30:00Z", Some("2026-01-03T01:30:00.000Z"));
        ends(&night, "2026-01-02T20:00:00Z", Some("2026-01-03T01:30:00.000Z"));
    }

    #[test]
    fn follow_summer_time() {
        let night = hours("22:00", "07:00", "Europe/Berlin");
        ends(&night, "2026-03-28T22:00:00Z", Some("2026-03-29T05:00:00.000Z"));
        ends(&night, "2026-10-24T22:00:00Z", Some("2026-10-25T06:00:00.000Z"));
        // Clocks go from 02:00 to 03:00: 02:30 is skipped.
        ends(&hours("01:00", "02:30", "Europe/Berlin"), "2026-03-29T00:30:00Z", Some("2026-03-29T01:30:00.000Z"));
        // Clocks show 02:00 to 03:00 twice, and quiet hours last until 02:30 both times.
        let twice = hours("02:00", "02:30", "Europe/Berlin");
        ends(&twice, "2026-10-25T00:10:00Z", Some("2026-10-25T00:30:00.000Z"));
        ends(&twice, "2026-10-25T00:30:00Z", None);
        ends(&twice, "2026-10-25T01:10:00Z", Some("2026-10-25T01:30:00.000Z"));
    }

    #[test]
    fn are_refused_by_the_name_of_the_field() {
        for (from, to, zone, field) in [
            ("7:00", "08:00", "UTC", "quiet_hours.from"),
            ("07:00", "24:00", "UTC", "quiet_hours.to"),
            ("07:00", "+8:00", "UTC", "quiet_hours.to"),
            ("07:00", "07:00", "UTC", "quiet_hours.to"),
            ("07:00", "08:00", "Mars/Phobos", "quiet_hours.time_zone"),
        ] {
            assert_eq!(QuietHours::new(from, to, zone).unwrap_err().field, field, "{from} {to} {zone}");
        }
    }

    #[test]
    fn are_written_as_they_are_read() {
        let json = r#"{"from":"22:05","to":"07:00","time_zone":"Europe/Berlin"}"#;
        let hours: QuietHours = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&hours).unwrap(), json);
    }
}
