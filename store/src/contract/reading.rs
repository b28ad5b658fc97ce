//! Reading logs.

use super::{Backend, Conversation, conversation_key};
use crate::{Entry, HistoryRange, StoredMessage};
use switchboard_protocol::{EntryFrame, Role, Seq};

fn seqs(messages: &[StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.seq.get()).collect()
}

pub async fn entries_come_back_as_they_went_in(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let message = c.message("alice", "ä \"quoted\" \u{1F600}");
    let entries = [
        message.clone(),
        c.edit(message.seq, "edited"),
        c.reaction(message.seq, "bob", "👍", true),
        c.membership(&["carl"], &[], &[("carl", Role::Moderator)]),
        c.update(Some("title"), Some(r#"{"a":1}"#)),
        c.delete(message.seq),
    ];
    c.append(entries.clone()).await;
    let read = store.read(&c.key, Seq::new(1), Seq::new(c.end), 100, usize::MAX).await.expect("reads");
    assert_eq!(read.len(), entries.len());
    for (read, entry) in read.iter().zip(&entries) {
        assert_eq!((read.seq, read.messages, &read.json), (entry.seq, entry.messages, &entry.json));
        let text = std::str::from_utf8(&read.json).expect("text");
        assert_eq!(EntryFrame::decode(text).expect("an entry").1, entry.frame);
    }
}

pub async fn entries_are_limited(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    for _ in 0..5 {
        let message = c.message("alice", "text");
        let reaction = c.reaction(message.seq, "bob", "👍", true);
        c.append([message, reaction]).await;
    }
    let read = async |after, end, limit| {
        let read = store.read(&c.key, Seq::new(after), Seq::new(end), limit, usize::MAX).await.expect("reads");
        read.iter().map(|entry| entry.seq.get()).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 11, 100).await, (1..=11).collect::<Vec<_>>());
    assert_eq!(read(3, 11, 4).await, [4, 5, 6, 7]);
    assert_eq!(read(3, 5, 100).await, [4, 5]);
    assert_eq!(read(11, 11, 100).await, [0; 0]);
    assert_eq!(read(12, 11, 100).await, [0; 0]);
    assert_eq!(read(0, 11, 0).await, [0; 0]);
    let nowhere = store.read(&conversation_key("nowhere"), Seq::ZERO, Seq::new(9), 9, 9).await.expect("reads");
    assert_eq!(nowhere, []);
}

pub async fn history_has_only_messages(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let first = c.send("alice", "one").await;
    for number in 0..300 {
        let entry = c.reaction(first, "bob", &format!("e{}", number % 7), number % 2 == 0);
        c.append([entry]).await;
    }
    let second = c.send("bob", "two").await;
    let page = store.history(&c.key, HistoryRange::Newest, Seq::new(c.end), 10, usize::MAX).await.expect("reads");
    assert_eq!((seqs(&page.messages), page.more), (vec![first.get(), second.get()], false));
    let message = store.message(&c.key, second).await.expect("reads").expect("is there");
    assert_eq!((message.json.clone(), message.state), (page.messages[1].json.clone(), None));
    assert!(store.message(&c.key, Seq::new(1)).await.expect("reads").is_none(), "an entry that is no message");
    assert!(store.message(&c.key, Seq::new(c.end + 1)).await.expect("reads").is_none());
}

pub async fn messages_far_apart_are_found(backend: &dyn Backend) {
    /// Many entries between two messages.
    const BETWEEN: u64 = 70;
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(c.send("alice", "x").await);
        for _ in 0..BETWEEN {
            let mut react = |step: usize| c.reaction(Seq::new(1), "bob", "a", step.is_multiple_of(2));
            let entries: [Entry; 10] = std::array::from_fn(&mut react);
            c.append(entries).await;
        }
    }
    let end = Seq::new(c.end);
    let history = async |range, limit| {
        let page = store.history(&c.key, range, end, limit, usize::MAX).await.expect("reads");
        (page.messages.into_iter().map(|message| message.seq).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(history(HistoryRange::Newest, 10).await, (messages.clone(), false));
    assert_eq!(history(HistoryRange::Newest, 1).await, (vec![messages[2]], true));
    assert_eq!(history(HistoryRange::Before(messages[1]), 1).await, (vec![messages[0]], false));
    assert_eq!(history(HistoryRange::After(Seq::ZERO), 10).await, (messages.clone(), false));
    assert_eq!(history(HistoryRange::After(messages[0]), 1).await, (vec![messages[1]], true));
    assert_eq!(history(HistoryRange::After(messages[2]), 1).await, (vec![], false));
}

pub async fn history_in_both_directions(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    for number in 1..=10 {
        c.send("alice", &number.to_string()).await;
    }
    let page = async |range, limit| {
        let page = store.history(&c.key, range, Seq::new(10), limit, usize::MAX).await.expect("reads");
        (seqs(&page.messages), page.more)
    };
    assert_eq!(page(HistoryRange::Newest, 3).await, (vec![8, 9, 10], true));
    assert_eq!(page(HistoryRange::Newest, 10).await, ((1..=10).collect(), false));
    assert_eq!(page(HistoryRange::Before(Seq::new(8)), 3).await, (vec![5, 6, 7], true));
    assert_eq!(page(HistoryRange::Before(Seq::new(4)), 3).await, (vec![1, 2, 3], false));
    assert_eq!(page(HistoryRange::Before(Seq::new(1)), 3).await, (vec![], false));
    assert_eq!(page(HistoryRange::Before(Seq::ZERO), 3).await, (vec![], false));
    assert_eq!(page(HistoryRange::Before(Seq::new(99)), 1).await, (vec![10], true));
    assert_eq!(page(HistoryRange::After(Seq::ZERO), 3).await, (vec![1, 2, 3], true));
    assert_eq!(page(HistoryRange::After(Seq::new(7)), 3).await, (vec![8, 9, 10], false));
    assert_eq!(page(HistoryRange::After(Seq::new(10)), 3).await, (vec![], false));
    assert_eq!(page(HistoryRange::Newest, 0).await, (vec![], true));
}

pub async fn reads_end_where_they_are_told_and_history_says_where(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    for number in 1..=6 {
        c.send("alice", &number.to_string()).await;
    }
    let end = Seq::new(4);
    let read = store.read(&c.key, Seq::new(2), end, 100, usize::MAX).await.expect("reads");
    assert_eq!(read.iter().map(|entry| entry.seq.get()).collect::<Vec<_>>(), [3, 4]);
    for (range, expected, more) in [
        (HistoryRange::Newest, vec![5, 6], true),
        (HistoryRange::Before(Seq::new(6)), vec![4, 5], true),
        (HistoryRange::After(Seq::new(3)), vec![4, 5], true),
        (HistoryRange::After(Seq::new(4)), vec![5, 6], false),
    ] {
        // The page is as of now, like the states in it: it includes what came after `end`, and says so.
        let page = store.history(&c.key, range, end, 2, usize::MAX).await.expect("reads");
        assert_eq!((seqs(&page.messages), page.more, page.end), (expected, more, Seq::new(6)), "{range:?}");
    }
}

pub async fn limits_in_bytes_let_one_through(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let text = "x".repeat(1_000);
    for _ in 0..5 {
        c.send("alice", &text).await;
    }
    let count = async |bytes_max| {
        let read = store.read(&c.key, Seq::ZERO, Seq::new(5), 100, bytes_max).await.expect("reads").len();
        let newest = store.history(&c.key, HistoryRange::Newest, Seq::new(5), 100, bytes_max).await.expect("reads");
        let after = HistoryRange::After(Seq::ZERO);
        let oldest = store.history(&c.key, after, Seq::new(5), 100, bytes_max).await.expect("reads");
        assert_eq!((newest.more, oldest.more), (read < 5, read < 5));
        assert_eq!((newest.messages.len(), oldest.messages.len()), (read, read));
        read
    };
    assert_eq!(count(0).await, 1);
    assert_eq!(count(1_000).await, 1);
    assert_eq!(count(3_000).await, 2);
    assert_eq!(count(100_000).await, 5);
}
