//! A dependency that is away degrades what needs it and nothing else, and all comes back by itself (DESIGN §5.8).

use crate::client::Client;
use crate::scene::{Scene, has};
use crate::world::NODES;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard_protocol::client::{ConversationRef, EntryRef, PresenceSet, PresenceStatus, React};
use switchboard_protocol::server::ShownStatus;
use switchboard_protocol::{ClientFrame, ErrorCode, ProtocolError, Seq};
use switchboard_store::{ConversationKey, Log as _};

fn assert_unavailable(error: &ProtocolError) {
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.retry_after_ms().is_some());
}

#[tokio::test(start_paused = true)]
async fn without_the_bus_each_node_goes_on_and_what_needs_another_is_unavailable() {
    let scene = Scene::new().await;
    let all = scene.world.view_without(&[]);
    let here = scene.find_at_one_node(&all).await;
    let there = scene.pair(&all, |pair| pair.at == here.owner).await;
    let mut bob = scene.client(here.at, &here.bob, &[]).await;
    let mut other = scene.client(there.owner, &there.bob, &[]).await;
    (0..NODES).for_each(|node| scene.cut_off(node, true));

    scene.say(here.owner, &here.alice, &here.bob, "m2").await.unwrap();
    bob.take_frames();
    assert_eq!(has(&bob, &here.conversation), 2, "live");
    let error = scene.say(there.at, &there.alice, &there.bob, "m2").await.unwrap_err();
    assert_unavailable(&error);

    (0..NODES).for_each(|node| scene.cut_off(node, false));
    scene.world.pass(2_500).await;
    scene.say(there.at, &there.alice, &there.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    other.take_frames();
    assert_eq!(has(&other, &there.conversation), 2, "live again, by the same session");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn without_the_store_sends_are_unavailable_and_what_is_ephemeral_goes_on() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let mut alice = scene.client(pair.owner, &pair.alice, &[]).await;
    alice.watched = vec![pair.bob.user.clone()];
    alice.watch().await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    scene.world.store.faults().unavailable(true);

    assert_unavailable(&scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap_err());
    let typing = ClientFrame::TypingStart(ConversationRef { conversation_id: pair.conversation.clone() });
    drop(alice.call_with(false, typing).await);
    let busy = ClientFrame::PresenceSet(PresenceSet { status: PresenceStatus::Busy });
    assert!(bob.call(busy).await.is_ok());
    scene.world.pass(500).await;
    assert_eq!(kinds(&bob), ["typing_start"]);
    alice.take_frames();
    assert_eq!(alice.seen[&pair.bob.user], ShownStatus::Busy);

    scene.world.store.faults().unavailable(false);
    scene.world.pass(5_000).await;
    let again = scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    assert_eq!(again.seq.get(), 3);
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3, "live again, by the same session");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_for_which_the_log_is_read_delays_nothing_else() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let alice = scene.client(pair.owner, &pair.alice, &[]).await;
    // The first message is of a term that is over.
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    kinds(&alice);
    bob.take_frames();
    scene.exact().read_ms.store(1_500, Ordering::Relaxed);
    let receipt = |seq| {
        let entry = EntryRef { conversation_id: pair.conversation.clone(), seq: Seq::new(seq) };
        bob.call_with(false, ClientFrame::Read(entry))
    };
    let typing = ClientFrame::TypingStart(ConversationRef { conversation_id: pair.conversation.clone() });
    let (first, again, ()) = tokio::join!(receipt(1), receipt(1), async {
        scene.world.pass(100).await;
        let typed = tokio::time::timeout(Duration::from_millis(100), alice.call_with(false, typing)).await;
        assert!(typed.is_ok_and(|typed| typed.is_ok()), "it does not wait for the read");
        scene.world.pass(100).await;
        assert_eq!(kinds(&bob), ["typing_start"]);
        assert_eq!(scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
        scene.world.pass(100).await;
        assert_eq!(kinds(&alice), ["message"], "the log has not been read yet");
        scene.world.pass(1_500).await;
    });
    assert!(first.is_ok() && again.is_ok());
    assert_eq!(kinds(&alice), ["read_receipt"]);
    scene.world.pass(1_000).await;
    let key = ConversationKey { tenant: pair.bob.tenant.clone(), conversation: pair.conversation.clone() };
    let cursor = scene.world.store.member(&key, &pair.bob.user).await.unwrap().unwrap().cursor;
    assert_eq!((cursor.read_seq.get(), cursor.read_messages), (1, 1));
    scene.check();
}

/// What a client was sent since the last call.
fn kinds(client: &Client) -> Vec<&'static str> {
    client.connection.as_ref().unwrap().inbox.take().iter().map(|frame| frame.kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_no_more_is_told_of_its_own_entry() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    scene.exact().append_fails.store(true, Ordering::Relaxed);
    let react = React { conversation_id: pair.conversation.clone(), seq: Seq::new(1), emoji: "+1".parse().unwrap() };
    assert!(bob.call(ClientFrame::React(react)).await.is_err());
    scene.exact().append_fails.store(false, Ordering::Relaxed);
    // The owner has gone on with it.
    scene.world.pass(5_000).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3);
    scene.check();
}
