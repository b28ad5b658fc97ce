//! A user's sessions at several nodes (PROTOCOL §2): of the same device and instance the newest stays, wherever it is, and
//! he has no more than he may.

use crate::client::{Client, Connection};
use crate::scene::{Pair, Scene, user};
use crate::world::{self, NODES};
use switchboard_protocol::CloseCode;
use switchboard_router::Options;

/// Time for what nodes tell each other.
const TOLD_MS: u64 = 50;

/// A device of bob's, connected at a node.
async fn connect(scene: &Scene, pair: &Pair, at: usize, device: &str) -> Connection {
    let bob = Client::new(&scene.world, pair.bob.clone(), device, Vec::new());
    bob.connect_to(scene.world.node(at).expect("it runs")).await.expect("it is let in")
}

async fn told(scene: &Scene) {
    scene.world.pass(TOLD_MS).await;
}

/// Any users, long after the view has changed.
async fn some_pair(scene: &Scene) -> Pair {
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    scene.world.pass(10_000).await;
    pair
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_of_the_same_device_replaces_the_older_one_at_another_node() {
    let scene = Scene::new().await;
    let pair = some_pair(&scene).await;
    for (from, to) in [(pair.at, pair.owner), (pair.at, pair.home), (pair.home, pair.at)] {
        let older = connect(&scene, &pair, from, "phone").await;
        let other_device = connect(&scene, &pair, from, "laptop").await;
        told(&scene).await;
        let newer = connect(&scene, &pair, to, "phone").await;
        told(&scene).await;
        assert_eq!(older.inbox.closed(), Some(CloseCode::Replaced), "from {from} to {to}");
        assert_eq!((newer.inbox.closed(), other_device.inbox.closed()), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_sessions_that_come_at_once_one_stays() {
    let scene = Scene::new().await;
    let pair = some_pair(&scene).await;
    // So that the home tells both nodes of both.
    let _others = [connect(&scene, &pair, pair.at, "laptop").await, connect(&scene, &pair, pair.owner, "tablet").await];
    told(&scene).await;
    let one = connect(&scene, &pair, pair.at, "phone").await;
    let other = connect(&scene, &pair, pair.owner, "phone").await;
    told(&scene).await;
    let mut closed = [one.inbox.closed(), other.inbox.closed()];
    closed.sort_by_key(Option::is_some);
    assert_eq!(closed, [None, Some(CloseCode::Replaced)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_replaced_by_an_older_one_of_which_its_home_hears_later() {
    let scene = Scene::new().await;
    let pair = some_pair(&scene).await;
    scene.hold(pair.at, pair.home, true);
    let older = connect(&scene, &pair, pair.at, "phone").await;
    told(&scene).await;
    drop(older);
    let newer = connect(&scene, &pair, pair.owner, "phone").await;
    told(&scene).await;
    scene.hold(pair.at, pair.home, false);
    told(&scene).await;
    assert_eq!(newer.inbox.closed(), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_of_which_its_home_has_told_is_not_announced_as_new_again() {
    let scene = Scene::new().await;
    let pair = some_pair(&scene).await;
    scene.lose(pair.home, pair.at, true);
    let older = connect(&scene, &pair, pair.at, "phone").await;
    told(&scene).await;
    scene.lose(pair.home, pair.at, false);
    scene.world.pass(2_500).await;
    let newer = connect(&scene, &pair, pair.owner, "phone").await;
    told(&scene).await;
    assert_eq!((older.inbox.closed(), newer.inbox.closed()), (Some(CloseCode::Replaced), None));
}

#[tokio::test(start_paused = true)]
async fn a_home_that_missed_a_session_hears_of_it_again() {
    let scene = Scene::new().await;
    let pair = some_pair(&scene).await;
    let older = connect(&scene, &pair, pair.owner, "phone").await;
    told(&scene).await;
    scene.lose(pair.at, pair.home, true);
    let newer = connect(&scene, &pair, pair.at, "phone").await;
    told(&scene).await;
    scene.lose(pair.at, pair.home, false);
    scene.world.pass(2_500).await;
    assert_eq!((older.inbox.closed(), newer.inbox.closed()), (Some(CloseCode::Replaced), None));
}

#[tokio::test(start_paused = true)]
async fn a_home_that_does_not_know_all_sessions_yet_tells_every_node() {
    let scene = Scene::new().await;
    let without: Vec<_> = (0..NODES).map(|gone| scene.world.view_without(&[gone])).collect();
    let next_home = |pair: &Pair| scene.home(&without[pair.home], &pair.bob);
    let pair = scene.pair(&scene.world.view_without(&[]), |pair| next_home(pair) != pair.at).await;
    let home = next_home(&pair);
    let older = connect(&scene, &pair, pair.at, "phone").await;
    told(&scene).await;
    // What the older one's node registers with the next home comes late.
    scene.world.crash(pair.home).await;
    scene.hold(pair.at, home, true);
    scene.world.pass(5_000).await;
    let newer = connect(&scene, &pair, home, "phone").await;
    told(&scene).await;
    scene.hold(pair.at, home, false);
    told(&scene).await;
    assert_eq!((older.inbox.closed(), newer.inbox.closed()), (Some(CloseCode::Replaced), None));
}

#[tokio::test(start_paused = true)]
async fn a_user_has_a_limit_of_sessions_over_all_nodes() {
    let scene = Scene::with(Options { connections_per_user: 2, ..world::options() }).await;
    let pair = some_pair(&scene).await;
    let first = connect(&scene, &pair, pair.at, "d1").await;
    told(&scene).await;
    let second = connect(&scene, &pair, pair.owner, "d2").await;
    told(&scene).await;
    for at in [pair.at, pair.home] {
        let third = connect(&scene, &pair, at, "d3").await;
        told(&scene).await;
        let closed = [&first, &second, &third].map(|connection| connection.inbox.closed());
        assert_eq!(closed, [None, None, Some(CloseCode::Overloaded)]);
    }
    // One that takes another's place needs none of its own.
    let again = connect(&scene, &pair, pair.at, "d2").await;
    told(&scene).await;
    let closed = [&first, &second, &again].map(|connection| connection.inbox.closed());
    assert_eq!(closed, [None, Some(CloseCode::Replaced), None]);
    drop(first);
    told(&scene).await;
    let fourth = connect(&scene, &pair, pair.owner, "d4").await;
    told(&scene).await;
    assert_eq!((again.inbox.closed(), fourth.inbox.closed()), (None, None));
    // Nobody else is counted.
    let alice = Client::new(&scene.world, user("alice"), "d1", Vec::new());
    let alice = alice.connect_to(scene.world.node(pair.home).expect("it runs")).await.expect("it is let in");
    told(&scene).await;
    assert_eq!(alice.inbox.closed(), None);
}
