//! Reads the fields of one JSON object by name, each into its type, and reports which one is at fault.
//!
//! A derived `Deserialize` would stop at a duplicate key, echo the client's own text in its messages and not name a
//! missing field. Here the object is scanned once and known fields are kept as slices of the text (so memory is bounded
//! by the number of known names, whatever the client sends). Of a repeated key the last value counts, as in JavaScript.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ProtocolError;
use crate::ids::{UserId, parse_decimal};

/// A field's type: how it is read from JSON and from a path or query, and what is expected of it.
pub(crate) trait FieldValue: DeserializeOwned {
    /// The end of a sentence that begins with "must be".
    const EXPECTED: &'static str;

    fn from_json(raw: &RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Not for types that can't be in a path or query.
    fn from_text(_: &str) -> Option<Self> {
        None
    }
}

/// The source of a field: the frame or body, or (HTTP) the path or query.
#[derive(Clone, Copy)]
enum Source<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// The known fields of one request.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    found: Vec<(&'static str, Source<'a>)>,
}

/// The text is not one JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAnObject;

impl<'a> Fields<'a> {
    /// Finds those of `names` that the object `text` has; others are skipped.
    pub(crate) fn parse(text: &'a str, names: &'static [&'static str]) -> Result<Self, NotAnObject> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json.deserialize_map(FieldsVisitor { names }).map_err(|_| NotAnObject)?;
        json.end().map_err(|_| NotAnObject)?;
        Ok(fields)
    }

    /// Adds a field from a path or query, which replaces one from the body.
    pub(crate) fn set_text(&mut self, name: &'static str, text: &'a str) {
        self.set(name, Source::Text(text));
    }

    fn set(&mut self, name: &'static str, source: Source<'a>) {
        match self.found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, last)) => *last = source,
            None => self.found.push((name, source)),
        }
    }

    /// `null` counts as absent, for clients that always write all their fields.
    fn present(&self, name: &str) -> Option<Source<'a>> {
        self.found
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, source)| *source)
            .filter(|source| !source.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.present(name).is_some()
    }

    /// Whether the field is present and `null`, where that has a meaning.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.found.iter().any(|(known, source)| *known == name && source.is_null())
    }

    /// The field's JSON, including `null`; also `None` if it came from a path or query.
    pub(crate) fn json(&self, name: &str) -> Option<&'a RawValue> {
        self.found.iter().find(|(known, _)| *known == name).and_then(|(_, source)| match source {
            Source::Json(raw) => Some(*raw),
            Source::Text(_) => None,
        })
    }

    pub(crate) fn optional<T: FieldValue>(&self, name: &'static str) -> Result<Option<T>, ProtocolError> {
        let Some(source) = self.present(name) else { return Ok(None) };
        let value = match source {
            Source::Json(raw) => T::from_json(raw),
            Source::Text(text) => T::from_text(text),
        };
        value.map(Some).ok_or_else(|| must_be(name, T::EXPECTED))
    }

    pub(crate) fn required<T: FieldValue>(&self, name: &'static str) -> Result<T, ProtocolError> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    /// A number between `min` and `max`, inclusive.
    pub(crate) fn number(&self, name: &'static str, default: u32, min: u32, max: u32) -> Result<u32, ProtocolError> {
        let out_of_range = || must_be(name, format!("a whole number from {min} to {max}"));
        let number = match self.present(name) {
            None => return Ok(default),
            Some(Source::Json(raw)) => serde_json::from_str(raw.get()).ok(),
            Some(Source::Text(text)) => parse_decimal(text).and_then(|number| u32::try_from(number).ok()),
        };
        number.filter(|number| (min..=max).contains(number)).ok_or_else(out_of_range)
    }

    /// A list of `min` to `max` user ids; returned sorted, without duplicates.
    pub(crate) fn user_ids(&self, name: &'static str, min: usize, max: usize) -> Result<Vec<UserId>, ProtocolError> {
        if !self.has(name) {
            return Err(missing(name));
        }
        let wrong = || must_be(name, format!("an array of {min} to {max} user ids"));
        let raw = self.json(name).ok_or_else(wrong)?;
        match parse_user_ids(raw, max) {
            Ok(user_ids) if user_ids.len() >= min => Ok(user_ids),
            Ok(_) | Err(ListFault::NotAList | ListFault::TooMany) => Err(wrong()),
            Err(ListFault::Element(index)) => {
                Err(ProtocolError::bad_request(format!("{name}[{index}]"), format!("must be {}", UserId::EXPECTED)))
            }
        }
    }
}

impl Source<'_> {
    fn is_null(self) -> bool {
        matches!(self, Source::Json(raw) if raw.get() == "null")
    }
}

fn must_be(name: &'static str, expected: impl fmt::Display) -> ProtocolError {
    ProtocolError::bad_request(name, format!("must be {expected}"))
}

pub(crate) fn missing(name: &'static str) -> ProtocolError {
    ProtocolError::bad_request(name, "is required")
}

struct FieldsVisitor {
    names: &'static [&'static str],
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key_seed(NameSeed { names: self.names })? {
            match name {
                Some(name) => fields.set(name, Source::Json(map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// Matches a key with one of `names`, without keeping its text.
struct NameSeed {
    names: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().copied().find(|known| *known == name))
    }
}

/// Why a list of user ids was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListFault {
    NotAList,
    TooMany,
    Element(usize),
}

/// At most `max` user ids, sorted, without duplicates. A longer list is scanned to its end, but not kept.
pub(crate) fn parse_user_ids(raw: &RawValue, max: usize) -> Result<Vec<UserId>, ListFault> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let mut user_ids = json.deserialize_seq(UserIdsVisitor { max }).map_err(|_| ListFault::NotAList)??;
    user_ids.sort_unstable();
    user_ids.dedup();
    Ok(user_ids)
}

struct UserIdsVisitor {
    max: usize,
}

impl<'de> Visitor<'de> for UserIdsVisitor {
    type Value = Result<Vec<UserId>, ListFault>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut user_ids = Vec::new();
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            let parsed = if user_ids.len() == self.max {
                Err(ListFault::TooMany)
            } else {
                UserId::from_json(raw).ok_or(ListFault::Element(user_ids.len()))
            };
            match parsed {
                Ok(user_id) => user_ids.push(user_id),
                Err(fault) => {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Err(fault));
                }
            }
        }
        Ok(Ok(user_ids))
    }
}

impl FieldValue for bool {
    const EXPECTED: &'static str = "true or false";
}

impl FieldValue for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FieldValue for String {
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}
