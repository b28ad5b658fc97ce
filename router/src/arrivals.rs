//! A user's sessions on several nodes: of the sessions with the same device and instance only the newest stays, and a
//! user has no more sessions than allowed (PROTOCOL §2, `limits.connections_per_user`).
//!
//! The user's home decides which session is the newest, by the order in which it hears of them, and tells every node
//! with sessions of the user, including the node of the newest. No clock is involved. Packets between two nodes keep
//! their order, so a session that the home heard of first is the older one. If a packet is lost, both sessions stay: a
//! session is never closed that might be the newer one.

use crate::envelope::{Arrival, Ask, Envelope, Reply, SessionRow};
use crate::home::HOME_MOVES_MS;
use crate::node::Node;
use crate::session::Session;
use std::collections::BTreeSet;
use std::sync::Arc;
use switchboard_protocol::CloseCode;
use switchboard_store::{Incarnation, UserKey};

impl Node {
    /// At the home: a user, who now has `sessions` in total, has new sessions on a node.
    pub(crate) fn on_arrivals(
        self: &Arc<Self>,
        node: &Incarnation,
        user: &UserKey,
        sessions: u32,
        arrived: Vec<Arrival>,
    ) {
        let nodes = self.nodes_with_sessions(user);
        for arrival in arrived {
            for told in &nodes {
                if *told == self.me {
                    self.on_newest(node, user, &arrival);
                } else {
                    let (user, at) = (user.clone(), node.clone());
                    self.links.send(told, Envelope::Newest { user, at, arrival: arrival.clone() });
                }
            }
            if sessions > self.options().connections_per_user {
                let (home, at, user) = (self.clone(), node.clone(), user.clone());
                self.spawn(async move { home.refuse_beyond_limit(&at, &user, arrival).await });
            }
        }
    }

    /// The nodes to be told which of a user's sessions is the newest. A new home may not know all of the user's nodes
    /// yet.
    fn nodes_with_sessions(&self, user: &UserKey) -> BTreeSet<Incarnation> {
        let known = self.users.if_at_home(user, |home| home.presence.nodes().map(|(node, _)| node.clone()).collect());
        let mut nodes: BTreeSet<Incarnation> = known.unwrap_or_default();
        let placement = self.placement();
        if self.clock.monotonic_ms() < self.view_changed_ms() + HOME_MOVES_MS {
            nodes.extend(placement.view.nodes.iter().map(|node| node.incarnation.clone()));
        }
        nodes
    }

    /// Refuses a session beyond the limit. The home's count includes sessions about to be replaced, so it asks the
    /// nodes.
    async fn refuse_beyond_limit(&self, at: &Incarnation, user: &UserKey, arrival: Arrival) {
        let mut rows = Vec::new();
        for node in self.nodes_with_sessions(user) {
            // A node that does not answer can't refuse a session.
            rows.extend(self.session_rows_at(&node, user).await.unwrap_or_default());
        }
        let different: BTreeSet<_> = rows.iter().map(|row| (&row.device_id, &row.instance_id)).collect();
        if different.len() <= usize::try_from(self.options().connections_per_user).unwrap_or(usize::MAX) {
            return;
        }
        if *at == self.me {
            self.on_no_room(user, &arrival);
        } else {
            self.links.send(at, Envelope::NoRoom { user: user.clone(), arrival });
        }
    }

    /// A node has the newest session of a device's instance: either this node, or one whose session replaces the one
    /// here.
    pub(crate) fn on_newest(self: &Arc<Self>, at: &Incarnation, user: &UserKey, newest: &Arrival) {
        let Some(session) = self.users.session_of(user, &newest.device, &newest.instance) else { return };
        let mut doing = session.doing();
        if session.id == newest.session {
            doing.told_of = true;
        } else if doing.told_of && *at != self.me {
            let (node, at, newest) = (self.clone(), at.clone(), newest.clone());
            drop(doing);
            self.spawn(async move { node.replace(session, &at, &newest).await });
        }
    }

    /// What reached the home late may be gone: a session is only replaced by one that exists.
    async fn replace(self: &Arc<Self>, older: Arc<Session>, at: &Incarnation, newest: &Arrival) {
        let there = self.session_rows_at(at, &older.user).await.unwrap_or_default();
        if there.iter().any(|row| row.session_id == newest.session) && self.users.remove(&older) {
            older.socket.close(CloseCode::Replaced);
            self.tell_home(&older.user);
        }
    }

    /// A session here exceeds the limit of its user.
    pub(crate) fn on_no_room(&self, user: &UserKey, arrival: &Arrival) {
        if let Some(session) = self.users.session(user, &arrival.session) {
            session.socket.close(CloseCode::Overloaded);
        }
    }

    async fn session_rows_at(&self, node: &Incarnation, user: &UserKey) -> Option<Vec<SessionRow>> {
        if *node == self.me {
            return Some(self.session_rows(user));
        }
        match self.ask(node, Ask::Sessions { user: user.clone() }).await {
            Ok(Reply::Sessions(rows)) => Some(rows),
            _ => None,
        }
    }
}
