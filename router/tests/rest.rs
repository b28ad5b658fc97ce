//! Conversations without a running term, and the distant past of their logs.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{
    ChangesGet, ConversationCreate, ConversationMembers, ConversationRef, GroupKind, HistoryGet, HistoryRange, Send,
    SendTarget, SignalSend,
};
use switchboard_protocol::server::Sent;
use switchboard_protocol::{
    ClientFrame, CloseCode, Content, ConversationId, ErrorCode, ProtocolError, Seq, ServerFrame, Timestamp,
};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, Options, Router, Socket, Start, View,
};
use switchboard_store::{
    Claim, ConversationKey, Incarnation, Kind, Log as _, MemoryStore, NewConversation, Previous, RecentWindow, UserKey,
};
use tokio::sync::watch;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

struct Node {
    router: Router,
    store: Arc<MemoryStore>,
    skew_ms: Arc<AtomicI64>,
    _views: watch::Sender<View>,
}

#[derive(Default)]
struct Ear(Mutex<Vec<serde_json::Value>>);

impl Socket for Ear {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        self.0.lock().unwrap().push(serde_json::from_slice(&delivery.json).unwrap());
    }

    fn close(&self, _why: CloseCode) {}
    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {}
}

impl Ear {
    fn take(&self, kind: &str) -> Vec<serde_json::Value> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().filter(|frame| frame["type"] == kind).collect()
    }
}

fn user(name: &str) -> UserKey {
    UserKey { tenant: "default".parse().unwrap(), user: name.parse().unwrap() }
}

impl Node {
    fn start() -> Self {
        let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        let (_views, views) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
        let (store, skew_ms) = (Arc::new(MemoryStore::new("rest")), Arc::default());
        let router = Router::start(Start {
            me,
            options: Options { push_members_max: 3, ..Options::default() },
            clock: Clock::simulated(1_767_225_600_000, Arc::clone(&skew_ms)),
            generator: Generator::from_seed(1),
            store: store.clone(),
            bus: Arc::new(InProcessBus::default()),
            views,
        });
        Self { router, store, skew_ms, _views }
    }

    async fn connect(&self, name: &str) -> (Connected, Arc<Ear>) {
        let (device, instance) = ("phone".parse().unwrap(), Default::default());
        let new = NewSession { user: user(name), device, instance, issued_at: None, name: None };
        let ear = Arc::new(Ear::default());
        (self.router.connect(new, ear.clone()).await.unwrap(), ear)
    }

    async fn call(&self, name: &str, command: ClientFrame) -> Result<Answer, ProtocolError> {
        self.router.call(Actor { user: user(name), session: None, awaited: true }, command).await
    }

    async fn send(&self, from: &str, target: SendTarget, client_id: &str, base_seq: Option<u64>) -> Sent {
        let content = Content::parse(r#"{"text":"Hello @bob","mentions":["bob"]}"#, usize::MAX).unwrap();
        let client_id = client_id.parse().unwrap();
        let send = Send { target, client_id, content, base_seq: base_seq.map(Seq::new) };
        match self.call(from, ClientFrame::Send(send)).await.unwrap() {
            Answer::Created(ServerFrame::Sent(sent)) | Answer::Frame(ServerFrame::Sent(sent)) => sent,
            other => panic!("{other:?}"),
        }
    }

    async fn create(&self, members: &[&str]) -> ConversationId {
        let members = members.iter().map(|name| name.parse().unwrap()).collect();
        let client_id = "g".parse().unwrap();
        let create = ConversationCreate { kind: GroupKind::Group, client_id, title: None, custom: None, members };
        match self.call("alice", ClientFrame::ConversationCreate(create)).await.unwrap() {
            Answer::Created(ServerFrame::Conversation(group)) => group.conversation_id,
            other => panic!("{other:?}"),
        }
    }

    /// The newest term's number, and whether it has ended.
    async fn term(&self, conversation: &ConversationId) -> (u64, bool) {
        let key = ConversationKey { tenant: "default".parse().unwrap(), conversation: conversation.clone() };
        let head = self.store.head(&key).await.unwrap().unwrap();
        (head.term.0, head.ended)
    }

    /// Waits longer than any unused conversation stays active.
    async fn idle(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

fn to(name: &str) -> SendTarget {
    SendTarget::To(name.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn reading_and_typing_begin_no_term() {
    let node = Node::start();
    let (alice, _) = node.connect("alice").await;
    let (_bob, ear) = node.connect("bob").await;
    let direct = node.send("alice", to("bob"), "m1", None).await.conversation_id;
    let group = node.create(&["alice", "bob"]).await;
    node.idle().await;
    for id in [&direct, &group] {
        assert_eq!(node.term(id).await, (1, true), "idle: nothing runs");
        ear.take("");
        let about = || ConversationRef { conversation_id: id.clone() };
        let members =
            ConversationMembers { conversation_id: id.clone(), after: Some("alice".parse().unwrap()), limit: 9 };
        let changes = ChangesGet { conversation_id: id.clone(), after: Seq::ZERO, limit: 10 };
        let history = HistoryGet { conversation_id: id.clone(), range: HistoryRange::Newest, limit: 10 };
        let signal = SignalSend {
            conversation_id: id.clone(),
            kind: "k".parse().unwrap(),
            data: serde_json::from_str("1").unwrap(),
        };
        let got = node.call("alice", ClientFrame::ConversationGet(about())).await.unwrap();
        let Answer::Frame(ServerFrame::Conversation(got)) = got else { panic!("{got:?}") };
        assert_eq!((got.last_seq.get(), got.members_count), (1, 2));
        let listed = node.call("alice", ClientFrame::ConversationMembers(members)).await.unwrap();
        let Answer::Frame(ServerFrame::Members(listed)) = listed else { panic!("{listed:?}") };
        assert_eq!((listed.members.len(), listed.members[0].user_id.as_str(), listed.more), (1, "bob", false));
        let read = node.call("bob", ClientFrame::Changes(changes)).await.unwrap();
        assert!(matches!(read, Answer::Changes(changes) if changes.last_seq.get() == 1));
        let read = node.call("bob", ClientFrame::History(history)).await.unwrap();
        assert!(matches!(read, Answer::History(history) if history.last_seq.get() == 1));
        for command in [
            ClientFrame::TypingStart(about()),
            ClientFrame::Signal(signal),
            ClientFrame::TypingStop(about()),
            ClientFrame::ConversationClose(about()),
        ] {
            node.router.call(alice.actor(true), command).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        node.router.call(alice.actor(true), ClientFrame::TypingStart(about())).await.unwrap();
        // Then he is silent, which ends typing after 5 s.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let heard = ear.0.lock().unwrap().iter().map(|frame| frame["type"].to_string()).collect::<Vec<_>>();
        assert_eq!(heard, [r#""typing_start""#, r#""typing_stop""#, r#""typing_start""#, r#""typing_stop""#]);
        for command in [ClientFrame::ConversationGet(about()), ClientFrame::TypingStart(about())] {
            let refused = node.call("mallory", command).await.unwrap_err();
            assert_eq!(refused.code(), ErrorCode::NotFound, "for who is no member");
        }
        assert_eq!(node.term(id).await, (1, true), "nothing was written");
    }
}

#[tokio::test(start_paused = true)]
async fn only_its_sender_waits_while_a_send_is_looked_for() {
    let node = Node::start();
    let first = node.send("alice", to("bob"), "m1", None).await;
    for n in 0..4_000 {
        node.send("bob", to("alice"), &format!("b{n}"), None).await;
    }
    // None of them has to be remembered.
    node.skew_ms.store(2 * DAY_MS, Ordering::Relaxed);
    node.send("bob", to("alice"), "later", None).await;
    node.store.faults().delay_ms_max(40);
    let answered = Mutex::new(Vec::new());
    let send = async |from, other, client_id, base_seq| {
        let sent = node.send(from, to(other), client_id, base_seq).await;
        answered.lock().unwrap().push(client_id);
        sent
    };
    let (again, behind, others) = tokio::join!(
        send("alice", "bob", "m1", Some(0)),
        send("alice", "bob", "m2", None),
        send("bob", "alice", "m3", None)
    );
    assert_eq!((again.seq, again.message_id, again.duplicate), (first.seq, first.message_id, true));
    assert_eq!((others.seq.get(), behind.seq.get()), (4_003, 4_004), "what alice said behind it waits with it");
    assert_eq!(*answered.lock().unwrap(), ["m3", "m1", "m2"]);
    let unknown = send("alice", "bob", "m4", Some(0)).await;
    assert_eq!((unknown.seq.get(), unknown.duplicate), (4_005, false), "looked for in vain");
}

#[tokio::test(start_paused = true)]
async fn who_was_mentioned_long_ago_is_told_so_by_later_terms() {
    let node = Node::start();
    let group = node.create(&["alice", "bob", "carol", "dave"]).await;
    let target = || SendTarget::Conversation(group.clone());
    let mention = node.send("alice", target(), "m1", None).await;
    node.skew_ms.store(2 * DAY_MS, Ordering::Relaxed);
    node.idle().await;
    assert_eq!(node.term(&group).await, (1, true));
    let (_bob, bob) = node.connect("bob").await;
    let (_carol, carol) = node.connect("carol").await;
    let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
    let send = Send { target: target(), client_id: "m2".parse().unwrap(), content, base_seq: None };
    node.call("alice", ClientFrame::Send(send)).await.unwrap();
    let told = |ear: &Ear| ear.take("conversation_activity")[0]["mentioned_seq"].as_u64();
    assert_eq!((told(&bob), told(&carol)), (Some(mention.seq.get()), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_conversation_that_was_begun_and_has_nothing_in_it() {
    let conversation = Node::start().send("alice", to("bob"), "c1", None).await.conversation_id;

    let node = Node::start();
    let key = ConversationKey { tenant: "default".parse().unwrap(), conversation };
    let kind = Kind::Direct("alice".parse().unwrap(), "bob".parse().unwrap());
    let created_at = Timestamp::from_unix_ms(0);
    let claim = Claim {
        by: Incarnation { node: "n1".parse().unwrap(), life: 0 },
        create: Some(NewConversation { kind, title: None, custom: None, created_at }),
        recent: RecentWindow { entries_max: 1, since: created_at },
        previous: Previous::Unknown,
    };
    node.store.begin_term(&key, claim).await.unwrap().expect("it is made");

    let (_bob, ear) = node.connect("bob").await;
    assert_eq!(node.send("alice", to("bob"), "c1", None).await.seq, Seq::new(1));
    let heard: Vec<_> = ear.0.lock().unwrap().iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(heard, ["message"]);
}

#[tokio::test(start_paused = true)]
async fn who_misses_nothing_is_not_told_to_ask() {
    let node = Node::start();
    // The node learns late that nothing is left of an earlier life.
    node.store.faults().unavailable(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.store.faults().unavailable(false);
    let (_alice, alice) = node.connect("alice").await;
    let (_bob, bob) = node.connect("bob").await;
    for n in 0..20 {
        node.send("alice", to("bob"), &format!("m{n}"), None).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bob.take("conversation_activity").len() + alice.take("conversation_activity").len(), 0);
}
