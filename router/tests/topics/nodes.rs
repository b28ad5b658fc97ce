//! Several nodes in one process, and sessions that read their frames.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{TopicPublish, TopicUnwatch, TopicWatch};
use switchboard_protocol::server::{OkFrame, TopicState};
use switchboard_protocol::topic::{Event, SeriesPoints, Tags, Window};
use switchboard_protocol::{ClientFrame, CloseCode, ErrorCode, Number, ProtocolError, ServerFrame};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, NodeEntry, Options, Router, Socket, Start, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

/// A session that reads everything at once, or gets merged frames after not reading.
#[derive(Default)]
pub(crate) struct Reader(pub(crate) Mutex<Vec<Arc<Delivery>>>);

impl Reader {
    /// The frames since the last call.
    pub(crate) fn frames(&self) -> Vec<ServerFrame> {
        let text = |delivery: &Arc<Delivery>| String::from_utf8(delivery.json.to_vec()).unwrap();
        std::mem::take(&mut *self.0.lock().unwrap()).iter().map(|d| ServerFrame::decode(&text(d)).unwrap().1).collect()
    }

    /// The same, with each topic's frames merged.
    pub(crate) fn conflated(&self) -> Vec<ServerFrame> {
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
pub(crate) struct Nodes {
    pub(crate) routers: Vec<Router>,
    /// The view of each node.
    pub(crate) views: Vec<watch::Sender<View>>,
    pub(crate) bus: Arc<InProcessBus>,
    pub(crate) clock: Clock,
}

pub(crate) fn incarnation(number: usize) -> Incarnation {
    Incarnation { node: format!("n{number}").parse().unwrap(), life: 1 }
}

pub(crate) fn view(number: u64, nodes: impl IntoIterator<Item = usize>) -> View {
    let entry = |node| NodeEntry { incarnation: incarnation(node), weight: 1, url: "ws://n".into() };
    View::new(number, nodes.into_iter().map(entry).collect())
}

impl Nodes {
    pub(crate) fn start(count: usize, options: Options) -> Self {
        let views: Vec<_> = (0..count).map(|_| watch::Sender::new(view(1, 0..count))).collect();
        let bus = Arc::new(InProcessBus::default());
        let store = Arc::new(MemoryStore::new("topics"));
        // The start of a minute.
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

    /// Shows this view to all nodes.
    pub(crate) fn see(&self, view: &View) {
        self.views.iter().for_each(|views| drop(views.send_replace(view.clone())));
    }

    pub(crate) async fn watcher(&self, node: usize, user: &str) -> Watcher {
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

    pub(crate) async fn publish(
        &self,
        node: usize,
        tenant: &str,
        topic: &str,
        values: &[f64],
    ) -> Result<OkFrame, ProtocolError> {
        let events = values.iter().map(|value| event("s", *value)).collect();
        let publish = ClientFrame::TopicPublish(TopicPublish { topic: topic.parse().unwrap(), events });
        let actor = Actor { user: key(tenant, "publisher"), session: None, awaited: true };
        match self.routers[node].call(actor, publish).await? {
            Answer::Frame(ServerFrame::Ok(ok)) => Ok(ok),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn read(&self, node: usize, tenant: &str, topic: &str) -> TopicState {
        let actor = Actor { user: key(tenant, "reader"), session: None, awaited: true };
        state_of(self.routers[node].call(actor, watch_frame(topic, 60)).await).unwrap()
    }

    /// The number of events of a topic, according to its 1 min windows, on which all nodes agree.
    pub(crate) async fn total(&self, tenant: &str, topic: &str) -> u64 {
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

    /// Advances the paused time.
    pub(crate) async fn pass(&self, ms: u64) {
        self.clock.sleep_ms(ms).await;
    }
}

pub(crate) struct Watcher {
    pub(crate) router: Router,
    pub(crate) connected: Connected,
    pub(crate) reader: Arc<Reader>,
}

impl Watcher {
    pub(crate) async fn watch(&self, topic: &str) -> Result<TopicState, ErrorCode> {
        let answer = self.router.call(self.connected.actor(true), watch_frame(topic, 3_600)).await;
        state_of(answer).map_err(|error| error.code())
    }

    pub(crate) async fn unwatch(&self, topic: &str) {
        let unwatch = TopicUnwatch { topic: topic.parse().unwrap(), window: Window::Second };
        self.router.call(self.connected.actor(true), ClientFrame::TopicUnwatch(unwatch)).await.unwrap();
    }
}

pub(crate) fn key(tenant: &str, user: &str) -> UserKey {
    UserKey { tenant: tenant.parse().unwrap(), user: user.parse().unwrap() }
}

pub(crate) fn event(series: &str, value: f64) -> Event {
    let value = Number::saturating(value);
    Event { series: series.parse().unwrap(), value, timestamp: None, tags: Tags::default() }
}

pub(crate) fn watch_frame(topic: &str, range_s: u32) -> ClientFrame {
    let topic = topic.parse().unwrap();
    ClientFrame::TopicWatch(TopicWatch { topic, window: Window::Second, range_s, before_ms: None })
}

pub(crate) fn state_of(answer: Result<Answer, ProtocolError>) -> Result<TopicState, ProtocolError> {
    match answer? {
        Answer::Frame(ServerFrame::TopicState(state)) => Ok(state),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn count(series: &[SeriesPoints]) -> u64 {
    series.iter().flat_map(|series| &series.points).map(|point| point.count).sum()
}

/// The version and the number of events that a reader of these frames knows, starting from none.
pub(crate) fn known(frames: &[ServerFrame]) -> (u64, u64) {
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
