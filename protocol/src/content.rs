//! The JSON that clients send each other through the server: a message's `content`, a conversation's `custom`, a
//! signal's `data`. Stored as compact text and passed on without a change of meaning; only `content.text`,
//! `content.mentions` and `content.ciphertext` are ever read (PROTOCOL §3).

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::compact::compact;
use crate::error::ProtocolError;
use crate::fields::{FieldValue, Fields, parse_user_ids};
use crate::ids::UserId;
use crate::limits::{CUSTOM_BYTES_MAX, MENTIONS_MAX, PREVIEW_CHARS, SIGNAL_DATA_BYTES_MAX};

/// JSON that is not an object, or no JSON at all, where [`Content`] or [`Custom`] was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object that can be passed on")]
pub struct InvalidJson;

/// A message's content: an object, as compact JSON. Cloning is cheap.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Content(Json);

const CONTENT_FIELDS: &[&str] = &["text", "mentions", "ciphertext"];

impl Content {
    /// Checks a client's content.
    ///
    /// # Errors
    /// `too_large` naming `content` if it exceeds `bytes_max` bytes as compact JSON; `bad_request` naming
    /// `content` if it is not an object, or `content.mentions` if that is not a list of at most 100 user ids.
    pub fn parse(json: &str, bytes_max: usize) -> Result<Self, ProtocolError> {
        Self::from_raw(raw("content", json)?, bytes_max)
    }

    pub(crate) fn from_raw(raw: &RawValue, bytes_max: usize) -> Result<Self, ProtocolError> {
        let content = Self(Json::object("content", raw)?);
        if content.as_str().len() > bytes_max {
            return Err(ProtocolError::too_large("content", bytes_message(bytes_max)));
        }
        if let Some(mentions) = content.field("mentions") {
            parse_user_ids(mentions, MENTIONS_MAX).map_err(|_| {
                ProtocolError::bad_request(
                    "content.mentions",
                    format!("must be an array of at most {MENTIONS_MAX} user ids"),
                )
            })?;
        }
        Ok(content)
    }

    /// Converts the stored result of [`Content::as_str`] back.
    ///
    /// # Errors
    /// If the text is not a JSON object, so that a corrupt row can't break the frame that contains it.
    pub fn from_stored(text: String) -> Result<Self, InvalidJson> {
        Json::object_from_stored(text).map(Self)
    }

    /// Compact JSON.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// `content.text`, if it is a string.
    pub fn text(&self) -> Option<String> {
        String::from_json(self.field("text")?)
    }

    /// The first 200 characters of `content.text`.
    pub fn preview(&self) -> Option<String> {
        let mut text = self.text()?;
        if let Some((end, _)) = text.char_indices().nth(PREVIEW_CHARS) {
            text.truncate(end);
        }
        Some(text)
    }

    /// `content.mentions`, sorted, without duplicates.
    pub fn mentions(&self) -> Vec<UserId> {
        self.field("mentions").and_then(|raw| parse_user_ids(raw, MENTIONS_MAX).ok()).unwrap_or_default()
    }

    /// Whether the text is end-to-end encrypted (`content.ciphertext`), and so opaque.
    pub fn is_encrypted(&self) -> bool {
        self.field("ciphertext").is_some()
    }

    fn field(&self, name: &str) -> Option<&RawValue> {
        // Compact JSON has no unnecessary escapes, so without this name there is no such field.
        if !self.as_str().contains(name) {
            return None;
        }
        let fields = Fields::parse(self.as_str(), CONTENT_FIELDS).ok()?;
        fields.json(name).filter(|raw| raw.get() != "null")
    }
}

/// A conversation's `custom` object, at most 8 KiB as compact JSON; `{}` by default. Cloning is cheap.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Custom(Json);

impl Custom {
    /// # Errors
    /// `bad_request` naming `custom`.
    pub fn parse(json: &str) -> Result<Self, ProtocolError> {
        Self::from_raw(raw("custom", json)?)
    }

    pub(crate) fn from_raw(raw: &RawValue) -> Result<Self, ProtocolError> {
        let custom = Self(Json::object("custom", raw)?);
        if custom.as_str().len() > CUSTOM_BYTES_MAX {
            return Err(ProtocolError::bad_request("custom", bytes_message(CUSTOM_BYTES_MAX)));
        }
        Ok(custom)
    }

    /// Converts the stored result of [`Custom::as_str`] back.
    ///
    /// # Errors
    /// If the text is not a JSON object.
    pub fn from_stored(text: String) -> Result<Self, InvalidJson> {
        Json::object_from_stored(text).map(Self)
    }

    /// Compact JSON.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A signal's `data`: any JSON of at most 1 KiB in compact form. Cloning is cheap.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct SignalData(Json);

impl SignalData {
    /// # Errors
    /// `bad_request` naming `data`.
    pub fn parse(json: &str) -> Result<Self, ProtocolError> {
        Self::from_raw(raw("data", json)?)
    }

    pub(crate) fn from_raw(raw: &RawValue) -> Result<Self, ProtocolError> {
        let data = Self(Json::new("data", raw)?);
        if data.as_str().len() > SIGNAL_DATA_BYTES_MAX {
            return Err(ProtocolError::bad_request("data", bytes_message(SIGNAL_DATA_BYTES_MAX)));
        }
        Ok(data)
    }

    /// Compact JSON.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Compact JSON that is known to be valid, so it can be inserted into a frame without another check.
#[derive(Clone)]
struct Json(Arc<RawValue>);

impl Json {
    fn new(field: &'static str, raw: &RawValue) -> Result<Self, ProtocolError> {
        let text = compact(raw.get()).map_err(|fault| ProtocolError::bad_request(field, fault.message()))?;
        let compacted = match text {
            Cow::Borrowed(_) => raw.to_owned(),
            Cow::Owned(text) => RawValue::from_string(text).map_err(|_| no_json(field))?,
        };
        Ok(Self(compacted.into()))
    }

    fn object(field: &'static str, raw: &RawValue) -> Result<Self, ProtocolError> {
        if !raw.get().starts_with('{') {
            return Err(ProtocolError::bad_request(field, "must be an object"));
        }
        Self::new(field, raw)
    }

    fn object_from_stored(text: String) -> Result<Self, InvalidJson> {
        let json = Self(RawValue::from_string(text).map_err(|_| InvalidJson)?.into());
        if json.as_str().starts_with('{') { Ok(json) } else { Err(InvalidJson) }
    }

    fn as_str(&self) -> &str {
        self.0.get()
    }
}

fn raw<'a>(field: &'static str, json: &'a str) -> Result<&'a RawValue, ProtocolError> {
    serde_json::from_str(json).map_err(|_| no_json(field))
}

fn bytes_message(bytes_max: usize) -> String {
    format!("must have at most {bytes_max} bytes as compact JSON")
}

fn no_json(field: &'static str) -> ProtocolError {
    ProtocolError::bad_request(field, "must be JSON")
}

impl Serialize for Json {
    /// Raw in JSON; as a string in other formats (used by the bus and the store), which can't embed it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_str())
        }
    }
}

fn deserialize_raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    if deserializer.is_human_readable() {
        Box::<RawValue>::deserialize(deserializer)
    } else {
        RawValue::from_string(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Equality, `Debug` (without users' content, which must not get into a log) and `Deserialize` (of the server's own
/// output).
macro_rules! json_value {
    ($name:ident, $from_raw:expr) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $name {}

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({} bytes)", stringify!($name), self.as_str().len())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parse: fn(&RawValue) -> Result<Self, ProtocolError> = $from_raw;
                parse(&deserialize_raw(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

json_value!(Content, |raw| Content::from_raw(raw, usize::MAX));
json_value!(Custom, Custom::from_raw);
json_value!(SignalData, SignalData::from_raw);

impl Default for Custom {
    fn default() -> Self {
        Self(Json(RawValue::from_string("{}".to_owned()).expect("{} is JSON").into()))
    }
}
