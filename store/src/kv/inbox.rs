//! Inbox rows, ordered by version, so that a page reads only its own rows. A second table has the version of each
//! conversation's row; a third one lists the conversations whose row does not say where they end.

use super::keys::{self, Key};
use super::{Meta, Rows, Transaction, values};
use crate::{InboxChange, InboxLast, InboxPage, InboxRange, InboxRow, StoreError, UserKey};
use switchboard_protocol::{ConversationId, Seq};

pub(super) fn put<R: Rows>(tx: &mut Transaction<'_, R>, changes: &[(UserKey, InboxChange)]) -> Result<(), StoreError> {
    for (user, change) in changes {
        put_one(tx, user, change)?;
    }
    Ok(())
}

fn put_one<R: Rows>(tx: &mut Transaction<'_, R>, user: &UserKey, change: &InboxChange) -> Result<(), StoreError> {
    let version_key = keys::inbox_version(user, &change.conversation);
    let old_version = tx.get_bytes(&version_key)?;
    let old_version = old_version.map(|bytes| values::decode_number(version_key.as_bytes(), &bytes)).transpose()?;
    let old = old_version.map(|version| keys::inbox(user, version));
    let mut row = match &old {
        Some(key) => tx.get::<InboxRow>(key)?.ok_or_else(|| lost(key))?,
        None => InboxRow::new(change.conversation.clone()),
    };
    let was_asked = row.is_asked();
    if row.merge(change) {
        match (was_asked, row.is_asked()) {
            (false, true) => tx.put_bytes(keys::inbox_asked(user, &change.conversation), Vec::new()),
            (true, false) => tx.remove(keys::inbox_asked(user, &change.conversation)),
            _ => {}
        }
        row.version = tx.next_inbox_version();
        if let Some(old) = old {
            tx.remove(old);
        }
        tx.put_bytes(version_key, row.version.to_be_bytes().to_vec());
        tx.put(keys::inbox(user, row.version), &row)?;
    }
    Ok(())
}

fn lost(key: &Key) -> StoreError {
    StoreError::Unreadable { what: format!("row {}: missing", key.as_bytes().escape_ascii()) }
}

impl InboxRow {
    /// The row before the first change: a member since the start, of a conversation without entries.
    pub(crate) fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            version: 0,
            last: InboxLast { last_seq: Seq::ZERO, messages: 0, preview: None, ask_owner: false, outline: None },
            mentioned_seq: Seq::ZERO,
            read_seq: Seq::ZERO,
            read_messages: 0,
            membership_seq: Seq::ZERO,
            member: true,
            settings_number: 0,
            settings: crate::Settings::default(),
        }
    }

    /// Whether the owner has to be asked for the conversation's end.
    pub(crate) fn is_asked(&self) -> bool {
        self.member && self.last.ask_owner
    }

    /// Takes over each part of `change` that is newer than this row's. Returns whether any was.
    pub(crate) fn merge(&mut self, change: &InboxChange) -> bool {
        let mut changed = false;
        if let Some(last) = change.last.as_ref().filter(|last| last.last_seq > self.last.last_seq) {
            self.last = InboxLast::clone(last);
            changed = true;
        }
        if change.mentioned_seq > self.mentioned_seq {
            self.mentioned_seq = change.mentioned_seq;
            changed = true;
        }
        if let Some((seq, messages)) = change.read.filter(|(seq, _)| *seq > self.read_seq) {
            (self.read_seq, self.read_messages) = (seq, messages);
            changed = true;
        }
        if let Some((seq, member)) = change.membership.filter(|(seq, _)| *seq > self.membership_seq) {
            (self.membership_seq, self.member) = (seq, member);
            changed = true;
        }
        if let Some((number, settings)) = change.settings.as_ref().filter(|(number, _)| *number > self.settings_number)
        {
            (self.settings_number, self.settings) = (*number, settings.clone());
            changed = true;
        }
        changed
    }
}

pub(super) fn page(rows: &impl Rows, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError> {
    let meta = Meta::of(rows)?;
    let first = range.after.saturating_add(1);
    let end = range.below.unwrap_or_else(|| meta.inbox_version.saturating_add(1));
    let mut newest_first = rows.range(keys::inbox_versions(user, first, end)).rev();
    let mut page = Vec::new();
    for row in newest_first.by_ref().take(limit) {
        let (key, value) = row?;
        page.push(values::decode_at(key.as_ref(), value.as_ref())?);
    }
    let more = newest_first.next().transpose()?.is_some();
    // Rows above it are returned again: a version that a power failure undoes will be given to another row.
    Ok(InboxPage { rows: page, top: meta.inbox_synced(), more, asked: asked(rows, user)? })
}

fn asked(rows: &impl Rows, user: &UserKey) -> Result<Vec<ConversationId>, StoreError> {
    let all = rows.range(keys::all_inbox_asked(user).prefixed());
    all.map(|row| keys::parse_last_conversation(row?.0.as_ref())).collect()
}

pub(super) fn row(
    rows: &impl Rows,
    user: &UserKey,
    conversation: &ConversationId,
) -> Result<Option<InboxRow>, StoreError> {
    let version_key = keys::inbox_version(user, conversation);
    let Some(version) = rows.get(version_key.as_bytes())? else { return Ok(None) };
    let key = keys::inbox(user, values::decode_number(version_key.as_bytes(), version.as_ref())?);
    let value = rows.get(key.as_bytes())?.ok_or_else(|| lost(&key))?;
    values::decode(&key, value.as_ref()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Durability, Engine, Write};
    use crate::{EmbeddedOptions, EmbeddedStore, Inbox as _};
    use switchboard_clock::{Clock, Generator};

    async fn write(store: &EmbeddedStore, durability: Durability, id: &str) -> InboxPage {
        let user = UserKey { tenant: "t".parse().unwrap(), user: "alice".parse().unwrap() };
        let conversation = id.parse().unwrap();
        let mentioned_seq = Seq::new(1);
        let change =
            InboxChange { conversation, last: None, mentioned_seq, read: None, membership: None, settings: None };
        let changes = [(user.clone(), change)];
        let write = Write { op: "put_inbox", durability, bytes: 0 };
        Engine::write(store, write, move |tx| put(tx, &changes)).await.unwrap();
        store.inbox(&user, InboxRange { after: 0, below: None }, 10).await.unwrap()
    }

    #[tokio::test]
    async fn nobody_has_seen_a_version_that_is_not_durable() {
        let folder = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::new(folder.path()) };
        let store = EmbeddedStore::open(&options, Clock::system(), &Generator::from_seed(1)).unwrap();
        assert_eq!(write(&store, Durability::Synced, "g:1").await.top, 1);
        write(&store, Durability::Buffered, "g:2").await;
        let page = write(&store, Durability::Buffered, "g:3").await;
        assert_eq!((page.top, page.rows.len(), page.rows[0].version), (1, 3, 3));
        assert_eq!(write(&store, Durability::Synced, "g:3").await.top, 3, "a repeat of it makes it durable");
        assert_eq!(write(&store, Durability::Synced, "g:4").await.top, 4);
    }
}
