//! The JSON that clients give each other through the server: a message's `content`, a conversation's `custom`, a
//! signal's `data`. Kept as compact text and passed on unchanged in meaning; only `content.text`, `content.mentions`
//! and `content.ciphertext` are ever looked at (PROTOCOL §3).

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::compact::compact;
use crate::error::ProtocolError;
use crate::fields::{FieldValue, Fields, parse_user_ids};
use crate::ids::UserId;
use crate::limits::{CUSTOM_BYTES_MAX, JSON_DEPTH_MAX, MENTIONS_MAX, PREVIEW_CHARS, SIGNAL_DATA_BYTES_MAX};

/// JSON that is no object, or not JSON at all, where [`Content`] or [`Custom`] was expected.
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
    /// `too_large` naming `content` if it has more than `bytes_max` bytes as compact JSON; `bad_request` naming
    /// `content` if it is no object, or `content.mentions` if that is not a list of at most 100 user ids.
    pub fn parse(json: &str, bytes_max: usize) -> Result<Self, ProtocolError> {
        let content = Self(Json::parse_object("content", json)?);
        if content.as_str().len() > bytes_max {
            let message = format!("must have at most {bytes_max} bytes as compact JSON");
            return Err(ProtocolError::too_large("content", message));
        }
        if let Some(mentions) = content.field("mentions") {
            parse_user_ids(mentions, MENTIONS_MAX).map_err(|_| {
                ProtocolError::bad_request("content.mentions", "must be an array of at most 100 user ids")
            })?;
        }
        Ok(content)
    }

    /// Takes back what [`Content::as_str`] gave, as a store keeps it.
    ///
    /// # Errors
    /// If the text is not a JSON object, so that a corrupt row cannot break the frame it is put in.
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

    /// `content.mentions`, sorted, each once.
    pub fn mentions(&self) -> Vec<UserId> {
        self.field("mentions").and_then(|raw| parse_user_ids(raw, MENTIONS_MAX).ok()).unwrap_or_default()
    }

    /// Whether the text is end-to-end encrypted (`content.ciphertext`), and so opaque.
    pub fn is_encrypted(&self) -> bool {
        self.field("ciphertext").is_some()
    }

    fn field(&self, name: &str) -> Option<&RawValue> {
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
        let custom = Self(Json::parse_object("custom", json)?);
        if custom.as_str().len() > CUSTOM_BYTES_MAX {
            return Err(ProtocolError::bad_request("custom", "must have at most 8192 bytes as compact JSON"));
        }
        Ok(custom)
    }

    /// Takes back what [`Custom::as_str`] gave, as a store keeps it.
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

/// A signal's `data`: any JSON of at most 1 KiB in its compact form. Cloning is cheap.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct SignalData(Json);

impl SignalData {
    /// # Errors
    /// `bad_request` naming `data`.
    pub fn parse(json: &str) -> Result<Self, ProtocolError> {
        let data = Self(Json::parse("data", json)?);
        if data.as_str().len() > SIGNAL_DATA_BYTES_MAX {
            return Err(ProtocolError::bad_request("data", "must have at most 1024 bytes as compact JSON"));
        }
        Ok(data)
    }

    /// Compact JSON.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Compact JSON that is known to be valid, so that it is put into a frame without being read again.
#[derive(Clone)]
struct Json(Arc<RawValue>);

impl Json {
    fn parse(field: &'static str, json: &str) -> Result<Self, ProtocolError> {
        let invalid = || ProtocolError::bad_request(field, "must be JSON");
        let raw: &RawValue = serde_json::from_str(json).map_err(|_| invalid())?;
        let text = compact(raw.get(), JSON_DEPTH_MAX)
            .map_err(|fault| ProtocolError::bad_request(field, fault.message()))?
            .into_owned();
        Ok(Self(RawValue::from_string(text).map_err(|_| invalid())?.into()))
    }

    fn parse_object(field: &'static str, json: &str) -> Result<Self, ProtocolError> {
        let json = Self::parse(field, json)?;
        if json.is_object() { Ok(json) } else { Err(ProtocolError::bad_request(field, "must be an object")) }
    }

    fn object_from_stored(text: String) -> Result<Self, InvalidJson> {
        let json = Self(RawValue::from_string(text).map_err(|_| InvalidJson)?.into());
        if json.is_object() { Ok(json) } else { Err(InvalidJson) }
    }

    fn as_str(&self) -> &str {
        self.0.get()
    }

    fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Equality, `Debug` (without what users wrote: it must not get into a log) and `Deserialize` (of what the server
/// sent).
macro_rules! json_value {
    ($name:ident, $parse:expr) => {
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
                let raw = Box::<RawValue>::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<Self, ProtocolError> = $parse;
                parse(raw.get()).map_err(serde::de::Error::custom)
            }
        }
    };
}

json_value!(Content, |json| Content::parse(json, usize::MAX));
json_value!(Custom, Custom::parse);
json_value!(SignalData, SignalData::parse);

impl Default for Custom {
    fn default() -> Self {
        Self(Json(RawValue::from_string("{}".to_owned()).expect("{} is JSON").into()))
    }
}
