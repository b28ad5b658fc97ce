//! A user's notification preferences (`GET|PUT /v1/notification-preferences`, PROTOCOL §6).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arbiter::Occasion;
use crate::arbiter::output::Why;
use crate::invalid::InvalidField;
use crate::quiet_hours::QuietHours;

/// A user's preferences. By default the user is notified of everything, at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Whether the user is notified at all.
    pub enabled: bool,
    /// What the user is notified of in groups.
    pub groups: Groups,
    /// Whether a notification contains the message's text.
    pub preview: bool,
    /// When notifications are delayed.
    pub quiet_hours: Option<QuietHours>,
}

/// What a user is notified of in groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    #[default]
    All,
    /// Only mentions of the user.
    Mentions,
    None,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { enabled: true, groups: Groups::All, preview: true, quiet_hours: None }
    }
}

impl Preferences {
    /// Parses the preferences set by a client; missing fields get their defaults.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, InvalidField> {
        let default = Self::default();
        let quiet_hours = match body.get("quiet_hours").filter(|hours| !hours.is_null()) {
            None => None,
            Some(Value::Object(hours)) => {
                let text = |name: &str| hours.get(name).and_then(Value::as_str).unwrap_or_default();
                Some(QuietHours::new(text("from"), text("to"), text("time_zone"))?)
            }
            Some(_) => return Err(InvalidField { field: "quiet_hours", expected: "an object, or null" }),
        };
        Ok(Self {
            enabled: field(body, "enabled", "true or false")?.unwrap_or(default.enabled),
            groups: field(body, "groups", "all, mentions or none")?.unwrap_or(default.groups),
            preview: field(body, "preview", "true or false")?.unwrap_or(default.preview),
            quiet_hours,
        })
    }

    /// Why the user does not want this notification; `None` if they do.
    pub(crate) fn refusal(&self, occasion: Occasion) -> Option<Why> {
        let wanted = match (occasion, self.groups) {
            (Occasion::Direct, _) | (Occasion::Mention, Groups::All | Groups::Mentions) => true,
            (Occasion::Group | Occasion::Other, groups) => groups == Groups::All,
            (Occasion::Mention, Groups::None) => false,
        };
        if !self.enabled {
            Some(Why::Disabled)
        } else if !wanted {
            Some(Why::Unwanted)
        } else {
            None
        }
    }
}

fn field<T: DeserializeOwned>(
    body: &Map<String, Value>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, InvalidField> {
    let Some(value) = body.get(field) else { return Ok(None) };
    serde_json::from_value(value.clone()).map(Some).map_err(|_| InvalidField { field, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<Preferences, &'static str> {
        Preferences::parse(body.as_object().unwrap()).map_err(|invalid| invalid.field)
    }

    #[test]
    fn are_kept_as_they_are_set() {
        assert_eq!(parse(&json!({ "unknown": 1, "quiet_hours": null })).unwrap(), Preferences::default());
        let body = json!({
            "enabled": false, "groups": "mentions", "preview": false,
            "quiet_hours": { "from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin" },
        });
        let preferences = parse(&body).unwrap();
        assert_eq!(serde_json::to_value(&preferences).unwrap(), body);
        assert_eq!(serde_json::from_value::<Preferences>(body).unwrap(), preferences);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (body, field) in [
            (json!({ "enabled": "yes" }), "enabled"),
            (json!({ "groups": "some" }), "groups"),
            (json!({ "preview": null }), "preview"),
            (json!({ "quiet_hours": true }), "quiet_hours"),
            (json!({ "quiet_hours": {} }), "quiet_hours.from"),
            (json!({ "quiet_hours": { "from": "22:00", "to": "07:00" } }), "quiet_hours.time_zone"),
        ] {
            assert_eq!(parse(&body), Err(field), "{body}");
        }
    }
}
