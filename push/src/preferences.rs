//! What a user wants to be told of (`GET|PUT /v1/notification-preferences`, PROTOCOL §6).

use serde::{Deserialize, Serialize};

use crate::arbiter::Occasion;
use crate::arbiter::output::Why;
use crate::quiet_hours::QuietHours;

/// A user's preferences. Who has set none is told of everything, at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preferences {
    /// Whether he is told of anything at all.
    pub enabled: bool,
    /// What he is told of in groups.
    pub groups: Groups,
    /// Whether a notification has the message's text in it.
    pub preview: bool,
    /// When he is told later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
}

/// What a user is told of in groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    #[default]
    All,
    /// Only where he is mentioned.
    Mentions,
    None,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { enabled: true, groups: Groups::All, preview: true, quiet_hours: None }
    }
}

impl Preferences {
    /// Why he does not want to be told of something; `None` if he does.
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
