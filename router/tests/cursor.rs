//! The `cursor` for a long-lived connection: only after a complete `sync`, and never ahead of what the session was
//! sent.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{ClientFrame, CloseCode, ParseLimits, TenantId, parse_client_frame};
use switchboard_router::{
    Actor, Answer, Connected, Delivery, InProcessBus, NewSession, Options, Router, Socket, Start, View,
};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

#[derive(Default)]
struct Inbox(Mutex<Vec<String>>);

impl Socket for Inbox {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        self.0.lock().unwrap().push(String::from_utf8(delivery.json.to_vec()).unwrap());
    }
    fn close(&self, _: CloseCode) {}
    fn reconnect(&self, _: u64, _: Option<&str>) {}
}

impl Inbox {
    fn of_type(&self, kind: &str) -> Vec<String> {
        let prefix = format!("{{\"type\":\"{kind}\"");
        self.0.lock().unwrap().iter().filter(|json| json.starts_with(&prefix)).cloned().collect()
    }
}

fn frame(json: &str) -> ClientFrame {
    parse_client_frame(json, &ParseLimits { content_bytes: 1_000 }).unwrap().frame
}

fn user(name: &str) -> UserKey {
    UserKey { tenant: TenantId::default(), user: name.parse().unwrap() }
}

async fn connect(router: &Router, name: &str) -> (Connected, Arc<Inbox>) {
    let inbox = Arc::new(Inbox::default());
    let new = NewSession {
        user: user(name),
        device: "d".parse().unwrap(),
        instance: "".parse().unwrap(),
        issued_at: None,
        name: None,
    };
    (router.connect(new, inbox.clone()).await.unwrap(), inbox)
}

/// A node, and its clock.
fn start() -> (Router, Clock, watch::Sender<View>) {
    let clock = Clock::simulated(1_800_000_000_000, Arc::new(AtomicI64::new(0)));
    let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
    let (views, receiver) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let router = Router::start(Start {
        me,
        options: Options::default(),
        clock: clock.clone(),
        generator: Generator::from_seed(1),
        store: Arc::new(MemoryStore::new("store")),
        bus: Arc::new(InProcessBus::default()),
        views: receiver,
    });
    (router, clock, views)
}

async fn sync(router: &Router, session: &Connected, cursor: Option<&str>) -> (String, usize) {
    let asked =
        cursor.map_or(r#"{"type":"sync"}"#.to_owned(), |cursor| format!(r#"{{"type":"sync","cursor":"{cursor}"}}"#));
    let Answer::Sync(sync) = router.call(session.actor(true), frame(&asked)).await.unwrap() else { panic!("no sync") };
    (sync.cursor, sync.conversations.len())
}

/// Sends a message from Alice to a user.
async fn send(router: &Router, to: &str, name: &str) {
    send_from(router, "alice", to, name).await;
}

async fn send_from(router: &Router, from: &str, to: &str, name: &str) {
    let sender = Actor { user: user(from), session: None, awaited: true };
    let send = format!(r#"{{"type":"send","to":"{to}","client_id":"{name}","content":{{"text":"hi"}}}}"#);
    router.call(sender, frame(&send)).await.unwrap();
}

fn cursor_of(frame: &str) -> String {
    serde_json::from_str::<serde_json::Value>(frame).unwrap()["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_long_connection_gets_a_newer_cursor_after_its_sync() {
    let (router, clock, _views) = start();
    let (bob, frames) = connect(&router, "bob").await;
    let (_idle, never_synced) = connect(&router, "carol").await;
    let (first, _) = sync(&router, &bob, None).await;

    clock.sleep_ms(61_000).await;
    send(&router, "bob", "m1").await;
    send(&router, "carol", "m1").await;
    clock.sleep_ms(3_000).await;
    assert_eq!(frames.of_type("cursor").len(), 0, "not before everything else has been told");
    clock.sleep_ms(5_000).await;
    let told = frames.of_type("cursor");
    assert_eq!((told.len(), frames.of_type("message").len()), (1, 1));
    assert_eq!(never_synced.of_type("cursor").len(), 0, "it would skip what it never asked for");

    let cursor = cursor_of(&told[0]);
    assert_ne!(cursor, first);
    send(&router, "bob", "m2").await;
    clock.sleep_ms(10_000).await;
    assert_eq!(frames.of_type("cursor").len(), 1, "not more often than once a minute");
    assert_eq!(sync(&router, &bob, Some(&cursor)).await.1, 1, "what came after it is shown");
    assert_eq!(sync(&router, &bob, Some(&first)).await.1, 1);
    router.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cursor_covers_what_was_told_and_not_the_very_next_change() {
    let (router, clock, _views) = start();
    let (bob, frames) = connect(&router, "bob").await;
    send_from(&router, "carol", "bob", "m1").await;
    let (first, conversations) = sync(&router, &bob, None).await;
    assert_eq!(conversations, 1, "there is an older one");
    clock.sleep_ms(61_000).await;
    send(&router, "bob", "m1").await;
    clock.sleep_ms(8_000).await;
    let cursor = cursor_of(&frames.of_type("cursor")[0]);
    assert_eq!((sync(&router, &bob, Some(&first)).await.1, sync(&router, &bob, Some(&cursor)).await.1), (1, 0));
    let conversation = serde_json::from_str::<serde_json::Value>(&frames.of_type("message")[0]).unwrap();
    let set = format!(
        r#"{{"type":"conversation_settings","conversation_id":{},"pinned":true}}"#,
        conversation["conversation_id"]
    );
    router.call(bob.actor(true), frame(&set)).await.unwrap();
    assert_eq!(sync(&router, &bob, Some(&cursor)).await.1, 1);
    router.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_synced_meanwhile_is_not_given_an_older_cursor() {
    let (router, clock, _views) = start();
    let (bob, frames) = connect(&router, "bob").await;
    sync(&router, &bob, None).await;
    clock.sleep_ms(61_000).await;
    send(&router, "bob", "m1").await;
    // It has been read, and will be sent in five seconds.
    clock.sleep_ms(3_000).await;
    sync(&router, &bob, None).await;
    clock.sleep_ms(10_000).await;
    assert_eq!(frames.of_type("cursor").len(), 0);
    router.shutdown().await;
}
