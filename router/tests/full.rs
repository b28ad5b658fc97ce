//! What a home that has no more room for inbox changes comes to: nothing is added, nothing is lost, and it ends by itself.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::{ConversationRef, EntryRef, Send, SendTarget, SyncGet};
use switchboard_protocol::{ClientFrame, Content, ErrorCode, ProtocolError, Seq};
use switchboard_router::{Actor, Answer, InProcessBus, Options, Router, Start, View};
use switchboard_store::{Incarnation, MemoryStore, UserKey};
use tokio::sync::watch;

async fn call(router: &Router, name: &str, command: ClientFrame) -> Result<Answer, ProtocolError> {
    let user = UserKey { tenant: "default".parse().unwrap(), user: name.parse().unwrap() };
    router.call(Actor { user, session: None, awaited: true }, command).await
}

fn send(client_id: &str) -> ClientFrame {
    let content = Content::parse(r#"{"text":"Hello"}"#, usize::MAX).unwrap();
    let target = SendTarget::To("bob".parse().unwrap());
    ClientFrame::Send(Send { target, client_id: client_id.parse().unwrap(), content, base_seq: None })
}

#[tokio::test(start_paused = true)]
async fn a_full_home_refuses_what_would_add_to_it_until_it_has_written() {
    let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
    let (_views, views) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let store = Arc::new(MemoryStore::new("full"));
    let router = Router::start(Start {
        me,
        // Room for one change: one more begins while there is any room.
        options: Options { home_dirty_bytes: 1, ..Options::default() },
        clock: Clock::simulated(1_767_225_600_000, Arc::default()),
        generator: Generator::from_seed(1),
        store: store.clone(),
        bus: Arc::new(InProcessBus::default()),
        views,
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = call(&router, "alice", send("m1")).await.unwrap();
    let Answer::Created(switchboard_protocol::ServerFrame::Sent(first)) = first else { panic!("{first:?}") };
    // What is noted can't be written.
    store.faults().unavailable(true);
    let about = || first.conversation_id.clone();
    for adds in [send("m2"), ClientFrame::Read(EntryRef { conversation_id: about(), seq: Seq::new(1) })] {
        let refused = call(&router, "alice", adds).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Overloaded);
        assert!(refused.retry_after_ms().is_some());
    }
    let typing = ClientFrame::TypingStart(ConversationRef { conversation_id: about() });
    let typing = call(&router, "bob", typing).await.unwrap_err();
    assert_eq!(typing.code(), ErrorCode::Forbidden, "without a session, but not for want of room");
    store.faults().unavailable(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sync = SyncGet { cursor: None, entries_per_conversation: 0, limit: 10 };
    let Answer::Sync(synced) = call(&router, "bob", ClientFrame::Sync(sync)).await.unwrap() else { panic!("no sync") };
    assert!(synced.conversations[0].get().contains(r#""last_seq":1,"#), "{}", synced.conversations[0]);
    assert!(call(&router, "alice", send("m2")).await.is_ok());
}
