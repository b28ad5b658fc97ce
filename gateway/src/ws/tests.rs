//! Tests of sessions in situations whose timing can't be controlled with a real store or a real drain: over a pipe, with
//! a real router and a store in memory.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use switchboard_clock::{Clock, Generator};
use switchboard_config::Config;
use switchboard_protocol::{CloseCode, ConversationId, Seq};
use switchboard_router::{Class, Delivery, InProcessBus, LogPosition, Router, Socket as _, Start, View};
use switchboard_store::{Faults, Incarnation, MemoryStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use super::line::Line;
use super::requests::{Encoded, Requests};
use super::session::Session;
use super::sign_in::Hello;
use crate::admission::{Kind, Most};
use crate::auth::{Keys, NewToken, SigningKey, sign};
use crate::capacity::Capacity;
use crate::gateway::Gateway;
use crate::settings::Settings;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// An open node, and the switch for its store's faults.
pub(super) fn node() -> (Arc<Gateway>, Faults) {
    node_by(Clock::system())
}

/// As [`node`], with this clock.
fn node_by(clock: Clock) -> (Arc<Gateway>, Faults) {
    let (config, generator) = (Config::default(), Generator::from_entropy());
    let (mut settings, _) = Settings::from_config(&config, Capacity::of_process(), &clock).unwrap();
    settings.keys = Arc::new(Keys::development(SECRET));
    let gateway = Gateway::new(&config, "n1".parse().unwrap(), settings, None, clock.clone(), generator.clone());
    let store = Arc::new(MemoryStore::new("s1"));
    let faults = store.faults().clone();
    let me = Incarnation { node: gateway.node_id.clone(), life: 1 };
    let (_, views) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let options = gateway.settings().options;
    let bus = Arc::new(InProcessBus::default());
    let router = Router::start(Start { me, options, clock, generator, store: store.clone(), bus, views });
    gateway.set_store(store);
    gateway.open(router, None);
    (Arc::new(gateway), faults)
}

/// A session whose token came with the upgrade.
pub(super) fn session_over<S: Line>(gateway: &Arc<Gateway>, line: S) -> Session<S> {
    let new = NewToken { user: "alice".parse().unwrap(), tenant: None, scopes: Vec::new(), ttl_s: 60 };
    let token = sign(&new, &SigningKey::unnamed(SECRET), gateway.clock.wall_ms()).unwrap();
    let most = Most { in_all: 1, per_address: 1 };
    let slot = gateway.admission.slot(Kind::WebSocket, "127.0.0.1".parse().unwrap(), most).unwrap();
    let hello = Hello { token: Some(token), ..Hello::default() };
    Session::new(gateway.clone(), line, Bytes::new(), hello, slot)
}

/// A session over a pipe, and the client's end of the pipe.
fn session(gateway: &Arc<Gateway>) -> (Session<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(65_536);
    (session_over(gateway, ours), theirs)
}

/// What the server sends up to its close frame and its code. The client then closes too.
async fn said(session: Session<DuplexStream>, mut client: DuplexStream) -> (String, u16) {
    let reading = async {
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        client.shutdown().await.unwrap();
        received
    };
    let ((), mut received) = tokio::join!(session, reading);
    let close = received.split_off(received.len() - 4);
    assert_eq!(close[..2], [0x88, 2], "the last frame closes");
    (String::from_utf8_lossy(&received).into_owned(), u16::from_be_bytes([close[2], close[3]]))
}

/// Reads from the server until what was received ends with `ends`.
async fn hears(session: &mut Session<DuplexStream>, client: &mut DuplexStream, ends: &[u8]) -> String {
    let mut received = Vec::new();
    while !received.ends_with(ends) {
        tokio::select! {
            () = &mut *session => panic!("the session has ended"),
            read = client.read_buf(&mut received) => assert_ne!(read.unwrap(), 0),
        }
    }
    String::from_utf8_lossy(&received).into_owned()
}

/// The result of `future`, while the node wakes sessions at their deadlines.
async fn with_timers<T>(gateway: &Gateway, future: impl Future<Output = T>) -> T {
    tokio::select! {
        result = future => result,
        () = gateway.timers.run(gateway.closing.clone()) => panic!("the timers have stopped"),
    }
}

#[tokio::test]
async fn an_answer_leaves_between_the_entries_that_it_is_between_in_the_log() {
    let (gateway, _) = node();
    let (mut session, mut client) = session(&gateway);
    hears(&mut session, &mut client, b"}").await;
    let (ours, other) = ("g:1".parse().unwrap(), "g:2".parse().unwrap());
    let entry = |json: &'static str, conversation: &ConversationId, seq: u64| {
        let position = Some(LogPosition::new(conversation, Seq::new(seq)));
        let (json, kind, class) = (json.into(), "message", Class::Undroppable);
        session.outbox.deliver(&Arc::new(Delivery { json, kind, class, position }));
    };
    entry("[ours 5]", &ours, 5);
    entry("[other 1]", &other, 1);
    let position = Some(LogPosition::new(&ours, Seq::new(6)));
    let sent = Encoded { kind: "sent", json: "[sent 6]".to_owned(), position };
    let mut requests = Requests::default();
    requests.push(Some(ours.clone()), false, Box::pin(ready(Some(sent))));
    entry("[ours 7]", &ours, 7);
    session.requests = Some(Box::new(requests));
    let heard = hears(&mut session, &mut client, b"[ours 7]").await;
    let at = |text: &str| heard.find(text).unwrap();
    assert!(at("[ours 5]") < at("[sent 6]"), "{heard}");
    assert!(at("[sent 6]") < at("[other 1]"), "other conversations' frames leave after it: {heard}");
}

#[tokio::test]
async fn while_the_store_is_away_clients_are_told_to_come_back() {
    let (gateway, faults) = node();
    faults.unavailable(true);
    let (session, client) = session(&gateway);
    let (said, code) = said(session, client).await;
    assert!(said.contains(r#""code":"overloaded""#) && said.contains("retry_after_ms"), "{said}");
    assert_eq!(code, CloseCode::Overloaded.as_u16());
}

#[tokio::test]
async fn who_is_let_in_while_the_drain_begins_moves_at_once() {
    let (gateway, _) = node();
    // The drain begins while the router handles the sign-in.
    let (session, client) = session(&gateway);
    gateway.draining.cancel();
    let (said, code) = said(session, client).await;
    assert_eq!((said.as_str(), code), ("", CloseCode::GoingAway.as_u16()));
}

#[tokio::test(start_paused = true)]
async fn who_answers_pings_stays_and_who_no_longer_does_is_closed_after_two_and_a_half_heartbeats() {
    const PING: &[u8] = &[0x89, 0];
    const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
    let (gateway, _) = node();
    let heartbeat_ms = gateway.settings().limits.heartbeat_ms;
    let (mut session, mut client) = session(&gateway);
    let talk = async {
        hears(&mut session, &mut client, b"}").await;
        for _ in 0..10 {
            hears(&mut session, &mut client, PING).await;
            client.write_all(PONG).await.unwrap();
        }
        let answered_ms = gateway.clock.monotonic_ms();
        assert!(answered_ms >= 10 * heartbeat_ms, "{answered_ms}");
        let (said, code) = said(session, client).await;
        assert!(said.contains(r#""code":"silent""#), "{said}");
        (code, gateway.clock.monotonic_ms() - answered_ms)
    };
    let (code, silent_ms) = with_timers(&gateway, talk).await;
    assert_eq!(code, CloseCode::Silent.as_u16());
    let limit_ms = heartbeat_ms * 5 / 2;
    assert!((limit_ms..limit_ms + 1_000).contains(&silent_ms), "{silent_ms}");
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_within_a_second_of_its_token() {
    let (gateway, _) = node_by(Clock::simulated(1_700_000_000_000, Arc::default()));
    let (session, client) = session(&gateway);
    let (said, code) = with_timers(&gateway, said(session, client)).await;
    assert!(said.contains(r#""code":"unauthorized""#), "{said}");
    assert_eq!(code, CloseCode::Unauthorized.as_u16());
    let ended_ms = gateway.clock.monotonic_ms();
    assert!((60_000..61_000).contains(&ended_ms), "{ended_ms}");
}
