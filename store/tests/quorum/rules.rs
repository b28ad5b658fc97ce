//! Each rule of the protocol is left out: a schedule that shows why it exists must be found.

use crate::broken::Rule;
use crate::plan::{Plan, Stimulus};
use crate::schedule;
use crate::store::Weather;

/// This many schedules must be enough.
const SCHEDULES_MAX: u64 = 20_000;

fn is_missed(rule: Rule, aim: impl Fn(&mut Plan)) {
    for seed in 1..=SCHEDULES_MAX {
        let outcome = schedule::run(seed, Some(rule), |plan| {
            plan.conversations = 1;
            aim(plan);
        });
        if let Some(first) = outcome.violations.first() {
            println!("{rule:?} is missed in schedule {seed}: {first}");
            return;
        }
    }
    panic!("{rule:?} is not missed in {SCHEDULES_MAX} schedules");
}

/// Rows on a single replica, and takeovers that find them there.
fn half_written(plan: &mut Plan) {
    plan.weather = Weather { partial: 40, ..Weather::default() };
    (plan.late, plan.wrongly_gone) = (2, 80);
    plan.weigh(Stimulus::TakeOver, 30);
    plan.weigh(Stimulus::Show, 40);
}

macro_rules! rules {
    ($($name:ident: $rule:ident, $aim:expr;)+) => {
        $(#[test]
        fn $name() {
            is_missed(Rule::$rule, $aim);
        })+
    };
}

rules! {
    fence_read: FenceRead, |_| {};
    fence_read_begins_after_the_confirmation: FenceReadAfterConfirmation, half_written;
    rows_are_written_once_more: Rewrite, half_written;
    that_is_awaited: RewriteAwaited, half_written;
    fence_before_the_rows_are_read: FenceBeforeTail, |_| {};
    fence_before_the_compare_and_set: FenceBeforeSwap, |_| {};
    rows_are_written_once_more_before_the_compare_and_set: RewriteBeforeSwap, half_written;
    rows_behind_the_end_carry_the_heads_term: TermOfTail, |_| {};
    timestamps_come_from_terms: TimestampsOfTerms, |_| {};
    a_release_is_of_a_term: TermOfRelease, |_| {};
    a_released_term_is_over: StopOnRelease, |_| {};
    a_fence_is_ones_own_compare_and_set: OwnFence, half_written;
    the_end_that_stands_in_the_head_holds: EndOfHead, |plan| {
        plan.weather = Weather { undecided: 60, ..Weather::default() };
        (plan.late, plan.wrongly_gone) = (5, 80);
        plan.weigh(Stimulus::Send, 80);
        plan.weigh(Stimulus::TakeOver, 20);
    };
    the_end_is_raised_to_what_is_durable: EndDurable, |_| {};
    the_end_is_raised_before_rows_expire: EndRaised, |plan| plan.ages = 2;
    readers_are_bounded: BoundOfReaders, |_| {};
    heads_are_compared_whole: EndCompared, |plan| {
        plan.weather = Weather { undecided: 30, ..Weather::default() };
        plan.wrongly_gone = 50;
        plan.weigh(Stimulus::Raise, 40);
        plan.weigh(Stimulus::TakeOver, 20);
    };
    open_outcomes_are_repeated: Repeat, |_| {};
    the_note_is_awaited: NoteAwaited, |_| {};
    a_note_is_of_a_term: TermOfNote, |_| {};
    a_term_ends_with_its_own_note: OwnNote, |_| {};
}
