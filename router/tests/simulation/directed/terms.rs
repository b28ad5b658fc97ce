//! How a conversation passes from node to node (DESIGN §3): who lives lets go, who is gone is fenced, and who was only
//! taken for dead goes on as a new incarnation.

use crate::scene::{EVERYONE, Pair, Scene, all_but, has, user};
use crate::world;
use futures_util::future::join_all;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard_protocol::client::{ChangesGet, ConversationRef, EntryRef, UserRef};
use switchboard_protocol::server::ShownStatus;
use switchboard_protocol::{ClientFrame, CloseCode, ErrorCode, ProtocolError, Seq, ServerFrame};
use switchboard_router::{Actor, Options, View};
use switchboard_store::{ConversationKey, Log as _};

fn is_unavailable(error: &ProtocolError) -> bool {
    error.code() == ErrorCode::Unavailable && error.retry_after_ms().is_some()
}

/// A node that owns the conversation once it has joined, and is nothing else to it; the others see each other.
async fn owner_to_be(scene: &Scene) -> (Pair, usize) {
    let all = scene.world.view_without(&[]);
    for next in EVERYONE {
        let without = scene.world.view_without(&[next]);
        scene.world.show(&without, &all_but(&[next]));
        scene.world.pass(1_000).await;
        let wanted = |pair: &Pair| {
            let home = scene.home(&all, &pair.bob);
            pair.at != next && home == pair.home && scene.owner(&all, &pair.conversation) == next
        };
        if let Some(pair) = scene.find_pair(&without, wanted).await {
            return (pair, next);
        }
    }
    panic!("no such pair");
}

/// Alice's second message, told to everyone: a term runs at its owner.
async fn begun(scene: &Scene, pair: &Pair) {
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.pass(500).await;
}

fn fenced(scene: &Scene) -> u64 {
    scene.world.oracle.counts().fenced
}

/// The view of all but one is shown to the others, who take it for dead: it is cut off.
async fn taken_for_dead(scene: &Scene, node: usize) -> View {
    scene.cut_off(node, true);
    let without = scene.world.view_without(&[node]);
    scene.world.show(&without, &all_but(&[node]));
    scene.world.pass(1_000).await;
    without
}

/// Who was taken for dead is seen by all again.
async fn seen_again(scene: &Scene, node: usize) {
    scene.cut_off(node, false);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(2_000).await;
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_given_what_is_its_own_now_and_no_client_notices() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    begun(&scene, &pair).await;
    let all = scene.world.view_without(&[]);
    // The owner is the last to hear of it.
    scene.world.show(&all, &all_but(&[pair.owner]));
    let (sent, ()) = tokio::join!(scene.say(next, &pair.alice, &pair.bob, "m3"), async {
        scene.world.pass(300).await;
        scene.world.show(&all, &[pair.owner]);
        scene.world.pass(100).await;
    });
    assert_eq!(sent.unwrap().seq.get(), 3);
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 3, "live");
    assert_eq!(scene.end_told_by(pair.owner, &pair).await, 3);
    assert_eq!(fenced(&scene), 0);
    scene.world.pass(6_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), [], "at rest again");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_lives_and_sees_the_ring_otherwise_keeps_the_conversation() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    begun(&scene, &pair).await;
    scene.world.show(&scene.world.view_without(&[]), &[next]);
    scene.world.pass(100).await;
    let error = scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    // For it, the owner is not even alive; but it answers.
    scene.world.show(&scene.world.view_without(&[pair.owner]), &[next]);
    scene.world.pass(500).await;
    let error = scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert_eq!(scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
    assert_eq!(fenced(&scene), 0);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(1_000).await;
    assert!(scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap().duplicate);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_who_is_the_owner_no_more_goes_before_what_is_said_later() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(1_000).await;
    scene.say(next, &pair.alice, &pair.bob, "m2").await.unwrap();
    // For a moment the former owner takes itself for the owner again, and asks in vain for the term.
    scene.world.show(&scene.world.view_without(&[next]), &[pair.owner]);
    scene.world.pass(100).await;
    let (first, second, third) = tokio::join!(
        scene.say(pair.owner, &pair.alice, &pair.bob, "m3"),
        scene.say(pair.owner, &pair.alice, &pair.bob, "m4"),
        async {
            scene.world.pass(100).await;
            scene.world.show(&scene.world.view_without(&[]), &[pair.owner]);
            scene.world.pass(1).await;
            scene.say(pair.owner, &pair.alice, &pair.bob, "m5").await
        },
    );
    let seqs = [first, second, third].map(|sent| sent.unwrap().seq.get());
    assert_eq!(seqs, [3, 4, 5]);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_was_read_while_the_owner_was_gone_the_next_one_hears() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    begun(&scene, &pair).await;
    let reader = EVERYONE.into_iter().find(|index| ![pair.owner, next].contains(index)).unwrap();
    scene.cut_off(pair.owner, true);
    let read = ClientFrame::Read(EntryRef { conversation_id: pair.conversation.clone(), seq: Seq::new(2) });
    let actor = Actor { user: pair.bob.clone(), session: None, awaited: false };
    let node = scene.world.node(reader).unwrap();
    let (said, _) = tokio::join!(node.router.call(actor, read), taken_for_dead(&scene, pair.owner));
    assert!(said.is_ok(), "nobody waits for it");
    scene.world.pass(6_000).await;
    let about = ClientFrame::ConversationGet(ConversationRef { conversation_id: pair.conversation.clone() });
    let told = scene.call(reader, &pair.bob, about).await.unwrap();
    let ServerFrame::Conversation(conversation) = told else { panic!("{told:?}") };
    assert_eq!((conversation.read_seq.get(), conversation.unread), (2, 0));
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_lets_a_conversation_go_hands_over_what_it_owes() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    // Nobody tells the home that it has missed something before the owner has let go.
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(1_000).await;
    scene.lose(pair.owner, pair.home, false);
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    scene.world.pass(6_000).await;
    assert_eq!(scene.world.store.active(&[]).await.unwrap(), []);
    assert_eq!((fenced(&scene), scene.end_told_by(next, &pair).await), (0, 2));
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_was_let_go_of_and_never_begun_again_goes_back_with_what_it_owes() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    // The next owner hears of what was let go of, and dies before it can begin.
    scene.exact().begin_term_fails.store(true, Ordering::Relaxed);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(1_000).await;
    let without = scene.world.view_without(&[next]);
    scene.world.crash(next).await;
    scene.exact().begin_term_fails.store(false, Ordering::Relaxed);
    scene.lose(pair.owner, pair.home, false);
    scene.world.show(&without, &all_but(&[next]));
    scene.world.pass(2_000).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    assert_eq!(scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
    assert_eq!(fenced(&scene), 0);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_term_owes_that_the_store_refused_is_handed_over() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    // The outcome of an append is unknown while the ring gives the conversation to another node, and then it is refused.
    scene.exact().append_fails.store(true, Ordering::Relaxed);
    let (refused, ()) = tokio::join!(scene.say(pair.owner, &pair.alice, &pair.bob, "m3"), async {
        scene.world.pass(300).await;
        scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
        scene.world.pass(300).await;
        scene.exact().append_refused.store(true, Ordering::Relaxed);
        scene.exact().append_fails.store(false, Ordering::Relaxed);
        scene.world.pass(2_000).await;
    });
    assert!(is_unavailable(&refused.unwrap_err()));
    scene.exact().append_refused.store(false, Ordering::Relaxed);
    scene.lose(pair.owner, pair.home, false);
    scene.world.pass(2_000).await;
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 2);
    assert_eq!(scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
    assert_eq!(fenced(&scene), 0);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_term_that_nobody_remembers_is_let_go_of_too() {
    let scene = Scene::new().await;
    let (pair, next) = owner_to_be(&scene).await;
    // It was begun, and its owner does not know.
    scene.exact().begin_term_unsaid.store(true, Ordering::Relaxed);
    assert!(scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.is_err());
    scene.exact().begin_term_unsaid.store(false, Ordering::Relaxed);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(100).await;
    assert_eq!(scene.say(next, &pair.alice, &pair.bob, "m2").await.unwrap().seq.get(), 2);
    assert_eq!(fenced(&scene), 0);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_drains_is_asked_and_not_fenced() {
    let scene = Scene::new().await;
    let without: Vec<_> = EVERYONE.iter().map(|gone| scene.world.view_without(&[*gone])).collect();
    let next = |pair: &Pair| scene.owner(&without[pair.owner], &pair.conversation);
    let pair = scene.pair(&scene.world.view_without(&[]), |pair| next(pair) != pair.home).await;
    let next = next(&pair);
    // What it owes keeps it from ending its terms.
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    scene.world.show(&scene.world.view_without(&[pair.owner]), &all_but(&[pair.owner]));
    let (in_time, again) = tokio::join!(scene.world.drain(pair.owner), async {
        scene.world.pass(100).await;
        let again = scene.say(next, &pair.alice, &pair.bob, "m2").await;
        scene.world.pass(3_000).await;
        again
    });
    assert!(in_time && again.unwrap().duplicate);
    assert_eq!(scene.world.store.fenced(), [], "it let go");
    scene.check();
}

/// A node drains, as it says itself first, while a term of its own runs; and who owns the conversation then.
async fn drains_with_a_term(scene: &Scene) -> (Pair, usize) {
    let all = scene.world.view_without(&[]);
    let next = |pair: &Pair| scene.owner(&scene.world.view_leaving(pair.owner), &pair.conversation);
    let pair = scene.pair(&all, |pair| next(pair) != pair.home && next(pair) != pair.at).await;
    let next = next(&pair);
    // What it owes keeps it from ending its term.
    scene.lose(pair.owner, pair.home, true);
    scene.say(pair.owner, &pair.alice, &pair.bob, "m2").await.unwrap();
    let leaving = scene.world.view_leaving(pair.owner);
    scene.hold(pair.owner, next, true);
    scene.world.show(&leaving, &[pair.owner]);
    scene.world.pass(50).await;
    scene.world.show(&leaving, &all_but(&[pair.owner]));
    scene.world.pass(50).await;
    (pair, next)
}

#[tokio::test(start_paused = true)]
async fn who_drains_and_answers_late_is_not_fenced() {
    let scene = Scene::new().await;
    let (pair, next) = drains_with_a_term(&scene).await;
    let (sent, ()) = tokio::join!(scene.say(next, &pair.alice, &pair.bob, "m3"), async {
        // Longer than a node whose heartbeat is gone may take to answer.
        scene.world.pass(600).await;
        scene.hold(pair.owner, next, false);
        scene.world.pass(600).await;
    });
    assert_eq!(sent.unwrap().seq.get(), 3);
    assert_eq!((scene.world.store.fenced(), fenced(&scene)), (vec![], 0), "it let go");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_it_drains_is_fenced_when_its_heartbeat_is_gone() {
    let scene = Scene::new().await;
    let (pair, next) = drains_with_a_term(&scene).await;
    let dead = scene.world.node(pair.owner).unwrap().me;
    scene.world.crash(pair.owner).await;
    scene.world.pass(2_000).await;
    let error = scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert_eq!(scene.world.store.fenced(), []);
    // The rest of the TTL and one second (DESIGN §5.10).
    scene.world.pass(2_000).await;
    assert_eq!(scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
    assert_eq!(scene.world.store.fenced(), [dead]);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_for_dead_tells_nothing_old_and_goes_on_with_its_sessions() {
    let scene = Scene::new().await;
    // The node is his home as well: no other one tells him to sync.
    let pair = scene.find_at_one_node(&scene.world.view_without(&[])).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    begun(&scene, &pair).await;
    scene.follow(&mut bob).await;
    let before = scene.world.node(pair.owner).unwrap().me;
    let without = taken_for_dead(&scene, pair.owner).await;
    let second = scene.owner(&without, &pair.conversation);
    assert_eq!(scene.say(second, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);

    // It does not know, and says nothing that was true before.
    let after = ChangesGet { conversation_id: pair.conversation.clone(), after: Seq::ZERO, limit: 9 };
    let told = scene.call(pair.owner, &pair.bob, ClientFrame::Changes(after)).await;
    assert!(told.as_ref().is_err_and(is_unavailable), "{told:?}");
    assert!(scene.say(pair.owner, &pair.alice, &pair.bob, "m4").await.is_err());

    seen_again(&scene, pair.owner).await;
    assert_ne!(scene.world.node(pair.owner).unwrap().me, before, "a new incarnation");
    scene.follow(&mut bob).await;
    assert_eq!(has(&bob, &pair.conversation), 3);
    assert_eq!(scene.say(pair.owner, &pair.alice, &pair.bob, "m4").await.unwrap().seq.get(), 4);
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &pair.conversation), 4, "live, by the same session");
    assert_eq!(fenced(&scene), 1);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn who_has_a_conversation_open_at_a_fenced_node_has_it_open_when_that_goes_on() {
    let scene = Scene::new().await;
    let (group, owner) = scene.group().await;
    let mut bob = scene.client(owner, &user("bob"), &[]).await;
    bob.open_conversation(group.clone()).await;
    scene.follow(&mut bob).await;
    let without = taken_for_dead(&scene, owner).await;
    scene.say_to_group(scene.owner(&without, &group), &group, "m2").await;
    seen_again(&scene, owner).await;
    // Whatever it is asked shows it that it is fenced.
    let asked = ChangesGet { conversation_id: group.clone(), after: Seq::ZERO, limit: 9 };
    drop(scene.call(owner, &user("bob"), ClientFrame::Changes(asked)).await);
    scene.world.pass(3_000).await;
    scene.follow(&mut bob).await;
    assert_eq!((fenced(&scene), has(&bob, &group)), (1, 2));
    scene.say_to_group(owner, &group, "m3").await;
    scene.world.pass(100).await;
    bob.take_frames();
    assert_eq!(has(&bob, &group), 3, "live");
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_life_the_store_has_lost_goes_on_in_another() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    begun(&scene, &pair).await;
    scene.world.store.lose_life(&scene.world.node(pair.owner).unwrap().me);
    assert!(is_unavailable(&scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap_err()));
    scene.world.pass(2_000).await;
    assert_eq!(scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap().seq.get(), 3);
    assert_eq!(fenced(&scene), 1);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn blocks_and_revocations_reach_a_node_that_was_out_of_the_view() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    // By its clock, carol connects after the revocation.
    scene.world.set_skew(pair.at, 60_000);
    let carol = scene.client(pair.at, &user("carol"), &[]).await;
    begun(&scene, &pair).await;
    // For the home's node, bob's owner and carol's node are not there for a while.
    scene.world.show(&scene.world.view_without(&[pair.owner, pair.at]), &[pair.home]);
    scene.world.pass(50).await;
    // The owner knows of no block, and goes on with its term.
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    let block = ClientFrame::Block(UserRef { user_id: pair.alice.user.clone() });
    scene.call(pair.home, &pair.bob, block).await.unwrap();
    scene.world.node(pair.home).unwrap().router.revoke(&user("carol")).await.unwrap();
    assert_eq!(carol.connection.as_ref().unwrap().inbox.closed(), None, "it has not been told");
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(1_000).await;
    assert_eq!(carol.connection.as_ref().unwrap().inbox.closed(), Some(CloseCode::Revoked));
    let error = scene.say(pair.owner, &pair.alice, &pair.bob, "m4").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Blocked);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_user_before_a_block_does_not_undo_it() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let _bob = scene.client(pair.home, &pair.bob, &[]).await;
    let mut alice = scene.client(pair.at, &pair.alice, &[]).await;
    alice.watched = vec![pair.bob.user.clone()];
    alice.watch().await;
    assert_eq!(alice.seen[&pair.bob.user], ShownStatus::Online);
    // Alice's node was out of the view: it reads what it may have missed, and the answer takes its time.
    scene.world.show(&scene.world.view_without(&[pair.at]), &[pair.home]);
    scene.world.pass(50).await;
    scene.exact().user_answer_ms.store(1_000, Ordering::Relaxed);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    scene.world.pass(200).await;
    scene.exact().user_answer_ms.store(0, Ordering::Relaxed);
    let block = ClientFrame::Block(UserRef { user_id: pair.alice.user.clone() });
    scene.call(pair.home, &pair.bob, block).await.unwrap();
    scene.world.pass(2_000).await;
    alice.take_frames();
    assert_eq!(alice.seen[&pair.bob.user], ShownStatus::Offline);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn blocks_and_revocations_that_were_written_are_in_force_though_nobody_waits_for_them() {
    let scene = Scene::new().await;
    let pair = scene.pair(&scene.world.view_without(&[]), |_| true).await;
    let carol = scene.client(pair.at, &user("carol"), &[]).await;
    begun(&scene, &pair).await;
    // The owner knows of no block.
    scene.say(pair.owner, &pair.alice, &pair.bob, "m3").await.unwrap();
    scene.exact().put_user_ms.store(500, Ordering::Relaxed);
    let block = ClientFrame::Block(UserRef { user_id: pair.alice.user.clone() });
    let soon = Duration::from_millis(100);
    let blocking = scene.call(pair.home, &pair.bob, block);
    assert!(tokio::time::timeout(soon, blocking).await.is_err(), "it is being written");
    let router = scene.world.node(pair.home).unwrap().router;
    assert!(tokio::time::timeout(soon, router.revoke(&user("carol"))).await.is_err(), "it is being written");
    scene.world.pass(1_000).await;
    assert_eq!(carol.connection.as_ref().unwrap().inbox.closed(), Some(CloseCode::Revoked));
    let error = scene.say(pair.owner, &pair.alice, &pair.bob, "m4").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Blocked);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_of_a_conversation_that_was_let_go_of_is_told_by_the_next_owner() {
    let scene = Scene::new().await;
    let (pair, _next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    begun(&scene, &pair).await;
    scene.say_losing(&pair, "m3", pair.owner, pair.home).await;
    scene.exact().begin_term_fails.store(true, Ordering::Relaxed);
    scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
    // The home asks for what it has missed, and flushes.
    scene.world.pass(4_000).await;
    scene.exact().begin_term_fails.store(false, Ordering::Relaxed);
    assert_eq!(scene.synced(&mut bob, &pair.conversation).await, 3);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn an_append_without_an_outcome_keeps_no_sync_from_its_answer() {
    // It is behind as much as a conversation may have waiting.
    let scene = Scene::with(Options { conversation_queue_max: 2, ..world::options() }).await;
    let (pair, next) = owner_to_be(&scene).await;
    let mut bob = scene.client(pair.at, &pair.bob, &[]).await;
    begun(&scene, &pair).await;
    scene.exact().append_fails.store(true, Ordering::Relaxed);
    // The first is under way, two wait for it, two wait to be taken.
    let names = [("m3", 0), ("m4", 100), ("m5", 100), ("m6", 200), ("m7", 200)];
    let sends = join_all(names.map(async |(name, after_ms)| {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        scene.say(pair.owner, &pair.alice, &pair.bob, name).await
    }));
    let (sent, ()) = tokio::join!(sends, async {
        scene.world.pass(300).await;
        scene.world.show(&scene.world.view_without(&[]), &EVERYONE);
        scene.world.pass(2_000).await;
        assert!(bob.sync().await);
    });
    assert!(sent.iter().all(Result::is_err), "{sent:?}");
    assert_eq!(bob.copies[&pair.conversation].heard, 2);
    scene.exact().append_fails.store(false, Ordering::Relaxed);
    scene.world.pass(3_000).await;
    let again = scene.say(next, &pair.alice, &pair.bob, "m3").await.unwrap();
    assert_eq!((again.seq.get(), again.duplicate), (3, true));
    assert_eq!(fenced(&scene), 0);
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_was_on_its_way_when_its_node_was_fenced_is_heard() {
    let scene = Scene::new().await;
    let all = scene.world.view_without(&[]);
    let here = scene.find_at_one_node(&all).await;
    let there = scene.pair(&all, |pair| pair.at == here.owner).await;
    let bob = scene.client(there.at, &there.bob, &[]).await;
    begun(&scene, &here).await;
    begun(&scene, &there).await;
    let without = taken_for_dead(&scene, here.owner).await;
    let second = scene.owner(&without, &here.conversation);
    scene.say(second, &here.alice, &here.bob, "m3").await.unwrap();
    let read = EntryRef { conversation_id: there.conversation.clone(), seq: Seq::new(2) };
    let (_, ()) = tokio::join!(bob.call_with(false, ClientFrame::Read(read)), async {
        scene.world.pass(100).await;
        // Whatever it is asked shows it that it is fenced.
        let after = ChangesGet { conversation_id: here.conversation.clone(), after: Seq::ZERO, limit: 9 };
        drop(scene.call(here.owner, &here.bob, ClientFrame::Changes(after)).await);
        seen_again(&scene, here.owner).await;
    });
    assert_eq!(fenced(&scene), 1);
    scene.world.pass(3_000).await;
    let key = ConversationKey { tenant: there.bob.tenant.clone(), conversation: there.conversation.clone() };
    let member = scene.world.store.member(&key, &there.bob.user).await.unwrap().unwrap();
    assert_eq!(member.cursor.read_seq.get(), 2);
    scene.check();
}
