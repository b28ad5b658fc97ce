//! What the random runs come upon, once each on purpose.

mod dependencies;
mod gaps;
mod sessions;
mod views;

use crate::client::Client;
use crate::world::{self, NODES, World};
use std::sync::Arc;
use switchboard_protocol::client::{Send, SendTarget};
use switchboard_protocol::server::Sent;
use switchboard_protocol::{ClientFrame, Content, ServerFrame};
use switchboard_store::{Log as _, UserKey};
use tokio::task::JoinSet;

/// Five nodes over the plain bus, and a client each of alice and bob.
struct Scene {
    world: Arc<World>,
    alice: Client,
    bob: Client,
    _bus: JoinSet<()>,
}

fn client(world: &Arc<World>, name: &str, other: &str) -> Client {
    let user = UserKey { tenant: "red".parse().unwrap(), user: name.parse().unwrap() };
    Client::new(world, user, "phone", vec![other.parse().unwrap()])
}

impl Scene {
    async fn new() -> Self {
        let world = World::new(1, true, world::options());
        let mut bus = JoinSet::new();
        bus.spawn(world.bus.clone().run());
        (0..NODES).for_each(|index| world.start(index));
        world.pass(2_000).await;
        let (alice, bob) = (client(&world, "alice", "bob"), client(&world, "bob", "alice"));
        Self { world, alice, bob, _bus: bus }
    }

    /// Alice's message to bob, said under one name as often as this is called.
    async fn send(&mut self) -> Sent {
        self.alice.connection = self.alice.connect().await;
        let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
        let target = SendTarget::To("bob".parse().unwrap());
        let send = Send { target, client_id: "m1".parse().unwrap(), content, base_seq: None };
        match self.alice.call(ClientFrame::Send(send)).await {
            Ok(ServerFrame::Sent(sent)) => sent,
            Ok(other) => panic!("{other:?}"),
            Err(_) => panic!("not sent"),
        }
    }

    /// Bob connects, syncs, and knows of the message.
    async fn bob_knows(&mut self, sent: &Sent) {
        self.bob.connection = self.bob.connect().await;
        assert!(self.bob.sync().await, "bob can't sync");
        let copy = self.bob.copies.get(&sent.conversation_id).expect("bob knows the conversation");
        assert_eq!(copy.heard, sent.seq.get());
        assert_eq!(self.world.oracle.violations(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn what_dead_owners_and_homes_left_untold_is_told_and_sent_again_is_the_same() {
    let mut scene = Scene::new().await;
    let sent = scene.send().await;
    // Before any inbox was written.
    for index in 1..NODES {
        scene.world.crash(index).await;
    }
    // The TTL and one second (DESIGN §5.10).
    scene.world.pass(4_000).await;
    scene.bob_knows(&sent).await;
    let again = scene.send().await;
    assert_eq!((again.seq, again.message_id, again.duplicate), (sent.seq, sent.message_id, true));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_drain_hand_over_and_leave_nothing_behind() {
    let mut scene = Scene::new().await;
    let sent = scene.send().await;
    for index in 1..NODES {
        let (world, drained) = (scene.world.clone(), scene.world.node(index).expect("it runs").me);
        let (in_time, ()) = tokio::join!(world.drain(index), world.pass(3_000));
        assert!(in_time, "{drained} did not come to its end");
        let left = scene.world.store.active().await.unwrap();
        assert!(left.iter().all(|(owner, _)| *owner != drained), "{left:?}");
    }
    scene.bob_knows(&sent).await;
    assert!(scene.send().await.duplicate);
}
