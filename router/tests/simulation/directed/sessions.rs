//! What owners and homes know of sessions elsewhere (DESIGN §4): who is there, who watches, who has what open. It
//! survives lost packets and changes of the view.

use crate::client::Client;
use crate::scene::{Pair, Scene, has, user};
use crate::world::NODES;
use switchboard_protocol::client::{ConversationRef, PresenceStatus};
use switchboard_protocol::server::ShownStatus;
use switchboard_protocol::{ClientFrame, CloseCode, ConversationId};
use switchboard_store::Log as _;

/// A client at a node that watches bob.
async fn watcher(scene: &Scene, at: usize, pair: &Pair) -> Client {
    let mut carol = scene.client(at, &user("carol"), &[]).await;
    carol.watched = vec![pair.bob.user.clone()];
    carol.watch().await;
    carol
}

fn sees(carol: &mut Client, pair: &Pair) -> ShownStatus {
    carol.take_frames();
    carol.seen[&pair.bob.user]
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_end_was_not_heard_of_is_seen_to_be_gone() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut carol = watcher(&scene, pair.owner, &pair).await;
    let bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.world.pass(1_000).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Online);
    scene.lose(pair.at, pair.home, true);
    drop(bob);
    scene.world.pass(50).await;
    scene.lose(pair.at, pair.home, false);
    // Heartbeat, grace, batch.
    scene.world.pass(4_000).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Offline);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_watchers_were_not_told_is_asked_for() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut carol = watcher(&scene, pair.at, &pair).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Offline);
    scene.lose(pair.home, pair.at, true);
    let bob = Client::new(&scene.world, pair.bob.clone(), "phone", Vec::new());
    let connected = bob.connect_to(scene.world.node(pair.home).unwrap()).await;
    // A batch.
    scene.world.pass(300).await;
    scene.lose(pair.home, pair.at, false);
    scene.world.pass(2_500).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Online);
    drop(connected);
}

#[tokio::test(start_paused = true)]
async fn a_home_that_took_a_node_for_dead_is_asked_anew_what_sessions_there_watch() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut carol = watcher(&scene, pair.at, &pair).await;
    scene.world.show(&scene.world.view_without(&[pair.at]), &[pair.home]);
    scene.world.pass(100).await;
    scene.world.show(&scene.world.view_without(&[]), &[pair.home]);
    scene.world.pass(1_000).await;
    let _bob = scene.client(pair.home, &pair.bob, &[]).await;
    scene.world.pass(500).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Online);
}

#[tokio::test(start_paused = true)]
async fn a_new_home_shows_who_is_there_and_who_went_with_his_node() {
    let scene = Scene::new().await;
    let without: Vec<_> = (0..NODES).map(|gone| scene.world.view_without(&[gone])).collect();
    let next_home = |pair: &Pair| scene.home(&without[pair.home], &pair.bob);
    let pair = scene.pair(&scene.world.view_without(&[]), |pair| next_home(pair) != pair.at).await;
    let mut carol = watcher(&scene, pair.owner, &pair).await;
    let bob = scene.client(pair.at, &pair.bob, &[]).await;
    let busy = ClientFrame::PresenceSet(switchboard_protocol::client::PresenceSet { status: PresenceStatus::Busy });
    assert!(bob.call(busy).await.is_ok());
    scene.world.crash(pair.home).await;
    scene.world.pass(6_000).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Busy, "it travels with the registration");
    scene.world.crash(pair.at).await;
    scene.world.pass(6_000).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Offline);
    drop(bob);
}

/// A node begins to drain: it hears of that first, as it says so itself.
async fn drains(scene: &Scene, node: usize) {
    let leaving = scene.world.view_leaving(node);
    scene.world.show(&leaving, &[node]);
    scene.world.pass(300).await;
    scene.world.show(&leaving, &(0..NODES).filter(|other| *other != node).collect::<Vec<_>>());
    // Longer than any grace.
    scene.world.pass(5_000).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_node_that_drains_are_served_until_they_move() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut carol = watcher(&scene, pair.owner, &pair).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    drains(&scene, pair.at).await;
    assert_eq!(sees(&mut carol, &pair), ShownStatus::Online);
    scene.follow(&mut bob).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 2, "live");
    scene.world.node(pair.owner).unwrap().router.disconnect_user(&pair.bob).await.unwrap();
    assert_eq!(bob.connection.as_ref().unwrap().inbox.closed(), Some(CloseCode::Revoked));
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_sessions_of_a_node_that_drains_have_open_stays_open() {
    let scene = Scene::new().await;
    let (mut bob, group, owner) = open_group(&scene).await;
    drains(&scene, (owner + 1) % NODES).await;
    scene.follow(&mut bob).await;
    scene.say_to_group(owner, &group, "m2").await;
    scene.world.pass(50).await;
    bob.take_frames();
    assert_eq!(has(&bob, &group), 2, "live");
}

// Open conversations of large groups, whose entries go to those sessions only

/// Bob has a large group open at a node that is not its owner's.
async fn open_group(scene: &Scene) -> (Client, ConversationId, usize) {
    let (group, owner) = scene.group().await;
    let mut bob = scene.client((owner + 1) % NODES, &user("bob"), &[]).await;
    bob.open_conversation(group.clone()).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &group), 1);
    (bob, group, owner)
}

#[tokio::test(start_paused = true)]
async fn who_has_a_conversation_open_is_led_to_what_was_lost() {
    let scene = Scene::new().await;
    let (mut bob, group, owner) = open_group(&scene).await;
    let at = (owner + 1) % NODES;
    scene.lose(owner, at, true);
    scene.say_to_group(owner, &group, "m2").await;
    scene.world.pass(50).await;
    scene.lose(owner, at, false);
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &group), 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_missed_something_is_told_again_who_has_it_open() {
    let scene = Scene::new().await;
    let (mut bob, group, owner) = open_group(&scene).await;
    let at = (owner + 1) % NODES;
    scene.lose(at, owner, true);
    let typing = ClientFrame::TypingStart(ConversationRef { conversation_id: group.clone() });
    drop(bob.call_with(false, typing).await);
    scene.lose(at, owner, false);
    scene.world.pass(2_500).await;
    scene.say_to_group(owner, &group, "m2").await;
    scene.world.pass(50).await;
    bob.take_frames();
    assert_eq!(has(&bob, &group), 2, "live");
}

#[tokio::test(start_paused = true)]
async fn what_a_session_had_open_is_not_kept_active_when_its_end_was_not_heard_of() {
    let scene = Scene::new().await;
    let (bob, _, owner) = open_group(&scene).await;
    let at = (owner + 1) % NODES;
    scene.world.pass(6_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap().len(), 1);
    scene.lose(at, owner, true);
    drop(bob);
    scene.world.pass(50).await;
    scene.lose(at, owner, false);
    scene.world.pass(6_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_had_open_is_not_kept_active_when_its_node_is_gone() {
    let scene = Scene::new().await;
    let (_bob, _, owner) = open_group(&scene).await;
    scene.world.crash((owner + 1) % NODES).await;
    scene.world.pass(10_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_knows_who_has_it_open() {
    let scene = Scene::new().await;
    let (mut bob, group, owner) = open_group(&scene).await;
    scene.world.crash(owner).await;
    scene.world.pass(6_000).await;
    let next = scene.owner(&scene.world.view_without(&[]), &group);
    scene.say_to_group(next, &group, "m2").await;
    scene.world.pass(50).await;
    bob.take_frames();
    assert_eq!(has(&bob, &group), 2, "live");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_that_hears_of_the_view_later_is_asked_until_it_knows_who_has_it_open() {
    let scene = Scene::new().await;
    let (mut bob, group, owner) = open_group(&scene).await;
    let at = (owner + 1) % NODES;
    // Where bob's node does not become the owner itself.
    let without = scene.world.view_without(&[owner]);
    let next = scene.owner(&without, &group);
    assert_ne!(next, at);
    scene.world.show(&without, &[at]);
    scene.world.pass(500).await;
    scene.world.show(&without, &(0..NODES).collect::<Vec<_>>());
    scene.world.pass(1_000).await;
    scene.follow(&mut bob).await;
    scene.say_to_group(next, &group, "m2").await;
    scene.world.pass(50).await;
    bob.take_frames();
    assert_eq!(has(&bob, &group), 2, "live");
}
