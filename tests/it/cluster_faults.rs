//! Redis or the database unavailable, under three nodes (DESIGN §5.8): what needs it is answered with `unavailable`,
//! everything else goes on, and all recovers by itself, without a restart and without a reconnect of the clients.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard_tests::CassandraServer;
use tokio::task::{spawn_blocking, yield_now};

use crate::support::cluster::{
    Cluster, log_of, message, until_answered, until_made, until_sent, until_signed_in, until_view,
};
use crate::support::tokens::token;
use crate::support::{Client, Server, soon};

/// Groups of two users whose home is one node: the names determine the owners, and each of the three nodes owns some
/// groups.
const GROUPS: usize = 6;

/// The first user with this name and a number whose home is that node.
async fn user_at_home(node: &Server, name: &str) -> String {
    let id = node.ready["node_id"].clone();
    for number in 0.. {
        let user = format!("{name}-{number}");
        let place = node.http().get("/v1/connect").token(&token(&user)).send().await.data(200);
        if place["node_id"] == id {
            return user;
        }
    }
    unreachable!("there are names enough")
}

/// Two users at their home, a third one at another node, and groups of all three.
struct Scene {
    nodes: [Server; 3],
    alice: Client,
    bob: Client,
    carol: Client,
    alice_id: String,
    groups: Vec<Value>,
    sent: usize,
}

impl Scene {
    async fn new(cluster: &Cluster) -> Self {
        let nodes = cluster.start_three().await;
        let (alice_id, bob_id) = (user_at_home(&nodes[0], "alice").await, user_at_home(&nodes[0], "bob").await);
        let carol_id = user_at_home(&nodes[1], "carol").await;
        let mut alice = until_signed_in(&nodes[0], &alice_id).await;
        let bob = until_signed_in(&nodes[0], &bob_id).await;
        let carol = until_signed_in(&nodes[1], &carol_id).await;
        let mut groups = Vec::new();
        for number in 0..GROUPS {
            groups.push(until_made(&mut alice, &format!("group-{number}"), &[&bob_id, &carol_id]).await);
        }
        let mut scene = Self { nodes, alice, bob, carol, alice_id, groups, sent: 0 };
        scene.all_is_well().await;
        scene
    }

    /// Sends once into each group; returns the groups in which it was accepted, and seen by the other user at this
    /// node.
    async fn try_each(&mut self) -> BTreeSet<usize> {
        let mut taken = BTreeSet::new();
        for (number, group) in self.groups.iter().enumerate() {
            self.sent += 1;
            let client_id = format!("tried-{}", self.sent);
            let answer = self.alice.ask(message(group, &client_id)).await;
            if answer["type"] == "sent" {
                taken.insert(number);
                while self.bob.until("message").await["client_id"] != json!(client_id) {}
            } else {
                assert_eq!(answer["code"], "unavailable", "{answer}");
                assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
            }
        }
        taken
    }

    /// Sends into the groups that this node owns are accepted, and into no others.
    async fn own_groups_go_on(&mut self) {
        let mut taken = BTreeSet::new();
        let some = async {
            // On a busy machine one may take too long.
            while taken.is_empty() {
                taken = self.try_each().await;
            }
        };
        soon("a send into an own group", some).await;
        assert!(taken.len() < GROUPS, "into those of other nodes too: {taken:?}");
    }

    /// A send into each group is accepted and seen at both nodes, by the sessions that were there all the time.
    async fn all_is_well(&mut self) {
        for group in &self.groups {
            self.sent += 1;
            let client_id = format!("well-{}", self.sent);
            until_sent(&mut self.alice, &message(group, &client_id)).await;
            for client in [&mut self.bob, &mut self.carol] {
                while client.until("message").await["client_id"] != json!(client_id) {}
            }
        }
        until_view(&self.nodes, 3).await;
        for node in &self.nodes {
            // 4503: who was asked to come back before there was a session.
            let refused = node.metric("switchboard_disconnects_total", "4503").await;
            assert_eq!(node.metric("switchboard_disconnects_total", "").await, refused);
        }
    }

    /// A status set at the users' home is visible to the other one there.
    async fn presence_goes_on(&mut self, status: &str) {
        until_answered(&mut self.bob, &json!({"type": "presence_watch", "user_ids": [self.alice_id]})).await;
        until_answered(&mut self.alice, &json!({"type": "presence_set", "status": status})).await;
        while self.bob.until("presence").await["users"][0]["status"] != status {}
    }

    /// Waits until a node reports that this dependency is unavailable.
    async fn until_known(&self, dependency: &str) {
        let known = async {
            loop {
                let ready = self.nodes[0].http().get("/readyz").send().await;
                assert_eq!(ready.status, 200, "a common fault takes no node out");
                if ready.json()["data"]["dependencies"][dependency] != "ok" {
                    return;
                }
            }
        };
        soon(dependency, known).await;
    }
}

#[tokio::test]
async fn redis_is_killed_and_comes_back_empty() {
    let mut cluster = Cluster::new().await.impatient();
    let mut scene = Scene::new(&cluster).await;
    cluster.redis.kill().unwrap();
    scene.until_known("redis").await;
    scene.own_groups_go_on().await;
    scene.presence_goes_on("busy").await;
    cluster.redis.start_again().unwrap();
    scene.all_is_well().await;
}

#[tokio::test]
async fn redis_is_paused() {
    let cluster = Cluster::new().await.impatient();
    let mut scene = Scene::new(&cluster).await;
    cluster.redis.pause().unwrap();
    scene.own_groups_go_on().await;
    scene.presence_goes_on("busy").await;
    cluster.redis.resume().unwrap();
    scene.all_is_well().await;
}

/// Runs this while the database runs only twice a second for a moment: some statements take long, others too long.
async fn with_a_slow_database(cassandra: &Arc<CassandraServer>, work: impl Future<Output = ()>) {
    let (stop, stopped) = mpsc::channel::<()>();
    let cassandra = cassandra.clone();
    // In a thread, so that no pause is longer because this runtime has no time.
    let slowing = thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout) {
            cassandra.pause().unwrap();
            thread::sleep(Duration::from_millis(450));
            cassandra.resume().unwrap();
        }
    });
    work.await;
    drop(stop);
    spawn_blocking(|| slowing.join()).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_database_answers_slowly() {
    let cassandra = Arc::new(spawn_blocking(CassandraServer::start).await.unwrap().unwrap());
    let cluster = Cluster::on(&cassandra).await.impatient();
    let mut scene = Scene::new(&cluster).await;
    with_a_slow_database(&cassandra, async {
        for status in ["busy", "away", "busy"] {
            scene.all_is_well().await;
            scene.presence_goes_on(status).await;
        }
    })
    .await;
    scene.all_is_well().await;
    for group in &scene.groups {
        let log = log_of(&mut scene.alice, group).await;
        // The `membership`, and five messages.
        assert_eq!((log.len(), log.iter().collect::<HashSet<_>>().len()), (6, 6), "{log:?}");
    }
}

#[tokio::test]
async fn the_database_is_paused_and_killed_alone_and_together_with_redis() {
    let mut cassandra = spawn_blocking(CassandraServer::start).await.unwrap().unwrap();
    let mut cluster = Cluster::on(&cassandra).await.impatient();
    let mut scene = Scene::new(&cluster).await;

    cassandra.pause().unwrap();
    assert_eq!(scene.try_each().await, BTreeSet::new());
    scene.presence_goes_on("busy").await;
    scene.until_known("store").await;
    cassandra.resume().unwrap();
    scene.all_is_well().await;

    cassandra.kill();
    cluster.redis.kill().unwrap();
    scene.until_known("store").await;
    assert_eq!(scene.try_each().await, BTreeSet::new());
    scene.presence_goes_on("away").await;
    cluster.redis.start_again().unwrap();
    let _cassandra = spawn_blocking(move || cassandra.start_again().map(|()| cassandra)).await.unwrap().unwrap();
    scene.all_is_well().await;
}

#[tokio::test]
async fn what_is_no_envelope_is_counted_and_ignored() {
    /// A MessagePack map with the field that every version has.
    const VERSION_200: &[u8] = b"\x81\xa7version\xcc\xc8";
    let cluster = Cluster::new().await;
    let mut scene = Scene::new(&cluster).await;
    let channels = cluster.redis.command(&[b"PUBSUB", b"CHANNELS"]).unwrap();
    let channels: Vec<&str> = channels.lines().filter(|line| line.contains(":bus:")).collect();
    assert_eq!(channels.len(), 3, "{channels:?}");
    for channel in channels {
        for packet in [&b"hello"[..], VERSION_200, b""] {
            // Nobody receives it while the node's connection is being replaced.
            let publish = || cluster.redis.command(&[b"PUBLISH", channel.as_bytes(), packet]).unwrap();
            let received = async {
                while publish() == ":0\r\n" {
                    yield_now().await;
                }
            };
            soon("a subscriber", received).await;
        }
    }
    for node in &scene.nodes {
        // A node sends empty packets to itself, to check that it receives them.
        node.logged("refused a packet", 2).await;
        assert_eq!(node.metric("switchboard_bus_refused_total", "").await, 2.0);
    }
    scene.all_is_well().await;
}
