//! The order in which a session gets its own entries and those of others: a session that wakes at any frame finds the
//! answer about each of its entries before what follows it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use futures_util::future::{BoxFuture, FutureExt, join_all};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{ConversationCreate, ConversationRef, GroupKind, Send, SendTarget};
use switchboard_protocol::{ClientFrame, CloseCode, Content, ProtocolError, ServerFrame, UserId};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, Options, Router, Socket, Start, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

type Call = BoxFuture<'static, Result<Answer, ProtocolError>>;

/// A session that wakes at each frame and takes the answers that have arrived, like the gateway's.
#[derive(Default)]
struct Wakeful(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    calls: VecDeque<Call>,
    /// The `seq` of each `sent` and `message`, in order.
    seqs: Vec<u64>,
}

impl Heard {
    fn take_answers(&mut self) {
        while let Some(answer) = self.calls.front_mut().and_then(|call| call.now_or_never()) {
            self.calls.pop_front();
            let Answer::Created(ServerFrame::Sent(sent)) = answer.unwrap() else { panic!("not sent") };
            self.seqs.push(sent.seq.get());
        }
    }
}

impl Socket for Wakeful {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        let mut heard = self.0.lock().unwrap();
        heard.take_answers();
        if delivery.kind == "message" {
            let message: serde_json::Value = serde_json::from_slice(&delivery.json).unwrap();
            heard.seqs.push(message["seq"].as_u64().unwrap());
        }
    }

    fn close(&self, _why: CloseCode) {}
    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {}
}

struct Member {
    socket: Arc<Wakeful>,
    connected: Connected,
}

fn user(name: &str) -> UserKey {
    UserKey { tenant: "default".parse().unwrap(), user: name.parse().unwrap() }
}

fn start(options: Options) -> (Router, watch::Sender<View>) {
    let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
    let (views, receiver) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let router = Router::start(Start {
        me,
        options,
        clock: Clock::simulated(1_767_225_600_000, Arc::default()),
        generator: Generator::from_seed(1),
        store: Arc::new(MemoryStore::new("order")),
        bus: Arc::new(InProcessBus::default()),
        views: receiver,
    });
    (router, views)
}

async fn connect(router: &Router, name: &str) -> Member {
    let new = NewSession {
        user: user(name),
        device: "phone".parse().unwrap(),
        instance: Default::default(),
        issued_at: None,
        name: None,
    };
    let socket = Arc::new(Wakeful::default());
    Member { connected: router.connect(new, socket.clone()).await.unwrap(), socket }
}

/// What three members of a group receive that send at once, so that their messages are appended together.
async fn heard_by_all(options: Options) -> Vec<Vec<u64>> {
    const NAMES: [&str; 3] = ["alice", "bob", "carol"];
    const SENDS: usize = 4;
    let (router, _views) = start(options);
    let members: Vec<UserId> = NAMES.map(|name| name.parse().unwrap()).to_vec();
    let client_id = "g".parse().unwrap();
    let create = ConversationCreate { kind: GroupKind::Group, client_id, title: None, custom: None, members };
    let alice = Actor { user: user("alice"), session: None, awaited: true };
    let created = router.call(alice, ClientFrame::ConversationCreate(create)).await.unwrap();
    let Answer::Created(ServerFrame::Conversation(group)) = created else { panic!("{created:?}") };
    let sessions = join_all(NAMES.map(|name| connect(&router, name))).await;
    for Member { connected, .. } in &sessions {
        let open = ClientFrame::ConversationOpen(ConversationRef { conversation_id: group.conversation_id.clone() });
        router.call(connected.actor(true), open).await.unwrap();
    }
    for n in 0..SENDS {
        for Member { connected, socket } in &sessions {
            let target = SendTarget::Conversation(group.conversation_id.clone());
            let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
            let send = Send { target, client_id: format!("m{n}").parse().unwrap(), content, base_seq: None };
            let (router, actor) = (router.clone(), connected.actor(true));
            let call = async move { router.call(actor, ClientFrame::Send(send)).await }.boxed();
            let mut heard = socket.0.lock().unwrap();
            heard.calls.push_back(call);
            // Each frame is under way before the next comes.
            heard.calls.iter_mut().for_each(|call| assert!(call.now_or_never().is_none()));
        }
    }
    while sessions.iter().any(|member| !member.socket.0.lock().unwrap().calls.is_empty()) {
        tokio::task::yield_now().await;
        sessions.iter().for_each(|member| member.socket.0.lock().unwrap().take_answers());
    }
    sessions.iter().map(|member| member.socket.0.lock().unwrap().seqs.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_sends_hears_of_his_own_before_what_comes_behind_it() {
    let all: Vec<u64> = (2..14).collect();
    for heard in heard_by_all(Options::default()).await {
        assert_eq!(heard, all, "every entry once, in the order of `seq`");
    }
    for heard in heard_by_all(Options { push_members_max: 2, ..Options::default() }).await {
        assert_eq!(heard, all, "in a large group that they have open");
    }
}
