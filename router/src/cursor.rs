//! The newer cursor that a long-lived connection gets from time to time, so that it has little to catch up on after a
//! reconnect (PROTOCOL §3).
//!
//! A cursor says "you have seen everything up to here". It is sent only to sessions that are on their user's home node
//! and have completed a `sync`, and only some time after it was read: by then every frame that it covers has been
//! queued.

use crate::delivery::undroppable;
use crate::node::{Node, lock};
use crate::sync::cursor_after;
use futures_util::stream::{self, StreamExt as _};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use switchboard_protocol::server::{Cursor, Frame as _};
use switchboard_store::UserKey;

/// The shortest time between two cursors of a session.
const INTERVAL_MS: u64 = 60_000;

/// The time between reading a cursor and sending it: longer than any frame that it covers is held back
/// (`conversation_activity`: 1 s).
const TELL_AFTER_MS: u64 = 5_000;

/// Cursors that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// Cursors that have been read and wait to be sent: at most one per user and [`TELL_AFTER_MS`].
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Read>>);

#[derive(Debug)]
struct Read {
    user: UserKey,
    at_ms: u64,
    cursor: String,
}

impl Node {
    /// The inboxes of these users have changed: reads the cursors of those who got none for a while.
    pub(crate) async fn read_cursors(&self, users: impl Iterator<Item = &UserKey>) {
        let now_ms = self.clock.monotonic_ms();
        let wanted: Vec<UserKey> =
            users.filter(|user| self.users.wants_cursor(user, now_ms, INTERVAL_MS)).cloned().collect();
        let read = stream::iter(wanted).map(|user| self.read_cursor(user, now_ms)).buffered(READS_AT_ONCE);
        let most = self.options().home_dirty_max;
        read.for_each(|read| async {
            let mut waiting = lock(&self.cursors.0);
            if waiting.len() < most {
                waiting.extend(read);
            }
        })
        .await;
    }

    /// `None`: not now, but after the next change.
    async fn read_cursor(&self, user: UserKey, at_ms: u64) -> Option<Read> {
        let top = self.store.inbox_top(&user).await.ok()?;
        Some(Read { user, at_ms, cursor: cursor_after(top, self.store.store_id()) })
    }

    /// Sends the cursors that were read long enough ago.
    pub(crate) fn tell_cursors(&self, now_ms: u64) {
        let is_due = |read: &mut Read| read.at_ms + TELL_AFTER_MS <= now_ms;
        while let Some(read) = lock(&self.cursors.0).pop_front_if(is_due) {
            let frame = Cursor { cursor: read.cursor }.encode(None);
            let delivery = Arc::new(undroppable("cursor", frame));
            for session in self.users.sessions(&read.user) {
                // A session with a later `sync` has a newer one.
                if session.doing().synced_ms.is_some_and(|synced_ms| synced_ms <= read.at_ms) {
                    session.socket.deliver(&delivery);
                }
            }
        }
    }

    /// A session on its user's home node has completed a `sync`.
    pub(crate) fn note_synced(&self, actor: &crate::api::Actor) {
        if let Some(session) = self.session_of(actor) {
            let now_ms = self.clock.monotonic_ms();
            let mut doing = session.doing();
            (doing.synced_ms, doing.cursor_ms) = (Some(now_ms), now_ms);
        }
    }
}
