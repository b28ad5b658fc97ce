//! A node's lives: starting its tasks, going on as a new incarnation after it was fenced, and the end.

use super::Router;
use crate::bus::{Bus, Packets};
use crate::node::Node;
use crate::owner::Order;
use crate::view::View;
use std::sync::{Arc, PoisonError};
use switchboard_store::Incarnation;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;

/// A further life of a node (see [`Router::go_on`]).
pub struct Life {
    /// An incarnation of the same node that never was before.
    pub me: Incarnation,
    /// How nodes talk, as this incarnation.
    pub bus: Arc<dyn Bus>,
    /// Which nodes live, this one among them; if it ends, the last one stays.
    pub views: watch::Receiver<View>,
}

impl Router {
    /// Which life of the node this is.
    pub fn incarnation(&self) -> Incarnation {
        self.newest().me.clone()
    }

    /// Whether others have taken this life of the node for dead, and own what it owned. It owns nothing any more, and
    /// answers `unavailable` to what needs an owner here, until it goes on in another.
    pub fn is_fenced(&self) -> bool {
        self.newest().is_fenced()
    }

    /// Returns when [`Router::is_fenced`].
    pub async fn fenced(&self) {
        let node = self.node();
        node.fenced().await;
    }

    /// Goes on as a new incarnation, with the sessions that are connected: they notice nothing but a `resync`. The former
    /// incarnation has to be out of the view for that; what it owned is taken over from it by whoever owns it now.
    pub async fn go_on(&self, life: Life) {
        let Life { me, bus, views } = life;
        let packets = bus.subscribe(&me);
        let view = views.borrow().clone();
        let former = {
            let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
            let next = newest.next_life(me, bus, view);
            std::mem::replace(&mut *newest, next)
        };
        tracing::info!(former = %former.me, now = %self.incarnation(), "going on as a new incarnation");
        run(&self.node(), packets, views);
        former.stop();
        former.forget_requests(|_| false);
        former.tasks.wait().await;
    }

    /// Whether this node has settled for its view: nothing of an earlier life is untold.
    pub fn is_settled(&self) -> bool {
        let node = self.newest();
        let fingerprint = node.placement().view.fingerprint();
        node.settling.has_settled(fingerprint)
    }

    // The end

    /// Asks every client to go elsewhere, spread over `drain.spread_ms`, but not over more than `within_ms`.
    pub async fn drain(&self, within_ms: u64) {
        let node = self.node();
        node.set_draining();
        let elsewhere = node.placement().without(&node.me.node);
        let spread_ms = node.options().drain_spread_ms.min(within_ms);
        for session in node.users.all_sessions() {
            // There may be many: who waits no longer than so long has its turn in between.
            consume_budget().await;
            let after_ms = node.generator.below(spread_ms + 1);
            let url = elsewhere.as_ref().map(|elsewhere| &*elsewhere.home(&session.user).url);
            session.socket.reconnect(after_ms, url);
        }
    }

    /// Lets every conversation and topic go, and writes what waits: after it nothing that was answered is only in memory.
    pub async fn finish(&self) {
        let node = self.node();
        // Nobody comes back within his grace here.
        node.users.homed().iter().for_each(|user| node.end_grace(user, u64::MAX));
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        node.owners.order_all(|| Order::Drain { done: done.clone() }).await;
        drop(done);
        node.hand_over_topics().await;
        loop {
            // What conversations owe to this node is confirmed by its flushes.
            node.leave_all_pushes();
            node.flush().await;
            tokio::select! {
                biased;
                none = all_done.recv() => if none.is_none() { break },
                () = node.clock.sleep_ms(crate::node::TICK_MS) => {}
            }
        }
        while !node.has_left_pushes() {
            node.leave_all_pushes();
            node.clock.sleep_ms(crate::node::TICK_MS).await;
        }
        node.flush().await;
    }

    /// Ends all of the node's tasks, wherever they are, and waits for that. Without [`Router::finish`] before, this is
    /// what a crash would leave behind.
    pub async fn shutdown(&self) {
        let node = self.node();
        node.stop();
        node.tasks.wait().await;
    }
}

/// Starts a node's tasks. All end when it stops, and whoever stops it waits for that.
pub(super) fn run(node: &Arc<Node>, packets: Packets, views: watch::Receiver<View>) {
    node.spawn(node.clone().receive_packets(packets));
    node.spawn(node.clone().send_packets());
    node.spawn(node.clone().follow_views(views));
    node.spawn(node.clone().keep_time());
    node.spawn(node.clone().keep_flushed());
    node.spawn(node.clone().keep_topics_copied());
    node.spawn(node.clone().keep_user_changes());
    node.spawn(node.clone().keep_receipts_heard());
    node.spawn(node.clone().keep_pushes());
    node.spawn(node.clone().write_pushes());
}
