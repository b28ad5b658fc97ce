//! A token's claims, and the identity made from them.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use switchboard_protocol::{ClientFrame, ProtocolError, TenantId, Timestamp, UserId};
use switchboard_store::UserKey;

/// What a token may do beyond being its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Scope {
    /// An application's backend: may write in the name of others.
    Server = 1,
    /// May look at and end other users' sessions.
    Admin = 2,
    /// May act on the node.
    Operator = 4,
    /// May publish events for dashboards.
    TopicsPublish = 8,
}

/// A set of [`Scope`]s; others that a token has mean nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    pub(crate) fn contains(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether a frame may come with these, however it comes.
    ///
    /// # Errors
    /// `forbidden`, naming the scope that is needed (PROTOCOL §5, §8 "Topics").
    pub(crate) fn check(self, frame: &ClientFrame) -> Result<(), ProtocolError> {
        match frame {
            ClientFrame::TopicPublish(_) if !self.contains(Scope::TopicsPublish) => {
                Err(ProtocolError::forbidden("to publish needs the scope topics:publish"))
            }
            ClientFrame::TopicWatch(watch) if watch.topic.is_own() && !self.contains(Scope::Operator) => {
                Err(ProtocolError::forbidden("the gateway's own topics need the scope operator"))
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, name: &str) {
        self.0 |= match name {
            "server" => Scope::Server as u8,
            "admin" => Scope::Admin as u8,
            "operator" => Scope::Operator as u8,
            "topics:publish" => Scope::TopicsPublish as u8,
            _ => 0,
        };
    }
}

/// Whom a valid token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserKey,
    /// The name that notifications show to others.
    pub(crate) name: Option<String>,
    /// `iat`, for revocation.
    pub(crate) issued_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
    pub(crate) scopes: Scopes,
}

/// The claims that are read; others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: UserId,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    tenant: Option<TenantId>,
    name: Option<String>,
    #[serde(default)]
    scope: Scopes,
}

/// Characters of a name that are taken: as many as a notification shows.
const NAME_CHARS: usize = 100;

impl Claims {
    pub(super) fn expires_at(&self) -> Timestamp {
        self.exp.0
    }

    pub(super) fn not_before(&self) -> Option<Timestamp> {
        self.nbf.map(|date| date.0)
    }

    pub(super) fn into_identity(self) -> Identity {
        let tenant = self.tenant.unwrap_or_default();
        let shown = |name: String| name.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect::<String>();
        Identity {
            user: UserKey { tenant, user: self.sub },
            name: self.name.map(shown).filter(|name| !name.is_empty()),
            issued_at: self.iat.map(|date| date.0),
            expires_at: self.exp.0,
            scopes: self.scope,
        }
    }
}

/// Seconds since 1970, with or without a fraction (RFC 7519 §2).
#[derive(Clone, Copy)]
struct NumericDate(Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // JSON has no other numbers than finite ones; what is beyond the range of a timestamp is cut to it.
        #[expect(clippy::cast_possible_truncation, reason = "a float is cut to the range of i64")]
        let unix_ms = (seconds * 1_000.0).floor() as i64;
        Ok(Self(Timestamp::from_unix_ms(unix_ms)))
    }
}

/// An array of strings, or one string with spaces between them (RFC 8693 §4.2).
impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScopesVisitor;

        impl<'de> Visitor<'de> for ScopesVisitor {
            type Value = Scopes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings or a string")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Scopes, E> {
                Ok(Scopes::default())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scopes, E> {
                let mut scopes = Scopes::default();
                text.split_ascii_whitespace().for_each(|name| scopes.insert(name));
                Ok(scopes)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Scopes, A::Error> {
                let mut scopes = Scopes::default();
                while let Some(name) = names.next_element::<String>()? {
                    scopes.insert(&name);
                }
                Ok(scopes)
            }
        }

        deserializer.deserialize_any(ScopesVisitor)
    }
}

/// The claims of a token that this program signs.
#[derive(Serialize)]
pub(super) struct SignedClaims<'a> {
    pub(super) sub: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<&'a TenantId>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) scope: &'a [String],
    pub(super) iat: i64,
    pub(super) exp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Result<Identity, serde_json::Error> {
        serde_json::from_str::<Claims>(claims).map(Claims::into_identity)
    }

    #[test]
    fn claims_make_an_identity() {
        let identity = read(
            r#"{"sub":"alice","exp":1700000000.5,"iat":1600000000,"tenant":"t1","name":"Al\nice","scope":["admin","x"],"aud":"y"}"#,
        )
        .unwrap();
        assert_eq!(identity.name.as_deref(), Some("Alice"));
        assert_eq!((identity.user.user.as_str(), identity.user.tenant.as_str()), ("alice", "t1"));
        assert_eq!(identity.expires_at.unix_ms(), 1_700_000_000_500);
        assert_eq!(identity.issued_at.map(Timestamp::unix_ms), Some(1_600_000_000_000));
        assert!(identity.scopes.contains(Scope::Admin) && !identity.scopes.contains(Scope::Server));
    }

    #[test]
    fn scopes_may_be_separated_by_spaces() {
        let scopes = read(r#"{"sub":"a","exp":1,"scope":"server  operator"}"#).unwrap().scopes;
        assert!(scopes.contains(Scope::Server) && scopes.contains(Scope::Operator) && !scopes.contains(Scope::Admin));
        assert_eq!(read(r#"{"sub":"a","exp":1}"#).unwrap().scopes, Scopes::default());
    }

    #[test]
    fn a_tenant_that_is_not_named_is_the_default_one() {
        assert_eq!(read(r#"{"sub":"a","exp":1}"#).unwrap().user.tenant.as_str(), "default");
    }

    #[test]
    fn malformed_claims_are_refused() {
        for claims in [
            r#"{"exp":1}"#,
            r#"{"sub":"a"}"#,
            r#"{"sub":"","exp":1}"#,
            r#"{"sub":"a b","exp":1}"#,
            r#"{"sub":"a","exp":"1"}"#,
            r#"{"sub":"a","exp":1,"nbf":"x"}"#,
            r#"{"sub":"a","exp":1,"tenant":"*"}"#,
            r#"{"sub":"a","exp":1,"scope":{"admin":true}}"#,
        ] {
            assert!(read(claims).is_err(), "{claims}");
        }
    }
}
