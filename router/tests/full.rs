//! A conversation without room for more commands, or a home without room for inbox changes: nothing is added, nothing
//! is lost, and it recovers by itself.

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

fn start(store: Arc<MemoryStore>, options: Options) -> (Router, watch::Sender<View>) {
    let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
    let (view, views) = watch::channel(View::alone(me.clone(), "ws://n1".into()));
    let clock = Clock::simulated(1_767_225_600_000, Arc::default());
    let (generator, bus) = (Generator::from_seed(1), Arc::new(InProcessBus::default()));
    (Router::start(Start { me, options, clock, generator, store, bus, views }), view)
}

#[tokio::test(start_paused = true)]
async fn a_conversation_takes_as_many_bytes_of_commands_as_the_configuration_says() {
    let store = Arc::new(MemoryStore::new("bytes"));
    // Room for two small commands of some hundred bytes each.
    let (router, _view) = start(store.clone(), Options { conversation_queue_bytes: 600, ..Options::default() });
    store.faults().delay_ms_max(1_000);
    let (one, two, three) = tokio::join!(
        call(&router, "alice", send("m1")),
        call(&router, "alice", send("m2")),
        call(&router, "alice", send("m3"))
    );
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(three.unwrap_err().code(), ErrorCode::Overloaded);
    assert!(call(&router, "alice", send("m3")).await.is_ok(), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_full_home_refuses_what_would_add_to_it_until_it_has_written() {
    let store = Arc::new(MemoryStore::new("full"));
    // Room for one change: another one is accepted while there is any room.
    let (router, _view) = start(store.clone(), Options { home_dirty_bytes: 1, ..Options::default() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = call(&router, "alice", send("m1")).await.unwrap();
    let Answer::Created(switchboard_protocol::ServerFrame::Sent(first)) = first else { panic!("{first:?}") };
    // Noted changes can't be written.
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
