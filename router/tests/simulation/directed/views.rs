//! When the view changes (DESIGN §4): what is owed is told to new homes, who owned lets go, sessions move, and `sync`
//! waits until all have settled.

use crate::scene::{EVERYONE, Pair, Scene, all_but, has, user};
use crate::world::{self, NODES};
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard_router::{Options, View};
use switchboard_store::Log as _;

#[tokio::test(start_paused = true)]
async fn what_a_home_had_not_written_when_it_died_is_told_to_the_next_one() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    bob.connection = None;
    // Told, but not flushed: the owner lives and owes it.
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.crash(pair.home).await;
    scene.world.pass(5_000).await;
    bob.connection = bob.connect_to(scene.world.node(pair.at).unwrap()).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_owes_something_stays_active_until_it_is_confirmed() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    bob.connection = None;
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    // Long after the conversation would be idle.
    scene.world.pass(10_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap().len(), 1);
    scene.world.crash(pair.home).await;
    scene.world.pass(5_000).await;
    bob.connection = bob.connect_to(scene.world.node(pair.at).unwrap()).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.world.pass(5_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), [], "at rest again");
    scene.check();
}

/// Who owns a conversation in the whole view, and who in that without its owner; bob's home is the same in both.
async fn two_owners(scene: &Scene, wanted: impl Fn(&Pair, usize) -> bool) -> (Pair, usize) {
    let without: Vec<_> = EVERYONE.iter().map(|gone| scene.world.view_without(&[*gone])).collect();
    let all = scene.world.view_without(&[]);
    let pair = scene
        .pair(&all, |pair| {
            let second = scene.owner(&without[pair.owner], &pair.conversation);
            wanted(pair, second) && second != pair.at && scene.home(&without[pair.owner], &pair.bob) == pair.home
        })
        .await;
    let second = scene.owner(&without[pair.owner], &pair.conversation);
    (pair, second)
}

#[tokio::test(start_paused = true)]
async fn a_term_that_may_have_begun_tells_what_the_one_before_had_not() {
    let scene = Scene::new().await;
    let (pair, second) = two_owners(&scene, |pair, second| second != pair.home).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let without = left_untold_by_the_dead(&scene, &pair).await;
    // While it reads what is to be taken over, a command has it begin the term, and so the note of it is its own.
    scene.exact().active_ms.store(500, Ordering::Relaxed);
    scene.exact().begin_term_unsaid.store(true, Ordering::Relaxed);
    scene.world.show(&without, &all_but(&[pair.owner]));
    scene.world.pass(50).await;
    assert!(scene.say(second, &pair.alice, &pair.bob, "m3").await.is_err());
    scene.exact().begin_term_unsaid.store(false, Ordering::Relaxed);
    scene.world.pass(2_000).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_can_t_be_taken_over_now_is_taken_over_later() {
    let scene = Scene::new().await;
    let (pair, _) = two_owners(&scene, |pair, second| second != pair.home).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let mut carol = scene.client(pair.at, &user("carol"), &[]).await;
    let without = left_untold_by_the_dead(&scene, &pair).await;
    scene.exact().begin_term_fails.store(true, Ordering::Relaxed);
    scene.world.show(&without, &all_but(&[pair.owner]));
    scene.world.pass(1_000).await;
    assert!(!bob.sync().await);
    assert!(carol.sync().await, "she has no part in it");
    scene.exact().begin_term_fails.store(false, Ordering::Relaxed);
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_term_that_takes_over_tells_who_is_connected_though_no_second_envelope_gets_through() {
    let scene = Scene::new().await;
    let (pair, second) = two_owners(&scene, |pair, second| second != pair.home).await;
    scene.world.crash(second).await;
    scene.world.start_with(second, Options { bus_queue_bytes: 1, ..world::options() });
    scene.world.pass(5_000).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let without = left_untold_by_the_dead(&scene, &pair).await;
    scene.world.show(&without, &all_but(&[pair.owner]));
    scene.world.pass(2_500).await;
    bob.take_frames();
    assert_eq!(bob.copies[&pair.conversation].heard, 2, "without a `sync`");
    scene.check();
}

/// Bob's second message is in the log, its owner is dead, and nobody was told. Returns the view of who is left.
async fn left_untold_by_the_dead(scene: &Scene, pair: &Pair) -> View {
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    let without = scene.world.view_without(&[pair.owner]);
    scene.world.crash(pair.owner).await;
    without
}

/// A node that bob's home becomes when it joins, and that no one else needs: the view without it is everyone's.
async fn home_to_be(scene: &Scene) -> (Pair, usize) {
    let without: Vec<_> = EVERYONE.iter().map(|gone| scene.world.view_without(&[*gone])).collect();
    let all = scene.world.view_without(&[]);
    for next in EVERYONE {
        scene.world.show(&without[next], &all_but(&[next]));
        scene.world.pass(1_000).await;
        let wanted = |pair: &Pair| {
            pair.at != next
                && scene.home(&all, &pair.bob) == next
                && scene.owner(&all, &pair.conversation) == pair.owner
        };
        if let Some(pair) = scene.find_pair(&without[next], wanted).await {
            return (pair, next);
        }
    }
    panic!("no such pair");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_register_late_with_a_new_home_are_told_to_sync() {
    let scene = Scene::new().await;
    let (pair, next) = home_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let all = scene.world.view_without(&[]);
    scene.world.show(&all, &[pair.owner, next]);
    scene.world.pass(100).await;
    // The new home knows of no session of his.
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(500).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 1);
    scene.world.show(&all, &EVERYONE);
    scene.world.pass(500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3, "registered");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_former_home_delivers_what_an_owner_with_the_old_view_tells_it() {
    let scene = Scene::new().await;
    let (pair, next) = home_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let all = scene.world.view_without(&[]);
    let others = all_but(&[pair.owner]);
    scene.world.show(&all, &others);
    scene.world.pass(2_000).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 2, "live, by its former home; now {next} is");
    scene.check();
}

/// Who owns what a dead node owned takes a second to begin the term in which it is told: no `sync` answers before.
async fn waits_for_the_next_owner(scene: &Scene, pair: &Pair, second: usize) {
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let without = left_untold_by_the_dead(scene, pair).await;
    let others = all_but(&[pair.owner, second]);
    scene.world.show(&without, &others);
    scene.world.pass(200).await;
    scene.exact().begin_term_ms.store(1_000, Ordering::Relaxed);
    scene.world.show(&without, &[second]);
    scene.world.pass(100).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_sync_waits_until_another_node_has_taken_over_what_a_dead_one_left() {
    let scene = Scene::new().await;
    let (pair, second) = two_owners(&scene, |pair, second| second != pair.home).await;
    waits_for_the_next_owner(&scene, &pair, second).await;
}

#[tokio::test(start_paused = true)]
async fn a_sync_waits_until_the_home_itself_has_taken_over_what_a_dead_one_left() {
    let scene = Scene::new().await;
    let (pair, second) = two_owners(&scene, |pair, second| second == pair.home).await;
    waits_for_the_next_owner(&scene, &pair, second).await;
}

#[tokio::test(start_paused = true)]
async fn a_home_does_not_answer_a_sync_while_another_view_tells_another_home() {
    let scene = Scene::new().await;
    let (pair, next) = home_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let all = scene.world.view_without(&[]);
    // The owner has not settled for its view, nor said so.
    scene.exact().active_ms.store(1_000, Ordering::Relaxed);
    scene.world.show(&all, &[pair.owner]);
    scene.world.pass(1).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    // His session and his home do not know yet that his home is another.
    let waits = tokio::time::timeout(Duration::from_millis(500), bob.sync()).await;
    assert!(waits.is_err(), "{next} was told");
    scene.world.show(&all, &EVERYONE);
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_view_that_comes_back_is_settled_anew() {
    let scene = Scene::new().await;
    let (pair, next) = home_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    // All have settled without a node that now comes for a moment, too short for anyone to settle with it.
    scene.exact().active_ms.store(2_000, Ordering::Relaxed);
    scene.lose(pair.owner, next, true);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(100).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.show(&scene.world.view_without(&[next]), &EVERYONE);
    scene.world.pass(100).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_is_home_no_more_answers_no_sync() {
    let scene = Scene::new().await;
    let (pair, next) = home_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    let all = scene.world.view_without(&[]);
    let others = all_but(&[pair.at]);
    scene.world.show(&all, &others);
    scene.world.pass(100).await;
    // What the new home is told now is not written for long, and the old one knows nothing of it.
    scene.exact().put_inbox_ms.store(3_000, Ordering::Relaxed);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    // His session's node, the last to hear of the view, does so while the former home waits for its sign.
    let (synced, ()) = tokio::join!(bob.sync(), async {
        scene.world.pass(100).await;
        scene.world.show(&all, &[pair.at]);
    });
    let heard = bob.copies.get(&pair.conversation).map_or(0, |copy| copy.heard);
    assert!(!synced || heard == 2, "home was {}, is {next}; heard of {heard}", pair.home);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_dead_nodes_left_is_taken_over_a_few_at_a_time_and_a_send_does_not_wait_for_that() {
    let scene = Scene::new().await;
    let alice = user("alice");
    let all = scene.world.view_without(&[]);
    let mut left = Vec::new();
    for n in 0..250 {
        let bob = user(&format!("bob{n}"));
        let sent = scene.say(0, &alice, &bob, "m1").await.unwrap();
        left.push((scene.owner(&all, &sent.conversation_id), sent.conversation_id, bob));
    }
    left.retain(|(owner, ..)| *owner != 0);
    assert!(left.len() > 150, "{}", left.len());
    // The one that is taken over last.
    left.sort();
    let (.., last) = left.last().unwrap();
    let alone = scene.world.view_without(&[1, 2, 3, 4]);
    for index in 1..NODES {
        scene.world.crash(index).await;
    }
    scene.exact().begin_term_ms.store(100, Ordering::Relaxed);
    scene.world.show(&alone, &[0]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begins = &scene.exact().begins;
    assert_eq!(begins.now(), 64);
    let (sent, now) = tokio::join!(scene.say(0, &alice, last, "m2"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        begins.now()
    });
    assert_eq!((sent.unwrap().seq.get(), now), (2, 65), "it begins at once");
    scene.world.pass(4_000).await;
    assert_eq!(begins.most.load(Ordering::Relaxed), 65);
    let me = scene.world.node(0).unwrap().me;
    let noted = scene.world.store.active(&[]).await.unwrap();
    assert!(noted.iter().all(|(by, _)| *by == me), "all are taken over: {noted:?}");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_former_home_relays_after_it_was_taken_for_dead_is_not_shown() {
    let scene = Scene::new().await;
    let all = scene.world.view_without(&[]);
    let pair = scene.pair(&all, |_| true).await;
    let without = scene.world.view_without(&[pair.home]);
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    // As if the home were stopped just now.
    scene.hold(pair.home, pair.at, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(50).await;
    let others = all_but(&[pair.home]);
    scene.world.show(&without, &others);
    scene.world.pass(2_500).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.world.pass(50).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3);

    scene.hold(pair.home, pair.at, false);
    scene.world.pass(50).await;
    let late = bob.connection.as_ref().unwrap().inbox.take();
    assert!(late.iter().all(|frame| frame.position.is_none()), "{late:?}");
    // If it lives, it is his home again.
    scene.world.show(&all, &EVERYONE);
    scene.world.pass(2_000).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m4").await.unwrap();
    scene.world.pass(50).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 4);
    scene.check();
}
