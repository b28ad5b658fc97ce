//! Push: devices, preferences, and a queue that loses no job and gives none to two workers at once.

use super::fixture::time_of;
use super::{Backend, user_key};
use crate::{Channel, DEAD_LETTERS_MAX, LeasedJob, Priority, PushDevice, PushEnd, PushJob, PushKey, Receipt, Store};
use std::collections::{BTreeMap, BTreeSet};
use switchboard_clock::Generator;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId};
use tokio::task::JoinSet;

const LEASE_S: u64 = 60;

fn conversation(id: &str) -> ConversationId {
    id.parse().expect("a conversation id")
}

fn device(id: &str) -> DeviceId {
    id.parse().expect("a device id")
}

fn key(who: &str, of: &str) -> PushKey {
    PushKey { user: user_key(who), conversation: conversation(of), channel: Channel::Fcm }
}

/// A job for `count` messages up to `up_to`, due in second `due_s`.
fn job(key: PushKey, up_to: u64, count: u32, due_s: u64) -> PushJob {
    let (up_to_seq, not_before) = (Seq::new(up_to), time_of(due_s));
    PushJob { key, up_to_seq, count: Some(count), priority: Priority::Normal, not_before }
}

async fn enqueue(store: &dyn Store, jobs: impl IntoIterator<Item = PushJob>) {
    store.enqueue_pushes(jobs.into_iter().collect()).await.expect("enqueues");
}

async fn take(store: &dyn Store, now_s: u64, limit: usize) -> Vec<LeasedJob> {
    store.take_pushes(Channel::Fcm, time_of(now_s), time_of(now_s + LEASE_S), limit).await.expect("takes")
}

/// The only job that is due.
async fn take_one(store: &dyn Store, now_s: u64) -> LeasedJob {
    let mut taken = take(store, now_s, 10).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    taken.remove(0)
}

async fn finish(store: &dyn Store, leased: LeasedJob, end: PushEnd, now_s: u64) {
    store.finish_push(leased, end, time_of(now_s)).await.expect("finishes");
}

async fn withdraw(store: &dyn Store, of: &PushKey, up_to: u64, receipt: Receipt, now_s: u64) {
    let (up_to, at) = (Seq::new(up_to), time_of(now_s));
    store.withdraw_pushes(&of.user, &of.conversation, up_to, receipt, at).await.expect("withdraws");
}

/// The newest message and the count of each job.
fn told(jobs: &[LeasedJob]) -> Vec<(u64, Option<u32>)> {
    jobs.iter().map(|leased| (leased.job.up_to_seq.get(), leased.job.count)).collect()
}

pub async fn devices_come_and_go(backend: &dyn Backend) {
    let store = backend.open().await;
    let alice = user_key("alice");
    let of = |target: &str| PushDevice { channel: Channel::Apns, target: target.to_owned(), registered_at: time_of(1) };
    for (id, target) in [("phone", "old"), ("tablet", "t"), ("phone", "new")] {
        store.put_device(&alice, &device(id), of(target)).await.expect("registers");
    }
    store.put_device(&user_key("alic"), &device("e"), of("another's")).await.expect("registers");
    let devices = async || store.devices(&alice).await.expect("reads");
    assert_eq!(devices().await, [(device("phone"), of("new")), (device("tablet"), of("t"))]);
    let remove = async |id: &str, target: Option<&str>| {
        store.remove_device(&alice, &device(id), target.map(str::to_owned)).await.expect("removes")
    };
    assert!(!remove("phone", Some("old")).await, "it was registered anew since");
    assert!(remove("phone", Some("new")).await && !remove("phone", None).await);
    assert!(remove("tablet", None).await);
    assert_eq!(devices().await, []);
}

pub async fn preferences_are_kept(backend: &dyn Backend) {
    let store = backend.open().await;
    let alice = user_key("alice");
    assert_eq!(store.notification_preferences(&alice).await.expect("reads"), None);
    for preferences in [r#"{"enabled":true}"#, r#"{"enabled":false}"#] {
        store.put_notification_preferences(&alice, preferences.to_owned()).await.expect("puts");
        assert_eq!(store.notification_preferences(&alice).await.expect("reads").as_deref(), Some(preferences));
    }
    assert_eq!(store.notification_preferences(&user_key("bob")).await.expect("reads"), None);
}

pub async fn jobs_are_taken_when_they_are_due_by_priority_and_time(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    let high = |job: PushJob| PushJob { priority: Priority::High, ..job };
    let low = |job: PushJob| PushJob { priority: Priority::Low, ..job };
    enqueue(
        store,
        [
            low(job(key("alice", "c1"), 1, 1, 1)),
            job(key("alice", "c2"), 2, 1, 3),
            job(key("alice", "c3"), 3, 1, 2),
            high(job(key("bob", "c1"), 4, 1, 4)),
            high(job(key("bob", "c2"), 5, 1, 6)),
        ],
    )
    .await;
    let other = PushKey { channel: Channel::Apns, ..key("alice", "c1") };
    enqueue(store, [job(other, 9, 1, 0)]).await;
    assert_eq!(store.oldest_push(Channel::Fcm).await.expect("reads"), Some(time_of(1)));
    assert_eq!(take(store, 0, 10).await, []);
    assert_eq!(told(&take(store, 5, 2).await), [(4, Some(1)), (3, Some(1))]);
    assert_eq!(told(&take(store, 5, 10).await), [(2, Some(1)), (1, Some(1))]);
    assert_eq!(take(store, 5, 10).await, [], "others have them");
    assert_eq!(told(&take(store, 6, 10).await), [(5, Some(1))]);
    assert_eq!(store.oldest_push(Channel::Webhook).await.expect("reads"), None);
}

pub async fn a_dead_workers_jobs_go_on(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    enqueue(store, [job(key("alice", "c"), 1, 1, 0)]).await;
    let first = take_one(store, 0).await;
    assert_eq!(take(store, LEASE_S - 1, 10).await, []);
    let second = take_one(store, LEASE_S).await;
    assert_eq!((first.attempt, second.attempt, &first.job), (1, 2, &second.job));
    finish(store, first, PushEnd::Dropped, LEASE_S).await;
    assert_eq!(take(store, LEASE_S, 10).await, [], "who lost it ends nothing and gives nothing back");
    finish(store, second, PushEnd::Sent, LEASE_S + 1).await;
    assert_eq!(take(store, 10 * LEASE_S, 10).await, []);
}

pub async fn two_homes_make_one_notification(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    for (up_to, count) in [(5, 2), (5, 1), (4, 1)] {
        enqueue(store, [job(key("alice", "c"), up_to, count, 0)]).await;
    }
    let one = take_one(store, 0).await;
    assert_eq!(told(std::slice::from_ref(&one)), [(5, Some(1))], "the older one changed nothing");
    finish(store, one, PushEnd::Sent, 1).await;
    enqueue(store, [job(key("alice", "c"), 5, 2, 2)]).await;
    assert_eq!(take(store, 2, 10).await, [], "the devices show it");
    enqueue(store, [job(key("alice", "c"), 6, 3, 2)]).await;
    let next = take_one(store, 2).await;
    assert_eq!(told(std::slice::from_ref(&next)), [(6, Some(3))]);
    // The other home enqueues the same while a worker sends it.
    enqueue(store, [job(key("alice", "c"), 6, 3, 2)]).await;
    finish(store, next, PushEnd::Sent, 3).await;
    assert_eq!(take(store, 3 + LEASE_S, 10).await, [], "the devices show it");
}

pub async fn two_workers_share_what_is_due(backend: &dyn Backend) {
    let store = backend.open().await;
    let jobs = |of: &str| (0..20).map(|n| job(key(&format!("u{n}"), of), 1, 1, n)).collect::<Vec<_>>();
    enqueue(&*store, jobs("c")).await;
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let store = store.clone();
        workers.spawn(async move {
            let mut taken = Vec::new();
            for now_s in 20..30 {
                taken.extend(take(&*store, now_s, 3).await);
            }
            taken
        });
    }
    let taken: Vec<LeasedJob> = workers.join_all().await.into_iter().flatten().collect();
    let places: BTreeSet<_> = taken.iter().map(|leased| &leased.job.key).collect();
    assert_eq!((taken.len(), places.len()), (20, 20), "each one by one of them");
}

pub async fn what_changes_under_a_worker_waits_for_it(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    let key = key("alice", "c");
    enqueue(store, [job(key.clone(), 1, 1, 0)]).await;
    let first = take_one(store, 0).await;
    enqueue(store, [job(key.clone(), 2, 2, 1)]).await;
    assert_eq!(take(store, 1, 10).await, [], "the older one would come last");
    finish(store, first, PushEnd::Retry { at: time_of(1_000), reason: "503".to_owned() }, 2).await;
    let second = take_one(store, 2).await;
    assert_eq!((second.job.up_to_seq, second.attempt), (Seq::new(2), 1));
    finish(store, second, PushEnd::Sent, 3).await;
    // A dead worker blocks the job no longer than its lease.
    enqueue(store, [job(key.clone(), 3, 3, 10)]).await;
    take_one(store, 10).await;
    enqueue(store, [job(key, 4, 4, 11)]).await;
    assert_eq!(told(&take(store, 10 + LEASE_S, 10).await), [(4, Some(4))]);
}

pub async fn what_was_delivered_is_not_sent_and_what_was_read_is_taken_back(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    let key = key("alice", "c");
    // Waiting: removed, unless it covers something newer.
    enqueue(store, [job(key.clone(), 2, 2, 0)]).await;
    withdraw(store, &key, 1, Receipt::Read, 0).await;
    withdraw(store, &PushKey { user: user_key("bob"), ..key.clone() }, 9, Receipt::Read, 0).await;
    assert_eq!(told(&take(store, 0, 10).await), [(2, Some(2))]);
    // Being sent: `delivered` changes nothing; after a `read` it is withdrawn once it has been sent.
    withdraw(store, &key, 2, Receipt::Delivered, 1).await;
    withdraw(store, &key, 2, Receipt::Read, 1).await;
    assert_eq!(take(store, 1, 10).await, []);
    assert_eq!(told(&take(store, LEASE_S, 10).await), [(2, None)]);

    let key = self::key("carl", "c");
    enqueue(store, [job(key.clone(), 2, 2, 100)]).await;
    withdraw(store, &key, 2, Receipt::Delivered, 100).await;
    assert_eq!(take(store, 100, 10).await, []);
    // Sent.
    enqueue(store, [job(key.clone(), 3, 1, 100)]).await;
    let sent = take_one(store, 100).await;
    finish(store, sent, PushEnd::Sent, 100).await;
    withdraw(store, &key, 3, Receipt::Delivered, 101).await;
    withdraw(store, &key, 2, Receipt::Read, 101).await;
    assert_eq!(take(store, 101, 10).await, []);
    withdraw(store, &key, 3, Receipt::Read, 101).await;
    let back = take_one(store, 101).await;
    assert_eq!((back.job.up_to_seq, back.job.count), (Seq::new(3), None));
    finish(store, back, PushEnd::Sent, 102).await;
    withdraw(store, &key, 3, Receipt::Read, 103).await;
    assert_eq!(take(store, 103, 10).await, [], "once");
    // Something that was never notified is not withdrawn, and does not affect what comes next.
    enqueue(store, [job(key.clone(), 4, 1, 104)]).await;
    let sent = take_one(store, 104).await;
    finish(store, sent, PushEnd::Sent, 104).await;
    withdraw(store, &key, 99, Receipt::Read, 105).await;
    enqueue(store, [job(key.clone(), 5, 1, 105)]).await;
    assert_eq!(told(&take(store, 105, 10).await), [(5, Some(1))]);
}

pub async fn failures_end_as_dead_letters_that_can_be_retried(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    enqueue(store, [job(key("alice", "c"), 1, 1, 0)]).await;
    let first = take_one(store, 0).await;
    finish(store, first, PushEnd::Retry { at: time_of(300), reason: "503".to_owned() }, 0).await;
    assert_eq!(take(store, 299, 10).await, []);
    let second = take_one(store, 300).await;
    assert_eq!(second.attempt, 2);
    let dead = second.job.clone();
    finish(store, second, PushEnd::Dead { reason: "no answer".to_owned() }, 301).await;
    assert_eq!(take(store, 9_999, 10).await, []);

    let tenant = user_key("alice").tenant;
    let letters = async |tenant: &TenantId, after| store.dead_letters(tenant, after, 10).await.expect("reads");
    let found = letters(&tenant, 0).await;
    let [letter] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&letter.job.key, letter.job.up_to_seq, letter.job.count), (&dead.key, dead.up_to_seq, dead.count));
    assert_eq!((letter.attempts, letter.reason.as_str(), letter.died_at), (2, "no answer", time_of(301)));
    let another: TenantId = "t1".parse().expect("a tenant id");
    assert_eq!((letters(&another, 0).await, letters(&tenant, letter.id).await), (vec![], vec![]));

    let retry =
        async |tenant: &TenantId| store.retry_dead_letter(tenant, letter.id, time_of(400)).await.expect("retries");
    assert!(!retry(&another).await && retry(&tenant).await && !retry(&tenant).await);
    assert_eq!(letters(&tenant, 0).await, []);
    let again = take_one(store, 400).await;
    assert_eq!((again.attempt, &again.job.key, again.job.up_to_seq), (1, &dead.key, dead.up_to_seq));
}

pub async fn of_too_many_dead_letters_the_oldest_are_forgotten(backend: &dyn Backend) {
    let store = backend.open().await;
    let more = DEAD_LETTERS_MAX + 2;
    enqueue(&*store, (0..more).map(|n| job(key(&format!("u{n}"), &format!("c{n}")), 1, 1, n))).await;
    let mut ends = JoinSet::new();
    for leased in take(&*store, more, usize::MAX).await {
        let (store, end) = (store.clone(), PushEnd::Dead { reason: "503".to_owned() });
        ends.spawn(async move { finish(&*store, leased, end, more).await });
    }
    ends.join_all().await;
    let tenant = user_key("alice").tenant;
    let letters = store.dead_letters(&tenant, 0, usize::MAX).await.expect("reads");
    assert_eq!(letters.len() as u64, DEAD_LETTERS_MAX);
    assert!(letters.is_sorted_by_key(|letter| letter.id));
    let newest = conversation(&format!("c{}", more - 1));
    assert!(letters.iter().any(|letter| letter.job.key.conversation == newest));
}

pub async fn what_is_outstanding_is_known_to_the_next_home(backend: &dyn Backend) {
    let store = backend.open().await;
    let store = &*store;
    let (shown, waiting) = (key("alice", "shown"), key("alice", "waiting"));
    enqueue(store, [job(shown.clone(), 1, 1, 0), job(key("bob", "c"), 1, 1, 0)]).await;
    for leased in take(store, 0, 10).await {
        finish(store, leased, PushEnd::Sent, 7).await;
    }
    enqueue(store, [job(shown.clone(), 2, 2, 50), job(waiting.clone(), 9, 3, 60)]).await;
    let expected = [job(shown.clone(), 1, 1, 7), job(shown, 2, 2, 50), job(waiting, 9, 3, 60)];
    assert_eq!(store.outstanding_pushes(&user_key("alice")).await.expect("reads"), expected);
}

pub async fn the_queue_outlives_a_restart(backend: &dyn Backend) {
    if !backend.outlives_close() {
        return;
    }
    let store = backend.open().await;
    enqueue(&*store, [job(key("alice", "c1"), 1, 1, 0), job(key("alice", "c2"), 2, 1, 9)]).await;
    take_one(&*store, 0).await;
    store.close().await.expect("closes");
    drop(store);
    let store = backend.open().await;
    assert_eq!(told(&take(&*store, 9, 10).await), [(2, Some(1))]);
    assert_eq!(told(&take(&*store, LEASE_S, 10).await), [(1, Some(1))]);
}

/// Homes, and workers that fail and die, at random: no job is given to two workers, and in the end each place shows the
/// newest message that was not withdrawn.
pub async fn nothing_is_lost_or_given_to_two(backend: &dyn Backend) {
    let store = backend.open().await;
    for seed in 0..8 {
        let random = Generator::from_seed(seed);
        Queue::new(&*store, format!("u{seed}"), random).run().await;
    }
}

struct Queue<'a> {
    store: &'a dyn Store,
    who: String,
    random: Generator,
    now_s: u64,
    up_to: u64,
    /// The newest message that each place should show.
    owed: BTreeMap<PushKey, u64>,
    shown: BTreeMap<PushKey, u64>,
    leased: Vec<(LeasedJob, u64)>,
}

impl<'a> Queue<'a> {
    fn new(store: &'a dyn Store, who: String, random: Generator) -> Self {
        let (owed, shown, leased) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { store, who, random, now_s: 0, up_to: 0, owed, shown, leased }
    }

    async fn run(mut self) {
        for _ in 0..150 {
            let key = key(&self.who, &format!("c{}", self.random.below(3)));
            match self.random.below(10) {
                0..4 => self.enqueue(key).await,
                4 => self.read(key).await,
                5..7 => self.take().await,
                7..9 => self.finish_one().await,
                _ => self.now_s += self.random.below(LEASE_S),
            }
        }
        while !self.leased.is_empty() {
            self.finish_one().await;
        }
        for _ in 0..10 {
            self.now_s += 2 * LEASE_S;
            self.take().await;
            while let Some((leased, _)) = self.leased.pop() {
                self.sent(leased).await;
            }
        }
        assert_eq!(self.shown, self.owed);
    }

    async fn enqueue(&mut self, key: PushKey) {
        self.up_to += 1;
        self.owed.insert(key.clone(), self.up_to);
        let due_s = self.now_s + self.random.below(2) * self.random.below(LEASE_S);
        // The other home is behind.
        let older = job(key.clone(), self.up_to - 1, 1, due_s);
        enqueue(self.store, [job(key, self.up_to, 1, due_s), older]).await;
    }

    async fn read(&mut self, key: PushKey) {
        withdraw(self.store, &key, self.up_to, Receipt::Read, self.now_s).await;
        self.owed.remove(&key);
    }

    async fn take(&mut self) {
        let now_s = self.now_s;
        self.leased.retain(|(_, until_s)| *until_s > now_s);
        for leased in take(self.store, now_s, 2).await {
            let is_free = self.leased.iter().all(|(other, _)| other.job.key != leased.job.key);
            assert!(is_free, "another has it: {leased:?}");
            self.leased.push((leased, now_s + LEASE_S));
        }
    }

    async fn finish_one(&mut self) {
        if self.leased.is_empty() {
            return;
        }
        let at = usize::try_from(self.random.below(self.leased.len() as u64)).expect("small");
        let (leased, _) = self.leased.swap_remove(at);
        match self.random.below(3) {
            0 => self.sent(leased).await,
            1 => {
                let end = PushEnd::Retry { at: time_of(self.now_s + 5), reason: "503".to_owned() };
                finish(self.store, leased, end, self.now_s).await;
            }
            // The worker dies.
            _ => self.now_s += LEASE_S,
        }
    }

    async fn sent(&mut self, leased: LeasedJob) {
        match leased.job.count {
            Some(_) => self.shown.insert(leased.job.key.clone(), leased.job.up_to_seq.get()),
            None => self.shown.remove(&leased.job.key),
        };
        finish(self.store, leased, PushEnd::Sent, self.now_s).await;
    }
}
