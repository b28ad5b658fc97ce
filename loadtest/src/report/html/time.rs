//! The time axis of charts: the phases of a round one after another, in columns of a second, or of several seconds in
//! long runs. What is between phases is not measured, and left out.

use super::chart::{Along, Column, Stretch};
use super::scale::Axis;
use crate::report::figure::Spread;
use crate::report::round::{Phase, Second};
use crate::report::{Repeat, Report};

/// Approximate maximum number of columns.
const COLUMNS_MAX: f64 = 240.0;
/// Shorter seconds are left out: their rates and percentiles come from a few samples, and would jump at each phase's
/// end. They are included in the phase's totals and distributions.
const SECOND_MIN_S: f64 = 0.5;

pub(super) struct Time {
    pub(super) along: Along,
    step_s: f64,
}

impl Time {
    /// Each phase is as long as the longest with its name.
    pub(super) fn new(reports: &[&Report]) -> Self {
        let lengths = lengths(reports);
        let total_s: f64 = lengths.iter().map(|(_, length_s)| length_s).sum();
        let step_s = (total_s / COLUMNS_MAX).ceil().max(1.0);
        let (mut columns, mut stretches, mut from) = (Vec::new(), Vec::new(), 0.0);
        for (name, length_s) in lengths {
            let first = columns.len();
            // A remainder of less than half a column belongs to the last column.
            for number in 1..=(length_s / step_s).round().max(1.0) as usize {
                let end_s = number as f64 * step_s;
                columns.push(Column { at: from + end_s - step_s / 2.0, name: format!("{name} {end_s} s") });
            }
            stretches.push(Stretch {
                name: name.to_owned(),
                from,
                to: from + length_s,
                columns: (first, columns.len()),
            });
            from += length_s;
        }
        let mut axis = Axis::until(total_s);
        axis.marks.iter_mut().for_each(|mark| mark.text.push_str(" s"));
        Self { along: Along { name: "time", axis, columns, stretches }, step_s }
    }

    /// The values of all repeats in each column.
    pub(super) fn line(&self, repeats: &[Repeat], of: &dyn Fn(&Second) -> Option<f64>) -> Vec<Option<Spread>> {
        let mut values = vec![Vec::new(); self.along.columns.len()];
        for phase in repeats.iter().flat_map(|repeat| &repeat.round.phases) {
            for second in phase.series.iter().filter(|second| second.passed_s >= SECOND_MIN_S) {
                if let (Some(column), Some(value)) = (self.column(&phase.name, second), of(second)) {
                    values[column].push(value);
                }
            }
        }
        spreads(values)
    }

    fn column(&self, phase: &str, second: &Second) -> Option<usize> {
        let stretch = self.along.stretches.iter().find(|stretch| stretch.name == phase)?;
        let (first, end) = stretch.columns;
        // A second is reported some milliseconds after its end.
        let number = (second.at_s.round() - 1.0).max(0.0) / self.step_s;
        Some(first.saturating_add(number as usize).min(end - 1))
    }
}

fn lengths<'a>(reports: &[&'a Report]) -> Vec<(&'a str, f64)> {
    let mut lengths: Vec<(&str, f64)> = Vec::new();
    for phase in reports.iter().flat_map(|report| phases(report)) {
        match lengths.iter_mut().find(|(name, _)| *name == phase.name) {
            Some((_, longest_s)) => *longest_s = longest_s.max(phase.seconds),
            None => lengths.push((&phase.name, phase.seconds)),
        }
    }
    lengths
}

/// The phases of all repeats.
pub(super) fn phases(report: &Report) -> impl Iterator<Item = &Phase> {
    report.repeats.iter().flat_map(|repeat| &repeat.round.phases)
}

/// The spread of each column.
pub(super) fn spreads(values: Vec<Vec<f64>>) -> Vec<Option<Spread>> {
    values.into_iter().map(|values| (!values.is_empty()).then(|| Spread::of(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::round::Round;

    fn phase(name: &str, seconds: f64) -> Phase {
        let second = |at_s: f64| Second { at_s, passed_s: 1.0, ..Second::default() };
        let series = (1..=seconds as u32).map(|at| second(f64::from(at))).collect();
        Phase { name: name.to_owned(), seconds, series, ..Phase::default() }
    }

    fn repeat(phases: Vec<Phase>) -> Repeat {
        Repeat { round: Round { phases, ..Round::default() }, ..Repeat::default() }
    }

    fn report(repeats: Vec<Repeat>) -> Report {
        Report { repeats, ..super::super::tests::report() }
    }

    #[test]
    fn phases_follow_each_other_and_have_a_column_for_each_second() {
        let longer = repeat(vec![phase("warm-up", 2.0), phase("load", 4.6)]);
        let report = report(vec![repeat(vec![phase("warm-up", 2.0), phase("load", 4.0)]), longer]);
        let time = Time::new(&[&report]);
        assert_eq!(time.along.stretches.iter().map(|stretch| stretch.columns).collect::<Vec<_>>(), [(0, 2), (2, 7)]);
        assert_eq!(time.along.columns[2].name, "load 1 s");
        assert_eq!(time.along.columns[2].at, 2.5);
        let second = |at_s| Second { at_s, ..Second::default() };
        for (at_s, expected) in [(0.2, 2), (1.003, 2), (1.98, 3), (4.01, 5), (4.4, 5), (4.6, 6), (99.0, 6)] {
            assert_eq!(time.column("load", &second(at_s)), Some(expected), "{at_s}");
        }
        assert_eq!(time.column("other", &second(1.0)), None);
    }

    #[test]
    fn what_is_left_of_a_second_is_no_point_of_its_own() {
        let mut one = phase("load", 2.0);
        one.series.push(Second { at_s: 2.1, passed_s: 0.1, ..Second::default() });
        let report = report(vec![repeat(vec![one])]);
        let points = Time::new(&[&report]).line(&report.repeats, &|second| Some(second.at_s));
        assert_eq!(points.iter().map(|point| point.as_ref().unwrap().median).collect::<Vec<_>>(), [1.0, 2.0]);
    }

    #[test]
    fn long_runs_have_several_seconds_in_a_column_and_repeats_are_put_together() {
        let repeats = vec![repeat(vec![phase("load", 3_600.0)]); 2];
        let report = report(repeats);
        let time = Time::new(&[&report]);
        assert_eq!(time.along.columns.len(), COLUMNS_MAX as usize);
        let points = time.line(&report.repeats, &|second| Some(second.at_s));
        let first = points[0].as_ref().unwrap();
        assert_eq!((first.values.len(), first.min, first.max), (30, 1.0, 15.0));
        assert!(points.iter().all(|point| point.as_ref().unwrap().values.len() == 30));
    }
}
