//! A worker's people and their conversations, and the actions of a single one. The timing is decided elsewhere.
//!
//! Nobody knows anyone of another worker, so workers need not exchange anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::json;

use crate::client::crowd::{Crowd, some_at_once};
use crate::client::group;
use crate::client::network::{Meters, intended_ns};
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::now_ns;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::worker::{PhaseWork, Worker};

/// Random members of a conversation that are tried, to find one with a session.
const ATTEMPTS: usize = 4;
/// Smallest group.
const GROUP_MEMBERS_MIN: usize = 3;
/// How long everyone may take to come home.
const HOME_MAX: Duration = Duration::from_secs(60);

pub(super) struct Town {
    crowd: Crowd,
    users: Vec<User>,
    conversations: Vec<Conversation>,
    /// The most popular first: the end of each one's part of a line that starts at 0.
    popularity: Vec<(f64, usize)>,
    known: Arc<Known>,
    rng: Rng,
    text: String,
    /// The number of sends.
    said: u64,
    /// The people who are away.
    away: Vec<usize>,
    here: Vec<usize>,
    due: Counter,
    /// Deliveries that are due when all are home.
    missing: Counter,
    comings: Counter,
    meters: Meters,
}

struct User {
    client: Client,
    /// The large group that the person has open.
    open: Option<usize>,
}

struct Conversation {
    members: Vec<usize>,
    /// Entries go in full only to members that have it open.
    is_activity: bool,
}

/// What the sessions have learnt about the conversations.
struct Known {
    run: String,
    /// The prefix of user names before the number.
    prefix: String,
    by_id: Mutex<HashMap<String, usize>>,
    /// Direct conversations by their users, the smaller number first.
    directs: HashMap<(usize, usize), usize>,
    ids: Vec<OnceLock<String>>,
    last_seq: Vec<AtomicU64>,
    live: LatencyMeter,
}

impl Town {
    pub(super) async fn connect(worker: &mut Worker, mut rng: Rng) -> Result<Self> {
        let (plan, load) = (worker.plan.clone(), worker.plan.load.clone());
        let numbers: Vec<usize> = plan.share(load.connections).collect();
        ensure!(numbers.len() >= GROUP_MEMBERS_MIN, "mixed: too few --connections");
        let groups = groups(&load, plan.share(load.count("groups")), numbers.len(), &mut rng);
        let directs = directs(numbers.len(), load.count("directs_per_user"), &mut rng);
        let members: Vec<Vec<usize>> =
            groups.iter().cloned().chain(directs.iter().map(|(one, other)| vec![*one, *other])).collect();
        ensure!(!members.is_empty(), "mixed: there are no conversations");
        let known = Arc::new(Known {
            run: plan.run.clone(),
            prefix: format!("{}-{}-", plan.run, plan.worker),
            by_id: Mutex::default(),
            directs: directs.iter().enumerate().map(|(place, pair)| (*pair, groups.len() + place)).collect(),
            ids: members.iter().map(|_| OnceLock::new()).collect(),
            last_seq: members.iter().map(|_| AtomicU64::new(0)).collect(),
            live: worker.recorder.latency("live"),
        });
        let people = numbers.iter().enumerate().map(|(user, node)| {
            let who = Who { user: known.name(user), number: user as u64, node: *node };
            (who, Some(known.on_frame(user)))
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        watch_contacts(&clients, &known, load.count("contacts").min(500), &mut rng);
        let activity = some_at_once(
            groups.iter().enumerate().map(async |(group, members)| known.make_group(group, members, &clients).await),
        )
        .await?;
        let is_activity = activity.into_iter().chain(std::iter::repeat(false));
        let conversations: Vec<Conversation> = members
            .into_iter()
            .zip(is_activity)
            .map(|(members, is_activity)| Conversation { members, is_activity })
            .collect();
        let mut ranks: Vec<usize> = (0..conversations.len()).collect();
        rng.shuffle(&mut ranks);
        Ok(Self {
            crowd,
            here: (0..clients.len()).collect(),
            users: clients.into_iter().map(|client| User { client, open: None }).collect(),
            conversations,
            popularity: zipf(ranks, load.number("zipf")),
            known,
            rng,
            text: "x".repeat(load.count("text_bytes")),
            said: 0,
            away: Vec::new(),
            due: worker.recorder.counter("due"),
            missing: worker.recorder.counter("missing"),
            comings: worker.recorder.counter("comings"),
            meters: worker.network.meters.clone(),
        })
    }

    /// Sends the first message of each direct conversation, which creates it.
    pub(super) async fn prepare(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        let mut pairs: Vec<(usize, usize)> = self.known.directs.keys().copied().collect();
        pairs.sort_unstable();
        for (number, (one, other)) in pairs.into_iter().enumerate() {
            let place = format!(r#""to":"{}""#, self.known.name(other));
            self.users[one].client.send(&place, self.said, now_ns(), &self.text);
            self.said += 1;
            self.due.add(1);
            if number % 256 == 255 {
                self.answered(phase).await;
            }
        }
        self.answered(phase).await;
        let known = self.known.clone();
        phase.drain(|| known.ids.iter().all(|id| id.get().is_some())).await;
        ensure!(known.ids.iter().all(|id| id.get().is_some()), "mixed: some conversations could not be created");
        Ok(())
    }

    /// Waits until every send is answered, except those of people who left before the answer: they get it when they
    /// come home.
    pub(super) async fn answered(&self, phase: &mut PhaseWork<'_>) {
        phase.drain(|| !self.users.iter().any(|user| user.client.is_waiting())).await;
    }

    /// Someone writes. Returns `false` if there was nobody.
    pub(super) fn send(&mut self, intended_ns: u64) -> bool {
        let Some((conversation, user, id)) = self.someone() else { return false };
        let place = format!(r#""conversation_id":"{id}""#);
        self.users[user].client.send(&place, self.said, intended_ns, &self.text);
        self.said += 1;
        self.due.add(self.conversations[conversation].members.len() as u64 - 1);
        true
    }

    /// Someone reads up to the end; a large group is opened for that, replacing the one before.
    pub(super) fn read(&mut self) {
        let Some((conversation, user, id)) = self.someone() else { return };
        let seq = self.known.last_seq[conversation].load(Ordering::Relaxed);
        let is_activity = self.conversations[conversation].is_activity;
        let User { client, open } = &mut self.users[user];
        if is_activity && *open != Some(conversation) {
            if let Some(before) = open.replace(conversation).and_then(|before| self.known.ids[before].get()) {
                client.say(&json!({"type": "conversation_close", "conversation_id": before}).to_string());
            }
            let frame = json!({"type": "conversation_open", "conversation_id": id}).to_string();
            client.say(&frame);
            client.keep_saying("open", frame);
        }
        client.say(&json!({"type": "read", "conversation_id": id, "seq": seq}).to_string());
    }

    pub(super) fn type_something(&mut self) {
        let Some((_, user, id)) = self.someone() else { return };
        self.users[user].client.say(&json!({"type": "typing_start", "conversation_id": id}).to_string());
    }

    /// Someone comes if fewer than this share of all are here, otherwise someone leaves.
    pub(super) fn come_or_go(&mut self, share: f64, intended_ns: u64) {
        let (from, is_coming) = if (self.here.len() as f64) < share * self.users.len() as f64 {
            (&mut self.away, true)
        } else {
            (&mut self.here, false)
        };
        if from.is_empty() {
            return;
        }
        let user = from.swap_remove(self.rng.usize(..from.len()));
        self.comings.add(1);
        if is_coming {
            self.here.push(user);
            self.users[user].client.come_back(intended_ns);
        } else {
            self.away.push(user);
            self.users[user].client.leave();
        }
    }

    /// Everyone comes, and gets what they missed, even if the load has ended early: nothing is missing for that.
    pub(super) async fn come_home(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        for user in self.away.drain(..) {
            self.users[user].client.come_back(now_ns());
            self.here.push(user);
        }
        let (deliveries, due) = (&self.meters.deliveries, &self.due);
        phase.drain_within(HOME_MAX, || deliveries.total() >= due.total()).await;
        self.missing.add(due.total().saturating_sub(deliveries.total()));
        Ok(())
    }

    pub(super) fn into_crowd(self) -> Crowd {
        self.crowd
    }

    /// A conversation chosen by popularity, a connected member, and its id.
    fn someone(&mut self) -> Option<(usize, usize, String)> {
        let (end, _) = *self.popularity.last()?;
        let at = self.rng.f64() * end;
        let place = self.popularity.partition_point(|(until, _)| *until <= at).min(self.popularity.len() - 1);
        let conversation = self.popularity[place].1;
        let members = &self.conversations[conversation].members;
        let mut looked = (0..ATTEMPTS).map(|_| members[self.rng.usize(..members.len())]);
        let user = looked.find(|user| self.users[*user].client.is_here())?;
        Some((conversation, user, self.known.ids[conversation].get()?.clone()))
    }
}

impl Known {
    fn name(&self, user: usize) -> String {
        format!("{}{user}", self.prefix)
    }

    fn number(&self, name: &str) -> Option<usize> {
        name.strip_prefix(&self.prefix)?.parse().ok()
    }

    /// Creates a group. Returns whether entries go in full only to members that have it open.
    async fn make_group(&self, group: usize, members: &[usize], clients: &[Client]) -> Result<bool> {
        let (owner, others) = members.split_first().context("a group without members")?;
        let names: Vec<String> = others.iter().map(|user| self.name(*user)).collect();
        let owner = &clients[*owner];
        let id = group::create(owner, &format!("mixed-{group}"), &names).await?;
        let found = owner.ask(json!({"type": "conversation_get", "conversation_id": id})).await?;
        self.learn(&id, group);
        Ok(found["delivery"] == "activity")
    }

    fn learn(&self, id: &str, conversation: usize) {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), conversation);
        self.ids[conversation].get_or_init(|| id.to_owned());
    }

    fn on_frame(self: &Arc<Self>, user: usize) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, at_ns| {
            if kind == "message" {
                own.on_message(user, json, at_ns);
            }
        })
    }

    /// An unsolicited message.
    fn on_message(&self, user: usize, json: &[u8], at_ns: u64) {
        let intended_ns = scan::text(json, "client_id").and_then(|client_id| intended_ns(client_id, &self.run));
        if let Some(intended_ns) = intended_ns {
            self.live.record_ns(at_ns.saturating_sub(intended_ns));
        }
        let (Some(id), Some(seq)) = (scan::text(json, "conversation_id"), scan::number(json, "seq")) else { return };
        let found = self.by_id.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        let conversation = found.or_else(|| {
            let from = self.number(scan::text(json, "from")?)?;
            let conversation = *self.directs.get(&(user.min(from), user.max(from)))?;
            self.learn(id, conversation);
            Some(conversation)
        });
        if let Some(conversation) = conversation {
            self.last_seq[conversation].fetch_max(seq, Ordering::Relaxed);
        }
    }
}

fn watch_contacts(clients: &[Client], known: &Known, contacts: usize, rng: &mut Rng) {
    for client in clients.iter().filter(|_| contacts > 0) {
        let names: Vec<String> = some(contacts, clients.len(), rng).into_iter().map(|user| known.name(user)).collect();
        let frame = json!({"type": "presence_watch", "user_ids": names}).to_string();
        client.say(&frame);
        client.keep_saying("watch", frame);
    }
}

/// `many` of `0..of`, without duplicates.
fn some(many: usize, of: usize, rng: &mut Rng) -> Vec<usize> {
    rng.choose_multiple(0..of, many.min(of))
}

/// The size of group `n` of all workers, relative to the largest one, is `1 / n`.
fn groups(load: &Load, numbers: impl Iterator<Item = usize>, users: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let largest = load.count("group_members_max");
    numbers.map(|number| some((largest / (number + 1)).max(GROUP_MEMBERS_MIN), users, rng)).collect()
}

/// Each user with a number of others; mutual choices are merged.
fn directs(users: usize, each: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let chosen = (0..users).flat_map(|user| some(each, users, rng).into_iter().map(move |other| (user, other)));
    let mut pairs: Vec<(usize, usize)> =
        chosen.filter(|(one, other)| one != other).map(|(one, other)| (one.min(other), one.max(other))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The end of each rank's part of the line.
fn zipf(ranks: Vec<usize>, exponent: f64) -> Vec<(f64, usize)> {
    let mut end = 0.0;
    let parts = ranks.into_iter().enumerate().map(|(rank, conversation)| {
        end += (rank as f64 + 1.0).powf(-exponent);
        (end, conversation)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_has_the_longest_part() {
        let line = zipf(vec![7, 8, 9], 1.0);
        assert_eq!(line.iter().map(|(_, conversation)| *conversation).collect::<Vec<_>>(), [7, 8, 9]);
        assert!((line[0].0 - 1.0).abs() < 1e-9 && (line[1].0 - 1.5).abs() < 1e-9, "{line:?}");
        assert_eq!(zipf(vec![0, 1], 0.0).last().unwrap().0, 2.0);
    }

    #[test]
    fn nobody_writes_to_himself_and_no_pair_is_there_twice() {
        let pairs = directs(10, 9, &mut Rng::with_seed(3));
        assert!(pairs.iter().all(|(one, other)| one < other));
        assert!(pairs.windows(2).all(|two| two[0] < two[1]), "{pairs:?}");
    }

    #[test]
    fn groups_become_smaller_but_never_too_small() {
        let params = [("group_members_max".to_owned(), "20".to_owned())].into();
        let load = Load { params, ..Load::default() };
        let sizes: Vec<usize> = groups(&load, 0..10, 15, &mut Rng::with_seed(1)).iter().map(Vec::len).collect();
        assert_eq!(sizes, [15, 10, 6, 5, 4, 3, 3, 3, 3, 3]);
    }
}
