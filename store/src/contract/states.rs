//! The states that entries give to messages and to the conversation.

use super::{Backend, Conversation, user};
use crate::{HistoryRange, MessageState, ReactionState};
use switchboard_protocol::Seq;

async fn state(c: &Conversation, seq: Seq) -> Option<MessageState> {
    let message = c.store.message(&c.key, seq).await.expect("reads").expect("a message");
    let page = c.store.history(&c.key, HistoryRange::After(Seq::ZERO), Seq::new(c.end), 100, usize::MAX).await;
    let in_page = page.expect("reads").messages.into_iter().find(|found| found.seq == seq).expect("a message");
    assert_eq!(message.state, in_page.state, "alone or in a page");
    message.state.map(|state| *state)
}

fn edited_text(state: &MessageState) -> Option<String> {
    state.edited.as_ref().and_then(|(content, _)| content.text())
}

pub async fn edits_and_deletions(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let (one, two) = (c.send("alice", "one").await, c.send("alice", "two").await);
    let (first, second) = (c.edit(one, "edited"), c.edit(one, "edited again"));
    let at = super::fixture::time_of(second.seq.get());
    c.append([first, second]).await;
    let edited = state(&c, one).await.expect("edited");
    assert_eq!(edited_text(&edited).as_deref(), Some("edited again"));
    assert_eq!(edited.edited.as_ref().map(|(_, at)| *at), Some(at));
    assert_eq!(state(&c, two).await, None);
    let deletion = c.delete(one);
    c.append([deletion]).await;
    let deleted = MessageState { edited: None, deleted: true, reactions: vec![] };
    assert_eq!(state(&c, one).await, Some(deleted.clone()), "the edit goes with the message");
    let edit = c.edit(one, "too late");
    c.append([edit]).await;
    assert_eq!(state(&c, one).await, Some(deleted), "deleted stays deleted");
}

pub async fn reactions(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let target = c.send("alice", "one").await;
    let entries = [
        c.reaction(target, "dora", "👍", true),
        c.reaction(target, "alice", "🎉", true),
        c.reaction(target, "alice", "👍", true),
        c.reaction(target, "bob", "👍", true),
        c.reaction(target, "bob", "👍", false),
        c.reaction(target, "carl", "a", true),
        c.reaction(target, "carl", "a", false),
    ];
    c.append(entries).await;
    let of = |emoji: &str, users: &[&str]| ReactionState {
        emoji: emoji.to_owned(),
        users: users.iter().map(|id| user(id)).collect(),
    };
    let expected = vec![of("👍", &["alice", "dora"]), of("🎉", &["alice"])];
    assert_eq!(state(&c, target).await.expect("reactions").reactions, expected);
    let entries = [c.reaction(target, "dora", "👍", false), c.edit(target, "edited")];
    c.append(entries).await;
    let now = state(&c, target).await.expect("reactions");
    assert_eq!(now.reactions, [of("🎉", &["alice"]), of("👍", &["alice"])], "by the oldest that stands");
    assert_eq!(edited_text(&now).as_deref(), Some("edited"));
    let entries = [c.reaction(target, "alice", "👍", false), c.reaction(target, "alice", "🎉", false)];
    c.append(entries).await;
    assert_eq!(state(&c, target).await.expect("edited").reactions, []);
}

pub async fn previews_follow_edits(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let preview = async |c: &Conversation| {
        let head = store.head(&c.key).await.expect("reads").expect("exists");
        head.last_message.map(|preview| (preview.seq.get(), preview.from.to_string(), preview.text))
    };
    assert_eq!(preview(&c).await, None);
    let long = "ä".repeat(300);
    let one = c.send("alice", &long).await;
    assert_eq!(preview(&c).await, Some((1, "alice".to_owned(), "ä".repeat(200))));
    let two = c.send("bob", "two").await;
    let entries = [c.edit(one, "not the last"), c.edit(two, "edited")];
    c.append(entries).await;
    assert_eq!(preview(&c).await, Some((2, "bob".to_owned(), "edited".to_owned())));
    let deletion = c.delete(two);
    c.append([deletion]).await;
    assert_eq!(preview(&c).await, Some((2, "bob".to_owned(), String::new())));
    let encrypted = c.message_of("alice", r#"{"ciphertext":"xyz"}"#);
    c.append([encrypted]).await;
    assert_eq!(preview(&c).await, Some((6, "alice".to_owned(), String::new())));
}

pub async fn title_and_custom(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let entries = [c.update(Some("first"), Some(r#"{"a":1}"#)), c.update(Some("second"), None)];
    c.append(entries).await;
    let meta = store.head(&c.key).await.expect("reads").expect("exists").meta;
    assert_eq!(meta.title.as_ref().map(|title| title.as_str()), Some("second"));
    assert_eq!(meta.custom.as_ref().map(|custom| custom.as_str()), Some(r#"{"a":1}"#));
    let (_, begun) = Conversation::take_over(&store, &c.key, 2).await;
    assert_eq!(begun.meta, meta);
}
