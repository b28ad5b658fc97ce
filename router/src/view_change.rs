//! The actions of a node on a view change, which gives conversations new owners and users new homes (DESIGN §4).

use crate::delivery::undroppable;
use crate::envelope::Envelope;
use crate::figures::count;
use crate::node::{Node, Wake};
use crate::owner::{Input, Order};
use crate::session::Session;
use crate::view::{Placement, View};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use switchboard_protocol::server::{Frame as _, Resync};
use switchboard_store::{ConversationKey, Incarnation};
use tokio::sync::{mpsc, watch};

/// The interval of heartbeats on links. A heartbeat reveals the loss of the last envelope before it.
const HEARTBEAT_MS: u64 = 1_000;

/// The pause before the store is asked again what must be taken over.
const ASK_STORE_AGAIN_MS: u64 = 500;

impl Node {
    /// Follows the view until it ends, starting with the current one.
    pub(crate) async fn follow_views(self: Arc<Self>, mut views: watch::Receiver<View>) {
        loop {
            let view = views.borrow_and_update().clone();
            let number = view.number;
            tokio::select! {
                biased;
                // A newer view repeats what it needs, so the work for an outdated one is dropped.
                () = newer(&views, number) => continue,
                () = self.on_view(view) => {}
            }
            if views.changed().await.is_err() {
                return;
            }
        }
    }

    async fn on_view(self: &Arc<Self>, view: View) {
        let before = self.placement();
        let goes_on = self.goes_on.swap(false, Ordering::Relaxed);
        let fingerprint = view.fingerprint();
        tracing::info!(view = view.number, nodes = view.nodes.len(), "the view has changed");
        self.figures.view_members.set(count(view.nodes.len()));
        // The same set of nodes may have been the view before: what was settled for it then must be settled again.
        self.settling.unsettle();
        self.place(Placement::new(view.clone()));

        // A node that this one took for dead, and that is alive, must announce again what was forgotten.
        for back in view.reached(&self.me).filter(|node| !before.view.reaches(node)) {
            self.links.ask_everything(back);
        }
        // A draining node keeps its sessions until they have moved.
        let departed = before.view.reached(&self.me).filter(|node| !view.reaches(node)).cloned().collect::<Vec<_>>();
        departed.iter().for_each(|gone| self.on_node_gone(gone));
        self.links.forget_queues(|peer| view.reaches(peer));
        // A node that was out of the previous view may still be alive and answer.
        self.forget_requests(|peer| view.reaches(peer) || !before.view.reaches(peer));
        self.gone.forget(|node| view.reaches(node));
        // Asked while the notes are read. A node that has drained leaves none.
        for node in departed.into_iter().filter(|node| !before.view.leaving.contains(node)) {
            let asking = self.clone();
            self.spawn(async move { _ = asking.is_gone(&node).await });
        }
        self.register_all(None);
        self.leave_homes_later();
        self.leave_pushes();
        self.watch_again(None);
        self.place_topics();
        self.watch_topics_again(|_, _| goes_on);
        self.open_again(|key, owner| goes_on || before.owner(key).incarnation != *owner);
        self.resync_moved(|session, home| goes_on || before.home(&session.user).incarnation != *home);
        if goes_on {
            self.user_changes_missed.notify_one();
        }

        for (incarnation, mut conversations) in self.hand_over_all().await {
            conversations.retain(|key| !self.settling.is_named(key));
            // If this fails, they are taken over once more, which is harmless.
            drop(self.store.forget_active(&incarnation, &conversations).await);
        }
        if !self.is_fenced() {
            self.settling.settled(fingerprint);
        }
    }

    /// Returns when each conversation has announced what it owed, has been released or taken over, or is named as
    /// untold. The result is the conversations of nodes that are dead or drain.
    async fn hand_over_all(self: &Arc<Self>) -> BTreeMap<Incarnation, Vec<ConversationKey>> {
        let (done, mut all_done) = mpsc::channel(1);
        // Read first: if a note moves to this node meanwhile, its conversation gets the order about the view.
        let active = self.read_active().await;
        let ordered = self.owners.order_all(|| Order::View { done: done.clone() });
        let ((), dead) = tokio::join!(ordered, self.take_over_dead(active, &done));
        drop(done);
        while all_done.recv().await.is_some() {}
        dead
    }

    /// The conversations noted by nodes that are dead, or that drain: those are asked to let go (`take_over.rs`), since
    /// nobody waits for their own announcements (`settle.rs`).
    async fn read_active(&self) -> Vec<(Incarnation, ConversationKey)> {
        let placement = self.placement();
        let staying: Vec<_> = placement.view.nodes.iter().map(|node| node.incarnation.clone()).collect();
        loop {
            match self.store.active(&staying).await {
                Ok(active) => return active,
                Err(error) => {
                    tracing::warn!(%error, "can't read the conversations to take over; retrying");
                    self.clock.sleep_ms(ASK_STORE_AGAIN_MS).await;
                }
            }
        }
    }

    /// Begins a term for each of these conversations that this node owns now, a bounded number at a time.
    async fn take_over_dead(
        self: &Arc<Self>,
        active: Vec<(Incarnation, ConversationKey)>,
        done: &mpsc::Sender<()>,
    ) -> BTreeMap<Incarnation, Vec<ConversationKey>> {
        let placement = self.placement();
        let mut dead: BTreeMap<Incarnation, Vec<ConversationKey>> = BTreeMap::new();
        for (incarnation, key) in active {
            if placement.owner(&key).incarnation == self.me {
                dead.entry(incarnation).or_default().push(key);
            }
        }
        join_all(dead.values().flatten().map(|key| self.begin_take_over(key, Some(done.clone())))).await;
        dead
    }

    /// Registers the users with sessions here at their homes: at all homes, or at one.
    pub(crate) fn register_all(self: &Arc<Self>, only: Option<&Incarnation>) {
        let placement = self.placement();
        let mut by_home: BTreeMap<Incarnation, Vec<crate::envelope::Registration>> = BTreeMap::new();
        for registration in self.users.registrations() {
            let home = placement.home(&registration.user).incarnation.clone();
            by_home.entry(home).or_default().push(registration);
        }
        for (home, users) in by_home.into_iter().filter(|(home, _)| only.is_none_or(|only| only == home)) {
            if home == self.me {
                users.into_iter().for_each(|registration| self.on_register(&home, registration));
            } else {
                self.links.send(&home, Envelope::Register { users });
            }
        }
    }

    /// Sends `resync` to sessions whose user has another home now: the new home did not know them when earlier messages
    /// came. Their `sync` follows their registration on the same link.
    fn resync_moved(&self, has_moved: impl Fn(&Session, &Incarnation) -> bool) {
        let placement = self.placement();
        for session in self.users.all_sessions() {
            if has_moved(&session, &placement.home(&session.user).incarnation) {
                self.figures.resyncs_of_moves.increment(1);
                session.socket.deliver(&resync());
            }
        }
    }

    /// Sends `resync` to the sessions of users at this home: packets between the nodes were lost, with frames for them.
    pub(crate) fn resync_sessions_of(&self, home: &Incarnation) {
        let placement = self.placement();
        for session in self.users.all_sessions() {
            if placement.home(&session.user).incarnation == *home {
                self.figures.resyncs_of_gaps.increment(1);
                session.socket.deliver(&resync());
            }
        }
    }

    /// The home's announcements of these sessions may be among what was lost. If the sessions were announced again,
    /// they would look like the newest.
    pub(crate) fn note_told_of(&self, home: &Incarnation) {
        let placement = self.placement();
        for session in self.users.all_sessions() {
            if placement.home(&session.user).incarnation == *home {
                session.doing().told_of = true;
            }
        }
    }

    // Time

    /// Turns the wheel and sends the heartbeats. Never waits for the store: ephemeral traffic goes on without it.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let mut beat_ms = 0;
        loop {
            self.clock.sleep_to_next_ms(crate::node::TICK_MS).await;
            let now_ms = self.clock.monotonic_ms();
            for wake in self.turn_wheel(now_ms) {
                match wake {
                    Wake::Conversation(key) => self.tick(key, now_ms),
                    Wake::Grace(user) => self.on_grace_over(&user),
                    Wake::LeaveHome(user) => self.on_leave_home(&user),
                    Wake::Push(user) => self.on_push_wake(&user),
                }
            }
            self.tell_presence(now_ms);
            self.tell_cursors(now_ms);
            self.tick_topics(now_ms);
            if now_ms >= beat_ms {
                beat_ms = now_ms + HEARTBEAT_MS;
                let grown = self.links.heartbeat(self.placement().view.reached(&self.me));
                grown.iter().for_each(|peer| self.see_to_gap(peer));
                self.figures.conversations_active.set(count(self.owners.active()));
                self.figures.conversations_untold.set(count(self.settling.untold().len()));
                self.figures.take_overs_waiting.set(count(self.take_overs.waiting()));
                self.figures.home_dirty_bytes.set(count(self.users.dirty_bytes()));
                self.figures.newest_entries_bytes.set(count(self.newest_bytes.total()));
                self.figures.trace_bytes.set(count(self.traces.bytes()));
                self.figures.owed_announcements.set(count(self.links.owed()));
                self.gauge_pushes();
            }
        }
    }

    /// Retries later if the conversation's queue is full: the conversation relies on its tick.
    fn tick(&self, key: ConversationKey, now_ms: u64) {
        if self.owners.say_if_active(&key, Input::Tick).is_err() && self.owners.is_active(&key) {
            self.wake_at(now_ms + crate::node::TICK_MS, Wake::Conversation(key));
        }
    }
}

pub(crate) fn resync() -> Arc<crate::delivery::Delivery> {
    Arc::new(undroppable("resync", Resync {}.encode(None)))
}

/// Returns when there is a newer view than `number`.
async fn newer(views: &watch::Receiver<View>, number: u64) {
    let mut views = views.clone();
    if views.wait_for(|view| view.number != number).await.is_err() {
        std::future::pending::<()>().await;
    }
}
