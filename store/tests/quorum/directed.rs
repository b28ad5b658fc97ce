//! The protocol's promises, one at a time, without faults except those that a test injects.

use crate::driver::{Driver, Shared};
use crate::replica::{Answer, Question};
use crate::store::{Decision, Event, Store, Weather};
use bytes::Bytes;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use switchboard_clock::Generator;
use switchboard_protocol::{Seq, TenantId, Timestamp};
use switchboard_store::quorum::{BUCKET_ENTRIES, Beginning, LogHead, Previous, QuorumLog, Raise, Release};
use switchboard_store::{Appended, ConversationKey, Incarnation, Kind, NewConversation, StoreError, TermNumber};

/// A store without faults, and any number of processes.
struct Calm(Shared);

impl Calm {
    fn new() -> Self {
        Self(Shared::new(Store::new(Generator::from_seed(1), Weather::default())))
    }

    fn process(&self) -> QuorumLog<Driver> {
        QuorumLog::new(Driver(self.0.clone()))
    }

    /// Lets possible events happen, in order, until the future is ready.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            let store = &mut *self.0.lock();
            if store.soon.is_empty() {
                assert!(store.time_all_out(), "nothing can happen any more");
            } else {
                let event = store.soon.remove(0);
                store.happen(event);
            }
        }
    }

    fn begin(&self, log: &QuorumLog<Driver>, by: u64, previous: &Previous) -> Beginning {
        self.run(log.begin_term(&key('a'), &node(by), previous, Some(&group()))).unwrap()
    }

    fn append(&self, log: &QuorumLog<Driver>, term: u64, first: u64, texts: &[&str]) -> Result<Appended, StoreError> {
        let payloads: Vec<Bytes> = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        self.run(log.append(&key('a'), TermNumber(term), Seq::new(first), &payloads))
    }

    fn head(&self) -> LogHead {
        match self.run(self.0.decide(Decision::ReadHead { conversation: 0 })).unwrap() {
            Answer::Head(Some(head)) => head,
            _ => panic!("there is a head"),
        }
    }

    fn rows(&self, log: &QuorumLog<Driver>) -> Vec<Bytes> {
        let end = self.head().end;
        let rows = self.run(log.read(&key('a'), Seq::ZERO, end, 1_000_000)).unwrap();
        rows.into_iter().map(|row| row.payload).collect()
    }
}

fn key(name: char) -> ConversationKey {
    ConversationKey { tenant: TenantId::default(), conversation: name.to_string().parse().unwrap() }
}

fn node(life: u64) -> Incarnation {
    Incarnation { node: "n".parse().unwrap(), life }
}

fn group() -> NewConversation {
    NewConversation { kind: Kind::Group, title: None, custom: None, created_at: Timestamp::from_unix_ms(0) }
}

fn begun(term: u64, end: u64, former: Option<u64>) -> Beginning {
    Beginning::Begun { term: TermNumber(term), end: Seq::new(end), former: former.map(node) }
}

#[test]
fn a_conversation_passes_from_owner_to_owner() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    assert_eq!(calm.run(one.begin_term(&key('a'), &node(1), &Previous::Unknown, None)).unwrap(), Beginning::Missing);
    assert_eq!(calm.begin(&one, 1, &Previous::Unknown), begun(1, 0, None));
    assert_eq!(calm.append(&one, 1, 1, &["x", "y"]).unwrap(), Appended::Durable);
    assert_eq!(one.end_here(&key('a')), Some((TermNumber(1), Seq::new(2))));
    assert_eq!(calm.head().end, Seq::ZERO, "the end is raised later");

    // Its owner is alive: the other process has to ask it.
    let owned = Beginning::Owned { by: node(1), term: TermNumber(1), end: Seq::ZERO };
    assert_eq!(calm.begin(&two, 2, &Previous::Unknown), owned);
    let release = one.release(&key('a'), TermNumber(1)).unwrap();
    assert_eq!(release, Release { term: TermNumber(1), end: Seq::new(2) });
    assert_eq!(calm.append(&one, 1, 3, &["late"]).unwrap(), Appended::Superseded);
    assert_eq!(one.end_here(&key('a')), None);
    assert_eq!(calm.begin(&two, 2, &Previous::Released(release)), begun(2, 2, Some(1)));
    assert_eq!(calm.append(&two, 2, 3, &["z"]).unwrap(), Appended::Durable);

    // A release applies only to its term.
    let owned = Beginning::Owned { by: node(2), term: TermNumber(2), end: Seq::new(2) };
    assert_eq!(calm.begin(&one, 1, &Previous::Released(release)), owned);

    // The owner is gone: it is fenced, and its entries stay.
    assert_eq!(calm.begin(&one, 1, &Previous::Gone(node(3))), owned, "only who is said to be gone is fenced");
    assert_eq!(calm.append(&two, 2, 4, &[]).unwrap(), Appended::Durable, "the term runs");
    assert_eq!(calm.begin(&one, 1, &Previous::Gone(node(2))), begun(3, 3, Some(2)));
    assert_eq!(calm.append(&two, 2, 4, &[]).unwrap(), Appended::Superseded, "he finds out without writing anything");
    assert_eq!(calm.append(&two, 2, 4, &["late"]).unwrap(), Appended::Superseded);
    let refused = calm.run(two.begin_term(&key('b'), &node(2), &Previous::Unknown, Some(&group())));
    assert!(matches!(refused, Err(StoreError::Fenced { incarnation }) if incarnation == node(2)));
    assert_eq!(calm.begin(&two, 4, &Previous::Gone(node(1))), begun(4, 3, Some(1)), "in a new life it may");
    assert_eq!(calm.rows(&one), ["x", "y", "z"]);
}

#[test]
fn a_term_that_has_ended_leaves_nothing_to_find_out() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    calm.begin(&one, 1, &Previous::Unknown);
    calm.append(&one, 1, 1, &["x"]).unwrap();
    assert!(calm.0.lock().is_noted(0, 1));
    calm.run(one.end_term(&key('a'), TermNumber(2))).unwrap();
    assert_eq!(calm.head().owner, Some(node(1)), "that is not its term");
    calm.run(one.end_term(&key('a'), TermNumber(1))).unwrap();
    assert_eq!(calm.head(), LogHead { term: TermNumber(1), owner: None, end: Seq::new(1) });
    assert!(!calm.0.lock().is_noted(0, 1));
    assert_eq!(calm.append(&one, 1, 2, &["late"]).unwrap(), Appended::Superseded);
    assert_eq!(calm.begin(&two, 2, &Previous::Unknown), begun(2, 1, None));
    calm.run(one.end_term(&key('a'), TermNumber(1))).unwrap();
    assert_eq!(calm.append(&two, 2, 2, &["y"]).unwrap(), Appended::Durable);
}

#[test]
fn a_process_takes_over_from_itself() {
    let calm = Calm::new();
    let log = calm.process();
    calm.begin(&log, 1, &Previous::Unknown);
    calm.append(&log, 1, 1, &["x"]).unwrap();
    assert_eq!(calm.begin(&log, 1, &Previous::Unknown), begun(2, 1, Some(1)));
    assert_eq!(calm.begin(&log, 7, &Previous::Unknown), begun(3, 1, Some(1)), "in its next life too");
    calm.run(log.forget_note(&key('a'), &node(1), TermNumber(2))).unwrap();
    assert_eq!(calm.append(&log, 2, 2, &["late"]).unwrap(), Appended::Superseded);
    assert!(!calm.0.lock().is_noted(0, 1) && calm.0.lock().is_noted(0, 7));
}

/// Since it read the head, another begin of this process may have used the very term that it would begin.
#[test]
fn an_unanswered_begin_from_an_older_head_takes_no_other_term_for_its_own() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    calm.begin(&one, 1, &Previous::Unknown);
    calm.append(&one, 1, 1, &["x"]).unwrap();
    let older = Previous::GoneFrom { owner: node(1), term: TermNumber(1), end: Seq::ZERO };
    assert_eq!(calm.begin(&two, 2, &older), begun(2, 1, Some(1)));
    assert_eq!(calm.append(&two, 2, 2, &["y"]).unwrap(), Appended::Durable);

    calm.0.lock().weather.undecided = 100;
    let (key, me) = (key('a'), node(2));
    let mut begin = pin!(two.begin_term(&key, &me, &older, None));
    let outcome = calm.run(std::future::poll_fn(|context| {
        let outcome = begin.as_mut().poll(context);
        let store = &mut *calm.0.lock();
        // Only its first compare-and-set has no answer.
        if !store.late.is_empty() {
            store.weather = Weather::default();
        }
        outcome
    }));
    assert_eq!(outcome.unwrap(), begun(3, 2, Some(2)));
    assert_eq!(calm.append(&two, 3, 3, &["z"]).unwrap(), Appended::Durable);
    assert_eq!(calm.rows(&two), ["x", "y"], "z is behind the head's end");
}

#[test]
fn what_is_refused_for_good_is_forgotten() {
    let calm = Calm::new();
    let log = calm.process();
    calm.begin(&log, 1, &Previous::Unknown);
    calm.append(&log, 1, 1, &["x"]).unwrap();
    calm.0.lock().weather.refused = 100;
    assert!(matches!(calm.append(&log, 1, 2, &["too large"]), Err(StoreError::Unreadable { .. })));
    assert_eq!(calm.append(&log, 1, 2, &["y"]).unwrap(), Appended::Superseded, "the term is over");
    calm.0.lock().weather.refused = 0;
    assert_eq!(calm.begin(&log, 1, &Previous::Unknown), begun(2, 1, Some(1)));
    assert_eq!(calm.append(&log, 2, 2, &["y"]).unwrap(), Appended::Durable);
}

#[test]
fn appends_follow_the_end_or_repeat() {
    let calm = Calm::new();
    let log = calm.process();
    let misplaced = |outcome| assert!(matches!(outcome, Err(StoreError::Misplaced { .. })), "{outcome:?}");
    misplaced(calm.append(&log, 1, 1, &["x"]));
    calm.begin(&log, 1, &Previous::Unknown);
    misplaced(calm.append(&log, 1, 2, &["hole"]));
    misplaced(calm.append(&log, 2, 1, &["not begun"]));
    calm.append(&log, 1, 1, &["x", "y"]).unwrap();
    for (first, texts) in [(1, &["x", "y"][..]), (2, &["y"]), (2, &["y", "z"]), (1, &["x", "y", "z"]), (4, &[])] {
        assert_eq!(calm.append(&log, 1, first, texts).unwrap(), Appended::Durable, "{texts:?}");
    }
    misplaced(calm.append(&log, 1, 1, &["other"]));

    // An open outcome: exactly the same append again, or nothing.
    calm.0.lock().weather = Weather { lost: 100, ..Weather::default() };
    assert!(matches!(calm.append(&log, 1, 4, &["a", "b"]), Err(StoreError::Unavailable { .. })));
    calm.0.lock().weather = Weather::default();
    misplaced(calm.append(&log, 1, 4, &["a"]));
    misplaced(calm.append(&log, 1, 4, &["a", "c"]));
    misplaced(calm.append(&log, 1, 6, &["c"]));
    assert_eq!(calm.append(&log, 1, 4, &["a", "b"]).unwrap(), Appended::Durable);
    assert_eq!(calm.append(&log, 1, 6, &["c"]).unwrap(), Appended::Durable);
    calm.run(log.end_term(&key('a'), TermNumber(1))).unwrap();
    assert_eq!(calm.rows(&log), ["x", "y", "z", "a", "b", "c"]);
}

#[test]
fn a_long_tail_is_found_whole() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    calm.begin(&one, 1, &Previous::Unknown);
    let texts: Vec<String> = (0..768).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    calm.append(&one, 1, 1, &texts[..700]).unwrap();
    assert_eq!(calm.begin(&two, 2, &Previous::Gone(node(1))), begun(2, 700, Some(1)));
    calm.append(&two, 2, 701, &texts[700..]).unwrap();
    assert_eq!(calm.begin(&one, 3, &Previous::Gone(node(2))), begun(3, 768, Some(2)));
    assert_eq!(calm.rows(&one), texts);
}

#[test]
fn the_end_is_raised_once_a_bucket() {
    let calm = Calm::new();
    let log = calm.process();
    calm.begin(&log, 1, &Previous::Unknown);
    let bucket = vec!["x"; BUCKET_ENTRIES as usize];
    calm.append(&log, 1, 1, &bucket[1..]).unwrap();
    calm.run(log.raise_ends(Raise::FullBuckets)).unwrap();
    assert_eq!(calm.head().end, Seq::ZERO);
    calm.append(&log, 1, BUCKET_ENTRIES, &["x"]).unwrap();
    calm.run(log.bucket_filled());
    calm.run(log.raise_ends(Raise::FullBuckets)).unwrap();
    assert_eq!(calm.head().end, Seq::new(BUCKET_ENTRIES));
}

/// The node that asked for the release may never begin, and then nobody else looks at the conversation.
#[test]
fn the_end_of_a_released_term_is_raised_before_its_rows_expire() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    calm.begin(&one, 1, &Previous::Unknown);
    calm.append(&one, 1, 1, &["x"]).unwrap();
    let release = one.release(&key('a'), TermNumber(1)).unwrap();
    for _ in 0..2 {
        assert_eq!(one.release(&key('a'), TermNumber(1)), Some(release), "it may be asked for again");
        calm.run(one.raise_ends(Raise::Aged)).unwrap();
    }
    assert_eq!(calm.head(), LogHead { term: TermNumber(1), owner: Some(node(1)), end: Seq::new(1) });
    assert_eq!(one.release(&key('a'), TermNumber(1)), None, "it is forgotten");
    calm.0.lock().epoch += 10;
    assert_eq!(calm.begin(&two, 2, &Previous::Gone(node(1))), begun(2, 1, Some(1)));
}

/// Otherwise each round would try to raise it, for ever.
#[test]
fn a_term_that_was_lost_to_a_fence_is_forgotten() {
    let calm = Calm::new();
    let (one, two) = (calm.process(), calm.process());
    calm.begin(&one, 1, &Previous::Unknown);
    calm.append(&one, 1, 1, &["x"]).unwrap();
    assert_eq!(calm.begin(&two, 2, &Previous::Gone(node(1))), begun(2, 1, Some(1)));
    assert_eq!(calm.append(&one, 1, 2, &["late"]).unwrap(), Appended::Superseded);
    for _ in 0..2 {
        assert!(one.release(&key('a'), TermNumber(1)).is_some(), "it has an end to raise");
        calm.run(one.raise_ends(Raise::Aged)).unwrap();
    }
    assert_eq!(one.release(&key('a'), TermNumber(1)), None);
    assert_eq!(calm.head(), LogHead { term: TermNumber(2), owner: Some(node(2)), end: Seq::new(1) });
}

#[test]
fn appends_of_all_conversations_share_the_fence_reads() {
    const CONVERSATIONS: usize = 20;
    let calm = Calm::new();
    let log = calm.process();
    let keys: Vec<ConversationKey> = ('a'..).take(CONVERSATIONS).map(key).collect();
    for key in &keys {
        calm.run(log.begin_term(key, &node(1), &Previous::Unknown, Some(&group()))).unwrap();
    }
    let payload = [Bytes::from_static(b"x")];
    let append = |key| Some(Box::pin(log.append(key, TermNumber(1), Seq::new(1), &payload)));
    let mut appends: Vec<_> = keys.iter().map(append).collect();
    let before = calm.0.lock().fence_reads;
    let reads = || calm.0.lock().fence_reads - before;
    // The first confirmed append reads, and is dropped meanwhile: another one takes over.
    calm.run(std::future::poll_fn(|context| {
        assert!(!are_durable(&mut appends, context));
        if reads() == 1 { Poll::Ready(()) } else { Poll::Pending }
    }));
    appends[0] = None;
    let all =
        |context: &mut Context<'_>| if are_durable(&mut appends, context) { Poll::Ready(()) } else { Poll::Pending };
    calm.run(std::future::poll_fn(all));
    assert!(reads() <= 4, "{} fence reads for {CONVERSATIONS} appends", reads());
}

/// A begin under way; `None`: it has ended, or been dropped.
type Begin<'a> = Option<Pin<Box<dyn Future<Output = Result<Beginning, StoreError>> + 'a>>>;

/// A process that takes all of a dead node's conversations over.
struct TakeOver {
    calm: Calm,
    log: QuorumLog<Driver>,
    keys: Vec<ConversationKey>,
    me: Incarnation,
    gone: Previous,
}

impl TakeOver {
    const CONVERSATIONS: usize = 20;

    fn new() -> Self {
        let calm = Calm::new();
        let dead = calm.process();
        let keys: Vec<ConversationKey> = ('a'..).take(Self::CONVERSATIONS).map(key).collect();
        for key in &keys {
            calm.run(dead.begin_term(key, &node(1), &Previous::Unknown, Some(&group()))).unwrap();
        }
        let log = calm.process();
        Self { calm, log, keys, me: node(2), gone: Previous::Gone(node(1)) }
    }

    /// A begin of each conversation.
    fn begins(&self) -> Vec<Begin<'_>> {
        let begin = |key| -> Begin<'_> { Some(Box::pin(self.log.begin_term(key, &self.me, &self.gone, None))) };
        self.keys.iter().map(begin).collect()
    }

    /// Continues the begins until `is_reached`.
    fn run_until(&self, begins: &mut [Begin<'_>], is_reached: impl Fn(&Store) -> bool) {
        self.calm.run(std::future::poll_fn(|context| {
            for begin in begins.iter_mut().flatten() {
                assert!(begin.as_mut().poll(context).is_pending());
            }
            if is_reached(&self.calm.0.lock()) { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    /// Continues the begins until all have ended.
    fn outcomes(&self, mut begins: Vec<Begin<'_>>) -> Vec<Result<Beginning, StoreError>> {
        let mut outcomes = Vec::new();
        self.calm.run(std::future::poll_fn(|context| {
            for slot in &mut begins {
                if let Some(Poll::Ready(outcome)) = slot.as_mut().map(|begin| begin.as_mut().poll(context)) {
                    outcomes.push(outcome);
                    *slot = None;
                }
            }
            if begins.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
        }));
        outcomes
    }

    fn assert_all_begin(&self, begins: Vec<Begin<'_>>) {
        let expected = begins.iter().flatten().count();
        let outcomes = self.outcomes(begins);
        let begun = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Beginning::Begun { .. }))).count();
        assert_eq!(begun, expected, "{outcomes:?}");
    }

    /// Fences and registrations so far, without those of the dead node.
    fn decisions(&self) -> (u64, u64) {
        let store = self.calm.0.lock();
        (store.fences, store.registrations - 1)
    }
}

#[test]
fn who_takes_many_conversations_over_registers_once_and_fences_once() {
    let take_over = TakeOver::new();
    take_over.assert_all_begin(take_over.begins());
    assert_eq!(take_over.decisions(), (1, 1));
}

#[test]
fn a_begin_that_is_dropped_while_it_registers_or_fences_holds_up_no_other() {
    let take_over = TakeOver::new();
    let mut begins = take_over.begins();
    take_over.run_until(&mut begins, |store| store.registrations == 2);
    begins[0] = None;
    take_over.run_until(&mut begins, |store| store.fences == 1);
    begins[1] = None;
    take_over.assert_all_begin(begins);
    assert_eq!(take_over.decisions(), (2, 2), "another one takes over");
}

#[test]
fn those_who_wait_for_a_fence_fail_with_it_and_may_try_again() {
    let take_over = TakeOver::new();
    let mut begins = take_over.begins();
    let only_the_fence_is_left =
        |store: &Store| matches!(store.soon[..], [Event::Decision { decision: Decision::Fence { .. }, .. }]);
    take_over.run_until(&mut begins, only_the_fence_is_left);
    take_over.calm.0.lock().soon.clear();
    let outcomes = take_over.outcomes(begins);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Unavailable { .. }))), "{outcomes:?}");
    assert_eq!(take_over.decisions(), (1, 1));
    take_over.assert_all_begin(take_over.begins());
    assert_eq!(take_over.decisions(), (2, 1));
}

/// Polls all appends; returns whether they have all become durable.
fn are_durable<A>(appends: &mut [Option<Pin<Box<A>>>], context: &mut Context<'_>) -> bool
where
    A: Future<Output = Result<Appended, StoreError>>,
{
    for slot in appends.iter_mut() {
        if let Some(append) = slot
            && let Poll::Ready(appended) = append.as_mut().poll(context)
        {
            assert_eq!(appended.unwrap(), Appended::Durable);
            *slot = None;
        }
    }
    appends.iter().all(Option::is_none)
}

#[test]
fn a_plain_read_of_the_head_may_bound_a_reader() {
    let calm = Calm::new();
    let log = calm.process();
    calm.begin(&log, 1, &Previous::Unknown);
    calm.append(&log, 1, 1, &["x", "y"]).unwrap();
    let end = match calm.run(calm.0.read(Question::Head { conversation: 0 })).unwrap() {
        Answer::Head(Some(head)) => head.end,
        _ => panic!("there is a head"),
    };
    assert_eq!(calm.run(log.read(&key('a'), Seq::ZERO, end, 10)).unwrap(), []);
    let shown = calm.run(log.read(&key('a'), Seq::ZERO, Seq::new(1), 10)).unwrap();
    assert_eq!(shown.iter().map(|row| row.seq.get()).collect::<Vec<_>>(), [1]);
}

#[test]
fn conversations_that_fail_keep_no_others_from_being_raised() {
    let calm = Calm::new();
    let log = calm.process();
    let names = 'a'..='l';
    for name in names.clone() {
        calm.run(log.begin_term(&key(name), &node(1), &Previous::Unknown, Some(&group()))).unwrap();
        let x = [Bytes::from_static(b"x")];
        assert_eq!(calm.run(log.append(&key(name), TermNumber(1), Seq::new(1), &x)).unwrap(), Appended::Durable);
    }
    calm.run(log.raise_ends(Raise::Aged)).unwrap();
    // More than enough failures to interrupt a round.
    calm.0.lock().weather.undecided = 100;
    for _ in 0..2 {
        assert!(calm.run(log.raise_ends(Raise::Aged)).is_err());
    }
    let tried: std::collections::BTreeSet<_> = calm.0.lock().late.iter().filter_map(swapped).collect();
    assert_eq!(tried.len(), names.count());
}

fn swapped(event: &Event) -> Option<usize> {
    match event {
        Event::Decision { decision: Decision::SwapHead { conversation, .. }, .. } => Some(*conversation),
        _ => None,
    }
}
