//! Rules of DESIGN §4 and §5 that random faults rarely test, each with exactly the faults that it is for.
//!
//! `router/tests/README.md` says which test covers which rule. Every one was seen to fail with its rule left out.

mod arrivals;
mod dependencies;
mod gaps;
mod inbox;
mod pushes;
mod sessions;
mod terms;
mod views;

use crate::scene::{Scene, has, user};
use crate::world::NODES;
use switchboard_protocol::client::ConversationRef;
use switchboard_protocol::{ClientFrame, ErrorCode};
use switchboard_store::Log as _;

#[tokio::test(start_paused = true)]
async fn what_dead_owners_and_homes_left_untold_is_told_and_sent_again_is_the_same() {
    let scene = Scene::new().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let sent = scene.say(0, &alice, &bob, "m1").await.unwrap();
    // Before any inbox is written.
    for index in 1..NODES {
        scene.world.crash(index).await;
    }
    // The TTL and one second (DESIGN §5.10).
    scene.world.pass(4_000).await;
    let again = scene.say(0, &alice, &bob, "m1").await.unwrap();
    assert_eq!((again.seq, again.message_id, again.duplicate), (sent.seq, sent.message_id, true));
    let client = scene.client(0, &bob, &[]).await;
    assert_eq!(has(&client, &sent.conversation_id), sent.seq.get());
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn nodes_that_drain_hand_over_and_leave_nothing_behind() {
    let scene = Scene::new().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let sent = scene.say(0, &alice, &bob, "m1").await.unwrap();
    for index in 1..NODES {
        let drained = scene.world.node(index).expect("it runs").me;
        let (in_time, ()) = tokio::join!(scene.world.drain(index), scene.world.pass(3_000));
        assert!(in_time, "{drained} did not come to its end");
        let left = scene.world.store.active(&[]).await.unwrap();
        assert!(left.iter().all(|(owner, _)| *owner != drained), "{left:?}");
    }
    let client = scene.client(0, &bob, &[]).await;
    assert_eq!(has(&client, &sent.conversation_id), sent.seq.get());
    assert!(scene.say(0, &alice, &bob, "m1").await.unwrap().duplicate);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_stranger_makes_nothing_active() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let about = || ConversationRef { conversation_id: pair.conversation.clone() };
    let asked = [ClientFrame::ConversationGet(about()), ClientFrame::ConversationOpen(about())];
    for command in asked {
        let error = scene.call(pair.owner, &user("mallory"), command).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
    }
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), []);
}
