//! Nodes join, leave and die under traffic, invisibly to clients (DESIGN §5.1, §5.9, §5.10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::cluster::{Cluster, log_of, message, until_answered, until_made, until_sent, until_view};
use crate::support::{Client, Server, soon};

/// Conversations with traffic: enough for every node to own one.
const CONVERSATIONS: usize = 12;

/// A client that sends into all conversations, one message after another, until it is stopped.
struct Talker {
    stop: Arc<AtomicBool>,
    running: JoinHandle<(Client, Said)>,
}

/// The `seq` of each `client_id` according to its `sent`.
type Said = BTreeMap<String, u64>;

impl Talker {
    fn start(mut client: Client, name: &'static str, conversations: Vec<Value>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            let mut said = Said::new();
            for (number, conversation) in conversations.iter().cycle().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let client_id = format!("{name}-{number}");
                let seq = until_sent(&mut client, &message(conversation, &client_id)).await;
                said.insert(client_id, seq);
            }
            (client, said)
        });
        Self { stop, running }
    }

    async fn stop(self) -> (Client, Said) {
        self.stop.store(true, Ordering::Relaxed);
        soon("the talker", self.running).await.unwrap()
    }
}

/// Groups of these members, enough for each node to own some.
async fn make_groups(client: &mut Client, members: &[&str]) -> Vec<Value> {
    let mut groups = Vec::new();
    for number in 0..CONVERSATIONS {
        groups.push(until_made(client, &format!("group-{number}"), members).await);
    }
    groups
}

/// Everything that was acknowledged is in its place, once, for every reader.
async fn check(client: &mut Client, conversations: &[Value], said: &[&Said]) {
    let mut found = BTreeMap::new();
    for conversation in conversations {
        for (client_id, seq) in log_of(client, conversation).await.into_iter().zip(1..) {
            if let Some(client_id) = client_id.as_str() {
                assert_eq!(
                    found.insert((conversation.to_string(), client_id.to_owned()), seq),
                    None,
                    "{client_id} twice"
                );
            }
        }
    }
    let found: BTreeMap<&str, u64> = found.iter().map(|((_, client_id), seq)| (client_id.as_str(), *seq)).collect();
    for (client_id, seq) in said.iter().flat_map(|said| said.iter()) {
        assert_eq!(found.get(client_id.as_str()), Some(seq), "{client_id}");
    }
}

#[tokio::test]
async fn nodes_join_and_are_drained_and_no_client_can_tell() {
    let cluster = Cluster::new().await;
    let first = cluster.start("n1").await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let groups = make_groups(&mut alice, &["bob"]).await;
    let talker = Talker::start(alice, "alice", groups.clone());

    let second = cluster.start("n2").await;
    until_view([&first, &second], 2).await;
    owns_some(&second).await;
    let mut bob = Client::sign_in(&second, "bob").await;
    bob.until("message").await;

    second.signal(Signal::TERM);
    let order = bob.until("reconnect").await;
    assert_eq!(order["url"], format!("ws://{}/v1/ws", first.listen), "{order}");
    bob.close().await;
    let ended = second.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("stopped before everything"), "{}", ended.log);
    until_view([&first], 1).await;

    let (mut alice, said) = talker.stop().await;
    assert!(said.len() > groups.len());
    let mut bob = Client::sign_in(&first, "bob").await;
    let sync = until_answered(&mut bob, &json!({"type": "sync"})).await;
    assert_eq!(sync["conversations"].as_array().map(Vec::len), Some(groups.len()), "{sync}");
    check(&mut bob, &groups, &[&said]).await;
    check(&mut alice, &groups, &[&said]).await;
    assert_eq!(first.metric("switchboard_disconnects_total", "").await, 0.0, "alice stayed");
}

/// Waits until this node owns conversations.
async fn owns_some(node: &Server) {
    let owns = async { while node.metric("switchboard_conversations_active", "").await < 1.0 {} };
    soon("conversations at the new node", owns).await;
}

#[tokio::test]
async fn a_killed_nodes_conversations_go_on_and_nothing_is_missed() {
    let cluster = Cluster::new().await.burying_soon();
    let [first, second, third] = cluster.start_three().await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let groups = make_groups(&mut alice, &["bob", "carol"]).await;
    let carol = Client::sign_in(&second, "carol").await;
    let talkers = [Talker::start(alice, "alice", groups.clone()), Talker::start(carol, "carol", groups.clone())];
    let mut bob = Client::sign_in(&third, "bob").await;
    owns_some(&third).await;
    let cursor = until_answered(&mut bob, &json!({"type": "sync"})).await["cursor"].clone();
    bob.until("message").await;

    third.signal(Signal::KILL);
    third.ended().await;
    until_view([&first, &second], 2).await;
    // Each conversation, including those of the dead node, accepts a send after its removal.
    let (mut elsewhere, _) = Client::sign_in_as(&second, "carol", "another-device").await;
    for (n, group) in groups.iter().enumerate() {
        until_sent(&mut elsewhere, &message(group, &format!("after-{n}"))).await;
    }
    let mut said = Vec::new();
    for talker in talkers {
        said.push(talker.stop().await.1);
    }

    let mut bob = Client::sign_in(&first, "bob").await;
    let sync = until_answered(&mut bob, &json!({"type": "sync", "cursor": cursor})).await;
    assert_eq!(sync["conversations"].as_array().map(Vec::len), Some(groups.len()), "{sync}");
    for conversation in sync["conversations"].as_array().unwrap() {
        let log = log_of(&mut bob, &conversation["conversation_id"]).await;
        assert_eq!(conversation["last_seq"], json!(log.len()), "{conversation}");
    }
    check(&mut bob, &groups, &[&said[0], &said[1]]).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_for_an_age_goes_on_with_its_sessions_in_another_life() {
    let cluster = Cluster::new().await.burying_soon();
    let [first, second, third] = cluster.start_three().await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let groups = make_groups(&mut alice, &["bob"]).await;
    let mut bob = Client::sign_in(&third, "bob").await;
    let talker = Talker::start(alice, "alice", groups.clone());
    bob.until("message").await;

    third.signal(Signal::STOP);
    until_view([&first, &second], 2).await;
    // Taking over a conversation of the stopped node fences it.
    let mut elsewhere = Client::sign_in_as(&second, "bob", "another-device").await.0;
    for group in &groups {
        until_sent(&mut elsewhere, &message(group, "meanwhile")).await;
    }
    third.signal(Signal::CONT);
    third.logged("going on as a new incarnation", 1).await;
    until_view([&first, &second, &third], 3).await;
    let mut own = Said::new();
    for (n, group) in groups.iter().enumerate() {
        let client_id = format!("after-{n}");
        own.insert(client_id.clone(), until_sent(&mut bob, &message(group, &client_id)).await);
    }
    let (mut alice, said) = talker.stop().await;
    check(&mut alice, &groups, &[&said, &own]).await;
    check(&mut bob, &groups, &[&said, &own]).await;
}
