//! The allocations of a message do not grow with its group: its recipients share what was created once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{ConversationCreate, GroupKind, Send, SendTarget};
use switchboard_protocol::{ClientFrame, CloseCode, Content, ConversationId, ServerFrame, UserId};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, Options, Router, Socket, Start, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// For a whole send, from the command to the answer, including its append in the in-memory store: 61 to 80, and some more
/// when nodes of that store's tree are full.
const SEND_MAX: usize = 100;

#[derive(Default)]
struct Counting {
    delivered: AtomicUsize,
    /// The number of those that will leave with a flush.
    queued: AtomicUsize,
    flushed: AtomicUsize,
}

impl Socket for Counting {
    fn deliver(&self, _delivery: &Arc<Delivery>) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn queue(&self, delivery: &Arc<Delivery>) -> bool {
        self.deliver(delivery);
        self.queued.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn flush(&self) {
        self.flushed.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, _why: CloseCode) {}
    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {}
}

struct Group {
    router: Router,
    id: ConversationId,
    delivered: Arc<Counting>,
    _connected: Vec<Connected>,
    _views: watch::Sender<View>,
}

fn user(name: &UserId) -> UserKey {
    UserKey { tenant: "default".parse().unwrap(), user: name.clone() }
}

impl Group {
    async fn of(members: usize) -> Self {
        let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        let (_views, views) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
        let router = Router::start(Start {
            me,
            options: Options { push_members_max: members, ..Options::default() },
            clock: Clock::simulated(1_767_225_600_000, Arc::default()),
            generator: Generator::from_seed(1),
            store: Arc::new(MemoryStore::new("allocations")),
            bus: Arc::new(InProcessBus::default()),
            views,
        });
        let names: Vec<UserId> = (0..members).map(|n| format!("u{n}").parse().unwrap()).collect();
        let delivered = Arc::new(Counting::default());
        let mut _connected = Vec::new();
        for name in &names {
            let (device, instance) = ("phone".parse().unwrap(), Default::default());
            let new = NewSession { user: user(name), device, instance, issued_at: None, name: None };
            _connected.push(router.connect(new, delivered.clone()).await.unwrap());
        }
        let client_id = "g".parse().unwrap();
        let create =
            ConversationCreate { kind: GroupKind::Group, client_id, title: None, custom: None, members: names.clone() };
        let actor = Actor { user: user(&names[0]), session: None, awaited: true };
        let created = router.call(actor, ClientFrame::ConversationCreate(create)).await.unwrap();
        let Answer::Created(ServerFrame::Conversation(group)) = created else { panic!("{created:?}") };
        Self { router, id: group.conversation_id, delivered, _connected, _views }
    }

    /// Waits until everything queued has been flushed.
    async fn flushed(&self) {
        let Counting { queued, flushed, .. } = &*self.delivered;
        while flushed.load(Ordering::Relaxed) < queued.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, n: usize) {
        let target = SendTarget::Conversation(self.id.clone());
        let content =
            Content::parse(r#"{"text":"a text that the inboxes' preview has room for"}"#, usize::MAX).unwrap();
        let send = Send { target, client_id: format!("m{n}").parse().unwrap(), content, base_seq: None };
        let actor = Actor { user: user(&"u0".parse().unwrap()), session: None, awaited: true };
        let answer = self.router.call(actor, ClientFrame::Send(send)).await.unwrap();
        assert!(matches!(answer, Answer::Created(ServerFrame::Sent(_))), "{answer:?}");
    }
}

/// The allocations of one send to this many members: the first after a flush, or one whose inbox changes are waiting
/// already.
async fn allocations(members: usize, after_flush: bool) -> usize {
    let group = Group::of(members).await;
    // One-time allocations are done.
    for n in 0..8 {
        group.send(n).await;
    }
    if after_flush {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    }
    group.flushed().await;
    let delivered = || group.delivered.delivered.load(Ordering::Relaxed);
    let before = delivered();
    let region = Region::new(ALLOCATOR);
    group.send(8).await;
    group.flushed().await;
    let change = region.change();
    assert_eq!(delivered() - before, members, "each has it");
    group.router.shutdown().await;
    change.allocations + change.reallocations
}

// A single test: the allocator counts all threads.
#[tokio::test(start_paused = true)]
async fn a_send_to_a_thousand_allocates_as_one_to_ten() {
    for after_flush in [false, true] {
        for members in [10, 1_000] {
            let allocations = allocations(members, after_flush).await;
            println!("{members} members, after a flush: {after_flush}: {allocations} allocations");
            assert!(allocations <= SEND_MAX, "{members} members, after a flush {after_flush}: {allocations}");
        }
    }
}
