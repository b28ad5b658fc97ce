//! Terms: who may append, and what the next owner finds.

use super::fixture::{EVERYTHING, time_of};
use super::{Backend, Conversation, conversation_key, incarnation, user};
use crate::{
    Appended, Claim, Kind, NewConversation, Previous, RecentWindow, Store, StoreError, StoredEntry, TermNumber,
};
use std::sync::Arc;
use switchboard_protocol::{Role, Seq, Timestamp};

pub(super) async fn whole_log(store: &Arc<dyn Store>, of: &Conversation) -> Vec<StoredEntry> {
    let end = store.head(&of.key).await.expect("reads").expect("exists").end;
    store.read(&of.key, Seq::ZERO, end, usize::MAX, usize::MAX).await.expect("reads")
}

pub async fn a_new_term_supersedes_the_old(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut old = Conversation::direct(&store, "c").await;
    assert_eq!(old.term, TermNumber(1));
    old.send("alice", "one").await;
    let (mut new, begun) = Conversation::take_over(&store, &old.key, 2).await;
    assert_eq!((begun.term, begun.end, begun.messages), (TermNumber(2), Seq::new(1), 1));
    assert!(begun.untold, "the first term was not ended");
    let late = old.message("alice", "late");
    assert_eq!(old.try_append([late]).await.expect("answers"), Appended::Superseded);
    assert_eq!(whole_log(&store, &new).await.len(), 1, "nothing of it is in the log");
    new.send("bob", "two").await;
    assert_eq!(old.try_append([]).await.expect("answers"), Appended::Superseded);
    let head = store.head(&new.key).await.expect("reads").expect("exists");
    assert_eq!((head.term, head.end, head.messages), (TermNumber(2), Seq::new(2), 2));
}

pub async fn an_append_is_repeated_without_harm(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let (one, two, three) = (c.message("alice", "1"), c.message("bob", "2"), c.message("bob", "3"));
    c.append([one.clone(), two.clone()]).await;
    c.append([one.clone(), two.clone()]).await;
    c.append([two.clone(), three]).await;
    let seqs: Vec<u64> = whole_log(&store, &c).await.iter().map(|entry| entry.seq.get()).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let mut other = Conversation { store: store.clone(), key: c.key.clone(), term: c.term, end: 0, messages: 0 };
    let different = other.message("alice", "not what was said");
    assert!(matches!(c.try_append([different]).await, Err(StoreError::Misplaced { .. })));
    assert_eq!(whole_log(&store, &c).await[0].json, one.json);
}

pub async fn holes_are_refused(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    let (one, two, three) = (c.message("alice", "1"), c.message("alice", "2"), c.message("alice", "3"));
    let refused = |outcome| assert!(matches!(outcome, Err(StoreError::Misplaced { .. })), "{outcome:?}");
    refused(c.try_append([two.clone()]).await);
    refused(c.try_append([one.clone(), three.clone()]).await);
    refused(c.try_append([two.clone(), one.clone()]).await);
    let mut miscounted = one.clone();
    miscounted.messages = 5;
    refused(c.try_append([miscounted]).await);
    refused(store.append(&c.key, TermNumber(9), Arc::from([one.clone()])).await);
    refused(store.append(&conversation_key("nowhere"), c.term, Arc::from([one.clone()])).await);
    assert!(whole_log(&store, &c).await.is_empty(), "nothing of what was refused is stored");
    let head = store.head(&c.key).await.expect("reads").expect("exists");
    assert_eq!((head.end, head.messages, head.last_message), (Seq::ZERO, 0, None));
    c.append([one, two, three]).await;
    let (four, five) = (c.reaction(Seq::new(1), "bob", "a", true), c.reaction(Seq::new(1), "bob", "b", true));
    refused(c.try_append([five.clone()]).await);
    refused(c.try_append([five.clone(), four.clone()]).await);
    c.append([four, five]).await;
}

pub async fn an_ended_term_takes_no_more(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    c.send("alice", "one").await;
    store.end_term(&c.key, TermNumber(c.term.0 + 1)).await.expect("nothing happens");
    c.send("alice", "two").await;
    store.end_term(&c.key, c.term).await.expect("ends");
    let late = c.message("alice", "late");
    assert_eq!(c.try_append([late]).await.expect("answers"), Appended::Superseded);
    let (mut next, begun) = Conversation::take_over(&store, &c.key, 1).await;
    assert!(!begun.untold, "the term before was ended");
    assert_eq!(begun.end, Seq::new(2));
    next.send("bob", "three").await;
    store.end_term(&c.key, c.term).await.expect("nothing happens to the term that goes on");
    next.send("bob", "four").await;
}

pub async fn begin_is_none_without_a_conversation(backend: &dyn Backend) {
    let store = backend.open().await;
    let key = conversation_key("nowhere");
    let claim = Claim { by: incarnation(1), create: None, recent: EVERYTHING, previous: Previous::Unknown };
    assert!(store.begin_term(&key, claim).await.expect("answers").is_none());
    assert!(store.head(&key).await.expect("answers").is_none());
    assert!(store.active(&[]).await.expect("answers").is_empty());
    store.end_term(&key, TermNumber(1)).await.expect("nothing happens");
}

pub async fn create_leaves_what_exists(backend: &dyn Backend) {
    let store = backend.open().await;
    let key = conversation_key("g");
    let create = |title: &str| NewConversation {
        kind: Kind::Group,
        title: Some(title.parse().expect("a title")),
        custom: None,
        created_at: time_of(0),
    };
    for (node, title) in [(1, "first"), (2, "second")] {
        let claim = Claim {
            by: incarnation(node),
            create: Some(create(title)),
            recent: EVERYTHING,
            previous: Previous::Unknown,
        };
        let begun = store.begin_term(&key, claim).await.expect("begins").expect("is there");
        assert_eq!(begun.term, TermNumber(node));
        assert_eq!(begun.untold, node == 2);
        assert_eq!(begun.meta.title.as_ref().map(|title| title.as_str()), Some("first"));
        assert_eq!((begun.end, begun.messages, begun.members.len()), (Seq::ZERO, 0, 0));
    }
}

pub async fn active_notes_follow_the_terms(backend: &dyn Backend) {
    let store = backend.open().await;
    let (one, two) = (incarnation(1), incarnation(2));
    let a = Conversation::direct(&store, "a").await;
    let b = Conversation::direct(&store, "b").await;
    let notes = async || {
        let mut notes = store.active(&[]).await.expect("reads");
        notes.sort();
        notes
    };
    assert_eq!(notes().await, [(one.clone(), a.key.clone()), (one.clone(), b.key.clone())]);
    assert_eq!(store.active(std::slice::from_ref(&one)).await.expect("reads"), [], "of the living none");
    let (taken, _) = Conversation::take_over(&store, &a.key, 2).await;
    store.end_term(&a.key, a.term).await.expect("nothing happens");
    assert!(notes().await.contains(&(two.clone(), a.key.clone())), "noted for its new owner");
    let dead = [a.key.clone(), b.key.clone(), conversation_key("nowhere")];
    store.forget_active(&one, &dead).await.expect("forgets");
    assert_eq!(
        notes().await,
        [(one, b.key.clone()), (two, a.key.clone())],
        "a conversation that nobody took over is not forgotten"
    );
    store.end_term(&taken.key, taken.term).await.expect("ends");
    store.end_term(&b.key, b.term).await.expect("ends");
    assert_eq!(notes().await, []);
}

pub async fn the_end_is_the_same_for_all_readers(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    for round in 1..=20 {
        let seq = c.send("alice", "text").await;
        let head = store.head(&c.key).await.expect("reads").expect("exists");
        assert_eq!((head.end, head.messages), (seq, round));
        assert_eq!(head.last_message.expect("a message").seq, seq);
        let last = store.read(&c.key, Seq::new(round - 1), seq, 10, usize::MAX).await.expect("reads");
        assert_eq!(last.len(), 1, "what is durable is seen at once");
        let (next, begun) = Conversation::take_over(&store, &c.key, 1).await;
        assert_eq!(begun.end, seq);
        c = next;
    }
}

pub async fn recent_sends_within_the_window(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    for _ in 0..3 {
        let message = c.message_of("alice", r#"{"text":"hi","mentions":["zoe","bob","bob"]}"#);
        let reaction = c.reaction(message.seq, "bob", "👍", true);
        c.append([message, reaction]).await;
    }
    // The log: 1 membership, messages at 2, 4 and 6, reactions at 3, 5 and 7.
    let begin = async |entries_max, since| {
        let claim = Claim {
            by: incarnation(1),
            create: None,
            recent: RecentWindow { entries_max, since },
            previous: Previous::Unknown,
        };
        let begun = store.begin_term(&c.key, claim).await.expect("begins").expect("exists");
        (begun.recent.iter().map(|send| send.seq.get()).collect::<Vec<_>>(), begun.recent_after.get(), begun.recent)
    };
    let (seqs, after, recent) = begin(u64::MAX, Timestamp::MIN).await;
    assert_eq!((seqs.as_slice(), after), ([2, 4, 6].as_slice(), 0));
    assert_eq!((recent[1].from.as_str(), recent[1].client_id.as_str(), recent[1].at), ("alice", "c4", time_of(4)));
    assert_eq!(recent[1].mentions, [user("bob"), user("zoe")]);
    let (seqs, after, _) = begin(2, Timestamp::MIN).await;
    assert_eq!((seqs.as_slice(), after), ([6].as_slice(), 5), "the last two entries");
    let (seqs, after, _) = begin(u64::MAX, time_of(4)).await;
    assert_eq!((seqs.as_slice(), after), ([4, 6].as_slice(), 2), "from then on");
    let (seqs, after, _) = begin(u64::MAX, time_of(100)).await;
    assert_eq!((seqs.as_slice(), after), ([].as_slice(), 6));
    let (seqs, after, _) = begin(0, Timestamp::MIN).await;
    assert_eq!((seqs.as_slice(), after), ([].as_slice(), 7));
}

pub async fn removed_members_within_the_window(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let entries = [
        c.membership(&["carl", "dora"], &[], &[]),
        c.membership(&[], &["bob", "carl", "dora"], &[]),
        c.membership(&["carl"], &[], &[]),
        c.membership(&["dora"], &[], &[]),
        c.membership(&[], &["dora"], &[("carl", Role::Moderator)]),
    ];
    c.append(entries).await;
    let removed = async |entries_max, since| {
        let claim = Claim {
            by: incarnation(1),
            create: None,
            recent: RecentWindow { entries_max, since },
            previous: Previous::Unknown,
        };
        store.begin_term(&c.key, claim).await.expect("begins").expect("exists").removed
    };
    let (bob, dora) = ((user("bob"), Seq::new(3)), (user("dora"), Seq::new(6)));
    assert_eq!(removed(u64::MAX, Timestamp::MIN).await, [bob, dora.clone()]);
    assert_eq!(removed(1, Timestamp::MIN).await, std::slice::from_ref(&dora));
    assert_eq!(removed(u64::MAX, time_of(4)).await, [dora]);
    assert_eq!(removed(u64::MAX, time_of(7)).await, []);
}

/// Owners that don't know of each other append as fast as they can. Everything that was answered with `Durable` stays
/// in its place; anything else there was offered, and superseded below the end of the next term.
pub async fn competing_owners_make_one_log(backend: &dyn Backend) {
    let store = backend.open().await;
    let first = Conversation::direct(&store, "c").await;
    let mut owners = tokio::task::JoinSet::new();
    for node in 1..=4 {
        let (store, key) = (store.clone(), first.key.clone());
        owners.spawn(async move {
            let (mut durable, mut superseded) = (Vec::new(), Vec::new());
            for _ in 0..10 {
                let (mut owner, _) = Conversation::take_over(&store, &key, node).await;
                for _ in 0..5 {
                    let entry = owner.message("alice", &format!("of {node}"));
                    match owner.try_append([entry.clone()]).await.expect("answers") {
                        Appended::Durable => durable.push((entry.seq, entry.json)),
                        Appended::Superseded => {
                            superseded.push((entry.seq, entry.json));
                            break;
                        }
                    }
                }
            }
            (durable, superseded)
        });
    }
    let (durable, superseded): (Vec<_>, Vec<_>) = owners.join_all().await.into_iter().unzip();
    let (durable, superseded) = (durable.concat(), superseded.concat());
    let log: Vec<_> = whole_log(&store, &first).await.into_iter().map(|entry| (entry.seq, entry.json)).collect();
    assert!(durable.iter().all(|entry| log.contains(entry)), "{durable:?} in {log:?}");
    let offered = |entry: &_| durable.contains(entry) || superseded.contains(entry);
    assert!(log.iter().all(offered), "{log:?} of {durable:?} and {superseded:?}");
    assert!(log.iter().map(|(seq, _)| seq.get()).eq(1..=log.len() as u64), "no holes");
}

pub async fn appends_of_many_conversations_at_once(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut owners = tokio::task::JoinSet::new();
    for number in 0..50 {
        let store = store.clone();
        owners.spawn(async move {
            let mut c = Conversation::direct(&store, &format!("c{number}")).await;
            for _ in 0..10 {
                c.send("alice", &format!("in {number}")).await;
            }
            c
        });
    }
    for c in owners.join_all().await {
        let log = whole_log(&store, &c).await;
        let own = |entry: &StoredEntry| {
            let text = format!("in {}", &c.key.conversation.as_str()[1..]);
            String::from_utf8_lossy(&entry.json).contains(&format!("\"{text}\""))
        };
        assert!(log.len() == 10 && log.iter().all(own), "{log:?}");
    }
}
