//! A node in the simulation: it uses the protocol like the router, with every mistake that the router may make. Each
//! conversation has a task that takes commands sequentially; any node takes any command, whatever others do.

use crate::broken::{Broken, Rule};
use crate::driver::Shared;
use crate::oracle::{parse, payload};
use crate::replica::{Answer, Question};
use crate::store::{Decision, Event, Message};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Poll, Waker};
use switchboard_protocol::{NodeId, Seq, TenantId, Timestamp};
use switchboard_store::quorum::{Beginning, Previous, QuorumLog, Raise, Release};
use switchboard_store::{Appended, ConversationKey, Incarnation, Kind, NewConversation, StoreError, TermNumber};

/// After this many open outcomes a node gives an append up, and begins another term.
const REPEATS_MAX: usize = 12;

/// The lives of a node are numbered from here.
const LIVES: u64 = 1_000;

/// A command for a conversation's task.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Append these clients' entries, unless they are in the log.
    Send(Vec<u32>),
    /// Begin a term.
    TakeOver,
    /// The conversation is idle.
    End,
    /// Forget the term silently.
    GiveUp,
    /// Another node asks for the release of a term that, according to the head, belongs to this node.
    LetGo { to: usize },
}

/// The node of a life.
pub(crate) fn node_of(life: u64) -> usize {
    (life / LIVES) as usize
}

/// The conversations' names, created once.
pub(crate) fn key(conversation: usize) -> ConversationKey {
    thread_local!(static KEYS: [ConversationKey; 2] = ["a", "b"].map(|name| ConversationKey {
        tenant: TenantId::default(),
        conversation: name.parse().unwrap(),
    }));
    KEYS.with(|keys| keys[conversation].clone())
}

fn incarnation(node: usize, number: u64) -> Incarnation {
    thread_local!(static NAME: NodeId = "n".parse().unwrap());
    Incarnation { node: NAME.with(Clone::clone), life: node as u64 * LIVES + number }
}

#[derive(Default)]
struct Mailbox {
    commands: RefCell<VecDeque<Command>>,
    waker: Cell<Option<Waker>>,
}

/// The lives of the nodes that run.
pub(crate) type View = Rc<RefCell<Vec<Option<u64>>>>;

/// One process of a node.
pub(crate) struct Node {
    pub(crate) index: usize,
    store: Shared,
    rule: Option<Rule>,
    log: QuorumLog<Broken>,
    /// The number of its newest life.
    life: Cell<u64>,
    mailboxes: [Mailbox; 2],
    /// The last releases that have arrived.
    released: [Cell<Option<Release>>; 2],
    /// The last releases that were given.
    given: [Cell<Option<Release>>; 2],
    /// The term as its task knows it, for a node that continues after a release.
    owned: [Cell<Option<(TermNumber, u64)>>; 2],
    view: View,
    /// The percentage of times that a node in the view is taken for gone.
    wrongly_gone: u64,
}

/// A term of this node, and its knowledge of the log.
struct Owned {
    term: TermNumber,
    end: u64,
    clients: BTreeMap<u32, u64>,
}

impl Node {
    pub(crate) fn new(
        index: usize,
        life: u64,
        store: Shared,
        rule: Option<Rule>,
        view: View,
        wrongly_gone: u64,
    ) -> Self {
        let log = QuorumLog::new(Broken::new(store.clone(), rule));
        Self {
            index,
            log,
            store,
            rule,
            life: Cell::new(life),
            mailboxes: Default::default(),
            released: Default::default(),
            given: Default::default(),
            owned: Default::default(),
            view,
            wrongly_gone,
        }
    }

    pub(crate) fn me(&self) -> Incarnation {
        incarnation(self.index, self.life.get())
    }

    pub(crate) fn next_life(&self) -> u64 {
        self.life.get() + 1
    }

    fn trace(&self, conversation: usize, what: impl FnOnce() -> String) {
        self.store
            .lock()
            .trace(|| format!("{} c{conversation} {}", self.life.get() + self.index as u64 * LIVES, what()));
    }

    /// Continues as a new incarnation.
    fn live_anew(&self) {
        self.life.set(self.next_life());
        self.view.borrow_mut()[self.index] = Some(self.life.get());
    }

    pub(crate) fn say(&self, conversation: usize, command: Command) {
        let mailbox = &self.mailboxes[conversation];
        mailbox.commands.borrow_mut().push_back(command);
        if let Some(waker) = mailbox.waker.take() {
            waker.wake();
        }
    }

    async fn next(&self, conversation: usize) -> Command {
        let mailbox = &self.mailboxes[conversation];
        std::future::poll_fn(|context| match mailbox.commands.borrow_mut().pop_front() {
            Some(command) => Poll::Ready(command),
            None => {
                mailbox.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Handles a message of another node.
    pub(crate) fn hear(&self, message: Message) {
        match message {
            Message::LetGo { conversation, term, asked_by, .. } => {
                let term = TermNumber(term);
                let owned = self.owned[conversation].get().filter(|(owned, _)| *owned == term);
                let release = match owned {
                    Some((term, end)) if self.rule == Some(Rule::StopOnRelease) => {
                        Some(Release { term, end: Seq::new(end) })
                    }
                    _ => self.log.release(&key(conversation), term),
                };
                // A release holds for ever, so it may be repeated.
                match release.or(self.given[conversation].get().filter(|given| given.term == term)) {
                    Some(release) => self.tell_release(conversation, release, asked_by),
                    None => self.say(conversation, Command::LetGo { to: asked_by }),
                }
            }
            Message::Released { conversation, term, end, .. } => {
                self.released[conversation].set(Some(Release { term: TermNumber(term), end: Seq::new(end) }));
                self.say(conversation, Command::TakeOver);
            }
        }
    }

    fn tell_release(&self, conversation: usize, release: Release, to: usize) {
        self.given[conversation].set(Some(release));
        let (term, end) = (release.term.0, release.end.get());
        self.store.lock().post(Event::Bus(Message::Released { conversation, term, end, to }));
    }

    /// A conversation's task.
    pub(crate) async fn own(self: Rc<Self>, conversation: usize) {
        let mut owned: Option<Owned> = None;
        loop {
            self.owned[conversation].set(owned.as_ref().map(|owned| (owned.term, owned.end)));
            let command = self.next(conversation).await;
            if owned.is_none() && matches!(command, Command::Send(_) | Command::TakeOver | Command::LetGo { .. }) {
                owned = self.begin(conversation, &command).await;
            }
            match (command, owned.take()) {
                (Command::Send(clients), Some(log)) => owned = self.send(conversation, log, &clients).await,
                (Command::TakeOver, log) => owned = log,
                (Command::End, Some(log)) => {
                    drop(self.log.end_term(&key(conversation), log.term).await);
                }
                (Command::LetGo { to }, Some(log)) => {
                    if let Some(release) = self.log.release(&key(conversation), log.term) {
                        self.tell_release(conversation, release, to);
                    }
                }
                (Command::GiveUp, _) | (_, None) => {}
            }
        }
    }

    async fn begin(&self, conversation: usize, reason: &Command) -> Option<Owned> {
        let create = matches!(reason, Command::Send(_)).then(|| NewConversation {
            kind: Kind::Group,
            title: None,
            custom: None,
            created_at: Timestamp::from_unix_ms(0),
        });
        let mut previous = self.released[conversation].get().map_or(Previous::Unknown, Previous::Released);
        for _ in 0..3 {
            let begun = self.log.begin_term(&key(conversation), &self.me(), &previous, create.as_ref()).await;
            self.trace(conversation, || format!("{reason:?} with {previous:?}: {begun:?}"));
            match begun {
                Ok(Beginning::Begun { term, end, former }) => {
                    if let Some(former) = former.filter(|former| *former != self.me()) {
                        // If this fails, the conversation is taken over once more.
                        let upto = TermNumber(term.0 - 1);
                        drop(self.log.forget_note(&key(conversation), &former, upto).await);
                    }
                    let read = self.log.read(&key(conversation), Seq::ZERO, end, u64::MAX >> 1).await.ok()?;
                    let store = &mut *self.store.lock();
                    store.oracle.shown(conversation, 0, end.get(), &read, store.epoch);
                    let clients = read.iter().map(|row| (parse(&row.payload).1, row.seq.get())).collect();
                    return Some(Owned { term, end: end.get(), clients });
                }
                Ok(Beginning::Owned { by, term, end }) => {
                    let released = self.released[conversation].get();
                    previous = match released {
                        Some(release) if self.rule == Some(Rule::TermOfRelease) => {
                            Previous::Released(Release { term, ..release })
                        }
                        Some(release) if release.term == term => Previous::Released(release),
                        _ if self.seems_gone(&by) => Previous::GoneFrom { owner: by, term, end },
                        _ if matches!(reason, Command::LetGo { .. }) => return None,
                        _ => {
                            let (of, asked_by) = (node_of(by.life), self.index);
                            let message = Message::LetGo { conversation, term: term.0, asked_by, of };
                            self.store.lock().post(Event::Bus(message));
                            return None;
                        }
                    };
                }
                Ok(Beginning::Missing) => return None,
                Err(StoreError::Fenced { .. }) => self.live_anew(),
                Err(StoreError::Unavailable { .. } | StoreError::Unreadable { .. }) => return None,
                Err(error) => {
                    self.store.lock().oracle.violated(format!("a begin was refused: {error}"));
                    return None;
                }
            }
        }
        None
    }

    fn seems_gone(&self, other: &Incarnation) -> bool {
        let alive = self.view.borrow()[node_of(other.life)] == Some(other.life);
        !alive || self.store.lock().chance(self.wrongly_gone)
    }

    /// Appends what is not in the log yet. Returns the term, as long as it continues.
    async fn send(&self, conversation: usize, mut log: Owned, clients: &[u32]) -> Option<Owned> {
        let new: Vec<u32> = clients.iter().filter(|client| !log.clients.contains_key(client)).copied().collect();
        if new.is_empty() {
            return Some(log);
        }
        let payloads: Vec<Bytes> = {
            let store = &mut *self.store.lock();
            new.iter().map(|client| payload(store.oracle.make(store.epoch), *client)).collect()
        };
        let first = log.end + 1;
        for _ in 0..REPEATS_MAX {
            let appended = self.log.append(&key(conversation), log.term, Seq::new(first), &payloads).await;
            self.trace(conversation, || format!("{new:?} from {first} on in {:?}: {appended:?}", log.term));
            match appended {
                Ok(Appended::Durable) => {
                    self.on_durable(conversation, &log, &payloads);
                    log.end += payloads.len() as u64;
                    log.clients.extend(new.into_iter().zip(first..));
                    return Some(log);
                }
                Ok(Appended::Superseded) | Err(StoreError::Unreadable { .. }) => return None,
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => {
                    if self.rule.is_none() {
                        self.store.lock().oracle.violated(format!("an append was refused: {error}"));
                    }
                    return None;
                }
            }
        }
        None
    }

    fn on_durable(&self, conversation: usize, log: &Owned, payloads: &[Bytes]) {
        let store = &mut *self.store.lock();
        store.oracle.durable(conversation, log.term.0, log.end + 1, payloads, store.epoch);
        let owner = store.term_and_owner(conversation).filter(|(term, _)| *term == log.term.0);
        if owner.is_some_and(|(_, life)| !store.is_noted(conversation, life)) {
            store.oracle.violated(format!("c{conversation}: durable in {:?}, and not noted as active", log.term));
        }
    }

    /// Ends the current or last term of the conversation's task, while that does something else.
    pub(crate) async fn end_meanwhile(self: Rc<Self>, conversation: usize) {
        if let Some((term, _)) = self.owned[conversation].get() {
            drop(self.log.end_term(&key(conversation), term).await);
        }
    }

    /// Raises ends, when told to.
    pub(crate) async fn raise(self: Rc<Self>) {
        drop(self.log.raise_ends(Raise::Aged).await);
    }

    /// Reads a conversation as any reader may: with an end from the owner, or from the head, read in one way or the
    /// other. A reader without either shows nothing.
    pub(crate) async fn show(self: Rc<Self>, conversation: usize, after: u64, serial: bool) {
        let end = match self.log.end_here(&key(conversation)) {
            Some((_, end)) => end,
            None => match self.end_of_head(conversation, serial).await {
                Some(end) => end,
                None => return,
            },
        };
        let bound = if self.rule == Some(Rule::BoundOfReaders) { Seq::new(end.get() + 100) } else { end };
        let after = after.min(end.get());
        if let Ok(rows) = self.log.read(&key(conversation), Seq::new(after), bound, u64::MAX >> 1).await {
            let store = &mut *self.store.lock();
            store.oracle.shown(conversation, after, end.get(), &rows, store.epoch);
        }
    }

    async fn end_of_head(&self, conversation: usize, serial: bool) -> Option<Seq> {
        let head = if serial {
            self.store.decide(Decision::ReadHead { conversation }).await
        } else {
            self.store.read(Question::Head { conversation }).await
        };
        match head.ok()? {
            Answer::Head(head) => Some(head?.end),
            _ => unreachable!("the answer to a read of the head"),
        }
    }
}
