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

struct Nodes {
    routers: Vec<Router>,
    views: watch::Sender<View>,
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
        let (views, receiver) = watch::channel(view(1, 0..count));
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
                views: receiver.clone(),
            })
        };
        Self { routers: (0..count).map(start).collect(), views, clock }
    }

    async fn watcher(&self, node: usize, user: &str) -> Watcher {
        let new = NewSession {
            user: key("default", user),
            device: "phone".parse().unwrap(),
            instance: Default::default(),
            issued_at: None,
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
    ClientFrame::TopicWatch(TopicWatch { topic: topic.parse().unwrap(), window: Window::Second, range_s })
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
        nodes.views.send(view(2, (0..3).filter(|node| *node != gone))).unwrap();
        nodes.pass(2_000).await;
        let frames = watcher.reader.frames();
        let states: Vec<_> = frames
            .iter()
            .filter_map(|f| if let ServerFrame::TopicState(state) = f { Some(state) } else { None })
            .collect();
        assert!(!states.is_empty(), "no topic was owned by the node that went");
        for state in &states {
            assert_eq!((state.version, count(&state.series)), (0, 0), "what a dead owner had is lost");
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
    let nodes = Nodes::start(1, Options { topics_memory_bytes: 20_000, topics_lateness_ms: 0, ..Options::default() });
    let full = async {
        for n in 0.. {
            if let Err(error) = nodes.publish(0, "default", &format!("t{n}"), &[1.0]).await {
                return (n, error.code());
            }
            nodes.pass(300).await;
        }
        unreachable!("it is never full")
    };
    let (topics, code) = tokio::time::timeout(Duration::from_secs(1_000), full).await.unwrap();
    assert_eq!(code, ErrorCode::Overloaded);
    assert!((4..100).contains(&topics), "{topics} topics in 20 KB");
    nodes.pass(3_700_000).await;
    nodes.publish(0, "default", "t0", &[1.0]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_long_state_leaves_the_oldest_windows_out() {
    let nodes = Nodes::start(1, Options::default());
    let watcher = nodes.watcher(0, "a").await;
    let publish = |series: usize| {
        let events = (0..series).map(|n| event(&format!("s{n}"), 1.0)).collect();
        nodes.routers[0].publish_own("$node".parse().unwrap(), events)
    };
    for _ in 0..30 {
        publish(500).await.unwrap();
        nodes.pass(1_000).await;
    }
    let state = watcher.watch("$node").await.unwrap();
    let points: Vec<_> = state.series.iter().flat_map(|series| &series.points).map(|point| point.start_ms).collect();
    assert!((4_096..=8_192).contains(&points.len()), "{}", points.len());
    let newest = (nodes.clock.wall_ms() - 1_000) / 1_000 * 1_000;
    assert!(points.iter().all(|start_ms| *start_ms > newest - 17_000) && points.contains(&newest));
}
