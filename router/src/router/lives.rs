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

/// The parameters of a node's next life (see [`Router::go_on`]).
pub struct Life {
    /// A new incarnation of the same node.
    pub me: Incarnation,
    /// The transport, as this incarnation.
    pub bus: Arc<dyn Bus>,
    /// The view, which contains this incarnation. If the sender is dropped, the last view stays.
    pub views: watch::Receiver<View>,
}

impl Router {
    /// The node's current incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.newest().me.clone()
    }

    /// Whether other nodes have fenced this incarnation and own what it owned. Then it owns nothing, and answers
    /// `unavailable` where an owner is needed, until the node goes on as another incarnation.
    pub fn is_fenced(&self) -> bool {
        self.newest().is_fenced()
    }

    /// Returns when [`Router::is_fenced`].
    pub async fn fenced(&self) {
        let node = self.node();
        node.fenced().await;
    }

    /// Goes on as a new incarnation with the connected sessions, which notice only a `resync`. The former incarnation
    /// must be out of the view; the new owners take over what it owned.
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

    /// Whether this node has settled for its view: everything of its earlier lives has been announced.
    pub fn is_settled(&self) -> bool {
        let node = self.newest();
        let fingerprint = node.placement().view.fingerprint();
        node.settling.has_settled(fingerprint)
    }

    // The end

    /// Asks every client to connect elsewhere, spread over `drain.spread_ms`, but at most over `within_ms`.
    pub async fn drain(&self, within_ms: u64) {
        let node = self.node();
        node.set_draining();
        let elsewhere = node.placement().without(&node.me.node);
        let spread_ms = node.options().drain_spread_ms.min(within_ms);
        for session in node.users.all_sessions() {
            // There may be many sessions: the first ones that are due must be able to leave meanwhile.
            consume_budget().await;
            let after_ms = node.generator.below(spread_ms + 1);
            let url = elsewhere.as_ref().map(|elsewhere| &*elsewhere.home(&session.user).url);
            session.socket.reconnect(after_ms, url);
        }
    }

    /// Gives up every conversation and topic, and writes everything that waits. Afterwards nothing that was answered
    /// exists only in memory.
    pub async fn finish(&self) {
        let node = self.node();
        // No user returns to this node within the grace period.
        node.users.homed().iter().for_each(|user| node.end_grace(user, u64::MAX));
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        node.owners.order_all(|| Order::Drain { done: done.clone() }).await;
        drop(done);
        node.hand_over_topics().await;
        loop {
            // This node's flushes confirm what conversations owe to it.
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

    /// Aborts all of the node's tasks, whatever they are doing, and waits for that. Without [`Router::finish`] before,
    /// it leaves behind what a crash would.
    pub async fn shutdown(&self) {
        let node = self.node();
        node.stop();
        node.tasks.wait().await;
    }
}

/// Starts a node's tasks. They end when the node stops; the caller of the stop waits for them.
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
