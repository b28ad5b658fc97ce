//! What is lost between two nodes (DESIGN §4): the receiver notices, the sender repeats, sessions are told to ask.

use crate::client::Client;
use crate::scene::{EVERYONE, Pair, Scene, has};
use std::sync::atomic::Ordering;
use switchboard_protocol::client::Edit;
use switchboard_protocol::{ClientFrame, Content, Seq};

#[tokio::test(start_paused = true)]
async fn what_a_home_missed_is_told_again_before_the_next_sync_answers() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    // No heartbeat has come yet.
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_shows_what_was_lost_and_the_member_is_told_live() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_a_small_conversation_open_is_told_of_what_was_lost_too() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    bob.open_conversation(pair.conversation.clone()).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_hole_is_confirmed_however_late_the_sender_hears_of_it() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    // The home sees the hole and handles what comes behind it, but its `Missed` does not get through; the confirmation
    // in the first packet that does is read before the `Missed` behind it.
    scene.lose(pair.home, pair.owner, true);
    scene.world.pass(2_500).await;
    scene.lose(pair.home, pair.owner, false);
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_sender_says_that_it_has_repeated_only_when_every_conversation_has() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    // The conversation is busy with an edit for longer than its node takes to hear of the hole.
    scene.exact().message_ms.store(1_500, Ordering::Relaxed);
    let content = Content::parse(r#"{"text":"edited"}"#, usize::MAX).unwrap();
    let edit = Edit { conversation_id: pair.conversation.clone(), seq: Seq::new(1), content };
    let (edited, heard) = tokio::join!(scene.call(pair.owner, &pair.alice, ClientFrame::Edit(edit)), async {
        scene.world.pass(50).await;
        assert!(bob.sync().await);
        bob.copies[&pair.conversation].heard
    });
    assert!(edited.is_ok());
    assert!(heard >= 2, "{heard}");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn sessions_behind_a_lost_relay_are_told_to_sync() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    // The home has it, and confirms it to the owner.
    scene.say_losing(&pair, "m2", pair.home, pair.at).await;
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
}

/// Bob's home takes the node of his session for dead; it stays his home.
async fn taken_for_dead_by_a_home(scene: &Scene) -> (Pair, Client) {
    let all = scene.world.view_without(&[]);
    scene.world.show(&all, &EVERYONE);
    let pair = scene.pair(&all, |_| true).await;
    let bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.world.show(&scene.world.view_without(&[pair.at]), &[pair.home]);
    scene.world.pass(100).await;
    (pair, bob)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_for_dead_by_a_home_registers_again_and_its_sessions_sync() {
    let scene = Scene::new().await;
    let (pair, mut bob) = taken_for_dead_by_a_home(&scene).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(1_000).await;
    scene.world.show(&scene.world.view_without(&[]), &[pair.home]);
    scene.world.pass(1_000).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);

    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3, "live again");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hear_that_a_home_took_it_for_dead_registers_again_too() {
    let scene = Scene::new().await;
    let (pair, mut bob) = taken_for_dead_by_a_home(&scene).await;
    scene.world.pass(1_000).await;
    // What the home then asks for is lost.
    scene.lose(pair.home, pair.at, true);
    scene.world.show(&scene.world.view_without(&[]), &[pair.home]);
    scene.world.pass(50).await;
    scene.lose(pair.home, pair.at, false);
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 2, "live again");
    scene.check();
}
