//! The bus and the view over a real redis-server, when nodes or Redis go away.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod deployments;

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use switchboard_clock::Clock;
use switchboard_router::{
    Bus as _, BusError, Ended, NodeEntry, Packets, Redis, RedisBus, RedisError, RedisOptions, View,
};
use switchboard_store::Incarnation;
use switchboard_tests::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// For tests that wait for it: long compared with a round trip on a busy machine.
const SHORT_TTL_MS: u64 = 1_000;

/// Longer than anything here takes, unless it is stuck.
const STUCK: Duration = Duration::from_secs(30);

fn options(server: &RedisServer) -> RedisOptions {
    options_at(server.url())
}

fn options_at(url: String) -> RedisOptions {
    RedisOptions {
        url,
        username: None,
        password: None,
        prefix: "test".into(),
        timeout_ms: 5_000,
        queue_bytes: 1_000_000,
        heartbeat_ttl_ms: 10_000,
    }
}

/// A TTL is longer than two of its time limits.
fn short(options: RedisOptions) -> RedisOptions {
    RedisOptions { timeout_ms: SHORT_TTL_MS / 4, heartbeat_ttl_ms: SHORT_TTL_MS, ..options }
}

fn entry(name: &str, life: u64) -> NodeEntry {
    NodeEntry {
        incarnation: Incarnation { node: name.parse().unwrap(), life },
        weight: 1,
        url: format!("ws://{name}").into(),
    }
}

/// A node as far as Redis is concerned.
struct Node {
    me: Incarnation,
    bus: RedisBus,
    packets: Packets,
    views: watch::Receiver<View>,
    leaving: CancellationToken,
    stop: CancellationToken,
    running: JoinHandle<Result<Ended, RedisError>>,
}

impl Node {
    async fn join(options: &RedisOptions, name: &str, life: u64) -> Result<Self, RedisError> {
        let me = entry(name, life);
        let joining = Redis::join(options, me.clone(), Clock::system());
        let redis = tokio::time::timeout(STUCK, joining).await.expect("joins")?;
        let (bus, views, leaving) = (redis.bus(), redis.views(), redis.leaving());
        let packets = bus.subscribe(&me.incarnation);
        let stop = CancellationToken::new();
        let running = tokio::task::spawn(redis.run(stop.clone()));
        Ok(Self { me: me.incarnation, bus, packets, views, leaving, stop, running })
    }

    /// Waits until this node sees exactly these.
    async fn sees(&mut self, names: &[&str]) -> View {
        let shown = |view: &View| {
            let shown: Vec<String> = view.nodes.iter().map(|node| node.incarnation.to_string()).collect();
            shown
        };
        let seen = self.views.wait_for(|view| shown(view) == names);
        let seen = tokio::time::timeout(STUCK, seen).await.map(|seen| seen.expect("it runs").clone());
        seen.unwrap_or_else(|_| panic!("{} sees {:?}, not {names:?}", self.me, shown(&self.views.borrow())))
    }

    async fn hears(&mut self) -> Bytes {
        tokio::time::timeout(STUCK, self.packets.recv()).await.expect("a packet").expect("the bus runs")
    }

    /// Publishes until it gets through again.
    async fn says_at_last(&self, to: &mut Node, packet: &'static [u8]) {
        let heard = async {
            loop {
                drop(self.bus.publish(&to.me, Bytes::from_static(packet)));
                let heard = tokio::time::timeout(Duration::from_millis(50), to.packets.recv()).await;
                if heard.is_ok_and(|heard| heard.as_deref() == Some(packet)) {
                    return;
                }
            }
        };
        tokio::time::timeout(STUCK, heard).await.expect("heard again");
    }

    /// Waits until it reports this.
    async fn is_connected(&self, connected: bool) {
        let is = async {
            while self.bus.is_connected() != connected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(STUCK, is).await.unwrap_or_else(|_| panic!("{}: not {connected}", self.me));
    }

    /// Like kill -9: nobody is notified.
    fn die(self) {
        self.running.abort();
    }

    async fn end(self) {
        self.stop.cancel();
        assert_eq!(self.running.await.unwrap().unwrap(), Ended::AsAsked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_see_each_other_and_packets_come_in_order() {
    let server = RedisServer::start().unwrap();
    let options = options(&server);
    let mut a = Node::join(&options, "a", 1).await.unwrap();
    let mut b = Node::join(&options, "b", 2).await.unwrap();
    let view = a.sees(&["a~1", "b~2"]).await;
    assert_eq!(&*view.nodes[1].url, "ws://b");
    b.sees(&["a~1", "b~2"]).await;

    for n in 0..1_000u32 {
        a.bus.publish(&b.me, Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
    }
    for n in 0..1_000u32 {
        assert_eq!(&*b.hears().await, n.to_be_bytes());
    }
    a.end().await;
    b.sees(&["b~2"]).await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_taken_out_and_its_next_life_comes_in() {
    let server = RedisServer::start().unwrap();
    let options = short(options(&server));
    let mut a = Node::join(&options, "a", 1).await.unwrap();
    let b = Node::join(&options, "b", 1).await.unwrap();
    a.sees(&["a~1", "b~1"]).await;
    b.die();
    a.sees(&["a~1"]).await;

    let b = Node::join(&options, "b", 2).await.unwrap();
    a.sees(&["a~1", "b~2"]).await;
    b.die();
    let mut b = Node::join(&options, "b", 3).await.expect("waits for the key of the former life to expire");
    a.sees(&["a~1", "b~3"]).await;
    b.sees(&["a~1", "b~3"]).await;
}

/// Has a node stall.
struct Stall {
    now: oneshot::Sender<()>,
    /// It does.
    done: oneshot::Receiver<()>,
}

impl Stall {
    /// Returns when the node stalls, or if it has ended.
    async fn begin(self) {
        let _ = self.now.send(());
        drop(self.done.await);
    }
}

/// What happens to a node's look at who is there.
enum AtLook {
    /// It gets no answer within its time limit, and loses its connection.
    Fails,
    /// The answer comes while the node stalls.
    Stalls(Stall),
}

/// A node with a thread of its own, which does not run from one signal to another, as if the process were stopped.
/// Returns how its membership ended.
fn stalls(options: RedisOptions, go_on: mpsc::Receiver<()>) -> (Stall, thread::JoinHandle<Ended>) {
    let ((now, stall), (stalled, done)) = (oneshot::channel(), oneshot::channel());
    let node = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut node = Node::join(&options, "a", 1).await.unwrap();
            tokio::select! {
                stall = stall => stall.unwrap(),
                // The machine was so slow that it has stalled already.
                ended = &mut node.running => return ended.unwrap().unwrap(),
            }
            stalled.send(()).unwrap();
            // A shorter stall counts as a silence of Redis.
            thread::sleep(Duration::from_millis(SHORT_TTL_MS / 2));
            go_on.recv_timeout(STUCK).unwrap();
            tokio::time::timeout(STUCK, node.running).await.expect("it ends").unwrap().unwrap()
        })
    });
    (Stall { now, done }, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_did_not_run_finds_itself_taken_for_dead_and_stays_out() {
    taken_for_dead(async |_, stall| stall.begin().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_asked_before_it_did_not_run_does_not_bring_it_back() {
    taken_for_dead(async |proxy, stall| proxy.next_looks([AtLook::Stalls(stall)])).await;
}

/// Its stall is shorter than a TTL then.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_did_not_run_after_it_could_not_beat_finds_itself_taken_for_dead() {
    taken_for_dead(async |proxy, stall| proxy.next_looks([AtLook::Fails, AtLook::Stalls(stall)])).await;
}

/// A node stalls as `begin` says, and goes on when the other one has taken it out.
async fn taken_for_dead(begin: impl AsyncFnOnce(&Proxy, Stall)) {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::default();
    let through = format!("redis://127.0.0.1:{}", proxy.start(server.port()).await);
    let mut b = Node::join(&short(options(&server)), "b", 1).await.unwrap();
    let (go_on, goes_on_now) = mpsc::channel();
    let (stall, a) = stalls(short(options_at(through)), goes_on_now);
    b.sees(&["a~1", "b~1"]).await;
    begin(&proxy, stall).await;
    b.sees(&["b~1"]).await;
    let taken_out = async {
        while server.command(&[b"SCARD", b"{test}:nodes"]).unwrap().trim() != ":1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(STUCK, taken_out).await.expect("its name is removed");
    b.views.mark_unchanged();
    let _ = go_on.send(());
    assert_eq!(a.join().unwrap(), Ended::TakenForDead);
    assert_eq!(server.command(&[b"EXISTS", b"{test}:node:a"]).unwrap().trim(), ":0");
    assert!(!b.views.has_changed().unwrap(), "{:?}", b.views.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_out_for_everyone_while_it_still_runs() {
    let server = RedisServer::start().unwrap();
    let options = options(&server);
    let mut a = Node::join(&options, "a", 1).await.unwrap();
    let mut b = Node::join(&options, "b", 1).await.unwrap();
    a.sees(&["a~1", "b~1"]).await;
    b.sees(&["a~1", "b~1"]).await;
    b.leaving.cancel();
    a.sees(&["a~1"]).await;
    b.sees(&["a~1"]).await;
    a.bus.publish(&b.me, Bytes::from_static(b"still")).unwrap();
    assert_eq!(&*b.hears().await, b"still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused() {
    let server = RedisServer::start().unwrap();
    let options = options(&server);
    let mut a = Node::join(&options, "a", 1).await.unwrap();
    let second = Node::join(&options, "a", 2).await.err().expect("refused");
    assert_eq!(
        second.to_string(),
        "node.id: \"a\" is taken by the node at ws://a (its key in Redis is renewed): give each node a name of its own"
    );
    a.sees(&["a~1"]).await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_taken_out_while_redis_is_away_and_all_comes_back_by_itself() {
    let mut server = RedisServer::start().unwrap();
    let options = options(&server);
    let mut a = Node::join(&options, "a", 1).await.unwrap();
    let mut b = Node::join(&options, "b", 1).await.unwrap();
    a.sees(&["a~1", "b~1"]).await;
    b.sees(&["a~1", "b~1"]).await;
    let (seen_by_a, seen_by_b) = (a.views.borrow().number, b.views.borrow().number);

    server.kill().unwrap();
    let refused = async {
        loop {
            match a.bus.publish(&b.me, Bytes::from_static(b"lost")) {
                Err(BusError::Down(_)) => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(STUCK, refused).await.expect("the bus says that it is down");
    server.start_again().unwrap();
    a.says_at_last(&mut b, b"again").await;
    b.says_at_last(&mut a, b"again").await;
    assert_eq!((a.views.borrow().number, b.views.borrow().number), (seen_by_a, seen_by_b), "the last view stayed");

    server.pause().unwrap();
    a.running.abort();
    server.resume().unwrap();
    b.sees(&["b~1"]).await;
}

/// Between a node and Redis.
#[derive(Clone, Default)]
struct Proxy {
    /// Silently blocks connections that subscribe, without closing them.
    swallows: Arc<AtomicBool>,
    /// What happens when the node next looks who is there, and then.
    at_looks: Arc<Mutex<VecDeque<AtLook>>>,
}

impl Proxy {
    fn next_looks(&self, looks: impl IntoIterator<Item = AtLook>) {
        self.at_looks.lock().unwrap().extend(looks);
    }

    /// Returns where it listens.
    async fn start(&self, redis_port: u16) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(proxy.clone().carry(client, redis_port));
            }
        });
        port
    }

    async fn carry(self, client: TcpStream, redis_port: u16) {
        let Ok(redis) = TcpStream::connect(("127.0.0.1", redis_port)).await else { return };
        let ((mut from_client, mut to_client), (mut from_redis, mut to_redis)) =
            (client.into_split(), redis.into_split());
        let subscribes = Arc::new(AtomicBool::new(false));
        let (asked, swallows) = (subscribes.clone(), self.swallows);
        let asking = async move {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                let asks = |command: &[u8]| buffer[..length].windows(command.len()).any(|part| part == command);
                asked.fetch_or(asks(b"SUBSCRIBE"), Ordering::Relaxed);
                let at_look = if asks(b"SMEMBERS") { self.at_looks.lock().unwrap().pop_front() } else { None };
                match at_look {
                    Some(AtLook::Fails) => return tokio::time::sleep(Duration::from_millis(SHORT_TTL_MS / 4)).await,
                    Some(AtLook::Stalls(stall)) => stall.begin().await,
                    None => {}
                }
                if to_redis.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        };
        let telling = async move {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = from_redis.read(&mut buffer).await {
                if subscribes.load(Ordering::Relaxed) && swallows.load(Ordering::Relaxed) {
                    // For ever: Redis continues to believe in the subscriber.
                    return std::future::pending().await;
                }
                if to_client.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = telling => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_channel_has_gone_silent_says_so_and_subscribes_anew() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::default();
    let through = format!("redis://127.0.0.1:{}", proxy.start(server.port()).await);
    let mut a = Node::join(&short(options_at(through)), "a", 1).await.unwrap();
    let b = Node::join(&short(options(&server)), "b", 1).await.unwrap();
    a.sees(&["a~1", "b~1"]).await;
    b.says_at_last(&mut a, b"hello").await;
    a.is_connected(true).await;

    proxy.swallows.store(true, Ordering::Relaxed);
    a.is_connected(false).await;
    proxy.swallows.store(false, Ordering::Relaxed);
    b.says_at_last(&mut a, b"again").await;
    a.is_connected(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_and_a_wrong_one_is_no_way_in() {
    let server = RedisServer::start_with(&["--requirepass", "sesame"]).unwrap();
    let right = RedisOptions { password: Some("sesame".into()), ..options(&server) };
    let mut a = Node::join(&right, "a", 1).await.unwrap();
    a.sees(&["a~1"]).await;

    let wrong = RedisOptions { password: Some("open".into()), ..options(&server) };
    for options in [wrong, options(&server)] {
        let refused = Node::join(&options, "b", 1).await.err().expect("refused");
        assert!(matches!(refused, RedisError::Credentials(_)), "{refused}");
    }
    a.sees(&["a~1"]).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_at_once() {
    for url in ["nonsense", "http://127.0.0.1", "redis://"] {
        let server = RedisServer::start().unwrap();
        let options = RedisOptions { url: url.into(), ..options(&server) };
        let refused = Redis::join(&options, entry("a", 1), Clock::system());
        let refused = tokio::time::timeout(STUCK, refused).await.unwrap_or_else(|_| panic!("{url} is tried"));
        assert!(refused.err().expect(url).to_string().starts_with("redis.url: "));
    }
}
