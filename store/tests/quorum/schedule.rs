//! One schedule: the events and their order, all drawn from the seed.

use crate::broken::Rule;
use crate::driver::Shared;
use crate::executor::Executor;
use crate::node::{Command, Node, View, node_of};
use crate::oracle::Counts;
use crate::plan::{Plan, Stimulus};
use crate::store::{Event, Message, Store, Weather};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use switchboard_clock::Generator;

/// Nothing is under way for longer than this if nothing new is begun.
const SETTLE_STEPS_MAX: usize = 100_000;

/// How often a client sends until the entry must be durable, once there are no more faults: the node begins a new life,
/// asks for a release, takes over, appends.
const SENDS_MAX: usize = 6;

/// The result of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) counts: Counts,
    pub(crate) steps: usize,
}

pub(crate) struct Schedule {
    plan: Plan,
    rule: Option<Rule>,
    generator: Generator,
    store: Shared,
    executor: Executor,
    nodes: Vec<Rc<Node>>,
    /// The task of each node and conversation.
    owners: Vec<usize>,
    stopped: Vec<bool>,
    view: View,
    clients: u32,
    ready: Vec<usize>,
    steps: usize,
}

/// Runs the schedule of a seed, with at most one rule left out.
pub(crate) fn run(seed: u64, rule: Option<Rule>, aim: impl FnOnce(&mut Plan)) -> Outcome {
    let generator = Generator::from_seed(seed);
    let mut plan = Plan::draw(&generator);
    aim(&mut plan);
    let mut schedule = Schedule::new(plan, rule, generator);
    schedule.storm();
    schedule.calm();
    let store = schedule.store.lock();
    Outcome { violations: store.oracle.violations().to_vec(), counts: store.oracle.counts, steps: schedule.steps }
}

impl Schedule {
    fn new(plan: Plan, rule: Option<Rule>, generator: Generator) -> Self {
        let mut store = Store::new(generator.clone(), plan.weather);
        store.traced = plan.traced;
        store.swap_ignores_end = rule == Some(Rule::EndCompared);
        // One more node takes over at the end.
        let nodes = plan.nodes + 1;
        let mut schedule = Self {
            plan,
            rule,
            generator,
            store: Shared::new(store),
            executor: Executor::default(),
            nodes: Vec::new(),
            owners: Vec::new(),
            stopped: vec![false; nodes],
            view: Rc::new(RefCell::new(vec![None; nodes])),
            clients: 0,
            ready: Vec::new(),
            steps: 0,
        };
        (0..nodes).for_each(|index| schedule.start(index, 0));
        schedule
    }

    fn start(&mut self, index: usize, life: u64) {
        let (store, view) = (self.store.clone(), self.view.clone());
        let node = Rc::new(Node::new(index, life, store, self.rule, view, self.plan.wrongly_gone));
        put_at(&mut self.nodes, index, node);
        self.resume(index);
        for conversation in 0..self.plan.conversations {
            self.spawn_owner(index, conversation);
        }
    }

    fn spawn_owner(&mut self, index: usize, conversation: usize) {
        let task = self.executor.spawn(index, self.nodes[index].clone().own(conversation));
        let at = index * self.plan.conversations + conversation;
        put_at(&mut self.owners, at, task);
    }

    fn has_violations(&self) -> bool {
        !self.store.lock().oracle.violations().is_empty()
    }

    fn storm(&mut self) {
        let age_every = self.plan.steps / (self.plan.ages + 1) + 1;
        for step in 1..=self.plan.steps {
            if self.has_violations() {
                return;
            }
            if step % age_every == 0 {
                self.age();
            }
            let roll = self.generator.below(100);
            if roll < self.plan.stimuli {
                self.stimulate();
            } else {
                let is_late = roll < self.plan.stimuli + self.plan.late && self.happen_late();
                if !is_late && !self.go_on() {
                    self.stimulate();
                }
            }
        }
    }

    /// Lets a possible event happen; `false` if everything waits for something else.
    fn go_on(&mut self) -> bool {
        self.steps += 1;
        let mut ready = std::mem::take(&mut self.ready);
        let stopped = &self.stopped;
        self.executor.ready(|node| !stopped[node], &mut ready);
        let soon = self.store.lock().soon.len();
        let choice = self.generator.below((ready.len() + soon).max(1) as u64) as usize;
        let went_on = if let Some(task) = ready.get(choice) {
            self.executor.step(*task);
            true
        } else if soon > 0 {
            let event = self.store.lock().soon.swap_remove(choice - ready.len());
            self.happen(event);
            true
        } else {
            self.store.lock().time_all_out()
        };
        self.ready = ready;
        went_on
    }

    fn happen_late(&mut self) -> bool {
        let late = {
            let store = &mut *self.store.lock();
            let count = store.late.len() as u64;
            (count > 0).then(|| store.late.swap_remove(self.generator.below(count) as usize))
        };
        late.map(|event| self.happen(event)).is_some()
    }

    fn happen(&mut self, event: Event) {
        let message = self.store.lock().happen(event);
        let Some(message) = message else { return };
        let to = match message {
            Message::LetGo { of, .. } => of,
            Message::Released { to, .. } => to,
        };
        if self.stopped[to] {
            self.store.lock().late.push(Event::Bus(message));
        } else {
            self.nodes[to].hear(message);
        }
    }

    fn any_node(&self) -> usize {
        self.generator.below(self.plan.nodes as u64) as usize
    }

    fn stimulate(&mut self) {
        let at = self.any_node();
        let conversation = self.generator.below(self.plan.conversations as u64) as usize;
        let node = self.nodes[at].clone();
        match self.plan.draw_stimulus(&self.generator) {
            Stimulus::Send => node.say(conversation, Command::Send(self.draw_clients())),
            Stimulus::End => node.say(conversation, Command::End),
            Stimulus::EndMeanwhile => self.spawn(at, node.end_meanwhile(conversation)),
            Stimulus::GiveUp => node.say(conversation, Command::GiveUp),
            Stimulus::TakeOver => node.say(conversation, Command::TakeOver),
            Stimulus::AskForRelease => self.ask_for_release(conversation, at),
            Stimulus::Raise => self.spawn(at, node.raise()),
            Stimulus::Show => {
                let after = self.generator.below(4).saturating_sub(1) * 2;
                let serial = self.generator.percent(50);
                self.spawn(at, node.show(conversation, after, serial));
            }
            Stimulus::Stop => self.stop(at),
            Stimulus::Resume => self.resume(at),
            Stimulus::Crash => self.crash(at),
            Stimulus::Cancel => {
                self.executor.cancel(self.owners[at * self.plan.conversations + conversation]);
                self.spawn_owner(at, conversation);
            }
            Stimulus::Double => self.spawn_owner(at, conversation),
        }
    }

    fn spawn(&mut self, node: usize, future: impl Future<Output = ()> + 'static) {
        self.executor.spawn(node, future);
    }

    /// One to three clients: new ones, and others that retry, perhaps elsewhere.
    fn draw_clients(&mut self) -> Vec<u32> {
        let mut clients = Vec::new();
        for _ in 0..=self.generator.below(3) {
            let client = if self.clients == 0 || self.generator.percent(60) {
                self.clients += 1;
                self.clients
            } else {
                1 + self.generator.below(u64::from(self.clients)) as u32
            };
            if !clients.contains(&client) {
                clients.push(client);
            }
        }
        clients
    }

    fn ask_for_release(&mut self, conversation: usize, asked_by: usize) {
        let store = &mut *self.store.lock();
        let Some((term, life)) = store.term_and_owner(conversation) else { return };
        let of = node_of(life);
        if of != asked_by {
            store.post(Event::Bus(Message::LetGo { conversation, term, asked_by, of }));
        }
    }

    fn stop(&mut self, node: usize) {
        self.stopped[node] = true;
        self.view.borrow_mut()[node] = None;
    }

    fn resume(&mut self, node: usize) {
        self.stopped[node] = false;
        self.view.borrow_mut()[node] = Some(self.nodes[node].me().life);
    }

    fn crash(&mut self, node: usize) {
        self.executor.cancel_all_of(node);
        self.start(node, self.nodes[node].next_life());
    }

    /// Runs until nothing more happens by itself, without losses.
    fn settle(&mut self) {
        self.store.lock().weather = Weather::default();
        let before = self.steps;
        while self.go_on() {
            assert!(self.steps - before < SETTLE_STEPS_MAX, "it does not come to rest: {:?}", self.plan);
        }
        self.store.lock().weather = self.plan.weather;
    }

    /// Passes the time after which what was written before the last call expires. Meanwhile nodes raise ends, and
    /// running nodes take over from stopped ones.
    fn age(&mut self) {
        self.settle();
        for _ in 0..2 {
            for node in 0..self.plan.nodes {
                self.spawn(node, self.nodes[node].clone().raise());
            }
            self.settle();
        }
        for conversation in 0..self.plan.conversations {
            let owner = self.store.lock().owner(conversation);
            let runs = owner.is_some_and(|life| self.view.borrow()[node_of(life)] == Some(life));
            if owner.is_some() && !runs {
                self.take_over_with_the_last(conversation);
            }
        }
        self.store.lock().epoch += 1;
    }

    fn take_over_with_the_last(&mut self, conversation: usize) {
        let last = self.plan.nodes;
        let view = std::mem::replace(&mut *self.view.borrow_mut(), vec![None; last + 1]);
        // It may have released a term without its task knowing.
        self.nodes[last].say(conversation, Command::GiveUp);
        self.nodes[last].say(conversation, Command::TakeOver);
        self.settle();
        *self.view.borrow_mut() = view;
    }

    /// All nodes come back, everything late arrives, and somebody takes everything over; then all remaining sends are
    /// completed.
    fn calm(&mut self) {
        if self.has_violations() {
            return;
        }
        if self.generator.percent(50) {
            // Stopped nodes find out after the takeover.
            (0..self.plan.conversations).for_each(|conversation| self.take_over_with_the_last(conversation));
        }
        (0..self.plan.nodes).for_each(|node| self.resume(node));
        self.settle();
        while self.happen_late() {}
        self.settle();
        let last = self.plan.nodes;
        self.crash(last);
        for conversation in 0..self.plan.conversations {
            self.take_over_with_the_last(conversation);
        }
        for conversation in 0..self.plan.conversations {
            let store = &mut *self.store.lock();
            if let Some((owner, end)) = store.owner(conversation).zip(store.end(conversation)) {
                if node_of(owner) != last {
                    store.oracle.violated(format!("c{conversation}: can't be taken over"));
                }
                store.oracle.ends(conversation, end);
            }
        }
        if self.rule.is_none() {
            self.go_on_after_all();
        }
    }

    /// Whatever has happened to a node, it can own a conversation again.
    fn go_on_after_all(&mut self) {
        let node = self.any_node();
        self.clients += 1;
        for _ in 0..SENDS_MAX {
            self.nodes[node].say(0, Command::Send(vec![self.clients]));
            self.settle();
            if self.store.lock().oracle.has(0, self.clients) {
                return;
            }
        }
        self.store.lock().oracle.violated(format!("node {node} can't send any more"));
    }
}

/// Replaces an element, or appends it.
fn put_at<T>(all: &mut Vec<T>, at: usize, new: T) {
    match all.get_mut(at) {
        Some(old) => *old = new,
        None => all.push(new),
    }
}
