//! A cache of inbox rows that were written here and have counted, so that the next change to one needs no read and
//! writes only the parts that it changes.
//!
//! A cached row may be stale: another home may have written since. That is harmless, because parts only grow: what is
//! cached is at a quorum, or something newer is, for ever. A change that the cached row already contains has counted,
//! so there is nothing to write; any other change is written, and loses against anything newer. Versions never come
//! from the cache: the read after the write shows whether another home has taken an epoch, as always. So rows stay
//! cached beyond their epoch, and are evicted only to make room.

use crate::{InboxRow, Outline, UserKey};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Role, UserId};

/// The size of a row in memory, without its strings.
const ROW_BYTES: usize = size_of::<(UserKey, ConversationId)>() + size_of::<InboxRow>() + 64;

/// The most recently used rows, as far as there is room.
pub(super) struct KeptRows {
    rows: Cache<(UserKey, ConversationId), Arc<InboxRow>, Bytes>,
}

impl KeptRows {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { rows: Cache::with_weighter(bytes_max / ROW_BYTES, bytes_max as u64, Bytes) }
    }

    /// The cached row, with no changes merged yet.
    pub(super) fn get(&self, user: &UserKey, conversation: &ConversationId) -> Option<Merged> {
        let kept = self.rows.get(&(user.clone(), conversation.clone()))?;
        Some(Merged { row: InboxRow::clone(&kept), kept })
    }

    /// Caches rows that have been written and have counted.
    pub(super) fn put(&self, user: &UserKey, rows: Vec<Merged>) {
        for Merged { row, .. } in rows {
            self.rows.insert((user.clone(), row.conversation.clone()), Arc::new(row));
        }
    }
}

/// The weight of a row.
#[derive(Clone)]
struct Bytes;

impl Weighter<(UserKey, ConversationId), Arc<InboxRow>> for Bytes {
    fn weight(&self, _: &(UserKey, ConversationId), row: &Arc<InboxRow>) -> u64 {
        let preview = row.last.preview.as_ref().map_or(0, |preview| preview.text.len());
        let outline = row.last.outline.as_ref().map_or(0, |outline| {
            let title = outline.meta.title.as_ref().map_or(0, |title| title.as_str().len());
            let custom = outline.meta.custom.as_ref().map_or(0, |custom| custom.as_str().len());
            size_of::<Outline>() + title + custom + outline.roles.len() * size_of::<(UserId, Role)>()
        });
        (ROW_BYTES + preview + outline) as u64
    }
}

/// A row with changes merged into it.
pub(super) struct Merged {
    pub(super) row: InboxRow,
    /// The cached row; an empty one if nothing is cached.
    pub(super) kept: Arc<InboxRow>,
}

impl Merged {
    pub(super) fn nothing(conversation: &ConversationId) -> Self {
        let row = InboxRow::new(conversation.clone());
        Self { kept: Arc::new(row.clone()), row }
    }

    /// Whether the row was read from the store: then it is not known to be at a quorum, nor to have counted.
    pub(super) fn is_uncertain(&self) -> bool {
        self.row.version > 0 && self.kept.version == 0
    }
}
