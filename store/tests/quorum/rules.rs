//! Each rule of the protocol, left out: a schedule that shows why it is there has to be found.

use crate::broken::Rule;
use crate::schedule::{self, Plan};

/// So many schedules have to be enough.
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

/// Rows that are on one replica only, and takeovers that find them there.
fn half_written(plan: &mut Plan) {
    (plan.weather.partial, plan.weather.lost, plan.late) = (40, 0, 2);
    (plan.wrongly_gone, plan.mix.take_over, plan.mix.show) = (80, 30, 40);
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
    fence_read_begins_after_the_confirmation: FenceReadAfterConfirmation, |_| {};
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
        (plan.weather.undecided, plan.weather.partial, plan.weather.lost) = (50, 30, 0);
        plan.weather.timed_out = 0;
        (plan.late, plan.wrongly_gone, plan.mix.send) = (30, 80, 80);
    };
    the_end_is_raised_to_what_is_durable: EndDurable, |_| {};
    the_end_is_raised_before_rows_expire: EndRaised, |plan| plan.ages = 2;
    readers_are_bounded: BoundOfReaders, |_| {};
    heads_are_compared_whole: EndCompared, |plan| {
        (plan.weather.undecided, plan.weather.lost) = (30, 0);
        (plan.mix.raise, plan.mix.take_over, plan.wrongly_gone) = (40, 20, 50);
    };
    open_outcomes_are_repeated: Repeat, |_| {};
    the_note_is_awaited: NoteAwaited, |_| {};
}
