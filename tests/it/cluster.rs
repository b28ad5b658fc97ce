//! Several nodes as one gateway: it does not matter who is connected where.

use serde_json::json;

use crate::support::cluster::{Cluster, log_of, message, until_answered, until_at_home, until_sent, until_view};
use crate::support::{Client, Server};

#[tokio::test]
async fn users_at_three_nodes_share_everything() {
    let cluster = Cluster::new().await;
    let nodes = cluster.start_three().await;
    let [mut alice, mut bob, mut carol] = sign_in(&nodes, ["alice", "bob", "carol"]).await;

    let group = alice.make_group(&["bob", "carol"]).await;
    for client in [&mut bob, &mut carol] {
        client.until("membership").await;
    }
    let mut clients = [&mut alice, &mut bob, &mut carol];
    for number in 1..=9 {
        let client_id = format!("message-{number}");
        let (sender, readers) = clients.split_first_mut().unwrap();
        let seq = until_sent(sender, &message(&group, &client_id)).await;
        for reader in readers {
            let message = reader.until("message").await;
            assert_eq!((&message["client_id"], &message["seq"]), (&json!(client_id), &json!(seq)));
        }
        clients.rotate_left(1);
    }
    let log = log_of(&mut carol, &group).await;
    assert_eq!((log.len(), &log_of(&mut alice, &group).await), (10, &log));

    for client in [&mut alice, &mut bob] {
        until_answered(client, &json!({"type": "conversation_open", "conversation_id": group})).await;
    }
    until_answered(&mut alice, &json!({"type": "typing_start", "conversation_id": group})).await;
    assert_eq!(bob.until("typing_start").await["user_id"], "alice");
    until_answered(&mut alice, &json!({"type": "read", "conversation_id": group, "seq": 10})).await;
    let watched = until_answered(&mut bob, &json!({"type": "presence_watch", "user_ids": ["alice", "nobody"]})).await;
    assert_eq!(watched["users"][0]["status"], "online", "{watched}");
    until_answered(&mut alice, &json!({"type": "presence_set", "status": "busy"})).await;
    assert_eq!(bob.until("presence").await["users"][0]["status"], "busy");
    let sync = until_answered(&mut carol, &json!({"type": "sync"})).await;
    assert_eq!(sync["conversations"][0]["last_seq"], 10, "{sync}");
}

#[tokio::test]
async fn a_user_is_known_with_his_sessions_at_all_nodes() {
    let cluster = Cluster::new().await.set("limits.connections_per_user", 2);
    let nodes = cluster.start_three().await;
    until_view(&nodes, 3).await;
    let (mut phone, _) = Client::sign_in_as(&nodes[0], "alice", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&nodes[1], "alice", "laptop").await;
    for client in [&mut phone, &mut laptop] {
        until_at_home(client).await;
    }
    // The limit counts both; a session that replaces another one does not exceed it.
    let (mut tablet, _) = Client::sign_in_as(&nodes[2], "alice", "tablet").await;
    assert_eq!(tablet.expect_farewell("overloaded").await, Some(4503));
    let (mut phone_again, _) = Client::sign_in_as(&nodes[2], "alice", "phone").await;
    assert_eq!(phone.expect_farewell("replaced").await, Some(4409));
    for client in [&mut laptop, &mut phone_again] {
        client.expect_quiet().await;
    }
}

/// Signs each user in at one of the nodes.
async fn sign_in<const N: usize>(nodes: &[Server], users: [&str; N]) -> [Client; N] {
    let mut clients = Vec::new();
    for (user, node) in users.iter().zip(nodes.iter().cycle()) {
        let mut client = Client::sign_in(node, user).await;
        until_at_home(&mut client).await;
        clients.push(client);
    }
    clients.try_into().unwrap_or_else(|_| unreachable!("as many as there are users"))
}
