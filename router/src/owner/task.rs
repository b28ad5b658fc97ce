//! The task of one active conversation: takes its inputs, orders and timers one at a time.

use super::announce::Announced;
use super::cursors::CursorWrites;
use super::decide::{Context, Decided, decide};
use super::leaving::Parting;
use super::log::Log;
use super::lookup::Lookups;
use super::pipeline::{Pending, Pipeline, Step};
use super::rest::Audience;
use super::search::Search;
use super::sessions::Sessions;
use super::{CommandInput, Done, Input, LocalReply, Order, Refused, ReplyTo};
use crate::api::Command;
use crate::node::{Node, Wake, unavailable};
use std::sync::Arc;
use switchboard_protocol::{ErrorCode, ProtocolError};
use switchboard_store::{Appended, ConversationKey, Previous, Release, StoreError};
use tokio::sync::mpsc;

/// Inputs that are taken in a row before durable steps and timers get their turn.
const INPUTS_PER_TURN: usize = 256;

/// An active conversation at its owner. Only this task uses its state.
pub(super) struct Conversation {
    pub(super) node: Arc<Node>,
    pub(super) key: ConversationKey,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// The running term, if any.
    pub(super) log: Option<Log>,
    /// The store did not say whether a term has begun, so it must be begun again.
    pub(super) begin_in_doubt: bool,
    /// Another node has the conversation and does not release it: it is not asked again before this time.
    pub(super) kept_until_ms: u64,
    /// The term that ran before, until it has ended.
    pub(super) parting: Parting,
    pub(super) pipeline: Pipeline,
    pub(super) sessions: Sessions,
    pub(super) cursors: CursorWrites,
    pub(super) search: Search,
    pub(super) lookups: Lookups,
    /// The recipients of typing while no term runs.
    pub(super) audience_at_rest: Option<Audience>,
    pub(super) announced: Announced,
    /// When the last input came.
    pub(super) last_used_ms: u64,
    /// When the scheduled [`Input::Tick`] is due.
    next_tick_ms: Option<u64>,
    /// It must be given up, because of the view or because the node drains.
    pub(super) leaves: bool,
    /// Dropped when it has been given up.
    leaving: Vec<Done>,
    /// Dropped when the next term has announced what a former term owes, or when it is named as untold.
    pub(super) untold: Vec<Done>,
}

impl Conversation {
    pub(super) fn new(
        node: Arc<Node>,
        key: ConversationKey,
        inputs: mpsc::Receiver<Input>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let last_used_ms = node.clock.monotonic_ms();
        Self {
            node,
            key,
            inputs,
            orders,
            log: None,
            begin_in_doubt: false,
            kept_until_ms: 0,
            parting: Parting::default(),
            pipeline: Pipeline::default(),
            sessions: Sessions::default(),
            cursors: CursorWrites::default(),
            search: Search::default(),
            lookups: Lookups::default(),
            audience_at_rest: None,
            announced: Announced::default(),
            last_used_ms,
            next_tick_ms: None,
            leaves: false,
            leaving: Vec::new(),
            untold: Vec::new(),
        }
    }

    /// Runs until the conversation is idle and owes nothing, or the node stops.
    pub(super) async fn run(mut self) {
        let node = self.node.clone();
        loop {
            tokio::select! {
                biased;
                () = node.stopped() => return,
                () = node.fenced() => return self.abandon(),
                appended = self.pipeline.appended() => self.on_appended(appended).await,
                written = self.cursors.written() => self.on_cursors_written(written),
                found = self.search.found() => self.on_found(found).await,
                found = self.lookups.found() => self.on_looked_up(found),
                reached = self.parting.finished() => self.on_parted(reached),
                Some(order) = self.orders.recv() => self.on_order(order).await,
                input = self.inputs.recv(), if !self.is_full() => match input {
                    Some(input) => self.on_inputs(input).await,
                    None => return,
                },
            }
            if let Some(log) = &self.log {
                self.pipeline.begin_append(&self.node, &self.key, log.term);
            }
            if self.may_leave() && self.leave() {
                return;
            }
            self.schedule();
        }
    }

    /// Whether the steps that wait for durability, or for a search, have reached the limit of the queue.
    fn is_full(&self) -> bool {
        self.pipeline.waiting().max(self.search.len()) >= self.node.options().conversation_queue_max
    }

    /// Takes the waiting inputs together, so that their entries are appended together; but only so many, so that
    /// durable steps and timers get their turn.
    async fn on_inputs(&mut self, first: Input) {
        let mut next = Some(first);
        for _ in 0..INPUTS_PER_TURN {
            let Some(input) = next.take() else { return };
            self.on_input(input).await;
            if self.is_full() {
                return;
            }
            next = self.inputs.try_recv().ok();
        }
        if let Some(input) = next {
            self.on_input(input).await;
        }
    }

    async fn on_input(&mut self, input: Input) {
        match input {
            Input::Command(command) => self.on_command(*command).await,
            Input::Peek { user, after, reply } => self.on_peek(user, after, reply).await,
            Input::Roll { asked, reply } => {
                let roll = self.roll(&asked).await.map(LocalReply::Roll);
                reply.send(&self.node, roll);
            }
            Input::SessionsGone { at, sessions } => self.on_sessions_gone(&at, &sessions),
            Input::BlockChanged { reply } => {
                self.forget_blocked();
                reply.send(&self.node, Ok(LocalReply::Done));
            }
            Input::TakeOver { released, reply, done, turn } => {
                self.on_take_over(released, reply, done).await;
                drop(turn);
            }
            Input::LetGo { term, reply } => self.on_let_go(term, reply).await,
            Input::Tick => {
                if self.begin_in_doubt {
                    // Without an answer, the next tick asks again.
                    if self.begin(None).await.is_err() {
                        self.name_untold();
                    }
                }
                self.on_tick();
            }
        }
    }

    async fn on_order(&mut self, order: Order) {
        match order {
            Order::NodeMissed { node } => self.sessions.forget_node(&node),
            Order::Repeat { to, was_out, done } => {
                if was_out {
                    // That node may not have sent this one blocks.
                    self.forget_blocked();
                }
                self.repeat(&to, done).await;
            }
            Order::View { done } => self.on_view(done).await,
            Order::Drain { done } => {
                self.leaves = true;
                self.leaving.push(done);
            }
        }
    }

    pub(super) async fn on_command(&mut self, input: CommandInput) {
        self.last_used_ms = self.node.clock.monotonic_ms();
        if !self.node.owns(&self.key) {
            self.node.pass_on(&self.key, input);
            return;
        }
        let Some(input) = self.search.hold(input) else { return };
        let Some(input) = self.answer_at_rest(input).await else { return };
        if changes_inboxes(&input.command) && self.node.is_home_full() {
            self.node.figures.overloaded_home.increment(1);
            input.reply.send(&self.node, Err(self.node.overloaded()));
            return;
        }
        if let Err(error) = self.begin_if_needed(&input).await {
            input.reply.send(&self.node, Err(error));
            return;
        }
        let Some(input) = self.search_first(input) else { return };
        match &input.command {
            Command::ConversationGet(_) | Command::ConversationMembers(_) | Command::ConversationOpen(_) => {
                self.on_question(input);
            }
            Command::Delivered(_) | Command::Read(_) => self.on_receipt(input),
            Command::ConversationClose(_) | Command::TypingStart(_) | Command::TypingStop(_) | Command::Signal(_) => {
                self.on_ephemeral(input);
            }
            _ => self.on_change(input).await,
        }
    }

    /// A command that may make an entry.
    async fn on_change(&mut self, mut input: CommandInput) {
        let Some(log) = &mut self.log else { return };
        // An entry goes to the members before it, and to those that it adds.
        let before = log.everyone.clone();
        let context = Context { node: &self.node, key: &self.key };
        let command = std::mem::replace(&mut input.command, Command::Ping);
        match decide(&context, log, &input.actor, command).await {
            Ok(Decided::Entry(draft)) => {
                let users = if draft.removed.is_empty() { log.everyone.clone() } else { before };
                let is_send = draft.is_message();
                let (actor, session) = (input.actor.user.user.clone(), input.actor.session.clone());
                self.pipeline.push(Step::Entry(Box::new(Pending::new(
                    *draft,
                    users,
                    input,
                    self.node.clock.monotonic_us(),
                ))));
                if is_send {
                    self.stop_typing(&actor, session.as_ref());
                }
            }
            Ok(Decided::SameAs(seq)) => {
                let most = self.node.options().conversation_queue_max;
                if let Err(reply) = self.pipeline.wait_for(seq, input.reply, most) {
                    reply.send(&self.node, Err(self.node.unavailable()));
                }
            }
            Ok(Decided::Answer(answer)) => {
                self.answer_in_order(input.reply, input._room, Ok(LocalReply::Answer(answer)));
            }
            Err(error) => self.answer_in_order(input.reply, input._room, Err(error)),
        }
    }

    async fn on_appended(&mut self, appended: Result<Appended, StoreError>) {
        match appended {
            Ok(Appended::Durable) => {
                let steps = self.pipeline.take_under_way();
                self.release(steps).await;
            }
            Ok(Appended::Superseded) => {
                tracing::info!("the term is over; waiting commands are rejected");
                if self.node.owns(&self.key) {
                    self.give_up();
                    // The next term announces what this one owed.
                    self.on_take_over(None, None, None).await;
                } else {
                    // If the store has refused something, no other node knows that the next term must announce it.
                    self.refuse_waiting();
                    self.leave_term();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "unknown whether the term still runs; rejecting the waiting requests");
                self.pipeline.take_under_way().into_iter().for_each(|step| step.refuse(&self.node));
            }
        }
    }

    /// Drops the term.
    pub(super) fn give_up(&mut self) {
        self.log = None;
        self.announced.forget();
        self.refuse_waiting();
    }

    /// Refuses what waits in the term, which is over. What was not durable may or may not be in the log: the clients find
    /// out when they repeat it.
    fn refuse_waiting(&mut self) {
        for step in self.pipeline.take_all() {
            step.refuse(&self.node);
        }
        for input in self.search.take_all() {
            input.reply.send(&self.node, Err(self.node.unavailable()));
        }
        self.refuse_lookups(&self.node.unavailable());
    }

    /// The incarnation is fenced: refuses everything that waits.
    fn abandon(mut self) {
        self.give_up();
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            Refused(input).answer(&self.node);
        }
    }

    pub(super) async fn on_take_over(&mut self, released: Option<Release>, reply: Option<ReplyTo>, done: Option<Done>) {
        // `begin` has announced what may be unannounced, and links keep the order.
        let result = self.take_over(released).await.map(|()| LocalReply::Done);
        match &result {
            // The new owner takes it over.
            Err(_) if !self.node.owns(&self.key) => self.node.settling.told(&self.key),
            Err(error) if error.code() == ErrorCode::Unavailable => self.take_over_later(done),
            Err(error) => {
                // One unreadable conversation must not keep the node from settling.
                tracing::error!(%error, conversation = %self.key.conversation, "can't take a conversation over");
                self.node.settling.told(&self.key);
            }
            Ok(_) => self.node.settling.told(&self.key),
        }
        if let Some(reply) = reply {
            reply.send(&self.node, result);
        }
    }

    async fn take_over(&mut self, released: Option<Release>) -> Result<(), ProtocolError> {
        if !self.node.owns(&self.key) {
            return Err(self.node.unavailable());
        }
        self.give_up_if_superseded().await?;
        if self.log.is_none() && self.node.is_home_full() {
            return Err(self.node.unavailable());
        }
        let previous = released.map_or(Previous::Unknown, Previous::Released);
        self.begin_after(previous, None).await.map(drop)
    }

    /// Another node may have to announce what an earlier term of this node left untold.
    async fn give_up_if_superseded(&mut self) -> Result<(), ProtocolError> {
        let Some(log) = &self.log else { return Ok(()) };
        let head = self.node.store.head(&self.key).await.map_err(|error| unavailable(&self.node, &error))?;
        if head.is_none_or(|head| head.term != log.term) {
            self.give_up();
        }
        Ok(())
    }

    /// Forgets whether one user of a direct conversation blocks the other: it is read again when needed.
    fn forget_blocked(&mut self) {
        if let Some(log) = &mut self.log {
            log.blocked = None;
        }
    }

    /// The store did not answer: repeats the input later. Until then only users with the conversation in their inbox
    /// wait for it.
    fn take_over_later(&self, done: Option<Done>) {
        let (node, key) = (self.node.clone(), self.key.clone());
        let done = done.filter(|_| !node.settling.name(&key));
        self.node.spawn(async move {
            node.clock.sleep_ms(node.options().retry_after_ms).await;
            node.begin_take_over(&key, done).await;
        });
    }

    /// The view has changed: gives the conversation up if another node owns it now; otherwise announces to the members'
    /// new homes what is owed.
    async fn on_view(&mut self, done: Done) {
        self.sessions.forget_dead(&self.node.placement().view);
        let owns = self.node.owns(&self.key);
        if owns && !self.node.is_draining() {
            // An earlier view wanted it to be given up.
            self.leaves = false;
            self.leaving.clear();
            self.untold.clear();
        }
        let owes = !self.parting.is_over() && !self.announced.owes_nothing(&self.node.links);
        if owns && (owes || self.begin_in_doubt) {
            // This node must announce (again) what an earlier term left untold.
            self.on_take_over(None, None, Some(done)).await;
        } else if owns {
            self.tell_new_homes();
            drop(done);
        } else {
            self.write_cursors(u64::MAX);
            self.leaves = true;
            if self.log.is_some() {
                // Announced even if it can't be given up yet, so that settling does not wait for that.
                self.tell_new_homes();
            } else if !self.parting.is_over() || self.begin_in_doubt {
                self.untold.push(done);
            }
        }
    }

    /// Does what is due now.
    fn on_tick(&mut self) {
        let now_ms = self.node.clock.monotonic_ms();
        // A tick that was superseded by an earlier one does not change what is scheduled.
        if self.next_tick_ms.is_some_and(|next_ms| next_ms <= now_ms) {
            self.next_tick_ms = None;
        }
        self.expire_typing(now_ms);
        self.announce_activity(now_ms);
        self.tell_receipts(now_ms);
        self.write_cursors(now_ms);
        if let Some(log) = self.log.as_mut().filter(|_| self.announced.owes_nothing(&self.node.links)) {
            log.forget_removed();
        }
    }

    /// Schedules the next tick on the node's wheel.
    fn schedule(&mut self) {
        let idle_ms = self.last_used_ms + self.node.options().conversation_idle_ms;
        let check_ms = self.node.clock.monotonic_ms() + self.node.options().inbox_flush_ms;
        let due = [
            self.sessions.next_deadline_ms(),
            self.cursors.next_deadline_ms(),
            self.announced.next_deadline_ms(),
            // Once idle, check periodically whether what is owed has been confirmed.
            Some(idle_ms.max(check_ms)).filter(|_| self.sessions.is_empty()),
            (self.leaves || !self.parting.is_over() || self.begin_in_doubt).then_some(check_ms),
        ];
        let Some(due_ms) = due.into_iter().flatten().min() else { return };
        if self.next_tick_ms.is_none_or(|next_ms| due_ms < next_ms) {
            self.next_tick_ms = Some(due_ms);
            self.node.wake_at(due_ms, Wake::Conversation(self.key.clone()));
        }
    }
}

/// Whether the command's effects are noted in inboxes.
fn changes_inboxes(command: &Command) -> bool {
    !matches!(
        command,
        Command::ConversationGet(_)
            | Command::ConversationMembers(_)
            | Command::ConversationOpen(_)
            | Command::ConversationClose(_)
            | Command::TypingStart(_)
            | Command::TypingStop(_)
            | Command::Signal(_)
    )
}
