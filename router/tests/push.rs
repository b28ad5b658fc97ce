//! Notifications, by one node after the other on a shared store: after the hold, once, and not for messages that have
//! reached a device; nothing of it is lost with a node.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, ParseLimits, Seq, ServerFrame, parse_client_frame};
use switchboard_router::{Actor, Answer, InProcessBus, Options, Router, Start, View};
use switchboard_store::{
    Channel, Incarnation, LeasedJob, MemoryStore, Priority, PushDevice, PushEnd, PushStore as _, UserKey,
};
use tokio::sync::watch;
use tokio::time::sleep;

struct World {
    store: Arc<MemoryStore>,
    clock: Clock,
    options: Options,
    lives: u64,
}

struct Node {
    router: Router,
    _views: watch::Sender<View>,
}

fn key(name: &str) -> UserKey {
    UserKey { tenant: "default".parse().unwrap(), user: name.parse().unwrap() }
}

impl World {
    fn new() -> Self {
        let clock = Clock::simulated(1_800_000_000_000, Arc::new(AtomicI64::new(0)));
        let options = Options { push_members_max: 3, push_devices_max: 2, ..Options::default() };
        Self { store: Arc::new(MemoryStore::new("store")), clock, options, lives: 0 }
    }

    /// The next life of the only node.
    async fn start(&mut self) -> Node {
        self.lives += 1;
        let me = Incarnation { node: "n1".parse().unwrap(), life: self.lives };
        let (views, receiver) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
        let router = Router::start(Start {
            me,
            options: self.options,
            clock: self.clock.clone(),
            generator: Generator::from_seed(self.lives),
            store: self.store.clone(),
            bus: Arc::new(InProcessBus::default()),
            views: receiver,
        });
        while !router.is_settled() {
            pass(100).await;
        }
        Node { router, _views: views }
    }

    fn now(&self) -> switchboard_protocol::Timestamp {
        switchboard_protocol::Timestamp::from_unix_ms(self.clock.wall_ms())
    }

    /// The jobs that a worker gets now, and has sent.
    async fn sent(&self, channel: Channel) -> Vec<LeasedJob> {
        let jobs = self.store.take_pushes(channel, self.now(), self.now(), 100).await.unwrap();
        for job in &jobs {
            self.store.finish_push(job.clone(), PushEnd::Sent, self.now()).await.unwrap();
        }
        jobs
    }

    /// The same in short: the recipient, the newest message, and the count.
    async fn told(&self) -> Vec<(String, u64, Option<u32>)> {
        let short = |leased: LeasedJob| {
            let job = leased.job;
            (job.key.user.user.to_string(), job.up_to_seq.get(), job.count)
        };
        self.sent(Channel::WebPush).await.into_iter().map(short).collect()
    }
}

async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

impl Node {
    async fn register(&self, name: &str) {
        self.register_as(name, "browser", Channel::WebPush).await.unwrap();
    }

    async fn register_as(&self, name: &str, device: &str, channel: Channel) -> Result<(), ErrorCode> {
        let registered = PushDevice {
            channel,
            target: "{}".to_owned(),
            registered_at: switchboard_protocol::Timestamp::from_unix_ms(0),
        };
        let put = self.router.put_push_device(&key(name), device.parse().unwrap(), registered).await;
        put.map_err(|error| error.code())
    }

    async fn call(&self, name: &str, json: &str) -> ServerFrame {
        let frame: ClientFrame = parse_client_frame(json, &ParseLimits { content_bytes: 1_000 }).unwrap().frame;
        let actor = Actor { user: key(name), session: None, awaited: true };
        match self.router.call(actor, frame).await.unwrap() {
            Answer::Frame(frame) | Answer::Created(frame) => frame,
            answer => ServerFrame::decode(&answer.encode(None)).unwrap().1,
        }
    }

    /// A direct message.
    async fn send(&self, from: &str, to: &str, client_id: &str) -> (ConversationId, Seq) {
        let json = format!(r#"{{"type":"send","to":"{to}","client_id":"{client_id}","content":{{"text":"hi"}}}}"#);
        match self.call(from, &json).await {
            ServerFrame::Sent(sent) => (sent.conversation_id, sent.seq),
            other => panic!("{other:?}"),
        }
    }

    async fn group(&self, owner: &str, members: &[&str]) -> ConversationId {
        let members = serde_json::to_string(members).unwrap();
        let json = format!(r#"{{"type":"conversation_create","kind":"group","client_id":"g","members":{members}}}"#);
        match self.call(owner, &json).await {
            ServerFrame::Conversation(made) => made.conversation_id,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, from: &str, group: &ConversationId, client_id: &str, mentions: &[&str]) {
        let mentions = serde_json::to_string(mentions).unwrap();
        let json = format!(
            r#"{{"type":"send","conversation_id":"{group}","client_id":"{client_id}","content":{{"text":"hi","mentions":{mentions}}}}}"#
        );
        self.call(from, &json).await;
    }

    async fn receipt(&self, kind: &str, name: &str, (conversation, seq): &(ConversationId, Seq)) {
        let seq = seq.get();
        self.call(name, &format!(r#"{{"type":"{kind}","conversation_id":"{conversation}","seq":{seq}}}"#)).await;
    }

    /// Ends the node like a kill.
    async fn crash(self) {
        self.router.shutdown().await;
    }

    async fn leave(self) {
        self.router.finish().await;
        self.router.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_device_is_told_after_the_hold_of_all_that_came() {
    let mut world = World::new();
    let node = world.start().await;
    node.register("bob").await;
    node.send("alice", "bob", "m1").await;
    pass(4_000).await;
    node.send("alice", "bob", "m2").await;
    pass(900).await;
    assert_eq!(world.told().await, []);
    pass(300).await;
    assert_eq!(world.told().await, [("bob".to_owned(), 1, Some(1))]);
    pass(29_500).await;
    assert_eq!(world.told().await, [], "they are told together");
    pass(700).await;
    assert_eq!(world.told().await, [("bob".to_owned(), 2, Some(2))]);
    pass(60_000).await;
    assert_eq!(world.told().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_has_is_not_told_and_what_is_read_is_taken_back() {
    let mut world = World::new();
    let node = world.start().await;
    node.register("bob").await;
    for receipt in ["delivered", "read"] {
        let sent = node.send("alice", "bob", receipt).await;
        pass(4_800).await;
        node.receipt(receipt, "bob", &sent).await;
        pass(60_000).await;
        assert_eq!(world.told().await, [], "{receipt}");
    }
    let sent = node.send("alice", "bob", "m3").await;
    pass(6_000).await;
    assert_eq!(world.told().await, [("bob".to_owned(), 3, Some(1))]);
    node.receipt("read", "bob", &sent).await;
    pass(1_000).await;
    assert_eq!(world.told().await, [("bob".to_owned(), 3, None)]);
}

#[tokio::test(start_paused = true)]
async fn what_one_answers_is_read() {
    let mut world = World::new();
    let node = world.start().await;
    node.register("bob").await;
    node.send("alice", "bob", "m1").await;
    pass(1_000).await;
    node.send("bob", "alice", "m2").await;
    pass(60_000).await;
    assert_eq!(world.told().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_device_counts_from_when_it_is_registered_until_it_is_not() {
    let mut world = World::new();
    let node = world.start().await;
    node.send("alice", "bob", "m1").await;
    pass(10_000).await;
    node.register("bob").await;
    node.send("alice", "bob", "m2").await;
    pass(6_000).await;
    assert_eq!(world.told().await, [("bob".to_owned(), 2, Some(1))]);
    let device = "browser".parse().unwrap();
    assert!(!node.router.remove_push_device(&key("bob"), &device, Some("other".to_owned())).await.unwrap());
    assert!(node.router.remove_push_device(&key("bob"), &device, None).await.unwrap());
    node.send("alice", "bob", "m3").await;
    pass(60_000).await;
    assert_eq!(world.told().await, []);

    node.register_as("bob", "a", Channel::Fcm).await.unwrap();
    node.register_as("bob", "b", Channel::WebPush).await.unwrap();
    assert_eq!(node.register_as("bob", "c", Channel::Apns).await, Err(ErrorCode::Conflict));
    node.register_as("bob", "a", Channel::Apns).await.unwrap();
    node.send("alice", "bob", "m4").await;
    pass(6_000).await;
    assert_eq!((world.sent(Channel::Fcm).await.len(), world.sent(Channel::Apns).await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_hold_loses_no_push_and_makes_none_twice() {
    let mut world = World::new();
    let node = world.start().await;
    for name in ["bob", "carol", "dave"] {
        node.register(name).await;
    }
    node.send("alice", "bob", "m1").await;
    pass(6_000).await;
    assert_eq!(world.told().await.len(), 1);
    node.send("alice", "carol", "m2").await;
    let has = node.send("alice", "dave", "m3").await;
    pass(2_000).await;
    node.receipt("delivered", "dave", &has).await;
    node.crash().await;
    let node = world.start().await;
    pass(6_000).await;
    assert_eq!(world.told().await, [("carol".to_owned(), 1, Some(1))]);
    node.crash().await;
    let _node = world.start().await;
    pass(60_000).await;
    assert_eq!(world.told().await, []);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_does_not_wait_and_a_receipt_is_in_time_after_that() {
    let mut world = World::new();
    let node = world.start().await;
    node.register("bob").await;
    node.register("carol").await;
    let (to_bob, _) = (node.send("alice", "bob", "m1").await, node.send("alice", "carol", "m2").await);
    pass(1_000).await;
    let before_ms = world.clock.monotonic_ms();
    node.leave().await;
    assert!(world.clock.monotonic_ms() - before_ms < 2_000);
    assert_eq!(world.store.outstanding_pushes(&key("bob")).await.unwrap().len(), 1);
    assert_eq!(world.told().await, []);
    let node = world.start().await;
    node.receipt("delivered", "bob", &to_bob).await;
    pass(60_000).await;
    assert_eq!(world.told().await, [("carol".to_owned(), 1, Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_what_he_does_not_want_to_know() {
    let mut world = World::new();
    let node = world.start().await;
    for name in ["bob", "carol", "dave"] {
        node.register(name).await;
    }
    let group = node.group("alice", &["bob", "carol"]).await;
    let muted = format!(
        r#"{{"type":"conversation_settings","conversation_id":"{group}","muted_until":"2030-01-01T00:00:00Z"}}"#
    );
    node.call("bob", &muted).await;
    node.call("carol", r#"{"type":"block","user_id":"alice"}"#).await;
    let wrong = node.router.set_notification_preferences(&key("dave"), "{\"groups\":1}".to_owned()).await;
    assert_eq!(wrong.map_err(|error| error.code()), Err(ErrorCode::BadRequest));
    node.router.set_notification_preferences(&key("dave"), r#"{"enabled":false}"#.to_owned()).await.unwrap();
    node.say("alice", &group, "m1", &["bob"]).await;
    node.send("alice", "dave", "m2").await;
    pass(60_000).await;
    assert_eq!(world.told().await, []);

    node.call("carol", r#"{"type":"unblock","user_id":"alice"}"#).await;
    node.router.set_notification_preferences(&key("dave"), r#"{"enabled":true}"#.to_owned()).await.unwrap();
    node.say("alice", &group, "m3", &[]).await;
    node.send("alice", "dave", "m4").await;
    pass(60_000).await;
    let told: Vec<_> = world.told().await.into_iter().map(|(user, ..)| user).collect();
    assert_eq!(told, ["dave", "carol"], "direct messages before those in groups");
}

#[tokio::test(start_paused = true)]
async fn in_a_large_group_only_who_is_mentioned_is_told() {
    let mut world = World::new();
    let node = world.start().await;
    node.register("bob").await;
    node.register("carol").await;
    let group = node.group("alice", &["bob", "carol", "dave", "erin"]).await;
    node.say("alice", &group, "m1", &["carol"]).await;
    node.say("alice", &group, "m2", &[]).await;
    node.crash().await;
    let _node = world.start().await;
    pass(10_000).await;
    let jobs = world.sent(Channel::WebPush).await;
    let told: Vec<_> = jobs.iter().map(|leased| (leased.job.key.user.user.as_str(), leased.job.priority)).collect();
    assert_eq!(told, [("carol", Priority::High)]);
}
