//! What a home has not written, and what has not reached it: `sync` shows it all the same (DESIGN §4).

use crate::client::Client;
use crate::scene::{Pair, Scene, has, user};
use std::sync::atomic::Ordering;
use switchboard_protocol::client::{ConversationUpdate, SyncGet};
use switchboard_protocol::{ClientFrame, ServerFrame};
use switchboard_store::Log as _;

async fn at_rest() -> (Scene, Pair) {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    (scene, pair)
}

#[tokio::test(start_paused = true)]
async fn a_sync_waits_for_what_is_on_its_way() {
    let (scene, pair) = at_rest().await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.hold(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    let (synced, ()) = tokio::join!(bob.sync(), async {
        scene.world.pass(200).await;
        scene.hold(pair.owner, pair.home, false);
    });
    assert!(synced);
    assert_eq!(bob.copies[&pair.conversation].heard, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_sync_does_not_share_a_round_that_began_before_it() {
    let (scene, pair) = at_rest().await;
    let mut first = scene.client(pair.at, &pair.bob, &[]).await;
    let mut second = scene.client(pair.home, &pair.bob, &[]).await;
    let other = (0..crate::world::NODES)
        .find(|index| ![pair.owner, pair.home, pair.at].contains(index))
        .expect("there are five");
    // The first one's round has the owner's sign, and waits for another node's.
    scene.hold(other, pair.home, true);
    let first = first.sync();
    let later = async {
        scene.world.pass(100).await;
        scene.hold(pair.owner, pair.home, true);
        scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
        tokio::join!(second.sync(), async {
            scene.world.pass(100).await;
            scene.hold(other, pair.home, false);
            scene.world.pass(100).await;
            scene.hold(pair.owner, pair.home, false);
        })
        .0
    };
    assert_eq!(tokio::join!(first, later), (true, true));
    assert_eq!(second.copies[&pair.conversation].heard, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_sync_waits_for_the_flush_that_is_under_way() {
    let (scene, pair) = at_rest().await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.exact().put_inbox_ms.store(1_000, Ordering::Relaxed);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(600).await;
    assert!(bob.sync().await);
    assert_eq!(bob.copies[&pair.conversation].heard, 2);
    scene.check();
}

/// Bob's home dies; his next `sync` shows `seq`.
async fn shown_after_the_home_dies(scene: &Scene, pair: &Pair, mut bob: Client, seq: u64) {
    bob.connection = None;
    scene.world.crash(pair.home).await;
    scene.exact().put_inbox_ms.store(0, Ordering::Relaxed);
    scene.exact().put_inbox_fails.store(false, Ordering::Relaxed);
    scene.world.pass(6_000).await;
    bob.connection = bob.connect_to(scene.world.node(pair.at).unwrap()).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, seq);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_failed_confirms_nothing() {
    let (scene, pair) = at_rest().await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    // Nothing comes live.
    bob.connection = None;
    scene.exact().put_inbox_fails.store(true, Ordering::Relaxed);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(1_000).await;
    shown_after_the_home_dies(&scene, &pair, bob, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_confirms_nothing_that_came_after_it_began() {
    let (scene, pair) = at_rest().await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.exact().put_inbox_ms.store(1_000, Ordering::Relaxed);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(600).await;
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 2);
    bob.connection = None;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    // The first flush ends, with the parts of other users, and the next one of bob's does not.
    scene.world.pass(1_000).await;
    shown_after_the_home_dies(&scene, &pair, bob, 3).await;
}

#[tokio::test(start_paused = true)]
async fn where_inboxes_are_not_written_the_owner_is_asked() {
    let scene = Scene::new().await;
    let (group, owner) = scene.group().await;
    scene.say_to_group(owner, &group, "m2").await;
    // At rest, and so no activity is under way.
    scene.world.pass(6_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), []);
    let mut bob = Client::new(&scene.world, user("bob"), "phone", Vec::new());
    bob.connection = bob.connect_to(scene.world.node(0).unwrap()).await;
    assert!(bob.sync().await);
    assert_eq!(bob.copies[&group].heard, 2);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_sync_has_titles_and_members_from_owners_at_other_nodes() {
    let scene = Scene::new().await;
    let (group, owner) = scene.group().await;
    let all = scene.world.view_without(&[]);
    let members = ["bob", "g1", "g2", "g3", "g4", "g5"].map(user);
    let member = members.iter().find(|member| scene.home(&all, member) != owner).expect("not all are at home there");
    let title = Some("New".parse().unwrap());
    let rename = ConversationUpdate { conversation_id: group.clone(), title: title.clone(), custom: None };
    scene.call(owner, &user("alice"), ClientFrame::ConversationUpdate(rename)).await.unwrap();
    let sync = SyncGet { cursor: None, entries_per_conversation: 0, limit: 10 };
    let answer = scene.call(owner, member, ClientFrame::Sync(sync)).await;
    let Ok(ServerFrame::Sync(sync)) = answer else { panic!("{answer:?}") };
    let shown = &sync.conversations[0].conversation;
    assert_eq!((shown.title.clone(), shown.members_count, shown.last_seq.get()), (title, 7, 2));
}

/// Without being asked for, for each user who gets messages: rows would cost the store more than it saves the client.
#[tokio::test(start_paused = true)]
async fn a_newer_cursor_costs_no_rows() {
    let (scene, pair) = at_rest().await;
    let mut bob = scene.client(pair.home, &pair.bob, &[]).await;
    scene.world.pass(61_000).await;
    let (cursor, reads) = (bob.cursor.clone(), scene.exact().inbox_reads.load(Ordering::Relaxed));
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(8_000).await;
    bob.take_frames();
    assert!(cursor.is_some() && bob.cursor != cursor, "it has come");
    assert_eq!(scene.exact().inbox_reads.load(Ordering::Relaxed), reads);
}
