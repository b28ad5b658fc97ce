//! The ways to a user's devices, and a table with one place for each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way to reach devices: one per provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A browser's push service (RFC 8030).
    WebPush,
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Apple's push notification service.
    Apns,
    /// The application's own server.
    Webhook,
}

impl Channel {
    pub const ALL: [Self; 4] = [Self::WebPush, Self::Fcm, Self::Apns, Self::Webhook];

    /// The word in configuration, metrics and HTTP bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebPush => "web_push",
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One `T` for each channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerChannel<T>([T; Channel::ALL.len()]);

impl<T> PerChannel<T> {
    pub(crate) fn of(&self, channel: Channel) -> &T {
        &self.0[channel as usize]
    }

    pub(crate) fn of_mut(&mut self, channel: Channel) -> &mut T {
        &mut self.0[channel as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Channel, &T)> {
        Channel::ALL.into_iter().zip(&self.0)
    }
}
