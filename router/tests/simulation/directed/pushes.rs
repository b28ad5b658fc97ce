//! What homes hold for push when the one thing goes wrong that it is about (DESIGN §7): a home dies, drains or is another
//! node's, an announcement or a receipt is lost.

use crate::pushes::register;
use crate::scene::{Pair, Scene};
use crate::world::NODES;
use switchboard_protocol::ClientFrame;
use switchboard_protocol::Seq;
use switchboard_protocol::client::EntryRef;
use switchboard_store::PushStore as _;

impl Scene {
    /// A pair whose second has a device, and the first's next message to him.
    async fn held(&self) -> Pair {
        let pair = self.pair(&self.world.view_without(&[]), |_| true).await;
        register(&self.world, &pair.bob).await;
        self.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
        self.world.pass(300).await;
        pair
    }

    /// Up to which message, and of how many, bob is to be told.
    async fn queued(&self, pair: &Pair) -> Vec<(u64, Option<u32>)> {
        let jobs = self.world.store.outstanding_pushes(&pair.bob).await.unwrap();
        jobs.iter().map(|job| (job.up_to_seq.get(), job.count)).collect()
    }

    /// A device of bob's has the message, says a node.
    async fn delivered(&self, at: usize, pair: &Pair, seq: u64) {
        let entry = EntryRef { conversation_id: pair.conversation.clone(), seq: Seq::new(seq) };
        self.call(at, &pair.bob, ClientFrame::Delivered(entry)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_home_held_when_it_died_is_held_by_the_next_one() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.world.crash(pair.home).await;
    scene.world.pass(12_000).await;
    // The first one he has not got either.
    assert_eq!(scene.queued(&pair).await, [(2, Some(2))]);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_owner_and_a_dead_home_held_is_told_by_the_next_ones() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.world.crash(pair.home).await;
    scene.world.crash(pair.owner).await;
    scene.world.pass(12_000).await;
    assert_eq!(scene.queued(&pair).await, [(2, Some(2))]);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_home_that_drains_puts_what_it_holds_into_the_queue_where_a_receipt_is_in_time() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    let drained = tokio::join!(scene.world.drain(pair.home), scene.world.pass(2_500)).0;
    assert!(drained, "it came to its end");
    assert_eq!(scene.queued(&pair).await, [(2, Some(1))]);
    scene.delivered(pair.at, &pair, 2).await;
    scene.world.pass(500).await;
    assert_eq!(scene.queued(&pair).await, []);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_new_home_withdraws_what_the_former_one_put_into_the_queue_after_it_had_looked() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    let view = scene.world.view_without(&[pair.home]);
    let others: Vec<_> = (0..NODES).filter(|index| *index != pair.home).collect();
    scene.world.show(&view, &others);
    scene.delivered(pair.at, &pair, 1).await;
    scene.world.pass(300).await;
    assert_eq!(scene.queued(&pair).await, []);
    scene.world.show(&view, &[pair.home]);
    scene.world.pass(300).await;
    assert_eq!(scene.queued(&pair).await, [(2, Some(1))]);
    scene.delivered(pair.at, &pair, 2).await;
    scene.world.pass(8_000).await;
    assert_eq!(scene.queued(&pair).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_on_the_way_to_the_home_is_held_when_it_is_told_again() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    register(&scene.world, &pair.bob).await;
    scene.say_losing(&pair, "m2", pair.owner, pair.home).await;
    scene.world.pass(9_000).await;
    assert_eq!(scene.queued(&pair).await, [(2, Some(2))]);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_the_home_has_missed_is_asked_for_before_anything_is_told() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.lose(pair.at, pair.home, true);
    scene.delivered(pair.at, &pair, 2).await;
    scene.world.pass(8_000).await;
    assert_eq!(scene.queued(&pair).await, []);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_has_no_device_holds_up_no_confirmation_and_who_has_does_until_it_is_decided() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(4_500).await;
    assert!(!is_active(&scene).await);
    register(&scene.world, &pair.bob).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.world.pass(4_500).await;
    assert!(is_active(&scene).await, "what is held is owed");
    scene.world.pass(3_500).await;
    assert!(!is_active(&scene).await);
    assert_eq!(scene.queued(&pair).await, [(3, Some(1))]);
}

async fn is_active(scene: &Scene) -> bool {
    use switchboard_store::Log as _;
    !scene.world.store.active(&[]).await.unwrap().is_empty()
}
