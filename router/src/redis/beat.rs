//! The content of a node's heartbeat in Redis.

use crate::view::NodeEntry;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use switchboard_protocol::NodeId;
use switchboard_store::Incarnation;

/// The value of the key of a `node.id`. JSON, so that an operator can read it; the previous version skips fields that a
/// newer one adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// The life of the node.
    pub(super) life: u64,
    /// Incremented with each beat: a change is the sign of life.
    pub(super) number: u64,
    /// See [`NodeEntry::weight`].
    pub(super) weight: u16,
    /// See [`NodeEntry::url`].
    pub(super) url: Arc<str>,
    /// The node drains: others do its work from now on.
    #[serde(default)]
    pub(super) leaving: bool,
    /// The program's version, for operators.
    #[serde(default)]
    pub(super) version: String,
}

impl Beat {
    /// The first beat of a node.
    pub(super) fn first(me: &NodeEntry) -> Self {
        Self {
            life: me.incarnation.life,
            number: 1,
            weight: me.weight,
            url: me.url.clone(),
            leaving: false,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The node that this beat is from.
    pub(super) fn entry(&self, node: &NodeId) -> NodeEntry {
        let incarnation = Incarnation { node: node.clone(), life: self.life };
        NodeEntry { incarnation, weight: self.weight, url: self.url.clone() }
    }
}
