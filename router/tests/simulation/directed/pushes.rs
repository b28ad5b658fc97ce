//! What homes hold for push when the one thing goes wrong that it is about (DESIGN §7): a home dies, drains or is another
//! node's, an announcement or a receipt is lost.

use crate::pushes::register;
use crate::scene::{Pair, Scene, user};
use crate::world::NODES;
use switchboard_protocol::client::{ConversationSettingsSet, EntryRef, MemberRemove};
use switchboard_protocol::{ClientFrame, Seq, Timestamp};
use switchboard_router::{Outcome, TraceQuery};
use switchboard_store::{Channel, ConversationKey, PushEnd, PushStore as _};

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

    /// A receipt beyond the end says nothing of the message after it.
    async fn is_told_after_reading_beyond_the_end(&self, pair: &Pair) {
        self.read(pair.at, pair, 99).await;
        self.world.pass(300).await;
        self.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
        self.world.pass(8_000).await;
        assert_eq!(self.queued(pair).await, [(3, Some(1))]);
    }

    /// A worker tells what is due.
    async fn notified(&self, pair: &Pair) {
        let store = &self.world.store;
        let at = Timestamp::from_unix_ms(self.world.clock.wall_ms());
        for leased in store.take_pushes(Channel::WebPush, at, at, 16).await.unwrap() {
            assert_eq!(leased.job.key.user, pair.bob);
            store.finish_push(leased, PushEnd::Sent, at).await.unwrap();
        }
    }

    /// A device of bob's has the message, says a node.
    async fn delivered(&self, at: usize, pair: &Pair, seq: u64) {
        let entry = EntryRef { conversation_id: pair.conversation.clone(), seq: Seq::new(seq) };
        self.call(at, &pair.bob, ClientFrame::Delivered(entry)).await.unwrap();
    }

    /// He has read it, says a node.
    async fn read(&self, at: usize, pair: &Pair, seq: u64) {
        let entry = EntryRef { conversation_id: pair.conversation.clone(), seq: Seq::new(seq) };
        self.call(at, &pair.bob, ClientFrame::Read(entry)).await.unwrap();
    }

    /// Bob mutes the conversation, or no longer.
    async fn mute(&self, pair: &Pair, until: Option<Timestamp>) {
        let conversation_id = pair.conversation.clone();
        let set = ConversationSettingsSet { conversation_id, muted_until: Some(until), archived: None, pinned: None };
        self.call(pair.at, &pair.bob, ClientFrame::ConversationSettings(set)).await.unwrap();
    }

    /// How far a message has got with bob, says its trace.
    async fn outcome(&self, pair: &Pair, seq: u64) -> Outcome {
        let key = ConversationKey { tenant: pair.bob.tenant.clone(), conversation: pair.conversation.clone() };
        let query = TraceQuery { user: Some(pair.bob.user.clone()), after: None, limit: 1 };
        let router = self.world.node(pair.owner).expect("it runs").router;
        let trace = router.trace(&key, Seq::new(seq), &query).await.unwrap();
        trace.recipients[0].outcome
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
async fn a_receipt_beyond_the_end_says_nothing_of_what_comes_after_it() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.world.pass(8_000).await;
    scene.is_told_after_reading_beyond_the_end(&pair).await;
    assert_eq!(scene.outcome(&pair, 2).await, Outcome::Read);
    assert_eq!(scene.outcome(&pair, 3).await, Outcome::NotificationWaits);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_new_home_lets_no_receipt_beyond_the_end_silence_what_comes_after_it() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.world.crash(pair.home).await;
    scene.world.pass(8_000).await;
    scene.is_told_after_reading_beyond_the_end(&pair).await;
    assert_eq!(scene.outcome(&pair, 3).await, Outcome::NotificationWaits);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_was_read_as_its_home_died_is_taken_back_by_the_next_one() {
    let scene = Scene::new().await;
    let pair = scene.held().await;
    scene.world.pass(8_000).await;
    scene.notified(&pair).await;
    assert_eq!(scene.queued(&pair).await, [(2, Some(1))], "it is shown");
    // The reading device tells the home, and so does the owner.
    scene.lose(pair.at, pair.home, true);
    scene.lose(pair.owner, pair.home, true);
    scene.read(pair.at, &pair, 2).await;
    scene.world.crash(pair.home).await;
    scene.world.pass(8_000).await;
    scene.notified(&pair).await;
    assert_eq!(scene.queued(&pair).await, []);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_in_the_hold_is_not_told_as_he_is_no_member() {
    let scene = Scene::new().await;
    let view = scene.world.view_without(&[]);
    let (alice, bob) = (user("alice"), user("bob"));
    register(&scene.world, &bob).await;
    let conversation = scene.group_of(vec![bob.user.clone()]).await;
    let (owner, home) = (scene.owner(&view, &conversation), scene.home(&view, &bob));
    scene.say_to_group(owner, &conversation, "m1").await;
    scene.world.pass(300).await;
    let pair = Pair { owner, home, at: home, alice, bob, conversation };
    assert_eq!(scene.outcome(&pair, 2).await, Outcome::NotificationWaits);
    let remove = MemberRemove { conversation_id: pair.conversation.clone(), user_ids: vec![pair.bob.user.clone()] };
    scene.call(owner, &pair.alice, ClientFrame::MemberRemove(remove)).await.unwrap();
    scene.world.pass(100).await;
    assert_eq!(scene.outcome(&pair, 2).await, Outcome::NotNotified, "before his inbox is written");
    scene.world.pass(8_000).await;
    assert_eq!(scene.queued(&pair).await, []);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_is_not_to_be_told_of_a_message_was_not_notified_by_a_later_one() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    register(&scene.world, &pair.bob).await;
    scene.mute(&pair, Some(Timestamp::from_unix_ms(4_102_444_800_000))).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(8_000).await;
    scene.mute(&pair, None).await;
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.world.pass(8_000).await;
    assert_eq!(scene.queued(&pair).await, [(3, Some(1))]);
    assert_eq!(scene.outcome(&pair, 3).await, Outcome::NotificationWaits);
    assert_eq!(scene.outcome(&pair, 2).await, Outcome::NotNotified);
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
