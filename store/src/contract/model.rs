//! Long seeded runs against models: the log folded independently, and the inbox as plain maps.

use super::fixture::time_of;
use super::inbox::{ALL, change, last};
use super::terms::whole_log;
use super::{Backend, Conversation, user, user_key};
use crate::{
    Cursor, Entry, HistoryRange, InboxChange, InboxLast, InboxRow, Member, MessageState, ReactionState, Settings,
};
use std::collections::{BTreeMap, BTreeSet};
use switchboard_clock::Generator;
use switchboard_protocol::{EntryFrame, Role, Seq, UserId};

const USERS: [&str; 6] = ["alice", "bob", "carl", "dora", "emil", "fay"];
const EMOJIS: [&str; 3] = ["👍", "🎉", "x"];
const SEEDS: u64 = 8;

fn one_of<'a>(generator: &Generator, of: &[&'a str]) -> &'a str {
    of[usize::try_from(generator.below(of.len() as u64)).expect("an index")]
}

/// The result of folding a log. Independent of the backends' implementation: it always looks at the whole log.
#[derive(Default)]
pub(super) struct Folded {
    pub(super) members: BTreeMap<UserId, Member>,
    pub(super) states: BTreeMap<Seq, MessageState>,
    pub(super) title: Option<String>,
    pub(super) messages: Vec<Seq>,
    pub(super) last_text: Option<String>,
}

/// Folds frames in the order of the log.
pub(super) fn fold<'a>(log: impl IntoIterator<Item = &'a EntryFrame>) -> Folded {
    let mut folded = Folded::default();
    // For each reaction that stands, the entry that added it.
    let mut reactions: BTreeMap<(Seq, String), BTreeMap<UserId, Seq>> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for frame in log {
        let seq = frame.seq();
        match frame {
            EntryFrame::Message(message) => {
                folded.messages.push(seq);
                folded.last_text = Some(message.content.preview().unwrap_or_default());
                if let Some(member) = folded.members.get_mut(&message.from) {
                    let read_messages = folded.messages.len() as u64;
                    member.cursor = Cursor { delivered_seq: seq, read_seq: seq, read_messages, ..member.cursor };
                }
            }
            EntryFrame::MessageUpdated(update) => {
                touched.insert(update.target_seq);
                let state = folded.states.entry(update.target_seq).or_default();
                match &update.content {
                    Some(content) if !state.deleted => state.edited = Some((content.clone(), update.timestamp)),
                    Some(_) => {}
                    None => (state.edited, state.deleted) = (None, true),
                }
                if folded.messages.last() == Some(&update.target_seq) {
                    let edited = state.edited.as_ref().and_then(|(content, _)| content.preview());
                    folded.last_text = Some(edited.unwrap_or_default());
                }
            }
            EntryFrame::Reaction(reaction) => {
                let users = reactions.entry((reaction.target_seq, reaction.emoji.to_string())).or_default();
                if reaction.added {
                    users.insert(reaction.user_id.clone(), seq);
                } else {
                    users.remove(&reaction.user_id);
                }
            }
            EntryFrame::Membership(membership) => {
                for added in &membership.added {
                    folded.members.entry(added.clone()).or_insert(Member {
                        role: Role::Member,
                        joined_at: membership.timestamp,
                        joined_seq: seq,
                        cursor: Cursor {
                            delivered_seq: seq,
                            read_seq: seq,
                            read_messages: folded.messages.len() as u64,
                            ..Cursor::default()
                        },
                    });
                }
                for (user, role) in &membership.roles {
                    if let Some(member) = folded.members.get_mut(user) {
                        member.role = *role;
                    }
                }
                for removed in &membership.removed {
                    folded.members.remove(removed);
                }
            }
            EntryFrame::ConversationUpdated(update) => {
                folded.title = update.title.as_ref().map(ToString::to_string).or(folded.title);
            }
        }
    }
    for ((target, emoji), users) in reactions.into_iter().filter(|(_, users)| !users.is_empty()) {
        touched.insert(target);
        let users: Vec<UserId> = users.into_keys().collect();
        folded.states.entry(target).or_default().reactions.push(ReactionState { emoji, users });
    }
    folded.states.retain(|target, _| touched.contains(target));
    folded
}

/// The next entry of a group, of any kind.
pub fn random_entry(generator: &Generator, c: &mut Conversation) -> Entry {
    let who = one_of(generator, &USERS);
    let target = Seq::new(1 + generator.below(c.end));
    match generator.below(10) {
        0..=3 => c.message(who, &format!("text {}", generator.below(1_000))),
        4 => c.edit(target, &format!("edit {}", generator.below(1_000))),
        5 if generator.percent(30) => c.delete(target),
        5..=7 => c.reaction(target, who, one_of(generator, &EMOJIS), generator.percent(60)),
        8 => c.update(Some(&format!("title {}", generator.below(100))), None),
        _ if generator.percent(50) => c.membership(&[who], &[], &[]),
        _ => c.membership(&[], &[who], &[(one_of(generator, &USERS), Role::Moderator)]),
    }
}

pub async fn the_projections_are_the_fold_of_the_log(backend: &dyn Backend) {
    let store = backend.open().await;
    for seed in 0..SEEDS {
        let generator = Generator::from_seed(seed);
        let mut c = Conversation::group(&store, &format!("g{seed}")).await;
        for round in 0..60 {
            match generator.below(3) {
                0 => {
                    let entry = random_entry(&generator, &mut c);
                    c.append([entry]).await;
                }
                1 => {
                    let entries = [(); 5].map(|()| random_entry(&generator, &mut c));
                    c.append(entries).await;
                }
                _ if round % 10 == 0 => c = Conversation::take_over(&store, &c.key, seed).await.0,
                _ => {}
            }
        }
        assert_is_folded(&c, &format!("seed {seed}")).await;
    }
}

/// Asserts that the store's answers match a fold of the log.
pub async fn assert_is_folded(c: &Conversation, context: &str) {
    let log = whole_log(&c.store, c).await;
    let frames: Vec<EntryFrame> = log
        .iter()
        .map(|entry| EntryFrame::decode(std::str::from_utf8(&entry.json).expect("text")).expect("an entry").1)
        .collect();
    assert!(frames.iter().map(|frame| frame.seq().get()).eq(1..=log.len() as u64), "{context}: no holes");
    let folded = fold(&frames);
    let (_, begun) = Conversation::take_over(&c.store, &c.key, 1).await;
    assert_eq!(begun.end.get(), log.len() as u64, "{context}");
    assert_eq!(begun.messages, folded.messages.len() as u64, "{context}");
    assert_eq!(begun.members, folded.members.into_iter().collect::<Vec<_>>(), "{context}");
    assert_eq!(begun.meta.title.map(|title| title.to_string()), folded.title, "{context}");
    assert_eq!(begun.last_message.as_ref().map(|preview| &preview.text), folded.last_text.as_ref(), "{context}");
    assert_eq!(begun.last_message.map(|preview| preview.seq), folded.messages.last().copied(), "{context}");
    let sends: Vec<Seq> = begun.recent.iter().map(|send| send.seq).collect();
    assert_eq!(sends, folded.messages, "{context}");
    let page = c.store.history(&c.key, HistoryRange::Newest, begun.end, usize::MAX, usize::MAX).await.expect("reads");
    assert_eq!(page.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), folded.messages, "{context}");
    for message in page.messages {
        let mut state = message.state.map(|state| *state);
        if let Some(state) = &mut state {
            // Their order has a test of its own.
            state.reactions.sort_by(|a, b| a.emoji.cmp(&b.emoji));
        }
        assert_eq!(state.as_ref(), folded.states.get(&message.seq), "{context}: message {}", message.seq);
    }
}

fn random_change(generator: &Generator) -> InboxChange {
    let mut change = change(&format!("c{}", generator.below(12)));
    let seq = Seq::new(1 + generator.below(40));
    match generator.below(6) {
        0 | 1 => change.last = Some(last(seq.get()).into()),
        2 => change.mentioned_seq = seq,
        3 => change.read = Some((seq, seq.get() / 2)),
        4 => change.membership = Some((seq, generator.percent(50))),
        _ => {
            let settings = Settings {
                muted_until: generator.percent(50).then(|| time_of(seq.get())),
                archived: generator.percent(50),
                pinned: generator.percent(50),
            };
            change.settings = Some((seq.get() / 4, settings));
        }
    }
    change
}

/// Applies a change to the model's row. Returns whether it had any effect.
fn apply(row: &mut Option<InboxRow>, change: &InboxChange) -> bool {
    let mut next = row.clone().unwrap_or(InboxRow {
        conversation: change.conversation.clone(),
        version: 0,
        last: last(0),
        mentioned_seq: Seq::ZERO,
        read_seq: Seq::ZERO,
        read_messages: 0,
        membership_seq: Seq::ZERO,
        member: true,
        settings_number: 0,
        settings: Settings::default(),
    });
    let before = next.clone();
    match &change.last {
        Some(last) if last.last_seq > next.last.last_seq => next.last = InboxLast::clone(last),
        _ => {}
    }
    next.mentioned_seq = next.mentioned_seq.max(change.mentioned_seq);
    match change.read {
        Some((seq, messages)) if seq > next.read_seq => (next.read_seq, next.read_messages) = (seq, messages),
        _ => {}
    }
    match change.membership {
        Some((seq, member)) if seq > next.membership_seq => (next.membership_seq, next.member) = (seq, member),
        _ => {}
    }
    match &change.settings {
        Some((number, settings)) if *number > next.settings_number => {
            (next.settings_number, next.settings) = (*number, settings.clone());
        }
        _ => {}
    }
    let changed = next != before;
    if changed {
        *row = Some(next);
    }
    changed
}

pub async fn the_inbox_is_what_was_put_into_it(backend: &dyn Backend) {
    let store = backend.open().await;
    for seed in 0..SEEDS {
        let generator = Generator::from_seed(seed);
        let owner = user_key(&format!("alice{seed}"));
        let mut model: BTreeMap<String, Option<InboxRow>> = BTreeMap::new();
        for round in 0..60 {
            let before = store.inbox(&owner, ALL, 100).await.expect("reads");
            // Occasionally as many as a home has after a busy second.
            let most = if round % 20 == 19 { 200 } else { 4 };
            let changes: Vec<InboxChange> = (0..=generator.below(most)).map(|_| random_change(&generator)).collect();
            let mut changed = BTreeSet::new();
            for change in &changes {
                let id = change.conversation.to_string();
                if apply(model.entry(id.clone()).or_default(), change) {
                    changed.insert(id);
                }
            }
            store.put_inbox(changes.into_iter().map(|change| (owner.clone(), change)).collect()).await.expect("puts");
            let after = store.inbox(&owner, ALL, 100).await.expect("reads");
            assert!(after.rows.is_sorted_by(|a, b| a.version > b.version), "seed {seed}");
            for row in &after.rows {
                let was_raised = row.version > before.top;
                assert_eq!(was_raised, changed.contains(row.conversation.as_str()), "seed {seed}: {row:?}");
            }
            let rows: BTreeMap<String, Option<InboxRow>> = after
                .rows
                .into_iter()
                .map(|row| (row.conversation.to_string(), Some(InboxRow { version: 0, ..row })))
                .collect();
            let expected = model.iter().filter(|(_, row)| row.is_some()).map(|(id, row)| (id.clone(), row.clone()));
            assert_eq!(rows, expected.collect(), "seed {seed}");
        }
    }
    let nobody = store.inbox(&user_key(user("nobody").as_str()), ALL, 1).await.expect("reads");
    assert_eq!(nobody.rows, []);
}
