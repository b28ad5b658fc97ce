//! Dashboards (PROTOCOL §5): events as publishers send them, and the windows that watchers get.
//!
//! A batch of events is the largest thing that a client sends, so it is read in one pass, directly into its types. Only
//! a batch that this pass rejects is read again event by event, to find the field at fault.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeTuple};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::ProtocolError;
use crate::fields::{FieldValue, Fields};
use crate::limits::{EVENTS_MAX, SERIES_BYTES_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX};
use crate::text::checked_text;
use crate::timestamp::Timestamp;

checked_text! {
    /// The name of a series of events, such as `clicks`.
    SeriesName, |text| (1..=SERIES_BYTES_MAX).contains(&text.len()), "a string of 1 to 128 bytes"
}

checked_text! {
    /// The name of a tag, which distinguishes series, such as `country`.
    TagName, |text| (1..=TAG_NAME_BYTES_MAX).contains(&text.len()), "a string of 1 to 64 bytes"
}

checked_text! {
    /// A tag's value, such as `NL`; may be empty.
    TagValue, |text| text.len() <= TAG_VALUE_BYTES_MAX, "a string of at most 128 bytes"
}

/// A finite number, as JSON can represent it. An integer is written without a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number(f64);

// It is never NaN.
impl Eq for Number {}

impl Number {
    /// Infinite numbers are clamped, and NaN becomes 0: a sum may overflow.
    pub fn saturating(number: f64) -> Self {
        if number.is_nan() { Self(0.0) } else { Self(number.clamp(f64::MIN, f64::MAX)) }
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// 2^53, up to which every integer is exactly representable.
        const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() < WHOLE_MAX {
            // Exact: it is an integer within 53 bits.
            #[allow(clippy::cast_possible_truncation)]
            return serializer.serialize_i64(self.0 as i64);
        }
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if number.is_finite() { Ok(Self(number)) } else { Err(D::Error::custom("must be a finite number")) }
    }
}

impl FieldValue for Number {
    const EXPECTED: &'static str = "a finite number";
}

/// The tags of an event, sorted by name, without duplicates: equal sets are equal values.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags(Box<[(TagName, TagValue)]>);

impl Tags {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Estimated size in memory.
    pub fn bytes(&self) -> usize {
        let texts = self.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.0.len() * size_of::<(TagName, TagValue)>() + texts
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Tags::EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
        let mut tags: Vec<(TagName, TagValue)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<TagName, TagValue>()? {
            match tags.binary_search_by(|(known, _)| known.cmp(&name)) {
                // Of repeated names the last one counts, as everywhere.
                Ok(at) => tags[at].1 = value,
                Err(_) if tags.len() == TAGS_MAX => return Err(A::Error::custom("too many tags")),
                Err(at) => {
                    tags.reserve_exact(1);
                    tags.insert(at, (name, value));
                }
            }
        }
        Ok(Tags(tags.into()))
    }
}

impl FieldValue for Tags {
    const EXPECTED: &'static str = "an object of at most 8 strings of at most 128 bytes, under names of 1 to 64 bytes";
}

/// One thing that happened: a value for one series at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub series: SeriesName,
    pub value: Number,
    /// `None`: the time of arrival at the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

const EVENT_FIELDS: &[&str] = &["series", "value", "timestamp", "tags"];

/// Reads `events`: at least one, at most [`EVENTS_MAX`].
///
/// # Errors
/// `bad_request` that names the field, such as `events[3].value`.
pub(crate) fn parse_events(raw: &RawValue) -> Result<Vec<Event>, ProtocolError> {
    match serde_json::from_str::<Bounded>(raw.get()) {
        Ok(Bounded(events)) if !events.is_empty() => Ok(events),
        _ => parse_one_by_one(raw),
    }
}

/// At most [`EVENTS_MAX`] events, or an error: so its allocations are bounded.
struct Bounded(Vec<Event>);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventsVisitor;

        impl<'de> Visitor<'de> for EventsVisitor {
            type Value = Bounded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bounded, A::Error> {
                let mut events = Vec::new();
                while let Some(EventObject(event)) = seq.next_element()? {
                    if events.len() == EVENTS_MAX {
                        return Err(A::Error::custom("too many"));
                    }
                    events.push(event);
                }
                Ok(Bounded(events))
            }
        }

        deserializer.deserialize_seq(EventsVisitor)
    }
}

/// An event from an object; a derived `Deserialize` would also accept an array of its values.
struct EventObject(Event);

impl<'de> Deserialize<'de> for EventObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;

        impl<'de> Visitor<'de> for EventVisitor {
            type Value = EventObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EventObject, A::Error> {
                Event::deserialize(MapAccessDeserializer::new(map)).map(EventObject)
            }
        }

        deserializer.deserialize_map(EventVisitor)
    }
}

/// Applies the rules of all other frames to each event: a repeated field's last value counts, `null` counts as absent,
/// and malformed fields are named.
fn parse_one_by_one(raw: &RawValue) -> Result<Vec<Event>, ProtocolError> {
    let wrong = || ProtocolError::bad_request("events", format!("must be an array of 1 to {EVENTS_MAX} events"));
    let Slices(slices) = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    if slices.is_empty() || slices.len() > EVENTS_MAX {
        return Err(wrong());
    }
    slices.into_iter().enumerate().map(|(index, raw)| parse_event(index, raw)).collect()
}

fn parse_event(index: usize, raw: &RawValue) -> Result<Event, ProtocolError> {
    let fields = Fields::parse(raw.get(), EVENT_FIELDS)
        .map_err(|_| ProtocolError::bad_request(format!("events[{index}]"), "must be an object"))?;
    let event = || {
        Ok(Event {
            series: fields.required("series")?,
            value: fields.required("value")?,
            timestamp: fields.optional("timestamp")?,
            tags: fields.optional("tags")?.unwrap_or_default(),
        })
    };
    event().map_err(|error: ProtocolError| in_event(index, &error))
}

/// Turns the error about a field of an event into one about the whole request.
fn in_event(index: usize, error: &ProtocolError) -> ProtocolError {
    let detail = &error.details()[0];
    ProtocolError::bad_request(format!("events[{index}].{}", detail.field), detail.message.clone())
}

/// The raw elements of an array; those beyond [`EVENTS_MAX`] + 1 are scanned, but not kept.
struct Slices<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Slices<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SlicesVisitor;

        impl<'de> Visitor<'de> for SlicesVisitor {
            type Value = Slices<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Slices<'de>, A::Error> {
                let mut slices = Vec::new();
                while slices.len() <= EVENTS_MAX {
                    let Some(raw) = seq.next_element()? else { return Ok(Slices(slices)) };
                    slices.push(raw);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Slices(slices))
            }
        }

        deserializer.deserialize_seq(SlicesVisitor)
    }
}

/// The length of a topic's windows, which begin at integer multiples of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    #[serde(rename = "1s")]
    Second,
    #[serde(rename = "1m")]
    Minute,
}

impl Window {
    pub const ALL: [Window; 2] = [Self::Second, Self::Minute];

    pub const fn ms(self) -> i64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
        }
    }

    /// The start of the window that contains this time.
    pub const fn start_ms(self, unix_ms: i64) -> i64 {
        unix_ms - unix_ms.rem_euclid(self.ms())
    }
}

impl FieldValue for Window {
    const EXPECTED: &'static str = "1s or 1m";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "1s" => Some(Self::Second),
            "1m" => Some(Self::Minute),
            _ => None,
        }
    }
}

/// The content of one window of one series: `[start_ms,count,sum,min,max,p50,p95,p99]`. Only windows with events are
/// sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Milliseconds since 1970.
    pub start_ms: i64,
    pub count: u64,
    pub sum: Number,
    pub min: Number,
    pub max: Number,
    pub p50: Number,
    pub p95: Number,
    pub p99: Number,
}

type PointArray = (i64, u64, Number, Number, Number, Number, Number, Number);

impl Point {
    /// The maximum size of a point as JSON, with a trailing comma.
    pub const JSON_BYTES_MAX: usize = 192;
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_tuple(8)?;
        array.serialize_element(&self.start_ms)?;
        array.serialize_element(&self.count)?;
        for number in [self.sum, self.min, self.max, self.p50, self.p95, self.p99] {
            array.serialize_element(&number)?;
        }
        array.end()
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (start_ms, count, sum, min, max, p50, p95, p99) = PointArray::deserialize(deserializer)?;
        Ok(Self { start_ms, count, sum, min, max, p50, p95, p99 })
    }
}

/// The windows of one series, that is, of one name with one set of tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesPoints {
    pub series: SeriesName,
    pub tags: Tags,
    /// Ordered by time.
    pub points: Vec<Point>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn messages_name_the_limits() {
        let messages = [
            (SeriesName::EXPECTED, limits::SERIES_BYTES_MAX),
            (TagName::EXPECTED, limits::TAG_NAME_BYTES_MAX),
            (TagValue::EXPECTED, limits::TAG_VALUE_BYTES_MAX),
            (Tags::EXPECTED, limits::TAGS_MAX),
            (Tags::EXPECTED, limits::TAG_NAME_BYTES_MAX),
            (Tags::EXPECTED, limits::TAG_VALUE_BYTES_MAX),
        ];
        for (message, limit) in messages {
            assert!(message.contains(&format!(" {limit} ")), "{message}: {limit}");
        }
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() {
        let written = |number| serde_json::to_string(&Number::saturating(number)).unwrap();
        assert_eq!([1.0, -0.0, 0.5, -3.0].map(written), ["1", "0", "0.5", "-3"]);
        assert_eq!(written(9_007_199_254_740_991.0), "9007199254740991");
        assert_eq!(written(f64::INFINITY), written(f64::MAX));
        assert_eq!(written(f64::NAN), "0");
    }

    #[test]
    fn no_point_is_longer_than_the_longest() {
        let longest = [f64::MIN, -f64::MIN_POSITIVE, -1.234_567_890_123_456_7e-300].map(Number::saturating);
        for number in longest {
            let [sum, min, max, p50, p95, p99] = [number; 6];
            let point = Point { start_ms: -1_000_000_000_000_000, count: u64::MAX, sum, min, max, p50, p95, p99 };
            let json = serde_json::to_string(&point).unwrap();
            assert!(json.len() < Point::JSON_BYTES_MAX, "{}: {json}", json.len());
        }
    }

    #[test]
    fn windows_begin_at_multiples_of_their_length() {
        assert_eq!([0, 999, 1_000, -1].map(|ms| Window::Second.start_ms(ms)), [0, 0, 1_000, -1_000]);
        assert_eq!([59_999, 60_000, -1].map(|ms| Window::Minute.start_ms(ms)), [0, 60_000, -60_000]);
    }

    /// Both ways of reading agree wherever the fast one succeeds.
    #[test]
    fn an_event_is_small() {
        assert_eq!((size_of::<Event>(), size_of::<Point>()), (64, 64));
    }

    fn event_json() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let value = prop_oneof![
            8 => any::<f64>().prop_map(|value| serde_json::json!(value).to_string()),
            4 => any::<i64>().prop_map(|value| value.to_string()),
            1 => prop::sample::select(vec!["null", "\"1\"", "1e999", "true", "[]", "{}"]).prop_map(str::to_owned),
        ];
        let field = prop_oneof![
            4 => "[a-z]{0,3}".prop_map(|series| format!("\"series\":\"{series}\"")),
            4 => value.prop_map(|value| format!("\"value\":{value}")),
            1 => (0i64..9_999_999_999_999).prop_map(|ms| format!("\"timestamp\":\"{}\"", Timestamp::from_unix_ms(ms))),
            1 => prop::sample::select(vec!["\"timestamp\":null", "\"timestamp\":1", "\"tags\":null", "\"x\":[{}]"])
                .prop_map(str::to_owned),
            2 => prop::collection::vec(("[a-c]{0,2}", "[a-z]{0,2}"), 0..4).prop_map(|tags| {
                let tags: Vec<_> = tags.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
                format!("\"tags\":{{{}}}", tags.join(","))
            }),
        ];
        prop::collection::vec(field, 0..5).prop_map(|fields| {
            // So that most are accepted; a repeated field is accepted too.
            format!(
                "{{\"series\":\"s\",\"value\":1,{}\"y\":0}}",
                fields.iter().map(|f| format!("{f},")).collect::<String>()
            )
        })
    }

    proptest::proptest! {
        #[test]
        fn both_ways_of_reading_agree(events in proptest::collection::vec(event_json(), 0..4)) {
            let json = format!("[{}]", events.join(","));
            let slow = parse_one_by_one(raw(&json));
            proptest::prop_assert_eq!(&parse_events(raw(&json)), &slow);
            if let Ok(Bounded(fast)) = serde_json::from_str(&json)
                && !fast.is_empty()
            {
                proptest::prop_assert_eq!(Ok(fast), slow);
            }
        }
    }
}
