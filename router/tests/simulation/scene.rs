//! A world whose bus and views do exactly what a test says: the roles of nodes, lost packets, and who sees which view.

use crate::client::Client;
use crate::recorder::ExactFaults;
use crate::world::{self, NODES, World};
use std::sync::Arc;
use switchboard_protocol::client::{ChangesGet, ConversationCreate, GroupKind, Send, SendTarget};
use switchboard_protocol::server::Sent;
use switchboard_protocol::{ClientFrame, Content, ConversationId, ProtocolError, Seq, ServerFrame, UserId};
use switchboard_router::{Actor, Answer, Options, Placement, View};
use switchboard_store::{ConversationKey, Incarnation, UserKey};
use tokio::task::JoinSet;

/// Five nodes over a bus that loses only what it is told to lose.
pub(crate) struct Scene {
    pub(crate) world: Arc<World>,
    _bus: JoinSet<()>,
}

/// Alice has written one message to bob. The nodes' roles, by index.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The conversation's owner; alice writes here, by HTTP.
    pub(crate) owner: usize,
    /// Bob's home; another node.
    pub(crate) home: usize,
    /// A third node, for bob's session.
    pub(crate) at: usize,
    pub(crate) alice: UserKey,
    pub(crate) bob: UserKey,
    pub(crate) conversation: ConversationId,
}

/// All nodes, by index.
pub(crate) const EVERYONE: [usize; NODES] = [0, 1, 2, 3, 4];

pub(crate) fn all_but(left_out: &[usize]) -> Vec<usize> {
    EVERYONE.into_iter().filter(|index| !left_out.contains(index)).collect()
}

pub(crate) fn user(name: &str) -> UserKey {
    UserKey { tenant: "red".parse().unwrap(), user: name.parse().unwrap() }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(world::options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let world = World::new(1, true, options);
        let mut bus = JoinSet::new();
        bus.spawn(world.bus.clone().run());
        (0..NODES).for_each(|index| world.start(index));
        world.pass(2_000).await;
        Self { world, _bus: bus }
    }

    // Who is what

    fn index_of(&self, incarnation: &Incarnation) -> usize {
        let is = |index: &usize| self.world.node(*index).is_some_and(|up| up.me == *incarnation);
        (0..NODES).find(is).expect("it runs")
    }

    fn me(&self, index: usize) -> Incarnation {
        self.world.node(index).expect("it runs").me
    }

    pub(crate) fn home(&self, view: &View, user: &UserKey) -> usize {
        self.index_of(&Placement::new(view.clone()).home(user).incarnation)
    }

    pub(crate) fn owner(&self, view: &View, conversation: &ConversationId) -> usize {
        let key = ConversationKey { tenant: user("alice").tenant, conversation: conversation.clone() };
        self.index_of(&Placement::new(view.clone()).owner(&key).incarnation)
    }

    /// Two users with three different nodes in `view`, as the test wants them. Everything is at rest.
    pub(crate) async fn pair(&self, view: &View, wanted: impl Fn(&Pair) -> bool) -> Pair {
        self.find_pair(view, wanted).await.expect("such a pair")
    }

    pub(crate) async fn find_pair(&self, view: &View, wanted: impl Fn(&Pair) -> bool) -> Option<Pair> {
        for n in 0..100 {
            let (alice, bob) = (user("alice"), user(&format!("bob{n}")));
            let home = self.home(view, &bob);
            let sent = self.say(home, &alice, &bob, "m1").await.expect("all is well");
            let conversation = sent.conversation_id;
            let owner = self.owner(view, &conversation);
            for at in (0..NODES).filter(|at| ![owner, home].contains(at) && owner != home) {
                let (alice, bob, conversation) = (alice.clone(), bob.clone(), conversation.clone());
                let pair = Pair { owner, home, at, alice, bob, conversation };
                if wanted(&pair) {
                    // Conversations go to rest.
                    self.world.pass(6_000).await;
                    return Some(pair);
                }
            }
        }
        None
    }

    /// Two users for whom one node is the owner, bob's home, and has his session.
    pub(crate) async fn find_at_one_node(&self, view: &View) -> Pair {
        for n in 0..100 {
            let (alice, bob) = (user("alice"), user(&format!("one{n}")));
            let home = self.home(view, &bob);
            let conversation = self.say(home, &alice, &bob, "m1").await.expect("all is well").conversation_id;
            if self.owner(view, &conversation) == home {
                return Pair { owner: home, home, at: home, alice, bob, conversation };
            }
        }
        panic!("no such users");
    }

    /// The conversation's end according to a node's answer to bob.
    pub(crate) async fn end_told_by(&self, node: usize, pair: &Pair) -> u64 {
        let after = ChangesGet { conversation_id: pair.conversation.clone(), after: Seq::ZERO, limit: 1 };
        match self.call(node, &pair.bob, ClientFrame::Changes(after)).await {
            Ok(ServerFrame::Changes(changes)) => changes.last_seq.get(),
            other => panic!("{other:?}"),
        }
    }

    // What is done

    /// Sends alice's next message at its owner, while one node's packets to another are lost.
    pub(crate) async fn say_losing(&self, pair: &Pair, name: &str, from: usize, to: usize) {
        self.lose(from, to, true);
        self.say(pair.owner, &pair.alice, &pair.bob, name).await.unwrap();
        self.world.pass(50).await;
        self.lose(from, to, false);
    }

    /// Sends a message at a node.
    pub(crate) async fn say(
        &self,
        node: usize,
        from: &UserKey,
        to: &UserKey,
        name: &str,
    ) -> Result<Sent, ProtocolError> {
        let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
        let send =
            Send { target: SendTarget::To(to.user.clone()), client_id: name.parse().unwrap(), content, base_seq: None };
        match self.call(node, from, ClientFrame::Send(send)).await? {
            ServerFrame::Sent(sent) => Ok(sent),
            other => panic!("{other:?}"),
        }
    }

    /// A large group of alice with bob in it, and its owner in the full view.
    pub(crate) async fn group(&self) -> (ConversationId, usize) {
        let members = ["bob", "g1", "g2", "g3", "g4", "g5"].map(|name| user(name).user).to_vec();
        let group = self.group_of(members).await;
        let owner = self.owner(&self.world.view_without(&[]), &group);
        (group, owner)
    }

    /// A group of alice with these.
    pub(crate) async fn group_of(&self, members: Vec<UserId>) -> ConversationId {
        let create = ConversationCreate {
            kind: GroupKind::Group,
            client_id: "g1".parse().unwrap(),
            title: None,
            custom: None,
            members,
        };
        match self.call(0, &user("alice"), ClientFrame::ConversationCreate(create)).await {
            Ok(ServerFrame::Conversation(made)) => made.conversation_id,
            other => panic!("{other:?}"),
        }
    }

    /// Sends alice's message to a group at a node.
    pub(crate) async fn say_to_group(&self, node: usize, group: &ConversationId, name: &str) {
        let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
        let target = SendTarget::Conversation(group.clone());
        let send = Send { target, client_id: name.parse().unwrap(), content, base_seq: None };
        self.call(node, &user("alice"), ClientFrame::Send(send)).await.unwrap();
    }

    /// A user's HTTP request to a node.
    pub(crate) async fn call(
        &self,
        node: usize,
        user: &UserKey,
        command: ClientFrame,
    ) -> Result<ServerFrame, ProtocolError> {
        let actor = Actor { user: user.clone(), session: None, awaited: true };
        match self.world.node(node).expect("it runs").router.call(actor, command).await? {
            Answer::Frame(frame) | Answer::Created(frame) => Ok(frame),
            answer => Ok(ServerFrame::decode(&answer.encode(None)).unwrap().1),
        }
    }

    /// A client that is connected to a node and up to date.
    pub(crate) async fn client(&self, at: usize, user: &UserKey, others: &[UserId]) -> Client {
        let mut client = Client::new(&self.world, user.clone(), "phone", others.to_vec());
        client.connection = client.connect_to(self.world.node(at).expect("it runs")).await;
        self.follow(&mut client).await;
        client
    }

    /// Makes a client follow the frames that came: `sync` and `changes`, until it succeeds.
    pub(crate) async fn follow(&self, client: &mut Client) {
        for _ in 0..50 {
            client.take_frames();
            if client.catch_up().await {
                return;
            }
            self.world.pass(200).await;
        }
        panic!("{:?} does not get through", client.user);
    }

    /// How far a client that syncs now knows a conversation then.
    pub(crate) async fn synced(&self, client: &mut Client, conversation: &ConversationId) -> u64 {
        client.wants_sync = true;
        self.follow(client).await;
        has(client, conversation)
    }

    // What goes wrong

    pub(crate) fn exact(&self) -> &ExactFaults {
        &self.world.exact
    }

    /// Loses what one node sends to another, or no longer.
    pub(crate) fn lose(&self, from: usize, to: usize, lost: bool) {
        self.world.bus.lose(&self.me(from), &self.me(to), lost);
    }

    /// Holds back what one node sends to another, or delivers it.
    pub(crate) fn hold(&self, from: usize, to: usize, held: bool) {
        self.world.bus.hold(&self.me(from), &self.me(to), held);
    }

    /// Disconnects a node from the bus, or reconnects it.
    pub(crate) fn cut_off(&self, node: usize, cut_off: bool) {
        self.world.bus.cut_off(&self.me(node), cut_off);
    }

    /// Checks that the oracle has seen no violation.
    pub(crate) fn check(&self) {
        assert_eq!(self.world.oracle.violations(), Vec::<String>::new());
    }
}

/// How far a client knows a conversation.
pub(crate) fn has(client: &Client, conversation: &ConversationId) -> u64 {
    client.copies.get(conversation).map_or(0, |copy| copy.applied)
}
