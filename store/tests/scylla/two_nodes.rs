//! Two nodes on one keyspace take a conversation over from each other.

use crate::support::{Statements, open, own_keyspace, shared_server};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::sync::Arc;
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::contract::{Conversation, conversation_key, incarnation, model};
use switchboard_store::{
    Appended, Begun, Claim, ConversationKey, HistoryRange, Previous, RecentWindow, ScyllaOptions, ScyllaStore, Store,
    StoreError, TermNumber,
};
use tokio::task::JoinSet;

async fn two_stores() -> [Arc<dyn Store>; 2] {
    two_stores_with(own_keyspace(shared_server().await)).await
}

async fn two_stores_with(options: ScyllaOptions) -> [Arc<dyn Store>; 2] {
    let open = async || -> Arc<ScyllaStore> { Arc::new(open(&options).await.expect("opens")) };
    let (one, other) = (open().await, open().await);
    assert_eq!(one.store_id(), other.store_id());
    [one, other]
}

async fn begin(
    store: &Arc<dyn Store>,
    key: &ConversationKey,
    node: u64,
    previous: Previous,
) -> Result<Begun, StoreError> {
    let recent = RecentWindow { entries_max: u64::MAX, since: Timestamp::MIN };
    let claim = Claim { by: incarnation(node), create: None, recent, previous };
    store.begin_term(key, claim).await.map(|begun| begun.expect("exists"))
}

fn going_on(store: &Arc<dyn Store>, key: &ConversationKey, begun: &Begun) -> Conversation {
    let (term, end, messages) = (begun.term, begun.end.get(), begun.messages);
    Conversation { store: store.clone(), key: key.clone(), term, end, messages }
}

async fn append(c: &mut Conversation, text: &str) -> Result<Appended, StoreError> {
    let entry = c.message("alice", text);
    c.store.append(&c.key, c.term, Arc::from([entry])).await
}

#[tokio::test]
async fn by_release() {
    let [one, other] = two_stores().await;
    let mut c = Conversation::group(&one, "g").await;
    c.send("alice", "one").await;
    let owned = begin(&other, &c.key, 2, Previous::Unknown).await;
    assert!(
        matches!(&owned, Err(StoreError::Owned { by, term, .. }) if *by == incarnation(1) && *term == c.term),
        "{owned:?}"
    );
    c.send("alice", "two").await;
    let release = one.release(&c.key, c.term).expect("has it");
    assert_eq!((release.term, release.end), (c.term, Seq::new(3)));
    assert_eq!(append(&mut c, "late").await.expect("answers"), Appended::Superseded);
    let begun = begin(&other, &c.key, 2, Previous::Released(release)).await.expect("begins");
    assert_eq!((begun.term, begun.end, begun.messages), (TermNumber(2), Seq::new(3), 2));
    assert_eq!((begun.recent.len(), begun.members.len(), begun.members[0].1.cursor.read_messages), (2, 2, 2));
    let mut c = going_on(&other, &c.key, &begun);
    c.send("bob", "three").await;
    // The first node reads a conversation without having its term: up to an end that it was given.
    let page = one.history(&c.key, HistoryRange::Newest, Seq::new(c.end), 9, usize::MAX).await.expect("reads");
    assert_eq!((page.messages.len(), page.end), (3, Seq::new(4)));
    let stale = begin(&one, &c.key, 1, Previous::Released(release)).await;
    assert!(matches!(stale, Err(StoreError::Owned { .. })), "a release is of one term: {stale:?}");
    model::assert_is_folded(&c, "after a release").await;
}

#[tokio::test]
async fn by_fence_while_appends_are_under_way() {
    let [one, other] = two_stores().await;
    let c = Conversation::direct(&one, "c").await;
    let key = c.key.clone();
    let mut appending = JoinSet::new();
    let (began, mut begun) = tokio::sync::watch::channel(0);
    appending.spawn(async move {
        let mut c = c;
        let mut durable = 0;
        while append(&mut c, "of the first").await.expect("answers") == Appended::Durable {
            durable = c.end;
            began.send_replace(durable);
        }
        durable
    });
    begun.wait_for(|durable| *durable >= 10).await.expect("appends");
    let taken = begin(&other, &key, 2, Previous::Gone(incarnation(1))).await.expect("begins");
    let durable = appending.join_next().await.expect("a task").expect("no panic");
    assert!(taken.end.get() >= durable, "{durable} were durable, the log ends at {}", taken.end);
    let mut c = going_on(&other, &key, &taken);
    c.send("bob", "of the second").await;
    let log = other.read(&key, Seq::ZERO, Seq::new(c.end), usize::MAX, usize::MAX).await.expect("reads");
    assert_eq!(log.len() as u64, taken.end.get() + 1);
    let fenced = begin(&one, &key, 1, Previous::Gone(incarnation(2))).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "for ever: {fenced:?}");
    let back = begin(&one, &key, 3, Previous::Gone(incarnation(2))).await.expect("begins");
    assert_eq!((back.term, back.end, back.messages), (TermNumber(3), Seq::new(c.end), c.messages));
    assert_eq!(append(&mut c, "late").await.expect("answers"), Appended::Superseded);
}

#[tokio::test]
async fn a_long_window_of_recent_sends_is_read_in_few_pages() {
    const MESSAGES: u64 = 3_000;
    let statements = Statements::default();
    let _counted = metrics::set_default_local_recorder(&statements);
    let [one, other] = two_stores().await;
    let mut c = Conversation::direct(&one, "c").await;
    let entries: Vec<_> = (0..MESSAGES).map(|_| c.message("alice", "hello")).collect();
    for some in entries.chunks(500) {
        assert_eq!(one.append(&c.key, c.term, some.into()).await.expect("answers"), Appended::Durable);
    }
    let before = statements.of("entries_last");
    let begun = begin(&other, &c.key, 2, Previous::Gone(incarnation(1))).await.expect("begins");
    assert!(begun.recent.iter().map(|send| send.seq.get()).eq(1..=MESSAGES), "all, once each, in order");
    let pages = statements.of("entries_last") - before;
    assert!(pages <= 6, "{pages} pages");
}

/// A node may leave thousands of conversations: what each costs is what their clients wait for.
#[tokio::test]
async fn a_take_over_takes_few_statements() {
    const OPS: [&str; 17] = [
        // Linearizable: three round trips each, or more.
        "head",
        "fence",
        "swap_head",
        "create_head",
        "entries",
        "insert_entry",
        "insert_entries",
        "note_active",
        "note",
        "remove_active",
        "conversation_state",
        "created",
        "put_members",
        "put_conversation_state",
        "entries_last",
        "members",
        "is_live",
    ];
    let statements = Statements::default();
    let _counted = metrics::set_default_local_recorder(&statements);
    // No housekeeping comes in between.
    let never = 3_600_000;
    let options = own_keyspace(shared_server().await);
    let options = ScyllaOptions { apply_interval_ms: never, raise_interval_ms: never, ..options };
    let [one, other] = two_stores_with(options).await;
    let mut c = Conversation::direct(&one, "c").await;
    c.send("alice", "hello").await;
    let before = OPS.map(|op| statements.of(op));
    let owned = begin(&other, &c.key, 2, Previous::Unknown).await;
    let Err(StoreError::Owned { by: owner, term, end }) = owned else { panic!("{owned:?}") };
    begin(&other, &c.key, 2, Previous::GoneFrom { owner, term, end }).await.expect("begins");
    other.forget_active(&incarnation(1), std::slice::from_ref(&c.key)).await.expect("forgets");
    let mut costs = OPS.map(|op| (op, statements.of(op)));
    costs.iter_mut().zip(before).for_each(|((_, count), before)| *count -= before);
    let twice = ["entries", "note"];
    let never = ["create_head", "insert_entries", "is_live"];
    let wanted = OPS.map(|op| (op, if twice.contains(&op) { 2 } else { u64::from(!never.contains(&op)) }));
    assert_eq!(costs, wanted);
}

/// The last entry that is in the tables of the projections.
async fn projected(session: &Session, options: &ScyllaOptions, key: &ConversationKey) -> Option<i64> {
    let select = format!(
        "SELECT applied_seq FROM {}.conversation_state WHERE tenant = ? AND conversation = ?",
        options.keyspace
    );
    let found = session.query_unpaged(select, (key.tenant.as_str(), key.conversation.as_str())).await.expect("reads");
    let found = found.into_rows_result().expect("rows").maybe_first_row::<(i64,)>().expect("a number");
    found.map(|(applied,)| applied)
}

#[tokio::test]
async fn a_fenced_life_leaves_its_projections_to_the_next_owners() {
    let server = shared_server().await;
    // Only `close` writes them.
    let options = ScyllaOptions { apply_interval_ms: 3_600_000, ..own_keyspace(server) };
    let session = SessionBuilder::new().known_node_addr(server).build().await.expect("connects");
    let open = async || Arc::new(open(&options).await.expect("opens"));
    let [one, other]: [Arc<dyn Store>; 2] = [open().await, open().await];
    let lost = Conversation::group(&one, "lost").await;
    let mut taken = Conversation::group(&one, "taken").await;
    let kept = Conversation::group(&one, "kept").await;
    let (mut kept, _) = Conversation::take_over(&one, &kept.key, 3).await;
    let end = kept.send("alice", "in the next life").await;
    begin(&other, &taken.key, 2, Previous::Gone(incarnation(1))).await.expect("begins");
    assert_eq!(append(&mut taken, "late").await.expect("answers"), Appended::Superseded);
    one.close().await.expect("closes");
    assert_eq!(projected(&session, &options, &lost.key).await, None, "forgotten");
    assert_eq!(projected(&session, &options, &kept.key).await, Some(end.get().cast_signed()));
    let (begun, _) = Conversation::take_over(&other, &lost.key, 2).await;
    assert_eq!(projected(&session, &options, &lost.key).await, Some(begun.end.cast_signed()));
}

/// A read at a node without the term is as of one moment, whether projections are written or not.
#[tokio::test]
async fn states_that_are_not_written_yet_are_read_elsewhere() {
    let [one, other] = two_stores().await;
    let generator = switchboard_clock::Generator::from_seed(5);
    let mut c = Conversation::group(&one, "g").await;
    for round in 0..60 {
        let entry = model::random_entry(&generator, &mut c);
        c.append([entry]).await;
        let read = async |store: &Arc<dyn Store>| {
            let end = Seq::new(c.end);
            let page = store.history(&c.key, HistoryRange::Newest, end, 100, usize::MAX).await.expect("reads");
            let states: Vec<_> = page.messages.into_iter().map(|message| (message.seq, message.state)).collect();
            (states, page.more, page.end)
        };
        if round % 6 == 5 {
            let unwritten = (read(&one).await, read(&other).await);
            // A request for members writes the projections.
            one.members(&c.key).await.expect("reads");
            let written = read(&other).await;
            assert_eq!(unwritten, (written.clone(), written), "round {round}");
        }
    }
    let noted = other.active(&[]).await.expect("reads");
    assert_eq!(noted, [(incarnation(1), conversation_key("g"))]);
}
