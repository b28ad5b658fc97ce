//! Watching: updates, their pace, slow readers, pages of a state, tenants.

use crate::nodes::{Nodes, count, event, key, known, state_of};
use switchboard_protocol::client::{TopicPublish, TopicWatch};
use switchboard_protocol::topic::Window;
use switchboard_protocol::{ClientFrame, ErrorCode, ServerFrame};
use switchboard_router::{Actor, Options, TOPICS_WATCHED_MAX};

#[tokio::test(start_paused = true)]
async fn whoever_publishes_where_everyone_watches_everywhere() {
    let nodes = Nodes::start(3, Options::default());
    let watchers = [nodes.watcher(0, "a").await, nodes.watcher(1, "b").await, nodes.watcher(2, "c").await];
    let same_node = nodes.watcher(2, "d").await;
    for watcher in watchers.iter().chain([&same_node]) {
        assert_eq!(watcher.watch("sales").await.unwrap().series, []);
    }
    for node in 0..3 {
        let ok = nodes.publish(node, "default", "sales", &[1.0, 2.0]).await.unwrap();
        assert_eq!((ok.accepted, ok.late, ok.seq), (Some(2), Some(0), None));
    }
    nodes.pass(1_000).await;
    for watcher in watchers.iter().chain([&same_node]) {
        let frames = watcher.reader.frames();
        assert_eq!(known(&frames).1, 6);
        assert!(frames.iter().all(|frame| matches!(frame, ServerFrame::TopicUpdate(_))));
    }
    for node in 0..3 {
        assert_eq!(count(&nodes.read(node, "default", "sales").await.series), 6);
    }
    // What others had received before is in its state.
    assert_eq!(count(&nodes.watcher(0, "late").await.watch("sales").await.unwrap().series), 6);
}

#[tokio::test(start_paused = true)]
async fn updates_come_at_most_every_250_ms_and_a_slow_reader_gets_the_newest_of_each_window() {
    let nodes = Nodes::start(2, Options::default());
    let (quick, slow) = (nodes.watcher(0, "quick").await, nodes.watcher(1, "slow").await);
    quick.watch("sales").await.unwrap();
    slow.watch("sales").await.unwrap();
    nodes.pass(1_000).await;
    for _ in 0..40 {
        nodes.publish(0, "default", "sales", &[1.0]).await.unwrap();
        nodes.pass(50).await;
    }
    nodes.pass(500).await;
    let frames = quick.reader.frames();
    assert!((6..=10).contains(&frames.len()), "{} updates in 2.5 s", frames.len());
    let versions: Vec<_> = frames.iter().map(|frame| known(std::slice::from_ref(frame)).0).collect();
    assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{versions:?}");
    let conflated = slow.reader.conflated();
    assert_eq!(conflated.len(), 1);
    assert_eq!((known(&conflated), known(&frames)), ((*versions.last().unwrap(), 40), (*versions.last().unwrap(), 40)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_watch_any_more_is_told_no_more() {
    let nodes = Nodes::start(2, Options::default());
    let (stays, leaves) = (nodes.watcher(0, "stays").await, nodes.watcher(1, "leaves").await);
    stays.watch("sales").await.unwrap();
    leaves.watch("sales").await.unwrap();
    leaves.unwatch("sales").await;
    let gone = nodes.watcher(1, "gone").await;
    gone.watch("sales").await.unwrap();
    drop(gone.connected);
    nodes.publish(1, "default", "sales", &[1.0]).await.unwrap();
    nodes.pass(1_000).await;
    assert_eq!((known(&stays.reader.frames()).1, leaves.reader.frames().len(), gone.reader.frames().len()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_a_tenant() {
    let nodes = Nodes::start(2, Options::default());
    let watcher = nodes.watcher(0, "a").await;
    watcher.watch("sales").await.unwrap();
    nodes.publish(0, "other", "sales", &[1.0]).await.unwrap();
    nodes.pass(1_000).await;
    assert_eq!(watcher.reader.frames(), []);
    assert_eq!(count(&nodes.read(1, "default", "sales").await.series), 0);
    assert_eq!(count(&nodes.read(1, "other", "sales").await.series), 1);
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_topics_are_every_tenants_and_nobody_publishes_to_them() {
    let nodes = Nodes::start(2, Options::default());
    let refused = nodes.publish(0, "default", "$node", &[1.0]).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    for router in &nodes.routers {
        router.publish_own("$node".parse().unwrap(), vec![event("s", 1.0)]).await.unwrap();
    }
    assert_eq!(count(&nodes.read(0, "other", "$node").await.series), 2);
}

#[tokio::test(start_paused = true)]
async fn one_session_watches_at_most_so_many() {
    let nodes = Nodes::start(1, Options::default());
    let watcher = nodes.watcher(0, "a").await;
    for n in 0..TOPICS_WATCHED_MAX {
        watcher.watch(&format!("t{n}")).await.unwrap();
    }
    watcher.watch("t0").await.unwrap();
    assert_eq!(watcher.watch("more").await.unwrap_err(), ErrorCode::Conflict);
    watcher.unwatch("t0").await;
    watcher.watch("more").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_state_has_no_room_for_is_read_behind_it() {
    let nodes = Nodes::start(3, Options::default());
    for node in 0..3 {
        let watcher = nodes.watcher(node, &format!("u{node}")).await;
        let topic = format!("t{node}");
        for _ in 0..20 {
            let events = (0..500).map(|n| event(&format!("s{n}"), 1.0)).collect();
            let publish = ClientFrame::TopicPublish(TopicPublish { topic: topic.parse().unwrap(), events });
            let actor = Actor { user: key("default", "publisher"), session: None, awaited: true };
            nodes.routers[0].call(actor, publish).await.unwrap();
            nodes.pass(1_000).await;
        }
        let first = watcher.watch(&topic).await.unwrap();
        let (mut more, mut total) = (first.more, count(&first.series));
        assert!(more);
        let mut before_ms = first.series[0].points[0].start_ms;
        while more {
            let asked = TopicWatch {
                topic: topic.parse().unwrap(),
                window: Window::Second,
                range_s: 3_600,
                before_ms: Some(before_ms),
            };
            let answer = watcher.router.call(watcher.connected.actor(true), ClientFrame::TopicWatch(asked)).await;
            let older = state_of(answer).unwrap();
            assert!(older.series.iter().flat_map(|series| &series.points).all(|point| point.start_ms < before_ms));
            (more, before_ms, total) = (older.more, older.series[0].points[0].start_ms, total + count(&older.series));
        }
        assert_eq!(total, 20 * 500);
        // It still watches: from the first state on.
        nodes.publish(0, "default", &topic, &[1.0]).await.unwrap();
        nodes.pass(1_000).await;
        let told = watcher.reader.frames();
        assert!(!told.is_empty() && told.iter().all(|frame| matches!(frame, ServerFrame::TopicUpdate(_))), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_reads_back_watches_nothing() {
    let nodes = Nodes::start(1, Options::default());
    let reader = nodes.watcher(0, "a").await;
    let before_ms = Some(nodes.clock.wall_ms());
    let asked = TopicWatch { topic: "t".parse().unwrap(), window: Window::Second, range_s: 60, before_ms };
    state_of(reader.router.call(reader.connected.actor(true), ClientFrame::TopicWatch(asked)).await).unwrap();
    nodes.publish(0, "default", "t", &[1.0]).await.unwrap();
    nodes.pass(1_000).await;
    assert_eq!(reader.reader.frames(), []);
}
