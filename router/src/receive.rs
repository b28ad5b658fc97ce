//! Handles the envelopes of other nodes.
//!
//! One task takes the packets, so the envelopes of one sender are handled in the order of their numbers. Nothing here
//! waits for the store or another node; work that must wait is spawned.

use crate::api::Answer;
use crate::bus::Packets;
use crate::envelope::{Ask, Encoded, Envelope, Packet, Reply};
use crate::link::Repeat;
use crate::node::Node;
use crate::owner::{Input, LocalReply, Order, ReplyResult, ReplyTo};
use crate::session::Held;
use crate::wire::{decoded, refusal, reply_of};
use std::sync::Arc;
use switchboard_protocol::client::TopicWatch;
use switchboard_protocol::{ClientFrame, ProtocolError, ServerFrame};
use switchboard_push::Receipt;
use switchboard_store::{Incarnation, UserKey};
use tokio::sync::mpsc;

impl Node {
    /// Takes packets until the bus ends.
    pub(crate) async fn receive_packets(self: Arc<Self>, mut packets: Packets) {
        while let Some(packet) = packets.recv().await {
            match Packet::decode(&packet) {
                // As if the bus had lost it: it is repeated when there is room.
                Ok(packet) if self.is_home_full() && packet.has_notes() => {
                    self.figures.bus_dropped_home.increment(packet.envelopes.len() as u64);
                }
                Ok(packet) => self.on_packet(packet),
                Err(error) => {
                    self.figures.bus_refused.increment(1);
                    tracing::warn!(%error, "refused a packet");
                }
            }
        }
    }

    /// Sends what waits, one packet per node: everything queued since the last turn leaves together.
    pub(crate) async fn send_packets(self: Arc<Self>) {
        loop {
            self.links.waiting().await;
            tokio::task::yield_now().await;
            for (peer, packet) in self.links.take_packets() {
                self.figures.bus_publishes.increment(1);
                let envelopes = packet.envelopes.len() as u64;
                if let Err(error) = self.bus.publish(&peer, packet.encode()) {
                    // The gap in the numbers makes the receiver ask for a repeat.
                    self.figures.bus_dropped_bus.increment(envelopes);
                    tracing::debug!(%error, %peer, "a packet did not leave");
                }
            }
        }
    }

    fn on_packet(self: &Arc<Self>, packet: Packet) {
        let from = packet.from.clone();
        let received = self.links.receive(packet);
        if received.missed {
            self.figures.bus_gaps.increment(1);
            self.see_to_gap(&from);
        }
        let first = received.last + 1 - received.envelopes.len() as u64;
        for (number, envelope) in (first..).zip(received.envelopes) {
            self.on_envelope(&from, number, envelope);
        }
        self.links.handled(&from, received.last);
    }

    fn on_envelope(self: &Arc<Self>, from: &Incarnation, number: u64, envelope: Envelope) {
        match envelope {
            Envelope::Request { request, ask } => self.on_request(from, request, ask),
            Envelope::Reply { request, reply } => self.replied(request, reply),
            Envelope::Deliver(deliver) => {
                let pushed = self.deliver(&deliver, &Held::new());
                if !pushed.is_empty() {
                    self.push_delivered(&deliver, &pushed, &self.links.hold(from, number));
                }
            }
            Envelope::Receipt { user, conversation, upto, read } => {
                let receipt = if read { Receipt::Read } else { Receipt::Delivered };
                self.on_push_receipt(&user, &conversation, upto, receipt);
            }
            // Sent before this home was taken out of the view, and late: its users' sessions were told to `resync` then,
            // and would get these entries after newer ones.
            Envelope::Relay { users, .. } if !self.placement().view.reaches(from) => {
                self.figures.relays_late.increment(users.len() as u64);
            }
            Envelope::Relay { conversation, users, frames } => {
                let mut giving = self.begin_giving(users.len());
                self.users.relay(&conversation.tenant, &users, &frames, &mut giving);
                self.end_giving(&conversation, &frames, giving);
            }
            Envelope::ToSessions { conversation, sessions, frames } => {
                let gone = self.to_sessions(&conversation, &sessions, &frames);
                if !gone.is_empty() {
                    self.links.send(from, Envelope::SessionsGone { conversation, sessions: gone });
                }
            }
            Envelope::Closed { conversation, sessions } => self.users.closed(&conversation, &sessions),
            Envelope::SessionsGone { conversation, sessions } => {
                self.sessions_gone(conversation, from, sessions);
            }
            Envelope::Register { users } => users.into_iter().for_each(|of| self.on_register(from, of)),
            Envelope::Newest { user, at, arrival } => self.on_newest(&at, &user, &arrival),
            Envelope::NoRoom { user, arrival } => self.on_no_room(&user, &arrival),
            Envelope::Unwatch { users } => self.on_unwatch(from, &users),
            Envelope::Presence { users } => {
                users.into_iter().for_each(|(user, look)| self.on_presence(from, &user, look.into()));
            }
            Envelope::Saved { user, saved } => self.users.save_presence(&user, saved.into()),
            Envelope::TopicUpdate { topic, window, version, frame } => {
                self.on_topic_update(from, &topic, window, version, &frame);
            }
            Envelope::TopicAnew { topic, window } => self.on_topic_anew(from, &topic, window),
            Envelope::TopicUnwatch { topic, window } => self.on_topic_unwatch(from, &topic, window),
            Envelope::TopicChanges { topic, versions, parts } => self.on_topic_changes(from, &topic, versions, parts),
            Envelope::TopicUnknown { topic } => self.on_topic_unknown(from, &topic),
            Envelope::Missed { upto } => self.on_missed(from, upto),
            Envelope::Repeated { upto } => self.links.repeated(from, upto),
        }
    }

    /// Packets from a node were lost. Sessions here may have missed frames, and what the node said about its own
    /// sessions may be outdated. Asks for all of it again; soon, if another gap was handled just now.
    pub(crate) fn see_to_gap(self: &Arc<Self>, from: &Incarnation) {
        let Some(upto) = self.links.see_to_gap(from) else { return };
        self.figures.bus_gaps_seen_to.increment(1);
        self.on_node_gone(from);
        self.resync_sessions_of(from);
        self.note_told_of(from);
        self.ask_again(from);
        let (node, from) = (self.clone(), from.clone());
        self.spawn(async move {
            node.owners.order_all(|| Order::NodeMissed { node: from.clone() }).await;
            node.links.has_seen_to_gap(&from, upto);
        });
    }

    /// Asks a node again for everything that sessions here get from it, as the owner of their conversations and topics
    /// or as a home.
    fn ask_again(self: &Arc<Self>, of: &Incarnation) {
        self.open_again(|_, owner| owner == of);
        self.watch_again(Some(of));
        self.watch_topics_again(|_, owner| owner == of);
    }

    /// A node has missed packets of this one, or (0) has considered it dead: repeats everything that it is owed.
    fn on_missed(self: &Arc<Self>, from: &Incarnation, upto: u64) {
        let was_out = upto == 0;
        if was_out {
            // That node has sent this one no blocks and no revocations meanwhile.
            self.user_changes_missed.notify_one();
        } else {
            self.links.ask_everything_again(from);
        }
        let first = Repeat { upto, was_out };
        if self.links.begin_repeat(from, first) {
            let (node, from) = (self.clone(), from.clone());
            self.spawn(async move {
                let mut next = Some(first);
                while let Some(repeat) = next {
                    node.repeat(&from, repeat).await;
                    next = node.links.next_repeat(&from);
                }
            });
        }
    }

    /// Announces again everything that a node is owed, then tells it so.
    async fn repeat(self: &Arc<Self>, to: &Incarnation, Repeat { upto, was_out }: Repeat) {
        self.register_all(Some(to));
        self.ask_again(to);
        self.copy_topics_again(to);
        let (done, mut all_done) = mpsc::channel(1);
        self.owners.order_all(|| Order::Repeat { to: to.clone(), was_out, done: done.clone() }).await;
        drop(done);
        // The channel ends when each conversation has dropped its copy.
        while all_done.recv().await.is_some() {}
        self.resync_sessions_of(to);
        self.links.send(to, Envelope::Repeated { upto });
        if was_out && upto > 0 {
            self.links.send(to, Envelope::Repeated { upto: 0 });
        }
    }

    fn on_request(self: &Arc<Self>, from: &Incarnation, request: u64, ask: Ask) {
        let reply = ReplyTo::Remote { node: from.clone(), request };
        match ask {
            Ask::Conversation { actor, conversation, command } => {
                match decoded(&command) {
                    Ok(command) => self.command(&conversation, actor, from.clone(), command, reply),
                    Err(error) => reply.send(self, Err(error)),
                };
            }
            Ask::Peek { user, conversation, after } => {
                self.say(&conversation, Input::Peek { user: user.user, after, reply });
            }
            Ask::Roll { conversation, asked } => self.say(&conversation, Input::Roll { asked, reply }),
            Ask::TakeOver { conversation, released } => {
                self.say(&conversation, Input::TakeOver { released, reply: Some(reply), done: None, turn: None });
            }
            Ask::LetGo { conversation, term } => self.say(&conversation, Input::LetGo { term, reply }),
            Ask::Barrier { view, names_untold } => reply.send(self, self.sign(view, names_untold)),
            Ask::TopicPublish { topic, command } => {
                let answer = match decoded(&command) {
                    Ok(ClientFrame::TopicPublish(publish)) => self.topic_publish_here(&topic, publish.events),
                    Ok(_) => Err(ProtocolError::internal()),
                    Err(error) => Err(error),
                };
                reply.send(self, answer.map(LocalReply::Answer));
            }
            // Answered in order: the updates follow it.
            Ask::TopicState { topic, window, range_s, before_ms, watch } => {
                let asked = TopicWatch { topic: topic.topic.clone(), window, range_s, before_ms };
                let state = self.topic_state_here(&topic, &asked, watch.then_some(from));
                reply.send(self, state.map(|state| LocalReply::Answer(Answer::Frame(ServerFrame::TopicState(state)))));
            }
            Ask::TopicCopy { topic, versions, parts } => {
                let taken = self.on_topic_copy(from, &topic, versions, parts);
                reply.send(self, taken.map(|()| LocalReply::Done));
            }
            other => {
                let (node, from) = (self.clone(), from.clone());
                self.spawn(async move {
                    let reply = node.answer(&from, other).await.map_err(|error| refusal(&error));
                    node.links.send(&from, Envelope::Reply { request, reply });
                });
            }
        }
    }

    /// In another view it has announced to other homes, or will; until it has settled, it owes what it announced
    /// before.
    fn sign(&self, view: u64, names_untold: bool) -> ReplyResult {
        let untold = self.settling.untold();
        let has_settled = !self.is_fenced() && self.settling.has_settled(view);
        match (has_settled, untold.is_empty()) {
            (true, true) => Ok(LocalReply::Done),
            (true, false) if names_untold => Ok(LocalReply::Untold(untold)),
            _ => Err(self.unavailable()),
        }
    }

    /// Answers requests that may take a while.
    async fn answer(self: &Arc<Self>, from: &Incarnation, ask: Ask) -> Result<Reply, ProtocolError> {
        match ask {
            Ask::User { actor, command } => {
                let answer = self.at_home(&actor, decoded(&command)?).await?;
                Ok(reply_of(&answer))
            }
            Ask::PresenceOf { users, watch } => {
                let looks = self.presence_at_home(&users, watch.then_some(from)).await;
                Ok(Reply::Presence(looks.into_iter().map(Into::into).collect()))
            }
            Ask::BlockChanged { tenant, by, other } => {
                let by = UserKey { tenant, user: by };
                self.on_block_changed(&by, &other).await?;
                Ok(Reply::Done)
            }
            Ask::Disconnect { user } => {
                self.close_sessions(&user);
                Ok(Reply::Done)
            }
            Ask::Sessions { user } => Ok(Reply::Sessions(self.session_rows(&user))),
            Ask::Trace { conversation, seq, users } => {
                let events = self.trace_events(&conversation, seq, &users);
                let events = serde_json::to_string(&events).map_err(|_| ProtocolError::internal())?;
                Ok(Reply::Trace(Encoded(events)))
            }
            ask @ (Ask::PutPushDevice { .. }
            | Ask::RemovePushDevice { .. }
            | Ask::SetNotificationPreferences { .. }) => self.push_call(ask).await,
            // Answered above, in order.
            Ask::Conversation { .. }
            | Ask::Peek { .. }
            | Ask::Roll { .. }
            | Ask::TakeOver { .. }
            | Ask::LetGo { .. }
            | Ask::TopicPublish { .. }
            | Ask::TopicState { .. }
            | Ask::TopicCopy { .. }
            | Ask::Barrier { .. } => Err(ProtocolError::internal()),
        }
    }
}
