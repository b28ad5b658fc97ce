//! The content of a push for the application on the device, as JSON within a provider's limit; and the key that makes a
//! conversation's notification replace the one before.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde::Serialize;
use switchboard_protocol::{Content, ConversationId, Seq};

use crate::provider::{Body, Push};

/// Maximum length of a title, in characters: names may have any length.
const TITLE_CHARS: usize = 100;
/// Maximum payload of Web Push, FCM and APNs, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 4_096;

/// The same fields for all providers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Data<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) conversation_id: &'a ConversationId,
    pub(crate) up_to_seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<&'a str>,
}

impl Body {
    /// A notification of `count` messages, of which `content` is the newest (`None` if deleted). It has no text if the
    /// content is encrypted, or if the user wants no preview.
    pub fn alert(count: u32, title: &str, content: Option<&Content>, preview: bool) -> Self {
        let content = content.filter(|content| preview && !content.is_encrypted());
        let text = content.and_then(Content::preview);
        Self::Alert { count, title: title.chars().take(TITLE_CHARS).collect(), text }
    }
}

impl<'a> Data<'a> {
    fn of(push: &'a Push) -> Self {
        let (conversation_id, up_to_seq) = (&push.conversation, push.up_to_seq);
        match &push.body {
            Body::Alert { count, title, text } => {
                let (count, title) = (Some(*count), Some(title.as_str()));
                Self { kind: "notification", conversation_id, up_to_seq, count, title, text: text.as_deref() }
            }
            Body::Withdraw => {
                Self { kind: "withdrawal", conversation_id, up_to_seq, count: None, title: None, text: None }
            }
        }
    }
}

/// Encodes a push with `encode`, truncating its text to fit into `bytes_max` bytes; `None` if it does not fit even without
/// text.
pub(crate) fn fit(push: &Push, bytes_max: usize, encode: impl Fn(&Data<'_>) -> String) -> Option<String> {
    let mut data = Data::of(push);
    let whole = encode(&data);
    if whole.len() <= bytes_max {
        return Some(whole);
    }
    let text = data.text.take()?;
    let mut fits = Some(encode(&data)).filter(|encoded| encoded.len() <= bytes_max)?;
    // Binary search: the encoded length of a text is only known after encoding it.
    let (mut low, mut high) = (0, text.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        data.text = Some(&text[..text.floor_char_boundary(middle)]);
        let encoded = encode(&data);
        if encoded.len() <= bytes_max {
            (fits, low) = (encoded, middle);
        } else {
            high = middle;
        }
    }
    Some(fits)
}

/// The name of a conversation's notification, valid for every provider: 32 characters of base64url (RFC 8030 §5.4), a
/// hash that does not reveal the conversation's id.
pub(crate) fn collapse_key(push: &Push) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [push.tenant.as_str(), push.user.as_str(), push.conversation.as_str()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..24])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use switchboard_store::Priority;

    fn push(title: &str, text: Option<&str>) -> Push {
        Push {
            tenant: "t".parse().unwrap(),
            user: "u".parse().unwrap(),
            device: "d".parse().unwrap(),
            conversation: "c".parse().unwrap(),
            up_to_seq: Seq::new(7),
            priority: Priority::High,
            ttl_s: 60,
            body: Body::Alert { count: 3, title: title.to_owned(), text: text.map(str::to_owned) },
        }
    }

    fn json(data: &Data<'_>) -> String {
        serde_json::to_string(data).unwrap()
    }

    #[test]
    fn what_a_device_is_told() {
        let told = fit(&push("Bob", Some("hi")), 4_096, json).unwrap();
        let expected =
            r#"{"type":"notification","conversation_id":"c","up_to_seq":7,"count":3,"title":"Bob","text":"hi"}"#;
        assert_eq!(told, expected);
        let withdrawal = Push { body: Body::Withdraw, ..push("Bob", None) };
        let expected = r#"{"type":"withdrawal","conversation_id":"c","up_to_seq":7}"#;
        assert_eq!(fit(&withdrawal, 4_096, json).unwrap(), expected);
    }

    #[test]
    fn encrypted_content_and_a_user_who_wants_none_have_no_text() {
        let content = |json: &str| Content::parse(json, 1_000).unwrap();
        let text = |content: &Content, preview| match Body::alert(1, "Bob", Some(content), preview) {
            Body::Alert { text, .. } => text,
            Body::Withdraw => None,
        };
        assert_eq!(text(&content(r#"{"text":"hi"}"#), true).as_deref(), Some("hi"));
        assert_eq!(text(&content(r#"{"text":"hi"}"#), false), None);
        assert_eq!(text(&content(r#"{"ciphertext":"aGk","text":"hi"}"#), true), None);
    }

    #[test]
    fn a_collapse_key_is_a_topic_and_tells_users_and_conversations_apart() {
        let keys = [("u", "c"), ("uc", "c"), ("u", "cc"), ("u", "uc")].map(|(user, conversation)| {
            let (user, conversation) = (user.parse().unwrap(), conversation.parse().unwrap());
            collapse_key(&Push { user, conversation, ..push("", None) })
        });
        assert!(keys.iter().all(|key| key.len() == 32));
        assert_eq!(std::collections::BTreeSet::from(keys).len(), 4);
    }

    proptest! {
        #[test]
        fn whatever_is_said_fits(
            title in ".{0,20}",
            text in prop::option::of("\"{0,200}|.{0,200}"),
            max in 60usize..500,
        ) {
            let push = push(&title, text.as_deref());
            if let Some(encoded) = fit(&push, max, json) {
                prop_assert!(encoded.len() <= max);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&encoded).is_ok());
            } else {
                let rest = Push { body: Body::alert(3, &title, None, true), ..push };
                prop_assert!(json(&Data::of(&rest)).len() > max, "without the text it would have fit");
            }
        }
    }
}
