//! Dashboards over several nodes: whoever publishes where, whoever watches where; when a topic's owner goes; and nothing
//! crosses a tenant.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{TopicPublish, TopicUnwatch, TopicWatch};
use switchboard_protocol::server::{OkFrame, TopicState};
use switchboard_protocol::topic::{Event, SeriesPoints, Tags, Window};
use switchboard_protocol::{ClientFrame, CloseCode, ErrorCode, Number, ProtocolError, ServerFrame};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, NodeEntry, Options, Router, Socket, Start,
    TOPICS_WATCHED_MAX, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

/// A session that reads everything at once, or what has become of it while it did not read.
#[derive(Default)]
struct Reader(Mutex<Vec<Arc<Delivery>>>);

impl Reader {
    /// What has come since the last call.
    fn frames(&self) -> Vec<ServerFrame> {
        let text = |delivery: &Arc<Delivery>| String::from_utf8(delivery.json.to_vec()).unwrap();
        std::mem::take(&mut *self.0.lock().unwrap()).iter().map(|d| ServerFrame::decode(&text(d)).unwrap().1).collect()
    }

    /// The same, each topic's frames become one.
    fn conflated(&self) -> Vec<ServerFrame> {
        let mut frames = self.0.lock().unwrap();
        let first = frames.drain(..).reduce(|older, newer| older.conflated(&newer));
        frames.extend(first);
        drop(frames);
        self.frames()
    }
}

impl Socket for Reader {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        self.0.lock().unwrap().push(delivery.clone());
    }

    fn close(&self, _why: CloseCode) {}
    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {}
}

#[derive(Clone)]
struct Nodes {
    routers: Vec<Router>,
    /// What each of them sees.
    views: Vec<watch::Sender<View>>,
    bus: Arc<InProcessBus>,
    clock: Clock,
}

fn incarnation(number: usize) -> Incarnation {
    Incarnation { node: format!("n{number}").parse().unwrap(), life: 1 }
}

fn view(number: u64, nodes: impl IntoIterator<Item = usize>) -> View {
    let entry = |node| NodeEntry { incarnation: incarnation(node), weight: 1, url: "ws://n".into() };
    View::new(number, nodes.into_iter().map(entry).collect())
}

impl Nodes {
    fn start(count: usize, options: Options) -> Self {
        let views: Vec<_> = (0..count).map(|_| watch::Sender::new(view(1, 0..count))).collect();
        let bus = Arc::new(InProcessBus::default());
        let store = Arc::new(MemoryStore::new("topics"));
        // A whole minute.
        let clock = Clock::simulated(1_767_225_600_000, Arc::default());
        let start = |number| {
            Router::start(Start {
                me: incarnation(number),
                options,
                clock: clock.clone(),
                generator: Generator::from_seed(number as u64),
                store: store.clone(),
                bus: bus.clone(),
                views: views[number].subscribe(),
            })
        };
        Self { routers: (0..count).map(start).collect(), views, bus: bus.clone(), clock }
    }

    /// What everyone sees from now on.
    fn see(&self, view: &View) {
        self.views.iter().for_each(|views| drop(views.send_replace(view.clone())));
    }

    async fn watcher(&self, node: usize, user: &str) -> Watcher {
        let new = NewSession {
            user: key("default", user),
            device: "phone".parse().unwrap(),
            instance: Default::default(),
            issued_at: None,
            name: None,
        };
        let reader = Arc::new(Reader::default());
        let connected = self.routers[node].connect(new, reader.clone()).await.unwrap();
        Watcher { router: self.routers[node].clone(), connected, reader }
    }

    async fn publish(&self, node: usize, tenant: &str, topic: &str, values: &[f64]) -> Result<OkFrame, ProtocolError> {
        let events = values.iter().map(|value| event("s", *value)).collect();
        let publish = ClientFrame::TopicPublish(TopicPublish { topic: topic.parse().unwrap(), events });
        let actor = Actor { user: key(tenant, "publisher"), session: None, awaited: true };
        match self.routers[node].call(actor, publish).await? {
            Answer::Frame(ServerFrame::Ok(ok)) => Ok(ok),
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self, node: usize, tenant: &str, topic: &str) -> TopicState {
        let actor = Actor { user: key(tenant, "reader"), session: None, awaited: true };
        state_of(self.routers[node].call(actor, watch_frame(topic, 60)).await).unwrap()
    }

    /// How many events a topic has, by its windows of a minute, which all nodes say alike.
    async fn total(&self, tenant: &str, topic: &str) -> u64 {
        let mut totals = Vec::new();
        for router in self.routers.iter() {
            let actor = Actor { user: key(tenant, "reader"), session: None, awaited: true };
            let read =
                TopicWatch { topic: topic.parse().unwrap(), window: Window::Minute, range_s: 3_600, before_ms: None };
            let state = state_of(router.call(actor, ClientFrame::TopicWatch(read)).await);
            totals.extend(state.map(|state| count(&state.series)));
        }
        totals.dedup();
        assert_eq!(totals.len(), 1, "{totals:?}");
        totals[0]
    }

    /// Lets time pass. It is paused, so nothing waits in truth.
    async fn pass(&self, ms: u64) {
        self.clock.sleep_ms(ms).await;
    }
}

struct Watcher {
    router: Router,
    connected: Connected,
    reader: Arc<Reader>,
}

impl Watcher {
    async fn watch(&self, topic: &str) -> Result<TopicState, ErrorCode> {
        let answer = self.router.call(self.connected.actor(true), watch_frame(topic, 3_600)).await;
        state_of(answer).map_err(|error| error.code())
    }

    async fn unwatch(&self, topic: &str) {
        let unwatch = TopicUnwatch { topic: topic.parse().unwrap(), window: Window::Second };
        self.router.call(self.connected.actor(true), ClientFrame::TopicUnwatch(unwatch)).await.unwrap();
    }
}

fn key(tenant: &str, user: &str) -> UserKey {
    UserKey { tenant: tenant.parse().unwrap(), user: user.parse().unwrap() }
}

fn event(series: &str, value: f64) -> Event {
    let value = Number::saturating(value);
    Event { series: series.parse().unwrap(), value, timestamp: None, tags: Tags::default() }
}

fn watch_frame(topic: &str, range_s: u32) -> ClientFrame {
    let topic = topic.parse().unwrap();
    ClientFrame::TopicWatch(TopicWatch { topic, window: Window::Second, range_s, before_ms: None })
}

fn state_of(answer: Result<Answer, ProtocolError>) -> Result<TopicState, ProtocolError> {
    match answer? {
        Answer::Frame(ServerFrame::TopicState(state)) => Ok(state),
        other => panic!("{other:?}"),
    }
}

fn count(series: &[SeriesPoints]) -> u64 {
    series.iter().flat_map(|series| &series.points).map(|point| point.count).sum()
}

/// The version and number of events that a reader of these knows of, who had none before.
fn known(frames: &[ServerFrame]) -> (u64, u64) {
    let (mut last, mut points) = (0, BTreeMap::new());
    for frame in frames {
        let (version, series) = match frame {
            ServerFrame::TopicUpdate(update) => (update.version, &update.series),
            ServerFrame::TopicState(state) => {
                points.clear();
                (state.version, &state.series)
            }
            other => panic!("{other:?}"),
        };
        last = version;
        for point in series.iter().flat_map(|series| &series.points) {
            points.insert(point.start_ms, point.count);
        }
    }
    (last, points.values().sum())
}

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
    // What another had before it came is in its state.
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
async fn when_the_owner_goes_watchers_get_a_new_state_and_updates_go_on() {
    for gone in 0..3 {
        let nodes = Nodes::start(3, Options::default());
        let watcher = nodes.watcher((gone + 1) % 3, "a").await;
        // Some of these are owned by the node that goes.
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
async fn topics_have_so_much_memory_and_give_it_back() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(1, Options { topics_lateness_ms: 0, ..options });
    let full = async {
        for n in 0.. {
            if let Err(error) = nodes.publish(0, "default", &format!("t{n}"), &[1.0]).await {
                return (n, error.code());
            }
        }
        unreachable!("it is never full")
    };
    let (topics, code) = tokio::time::timeout(Duration::from_secs(1_000), full).await.unwrap();
    assert_eq!(code, ErrorCode::Overloaded);
    assert!((4..100).contains(&topics), "{topics} topics in 20 KB, and no time has passed");
    let watcher = nodes.watcher(0, "a").await;
    assert_eq!(watcher.watch("another").await.unwrap_err(), ErrorCode::Overloaded, "nor is there room to wait in");
    watcher.watch("t0").await.unwrap();
    nodes.routers[0].publish_own("$node".parse().unwrap(), vec![event("s", 1.0)]).await.unwrap();
    watcher.unwatch("t0").await;
    nodes.pass(3_700_000).await;
    nodes.publish(0, "default", "t0", &[1.0]).await.unwrap();
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
        // It watches as it did: from the first state on.
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

#[tokio::test(start_paused = true)]
async fn topics_that_are_only_watched_take_memory_too() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut watchers = Vec::new();
    let refused = loop {
        let watcher = nodes.watcher(0, &format!("u{}", watchers.len())).await;
        let watched = watcher.watch(&format!("t{}", watchers.len())).await;
        watchers.push(watcher);
        if let Err(code) = watched {
            break code;
        }
        assert!(watchers.len() < 100, "it is never full");
    };
    assert_eq!(refused, ErrorCode::Overloaded);
    drop(watchers);
    nodes.pass(1_000).await;
    nodes.watcher(0, "a").await.watch("t").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_share_of_the_memory_and_others_have_theirs() {
    let options = Options { topics_memory_bytes: 40_000, topics_tenant_percent: 25, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut taken = 0;
    let refused = loop {
        match nodes.publish(0, "greedy", &format!("t{taken}"), &[1.0]).await {
            Ok(_) => taken += 1,
            Err(error) => break error.code(),
        }
    };
    assert_eq!(refused, ErrorCode::Overloaded);
    for topic in 0..taken {
        nodes.publish(0, "modest", &format!("t{topic}"), &[1.0]).await.unwrap();
    }
    assert_eq!(nodes.publish(0, "modest", "more", &[1.0]).await.unwrap_err().code(), ErrorCode::Overloaded);
    assert_eq!(nodes.total("greedy", "t0").await, 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_together_take_no_more_memory_than_there_is() {
    let options = Options { topics_memory_bytes: 40_000, topics_tenant_percent: 75, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut taken = [0, 0];
    for (tenant, taken) in ["first", "second"].into_iter().zip(&mut taken) {
        while nodes.publish(0, tenant, &format!("t{taken}"), &[1.0]).await.is_ok() {
            *taken += 1;
        }
    }
    assert!((1..taken[0]).contains(&taken[1]), "the second one gets what the first one leaves: {taken:?}");
}

/// Topics of which each of three nodes owns some.
fn topics() -> Vec<String> {
    (0..8).map(|n| format!("t{n}")).collect()
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
        // Some have been told at a tick, some have not.
        nodes.pass(1_000).await;
        for topic in &topics() {
            nodes.publish(gone, "default", topic, &[3.0]).await.unwrap();
        }
        let without = view(2, (0..3).filter(|node| *node != gone));
        // Whether they hear of it before it has ended, or behind that.
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
        // One that goes comes back in the next round. Not always is there time to hand everything over in between.
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
    // The others take the first one for dead, which knows nothing of it.
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
    // It stands still: the others own what it owned, and count on.
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

#[tokio::test(start_paused = true)]
async fn a_copy_takes_no_more_memory_than_there_is() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(2, options);
    let owned_by = |node: usize| {
        let nodes = &nodes;
        async move {
            let mut taken = Vec::new();
            for n in 0..200 {
                let topic = format!("t{n}");
                // Only the owner itself takes it while the others are not asked.
                if nodes.publish(node, "default", &topic, &[1.0]).await.is_ok() {
                    taken.push(topic);
                }
            }
            taken
        }
    };
    let taken = owned_by(0).await;
    nodes.pass(3_000).await;
    for topic in &taken {
        assert_eq!(nodes.total("default", topic).await, 1, "events come before copies");
    }
    nodes.routers[1].shutdown().await;
    nodes.see(&view(2, [0]));
    nodes.pass(1_000).await;
    let last = Nodes { routers: vec![nodes.routers[0].clone()], ..nodes.clone() };
    let mut kept = 0;
    for topic in &taken {
        kept += last.total("default", topic).await;
    }
    assert!(
        (1..taken.len() as u64).contains(&kept),
        "{kept} of {}: full as they were, not all had a copy",
        taken.len()
    );
}

/// Whoever has lost sight of the others counts for itself, and tells the owner later; the owner's heir learns of it too.
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

/// Of what nobody else has there is only what the former life has counted.
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
