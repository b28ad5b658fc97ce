//! Dashboards over several nodes: everyone sees the same on every node, and topics outlive the nodes that own them.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, message, until_answered, until_at_home, until_made, until_sent, until_view};
use crate::support::tokens::token;
use crate::support::{Client, Connect, START_PATIENCE, Server, Token, soon, within};

/// Enough topics for each of three nodes to own some.
const TOPICS: usize = 12;

fn topics() -> impl Iterator<Item = String> {
    (0..TOPICS).map(|number| format!("sales-{number}"))
}

/// Publishes one event to each topic, with retries.
async fn publish_to_all(server: &Server) {
    let publisher = Token::of("shop").scope("topics:publish").sign();
    let body = json!({"events": [{"series": "clicks", "value": 1}]});
    for topic in topics() {
        let path = format!("/v1/topics/{topic}/events");
        let taken = async {
            loop {
                let answer = server.http().post(&path, &body).token(&publisher).send().await;
                if answer.status == 202 {
                    return;
                }
                answer.error(503, "unavailable");
            }
        };
        soon("a batch that is taken", taken).await;
    }
}

/// The number of events in the windows of a frame.
fn count(frame: &Value) -> u64 {
    let points = |series: &Value| series["points"].as_array().cloned().unwrap_or_default();
    let series = frame["series"].as_array().unwrap_or_else(|| panic!("no series: {frame}"));
    series.iter().flat_map(points).map(|point| point[1].as_u64().unwrap()).sum()
}

/// Every topic holds this many events, according to every node.
async fn assert_all_hold(server: &Server, events: u64) {
    for topic in topics() {
        let path = format!("/v1/topics/{topic}?window=1m&range_s=3600");
        let read = async {
            loop {
                let answer = server.http().get(&path).token(&token("reader")).send().await;
                if answer.status == 200 {
                    return count(&answer.data(200));
                }
                answer.error(503, "unavailable");
            }
        };
        assert_eq!(soon("an owner", read).await, events, "{topic}");
    }
}

/// A watcher's knowledge of all topics.
struct Watcher {
    client: Client,
    /// By topic and start of the window.
    windows: BTreeMap<(String, i64), u64>,
    /// Topics with an unsolicited state.
    replaced: BTreeSet<String>,
}

impl Watcher {
    async fn sign_in(server: &Server, user: &str) -> Self {
        let mut client = Client::sign_in(server, user).await;
        for topic in topics() {
            let watch = json!({"type": "topic_watch", "topic": topic, "window": "1m", "range_s": 3_600});
            until_answered(&mut client, &watch).await;
        }
        Self { client, windows: BTreeMap::new(), replaced: BTreeSet::new() }
    }

    /// Reads on until each topic holds this many events.
    async fn until_all_hold(&mut self, events: u64) {
        let held = async {
            while topics().any(|topic| self.held(&topic) != events) {
                let frame = self.client.recv().await;
                self.apply(&frame);
            }
        };
        soon("everything that was published", held).await;
    }

    fn held(&self, topic: &str) -> u64 {
        self.windows.iter().filter(|((of, _), _)| of == topic).map(|(_, count)| count).sum()
    }

    fn apply(&mut self, frame: &Value) {
        let topic = frame["topic"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str() {
            Some("topic_state") => {
                self.windows.retain(|(of, _), _| *of != topic);
                self.replaced.insert(topic.clone());
            }
            Some("topic_update") => {}
            _ => return,
        }
        for series in frame["series"].as_array().unwrap() {
            for point in series["points"].as_array().unwrap() {
                self.windows.insert((topic.clone(), point[0].as_i64().unwrap()), point[1].as_u64().unwrap());
            }
        }
    }
}

/// Waits until each topic, including the gateway's own, has a copy.
async fn until_copied(nodes: &[&Server]) {
    let copied = async {
        loop {
            let mut copies = 0.0;
            for node in nodes {
                copies += node.metric("switchboard_topics_copies", "").await;
            }
            if copies >= (TOPICS + 1) as f64 {
                return;
            }
        }
    };
    soon("copies", copied).await;
}

#[tokio::test]
async fn topics_outlive_a_node_that_is_killed_and_one_that_is_drained() {
    let cluster = Cluster::new().await.burying_soon();
    let [first, second, third] = cluster.start_three().await;
    let mut watcher = Watcher::sign_in(&first, "alice").await;
    publish_to_all(&second).await;
    watcher.until_all_hold(1).await;
    until_copied(&[&first, &second, &third]).await;
    for node in [&first, &second, &third] {
        assert!(node.metric("switchboard_topics_active", "").await > 0.0, "each owns some");
    }

    third.signal(Signal::KILL);
    third.ended().await;
    until_view([&first, &second], 2).await;
    assert_all_hold(&second, 1).await;
    publish_to_all(&first).await;
    watcher.until_all_hold(2).await;
    assert!(!watcher.replaced.is_empty(), "who watches is told of a new owner by a state without an id");

    // These have just been answered, so they were in no tick yet.
    publish_to_all(&second).await;
    second.signal(Signal::TERM);
    assert_eq!(second.ended().await.code, Some(0));
    until_view([&first], 1).await;
    assert_all_hold(&first, 3).await;
    watcher.until_all_hold(3).await;
}

#[tokio::test]
async fn a_fenced_nodes_watchers_go_on_and_what_was_published_meanwhile_is_there() {
    let cluster = Cluster::new().await.burying_soon();
    let [first, second, third] = cluster.start_three().await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let mut groups = Vec::new();
    for number in 0..TOPICS {
        groups.push(until_made(&mut alice, &format!("group-{number}"), &["bob"]).await);
    }
    let mut watcher = Watcher::sign_in(&third, "carol").await;
    publish_to_all(&first).await;
    watcher.until_all_hold(1).await;
    until_copied(&[&first, &second, &third]).await;

    third.signal(Signal::STOP);
    until_view([&first, &second], 2).await;
    publish_to_all(&first).await;
    // Taking over a conversation of the stopped node fences it.
    for group in &groups {
        until_sent(&mut alice, &message(group, "meanwhile")).await;
    }
    third.signal(Signal::CONT);
    // It finds out with its next write.
    let mut bob = Client::sign_in(&third, "bob").await;
    for group in &groups {
        until_sent(&mut bob, &message(group, "after")).await;
    }
    third.logged("going on as a new incarnation", 1).await;
    until_view([&first, &second, &third], 3).await;
    watcher.until_all_hold(2).await;
    publish_to_all(&third).await;
    watcher.until_all_hold(3).await;
    for node in [&first, &second, &third] {
        assert_all_hold(node, 3).await;
    }
}

#[tokio::test]
async fn an_operator_sees_the_figures_of_all_nodes_at_any_node() {
    const SERIES: [&str; 6] =
        ["connections", "sends", "deliveries", "send_duration_ms", "delivery_duration_ms", "session_queue_bytes"];
    let cluster = Cluster::new().await;
    let nodes = cluster.start_three().await;
    for (number, node) in nodes.iter().enumerate() {
        // In another tenant than the counted traffic.
        let operator = Token::of("op").scope("operator").claim("tenant", "operations").sign();
        let mut operator = Connect::to(node).token(&operator).open().await;
        operator.expect("ready").await;
        let watch = json!({"type": "topic_watch", "topic": "$node", "window": "1s", "range_s": 60});
        until_answered(&mut operator, &watch).await;
        // Something to count at each node, while the updates are read.
        let traffic = async {
            for (sent, node) in nodes.iter().cycle().enumerate() {
                // Different users each time, so that each node eventually owns a conversation.
                let (from, to) = (format!("a-{number}-{sent}"), format!("b-{number}-{sent}"));
                let mut reader = Client::sign_in(node, &to).await;
                until_at_home(&mut reader).await;
                let mut writer = Client::sign_in(node, &from).await;
                let send = json!({"type": "send", "to": to, "client_id": "m", "content": {"text": "x"}});
                until_sent(&mut writer, &send).await;
                reader.until("message").await;
            }
        };
        let mut seen = BTreeSet::new();
        let all = async {
            while SERIES.iter().any(|series| ["n1", "n2", "n3"].iter().any(|node| !seen.contains(&(*series, *node)))) {
                let update = operator.until("topic_update").await;
                for series in update["series"].as_array().unwrap() {
                    let name = SERIES.into_iter().find(|name| series["series"] == *name);
                    let node = ["n1", "n2", "n3"].into_iter().find(|node| series["tags"]["node"] == *node);
                    seen.extend(name.zip(node));
                }
            }
        };
        let seen_in_traffic = async {
            tokio::select! {
                () = all => {}
                () = traffic => {}
            }
        };
        Box::pin(within(START_PATIENCE, "each figure of each node", seen_in_traffic)).await;
    }
}
