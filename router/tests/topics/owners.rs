//! Topic owners that leave, join, die, disagree or are fenced, and the resulting counts.

use crate::nodes::{Nodes, count, incarnation, known, view, watch_frame};
use std::collections::BTreeMap;
use switchboard_protocol::ServerFrame;
use switchboard_router::{NodeEntry, Options, View};
use switchboard_store::Incarnation;
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn when_the_owner_goes_watchers_get_a_new_state_and_updates_go_on() {
    for gone in 0..3 {
        let nodes = Nodes::start(3, Options::default());
        let watcher = nodes.watcher((gone + 1) % 3, "a").await;
        // The node that goes owns some of these.
        let topics: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
        for topic in &topics {
            watcher.watch(topic).await.unwrap();
            nodes.publish((gone + 1) % 3, "default", topic, &[1.0]).await.unwrap();
        }
        nodes.pass(1_000).await;
        watcher.reader.frames();
        nodes.routers[gone].shutdown().await;
        nodes.see(&view(2, (0..3).filter(|node| *node != gone)));
        nodes.pass(2_000).await;
        let frames = watcher.reader.frames();
        let states: Vec<_> = frames
            .iter()
            .filter_map(|f| if let ServerFrame::TopicState(state) = f { Some(state) } else { None })
            .collect();
        assert!(!states.is_empty(), "no topic was owned by the node that went");
        for state in &states {
            assert_eq!((state.version, count(&state.series)), (1, 1), "what a dead owner had told is there");
        }
        for topic in &topics {
            nodes.publish((gone + 2) % 3, "default", topic, &[1.0, 1.0]).await.unwrap();
        }
        nodes.pass(1_000).await;
        let mut told = BTreeMap::new();
        for frame in watcher.reader.frames() {
            let ServerFrame::TopicUpdate(update) = frame else { panic!("{frame:?}") };
            *told.entry(update.topic.to_string()).or_insert(0) += count(&update.series);
        }
        assert!(topics.iter().all(|topic| told.get(topic).is_some_and(|count| *count >= 2)), "{told:?}");
    }
}

/// Enough topics for each of three nodes to own some.
fn topics() -> Vec<String> {
    (0..8).map(|n| format!("t{n}")).collect()
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_another_range_in_vain_watches_as_before() {
    let nodes = Nodes::start(2, Options::default());
    let watcher = nodes.watcher(0, "a").await;
    for topic in topics() {
        watcher.watch(&topic).await.unwrap();
    }
    nodes.routers[1].shutdown().await;
    let mut refused = Vec::new();
    for topic in topics() {
        let again = watcher.router.call(watcher.connected.actor(true), watch_frame(&topic, 60)).await;
        refused.extend(again.is_err().then_some(topic));
    }
    assert!(!refused.is_empty(), "no topic was owned by the node that went");
    watcher.reader.frames();
    nodes.see(&view(2, [0]));
    nodes.pass(2_000).await;
    for topic in &refused {
        nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
    }
    nodes.pass(1_000).await;
    let updates = watcher.reader.frames();
    let is_told = |name: &String| {
        updates.iter().any(|f| matches!(f, ServerFrame::TopicUpdate(update) if update.topic.as_str() == name))
    };
    assert!(refused.iter().all(is_told), "{updates:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_leaves_hands_over_everything() {
    for (gone, is_heard_of_before) in [(0, true), (1, true), (2, true), (0, false), (1, false), (2, false)] {
        let nodes = Nodes::start(3, Options::default());
        let watcher = nodes.watcher((gone + 1) % 3, "a").await;
        for topic in &topics() {
            watcher.watch(topic).await.unwrap();
            nodes.publish(gone, "default", topic, &[1.0, 2.0]).await.unwrap();
        }
        // Some events have been sent at a tick, some have not.
        nodes.pass(1_000).await;
        for topic in &topics() {
            nodes.publish(gone, "default", topic, &[3.0]).await.unwrap();
        }
        let without = view(2, (0..3).filter(|node| *node != gone));
        // Whether they learn of it before or after it has ended.
        if is_heard_of_before {
            nodes.see(&without);
            nodes.pass(1).await;
        }
        nodes.routers[gone].finish().await;
        nodes.routers[gone].shutdown().await;
        nodes.see(&without);
        nodes.pass(2_000).await;
        let states = watcher.reader.frames();
        for topic in &topics() {
            nodes.publish((gone + 1) % 3, "default", topic, &[4.0]).await.unwrap();
            let rest = Nodes {
                routers: vec![nodes.routers[(gone + 1) % 3].clone(), nodes.routers[(gone + 2) % 3].clone()],
                ..nodes.clone()
            };
            assert_eq!(rest.total("default", topic).await, 4);
            let of_topic =
                |frame: &&ServerFrame| matches!(frame, ServerFrame::TopicState(state) if state.topic.as_str() == topic);
            if let Some(last) = states.iter().rfind(of_topic) {
                assert_eq!(known(std::slice::from_ref(last)).1, 3, "a watcher is told of all of it by a new state");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_gets_everything_and_nothing_counts_twice() {
    let nodes = Nodes::start(3, Options::default());
    let mut published = 0;
    for round in 0..6_u64 {
        for topic in &topics() {
            nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
        }
        published += 1;
        // A node that leaves comes back in the next round. There is not always time to hand everything over in between.
        let away = (round % 2 == 0).then_some(1 + (round as usize / 2) % 2);
        nodes.see(&view(2 + round, (0..3).filter(|node| Some(*node) != away)));
        nodes.pass(if round < 4 { 100 } else { 2_000 }).await;
    }
    nodes.pass(2_000).await;
    for topic in &topics() {
        assert_eq!(nodes.total("default", topic).await, published);
    }
}

#[tokio::test(start_paused = true)]
async fn one_death_after_the_other_loses_nothing_that_was_told() {
    let nodes = Nodes::start(3, Options::default());
    for topic in &topics() {
        nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
    }
    for (number, gone) in [(2, 1), (3, 2)] {
        nodes.pass(2_000).await;
        nodes.routers[gone].shutdown().await;
        nodes.see(&view(number, (0..3).filter(|node| *node == 0 || *node > gone)));
        nodes.pass(1).await;
        for topic in &topics() {
            nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
        }
    }
    nodes.pass(1_000).await;
    let last = Nodes { routers: vec![nodes.routers[0].clone()], ..nodes.clone() };
    for topic in &topics() {
        assert_eq!(last.total("default", topic).await, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_both_take_themselves_for_the_owner_count_together_in_the_end() {
    let nodes = Nodes::start(3, Options::default());
    for topic in &topics() {
        nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
    }
    nodes.pass(1_000).await;
    // The others take the first one for dead, without its knowledge.
    for node in [1, 2] {
        nodes.views[node].send_replace(view(2, [1, 2]));
    }
    nodes.pass(100).await;
    let mut published = BTreeMap::new();
    for topic in &topics() {
        for node in 0..3 {
            let taken = nodes.publish(node, "default", topic, &[1.0]).await.is_ok();
            *published.entry(topic.clone()).or_insert(1) += u64::from(taken);
        }
    }
    nodes.pass(1_000).await;
    nodes.see(&view(3, 0..3));
    nodes.pass(3_000).await;
    for topic in &topics() {
        assert_eq!(nodes.total("default", topic).await, published[topic.as_str()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_nodes_watchers_and_windows_go_on_in_its_next_life() {
    let nodes = Nodes::start(3, Options::default());
    let watchers = [nodes.watcher(0, "there").await, nodes.watcher(1, "elsewhere").await];
    for topic in &topics() {
        for watcher in &watchers {
            watcher.watch(topic).await.unwrap();
        }
        nodes.publish(0, "default", topic, &[1.0]).await.unwrap();
    }
    nodes.pass(1_000).await;
    // It is suspended: the others own its topics, and continue counting.
    for node in [1, 2] {
        nodes.views[node].send_replace(view(2, [1, 2]));
    }
    nodes.pass(1_000).await;
    for topic in &topics() {
        nodes.publish(1, "default", topic, &[1.0]).await.unwrap();
    }
    let me = Incarnation { life: 2, ..incarnation(0) };
    let entries = [me.clone(), incarnation(1), incarnation(2)];
    let entries = entries.map(|incarnation| NodeEntry { incarnation, weight: 1, url: "ws://n".into() });
    let seen = View::new(3, entries.to_vec());
    let views = watch::Sender::new(seen.clone());
    nodes.routers[0].go_on(switchboard_router::Life { me, bus: nodes.bus.clone(), views: views.subscribe() }).await;
    for node in [1, 2] {
        nodes.views[node].send_replace(seen.clone());
    }
    nodes.pass(3_000).await;
    for watcher in &watchers {
        watcher.reader.frames();
    }
    for topic in &topics() {
        assert_eq!(nodes.total("default", topic).await, 2);
        nodes.publish(2, "default", topic, &[1.0, 1.0, 1.0]).await.unwrap();
    }
    nodes.pass(1_000).await;
    for watcher in &watchers {
        let frames = watcher.reader.frames();
        for topic in &topics() {
            let of_topic = |frame: &&ServerFrame| matches!(frame, ServerFrame::TopicUpdate(update) if update.topic.as_str() == topic);
            let told = frames.iter().filter(of_topic).cloned().collect::<Vec<_>>();
            assert_eq!(known(&told).1, 3, "{topic}: {frames:?}");
        }
    }
}

/// A node that has lost sight of the others counts for itself, and sends the counts to the owner later; the owner's
/// heir gets them too.
#[tokio::test(start_paused = true)]
async fn what_an_owner_is_told_outlives_the_owner() {
    for (alone, gone) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let nodes = Nodes::start(3, Options::default());
        let rest = 3 - alone - gone;
        for topic in &topics() {
            nodes.publish(rest, "default", topic, &[1.0]).await.unwrap();
        }
        nodes.pass(1_000).await;
        nodes.views[alone].send_replace(view(2, [alone]));
        for node in [gone, rest] {
            nodes.views[node].send_replace(view(2, [gone, rest]));
        }
        nodes.pass(2_000).await;
        for topic in &topics() {
            nodes.publish(alone, "default", topic, &[1.0]).await.unwrap();
        }
        nodes.see(&view(3, 0..3));
        nodes.pass(3_000).await;
        for topic in &topics() {
            assert_eq!(nodes.total("default", topic).await, 2);
        }
        nodes.routers[gone].shutdown().await;
        nodes.see(&view(4, (0..3).filter(|node| *node != gone)));
        nodes.pass(3_000).await;
        let left = Nodes { routers: vec![nodes.routers[alone].clone(), nodes.routers[rest].clone()], ..nodes.clone() };
        for topic in &topics() {
            assert_eq!(left.total("default", topic).await, 2, "{topic}: {alone} was alone, {gone} is gone");
        }
    }
}

/// Only the former life has these counts.
#[tokio::test(start_paused = true)]
async fn a_next_life_has_what_the_former_one_counted() {
    let nodes = Nodes::start(1, Options::default());
    nodes.publish(0, "default", "t", &[1.0, 2.0]).await.unwrap();
    let me = Incarnation { life: 2, ..incarnation(0) };
    let seen = View::new(2, vec![NodeEntry { incarnation: me.clone(), weight: 1, url: "ws://n".into() }]);
    let views = watch::Sender::new(seen);
    nodes.routers[0].go_on(switchboard_router::Life { me, bus: nodes.bus.clone(), views: views.subscribe() }).await;
    nodes.publish(0, "default", "t", &[3.0]).await.unwrap();
    assert_eq!(nodes.total("default", "t").await, 3);
}
