//! The decisions of an owner, on a single node: roles, the last owner and the successor, and every limit at it and one
//! past it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{
    ChangesGet, ConversationCreate, ConversationRef, Edit, EntryRef, GroupKind, MemberAdd, MemberRemove, MemberRole,
    React, Send, SendTarget,
};
use switchboard_protocol::limits::{ANSWER_BYTES_MAX, GROUP_MEMBERS_MAX};
use switchboard_protocol::server::{Conversation, Sent};
use switchboard_protocol::{
    ClientFrame, CloseCode, Content, ConversationId, ErrorCode, ProtocolError, Role, Seq, ServerFrame, UserId,
};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, OPEN_MAX, Options, Router, Socket, Start, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

/// A node, and a group of alice (owner), bob (moderator), carol and dave.
struct Group {
    router: Router,
    _views: watch::Sender<View>,
    id: ConversationId,
}

struct Nobody;

impl Socket for Nobody {
    fn deliver(&self, _delivery: &Arc<Delivery>) {}
    fn close(&self, _why: CloseCode) {}
    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {}
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn key(name: &str) -> UserKey {
    UserKey { tenant: "default".parse().unwrap(), user: user(name) }
}

async fn call(router: &Router, name: &str, command: ClientFrame) -> Result<ServerFrame, ProtocolError> {
    let actor = Actor { user: key(name), session: None, awaited: true };
    match router.call(actor, command).await? {
        Answer::Frame(frame) | Answer::Created(frame) => Ok(frame),
        other => panic!("{other:?}"),
    }
}

fn start() -> (Router, watch::Sender<View>) {
    let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
    let (views, receiver) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let router = Router::start(Start {
        me,
        options: Options::default(),
        clock: Clock::simulated(1_767_225_600_000, Arc::default()),
        generator: Generator::from_seed(1),
        store: Arc::new(MemoryStore::new("decisions")),
        bus: Arc::new(InProcessBus::default()),
        views: receiver,
    });
    (router, views)
}

async fn create(
    router: &Router,
    creator: &str,
    name: &str,
    members: Vec<UserId>,
) -> Result<Conversation, ProtocolError> {
    let client_id = name.parse().unwrap();
    let create = ConversationCreate { kind: GroupKind::Group, client_id, title: None, custom: None, members };
    match call(router, creator, ClientFrame::ConversationCreate(create)).await? {
        ServerFrame::Conversation(conversation) => Ok(conversation),
        other => panic!("{other:?}"),
    }
}

impl Group {
    async fn new() -> Self {
        let (router, views) = start();
        let members = ["bob", "carol", "dave"].map(user).to_vec();
        let id = create(&router, "alice", "team", members).await.unwrap().conversation_id;
        let group = Self { router, _views: views, id };
        group.role("alice", "bob", Role::Moderator).await.unwrap();
        group
    }

    async fn change(&self, by: &str, command: ClientFrame) -> Result<u64, ErrorCode> {
        match call(&self.router, by, command).await {
            Ok(ServerFrame::Ok(ok)) => Ok(ok.seq.unwrap().get()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    }

    async fn role(&self, by: &str, whose: &str, role: Role) -> Result<u64, ErrorCode> {
        let change = MemberRole { conversation_id: self.id.clone(), user_id: user(whose), role };
        self.change(by, ClientFrame::MemberRole(change)).await
    }

    async fn add(&self, by: &str, who: &str, role: Role) -> Result<u64, ErrorCode> {
        let change = MemberAdd { conversation_id: self.id.clone(), user_ids: vec![user(who)], role };
        self.change(by, ClientFrame::MemberAdd(change)).await
    }

    async fn remove(&self, by: &str, who: &[&str]) -> Result<u64, ErrorCode> {
        let user_ids = who.iter().map(|who| user(who)).collect();
        self.change(by, ClientFrame::MemberRemove(MemberRemove { conversation_id: self.id.clone(), user_ids })).await
    }

    async fn get(&self, name: &str) -> Result<Conversation, ErrorCode> {
        let about = ConversationRef { conversation_id: self.id.clone() };
        match call(&self.router, name, ClientFrame::ConversationGet(about)).await {
            Ok(ServerFrame::Conversation(conversation)) => Ok(conversation),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    }

    async fn send(&self, by: &str, name: &str) -> Result<Sent, ErrorCode> {
        let target = SendTarget::Conversation(self.id.clone());
        let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
        let send = Send { target, client_id: name.parse().unwrap(), content, base_seq: None };
        match call(&self.router, by, ClientFrame::Send(send)).await {
            Ok(ServerFrame::Sent(sent)) => Ok(sent),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    }

    async fn react(&self, by: &str, seq: Seq, emoji: &str) -> Result<u64, ErrorCode> {
        let react = React { conversation_id: self.id.clone(), seq, emoji: emoji.parse().unwrap() };
        self.change(by, ClientFrame::React(react)).await
    }

    async fn edit(&self, by: &str, seq: Seq) -> Result<u64, ErrorCode> {
        let content = Content::parse(r#"{"text":"edited"}"#, usize::MAX).unwrap();
        self.change(by, ClientFrame::Edit(Edit { conversation_id: self.id.clone(), seq, content })).await
    }

    async fn delete(&self, by: &str, seq: Seq) -> Result<u64, ErrorCode> {
        self.change(by, ClientFrame::Delete(EntryRef { conversation_id: self.id.clone(), seq })).await
    }
}

#[tokio::test(start_paused = true)]
async fn roles_say_who_adds_and_removes_whom() {
    let group = Group::new().await;
    assert_eq!(group.add("carol", "erin", Role::Member).await, Err(ErrorCode::Forbidden), "a member");
    assert_eq!(group.add("bob", "erin", Role::Moderator).await, Err(ErrorCode::Forbidden), "a moderator gives no role");
    assert!(group.add("bob", "erin", Role::Member).await.is_ok(), "a moderator adds members");
    assert!(group.add("alice", "frank", Role::Owner).await.is_ok(), "an owner adds with a role");
    assert_eq!(group.get("frank").await.unwrap().role, Role::Owner);

    assert_eq!(group.remove("carol", &["dave"]).await, Err(ErrorCode::Forbidden), "a member removes nobody");
    assert_eq!(group.remove("bob", &["alice"]).await, Err(ErrorCode::Forbidden), "a moderator removes no owner");
    assert_eq!(group.remove("bob", &["erin", "frank"]).await, Err(ErrorCode::Forbidden), "all or nobody");
    assert!(group.get("erin").await.is_ok(), "nothing is half done");
    assert!(group.remove("bob", &["erin"]).await.is_ok(), "a moderator removes members");
    assert!(group.remove("carol", &["carol"]).await.is_ok(), "anyone removes himself");
    assert_eq!(group.get("carol").await.unwrap_err(), ErrorCode::NotFound);
    assert_eq!(group.role("bob", "dave", Role::Member).await, Err(ErrorCode::Forbidden), "only owners give roles");
}

#[tokio::test(start_paused = true)]
async fn the_last_owner_stays_or_is_followed_by_the_longest_standing_member() {
    let group = Group::new().await;
    assert_eq!(group.role("alice", "alice", Role::Member).await, Err(ErrorCode::Conflict));
    assert!(group.add("alice", "aaron", Role::Member).await.is_ok());
    assert!(group.remove("alice", &["alice"]).await.is_ok());
    assert_eq!(group.get("bob").await.unwrap().role, Role::Owner, "of those since the start, the first by name");
    assert_eq!(group.get("aaron").await.unwrap().role, Role::Member, "he came later");

    assert!(group.role("bob", "dave", Role::Owner).await.is_ok());
    assert!(group.remove("bob", &["bob"]).await.is_ok());
    assert_eq!(group.get("carol").await.unwrap().role, Role::Member, "an owner is left: nobody follows");
    assert!(group.remove("dave", &["aaron", "carol"]).await.is_ok());
    assert!(group.remove("dave", &["dave"]).await.is_ok());
    assert_eq!(group.get("dave").await.unwrap_err(), ErrorCode::NotFound, "a group ends with its last member");
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_makes_no_entry() {
    let group = Group::new().await;
    let sent = group.send("carol", "m1").await.unwrap();
    let before = group.react("dave", sent.seq, "+1").await.unwrap();
    assert_eq!(group.react("dave", sent.seq, "+1").await, Ok(before));
    assert_eq!(group.add("alice", "bob", Role::Member).await, Ok(before), "a member already");
    assert_eq!(group.remove("alice", &["nobody"]).await, Ok(before));
    assert_eq!(group.role("alice", "bob", Role::Moderator).await, Ok(before));
    assert_eq!(group.get("alice").await.unwrap().last_seq, Seq::new(before));
    let again = group.send("carol", "m1").await.unwrap();
    assert_eq!((again.seq, again.duplicate), (sent.seq, true));
}

#[tokio::test(start_paused = true)]
async fn messages_are_changed_by_whom_they_belong_to() {
    let group = Group::new().await;
    let sent = group.send("carol", "m1").await.unwrap();
    assert_eq!(group.edit("alice", sent.seq).await, Err(ErrorCode::Forbidden), "not even an owner edits");
    assert!(group.edit("carol", sent.seq).await.is_ok());
    assert_eq!(group.delete("dave", sent.seq).await, Err(ErrorCode::Forbidden));
    assert!(group.delete("bob", sent.seq).await.is_ok(), "a moderator deletes");
    assert_eq!(group.edit("carol", sent.seq).await, Err(ErrorCode::Conflict), "deleted");
    assert_eq!(group.react("carol", sent.seq, "+1").await, Err(ErrorCode::Conflict), "deleted");
    assert_eq!(group.edit("carol", Seq::new(1)).await, Err(ErrorCode::NotFound), "no message");
    assert_eq!(group.edit("carol", Seq::new(99)).await, Err(ErrorCode::NotFound), "no entry");
    assert_eq!(group.send("mallory", "m2").await.unwrap_err(), ErrorCode::NotFound, "no member");
}

#[tokio::test(start_paused = true)]
async fn a_message_has_as_many_emojis_as_the_configuration_says_and_not_one_more() {
    let group = Group::new().await;
    let sent = group.send("carol", "m1").await.unwrap();
    let most = Options::default().reactions_per_message_max;
    for n in 0..most {
        assert!(group.react("dave", sent.seq, &format!("e{n}")).await.is_ok(), "{n} of {most}");
    }
    assert_eq!(group.react("dave", sent.seq, "one-past").await, Err(ErrorCode::Conflict));
    assert!(group.react("bob", sent.seq, "e0").await.is_ok(), "another user's is no other emoji");
}

#[tokio::test(start_paused = true)]
async fn a_group_has_ten_thousand_members_and_not_one_more() {
    let (router, views) = start();
    let members = |count: usize| (0..count).map(|n| user(&format!("m{n:05}"))).collect::<Vec<_>>();
    let too_many = create(&router, "alice", "too-many", members(GROUP_MEMBERS_MAX)).await.unwrap_err();
    assert_eq!((too_many.code(), &*too_many.details()[0].field), (ErrorCode::BadRequest, "members"));

    let most = create(&router, "alice", "most", members(GROUP_MEMBERS_MAX - 1)).await.unwrap();
    assert_eq!(most.members_count as usize, GROUP_MEMBERS_MAX);
    let group = Group { router, _views: views, id: most.conversation_id };
    let change = MemberAdd { conversation_id: group.id.clone(), user_ids: vec![user("late")], role: Role::Member };
    let error = call(&group.router, "alice", ClientFrame::MemberAdd(change)).await.unwrap_err();
    assert_eq!((error.code(), &*error.details()[0].field), (ErrorCode::BadRequest, "user_ids"));
    assert!(group.remove("alice", &["m00000"]).await.is_ok());
    assert!(group.add("alice", "late", Role::Member).await.is_ok(), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_so_many_conversations_and_not_one_more() {
    let (router, _views) = start();
    let new = NewSession {
        user: key("alice"),
        device: "phone".parse().unwrap(),
        instance: Default::default(),
        issued_at: None,
        name: None,
    };
    let session: Connected = router.connect(new, Arc::new(Nobody)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..=OPEN_MAX {
        ids.push(create(&router, "alice", &format!("g{n}"), Vec::new()).await.unwrap().conversation_id);
    }
    let about = |id: &ConversationId| ConversationRef { conversation_id: id.clone() };
    for id in &ids[..OPEN_MAX] {
        router.call(session.actor(true), ClientFrame::ConversationOpen(about(id))).await.unwrap();
    }
    let open_last = || ClientFrame::ConversationOpen(about(&ids[OPEN_MAX]));
    let error = router.call(session.actor(true), open_last()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    router.call(session.actor(true), ClientFrame::ConversationOpen(about(&ids[0]))).await.expect("open already");
    router.call(session.actor(true), ClientFrame::ConversationClose(about(&ids[0]))).await.unwrap();
    router.call(session.actor(true), open_last()).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_many_long_ids_is_refused_unless_an_answer_can_hold_it() {
    let (router, _views) = start();
    let long = |count: usize| (0..count).map(|n| user(&format!("{n:0>128}"))).collect::<Vec<_>>();
    let too_large = create(&router, "alice", "g", long(GROUP_MEMBERS_MAX - 1)).await.unwrap_err();
    assert_eq!((too_large.code(), &*too_large.details()[0].field), (ErrorCode::TooLarge, "members"));

    let id = create(&router, "alice", "g", Vec::new()).await.unwrap().conversation_id;
    let add = |role| MemberAdd { conversation_id: id.clone(), user_ids: long(7_900), role };
    let with_roles = call(&router, "alice", ClientFrame::MemberAdd(add(Role::Moderator))).await.unwrap_err();
    assert_eq!((with_roles.code(), &*with_roles.details()[0].field), (ErrorCode::TooLarge, "user_ids"));
    assert!(call(&router, "alice", ClientFrame::MemberAdd(add(Role::Member))).await.is_ok());
    let changes = ChangesGet { conversation_id: id.clone(), after: Seq::new(1), limit: 10 };
    let actor = Actor { user: key("alice"), session: None, awaited: true };
    let answer = router.call(actor, ClientFrame::Changes(changes)).await.unwrap();
    let Answer::Changes(changes) = &answer else { panic!("{answer:?}") };
    assert_eq!((changes.entries.len(), changes.more), (1, false));
    assert!(answer.encode(None).len() <= ANSWER_BYTES_MAX);
}
