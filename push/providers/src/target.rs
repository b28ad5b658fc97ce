//! A device's target: in the form that a client registers (`PUT /v1/devices/{device_id}/push`, PROTOCOL §6), and in the
//! store's.

use std::fmt;

use serde_json::{Map, Value};
use switchboard_push::InvalidField;
use switchboard_store::Channel;

use crate::guard::Guard;
use crate::web_push::Subscription;

/// Maximum length of a token, in bytes: those of FCM and APNs have no documented limit, but are far shorter.
const TOKEN_BYTES_MAX: usize = 4_096;

/// How a provider identifies a device. A secret: anyone who has it may be able to send to the device.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    WebPush(Subscription),
    /// The registration token.
    Fcm(String),
    /// The device token, in hexadecimal.
    Apns(String),
    /// The application identifies the device by its id.
    Webhook,
}

impl Target {
    /// Parses a registration for a channel: `subscription` for Web Push, `token` for FCM and APNs, nothing for the
    /// webhook.
    ///
    /// # Errors
    /// The field that is missing or invalid.
    pub fn parse(channel: Channel, body: &Map<String, Value>, guard: &Guard) -> Result<Self, InvalidField> {
        match channel {
            Channel::WebPush => subscription(body, guard).map(Self::WebPush),
            Channel::Fcm => token(body, "a registration token", |byte| byte.is_ascii_graphic()).map(Self::Fcm),
            Channel::Apns => {
                token(body, "a device token in hexadecimal", |byte| byte.is_ascii_hexdigit()).map(Self::Apns)
            }
            Channel::Webhook => Ok(Self::Webhook),
        }
    }

    pub fn channel(&self) -> Channel {
        match self {
            Self::WebPush(_) => Channel::WebPush,
            Self::Fcm(_) => Channel::Fcm,
            Self::Apns(_) => Channel::Apns,
            Self::Webhook => Channel::Webhook,
        }
    }

    /// The store's form, JSON.
    pub fn to_stored(&self) -> String {
        let json = match self {
            Self::WebPush(subscription) => serde_json::to_value(subscription).unwrap_or_default(),
            Self::Fcm(token) | Self::Apns(token) => token.as_str().into(),
            Self::Webhook => Value::Null,
        };
        json.to_string()
    }

    /// Parses the result of [`Target::to_stored`]; `None` if `text` is something else.
    pub fn from_stored(channel: Channel, text: &str) -> Option<Self> {
        Some(match channel {
            Channel::WebPush => Self::WebPush(serde_json::from_str(text).ok()?),
            Channel::Fcm => Self::Fcm(serde_json::from_str(text).ok()?),
            Channel::Apns => Self::Apns(serde_json::from_str(text).ok()?),
            Channel::Webhook => Self::Webhook,
        })
    }
}

/// Without the secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.channel())
    }
}

fn subscription(body: &Map<String, Value>, guard: &Guard) -> Result<Subscription, InvalidField> {
    let expected = "a PushSubscription, with endpoint and keys";
    let read = body.get("subscription").and_then(|given| serde_json::from_value::<Subscription>(given.clone()).ok());
    let subscription = read.ok_or(InvalidField { field: "subscription", expected })?;
    subscription.check(guard)?;
    Ok(subscription)
}

fn token(
    body: &Map<String, Value>,
    expected: &'static str,
    may_hold: impl Fn(u8) -> bool,
) -> Result<String, InvalidField> {
    let token = body.get("token").and_then(Value::as_str);
    let is_one = |token: &&str| (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(&may_hold);
    token.filter(is_one).map(str::to_owned).ok_or(InvalidField { field: "token", expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The example of RFC 8291, appendix A.
    fn subscription_of(endpoint: &str) -> Value {
        let p256dh = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        json!({ "endpoint": endpoint, "keys": { "p256dh": p256dh, "auth": "BTBZMqHH6r4Tts7J_aSIgg" } })
    }

    fn parse(channel: Channel, body: &Value) -> Result<Target, &'static str> {
        Target::parse(channel, body.as_object().unwrap(), &Guard::default()).map_err(|invalid| invalid.field)
    }

    #[test]
    fn what_is_registered_is_kept_and_not_shown() {
        for (channel, body) in [
            (Channel::WebPush, json!({ "subscription": subscription_of("https://push.example/secret") })),
            (Channel::Fcm, json!({ "token": "secret:x-y_z" })),
            (Channel::Apns, json!({ "token": "5ec7e7" })),
            (Channel::Webhook, json!({})),
        ] {
            let target = parse(channel, &body).unwrap();
            assert_eq!(target.channel(), channel);
            assert_eq!(Target::from_stored(channel, &target.to_stored()), Some(target.clone()));
            assert_eq!(format!("{target:?}"), format!("Target({channel})"));
        }
        assert_eq!(Target::from_stored(Channel::Fcm, "not JSON"), None);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let mut short = subscription_of("https://push.example/x");
        short["keys"]["auth"] = "BTBZ".into();
        for (channel, body, field) in [
            (Channel::WebPush, json!({}), "subscription"),
            (Channel::WebPush, json!({ "subscription": { "endpoint": "https://a.example" } }), "subscription"),
            (
                Channel::WebPush,
                json!({ "subscription": subscription_of("https://10.0.0.1/x") }),
                "subscription.endpoint",
            ),
            (Channel::WebPush, json!({ "subscription": short }), "subscription.keys.auth"),
            (Channel::Fcm, json!({ "token": "" }), "token"),
            (Channel::Fcm, json!({ "token": "a b" }), "token"),
            (Channel::Fcm, json!({ "token": "x".repeat(TOKEN_BYTES_MAX + 1) }), "token"),
            (Channel::Apns, json!({ "token": "xyz" }), "token"),
            (Channel::Apns, json!({ "token": 7 }), "token"),
        ] {
            assert_eq!(parse(channel, &body), Err(field), "{body}");
        }
    }
}
