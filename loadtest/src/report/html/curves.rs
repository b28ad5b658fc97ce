//! Converts reports to charts: measurements over time, and distributions of latencies.
//!
//! The repeats of a run are one line: their median, with a band from minimum to maximum.

use super::chart::{Along, Chart, Column, Line, Stretch};
use super::scale::{Axis, Mark};
use super::time::{Time, phases, spreads};
use crate::meter::latency::Latencies;
use crate::report::Report;
use crate::report::figure::Spread;
use crate::report::progress::SHOWN;
use crate::report::round::{Phase, Round, Second, Usage};

/// The number of nines in the percentiles' last column.
const NINES_MAX: i32 = 5;
const MARKED: &[&str] = &["50", "90", "99", "99.9", "99.99", "99.999"];
const WARM_UP: &str = "warm-up";

/// The data of all charts.
pub(super) struct Curves<'a> {
    reports: &'a [&'a Report],
    names: &'a [String],
    time: Time,
    percentiles: Along,
}

/// The value of a second, for a line over time.
type Of<'a> = dyn Fn(&Second) -> Option<f64> + 'a;

impl<'a> Curves<'a> {
    /// `names` are those of the reports, which are of one scenario.
    pub(super) fn new(reports: &'a [&'a Report], names: &'a [String]) -> Self {
        Self { reports, names, time: Time::new(reports), percentiles: percentiles() }
    }

    /// Latencies up to each percentile: a chart for each phase and kind of latency, including baselines.
    pub(super) fn distributions(&self) -> Vec<Chart<'_>> {
        let phases = self.reports.iter().flat_map(|report| phases(report)).filter(|phase| phase.name != WARM_UP);
        let all = phases.flat_map(|phase| phase.latencies.keys().map(|name| (phase.name.as_str(), name.as_str())));
        let mut all = once(all);
        all.sort_by_key(|(_, name)| rank(name));
        all.into_iter().map(|(phase, name)| self.distribution(phase, name)).collect()
    }

    fn distribution(&self, phase: &str, name: &str) -> Chart<'_> {
        let baselines = self.reports.iter().flat_map(|report| &report.repeats).flat_map(|repeat| &repeat.baselines);
        let has_it = |of: &Phase| of.name == phase && of.latencies.get(name).is_some_and(|counts| !counts.is_empty());
        let with_it = baselines.filter(|(_, round)| round.phases.iter().any(has_it)).map(|(name, _)| name.as_str());
        let bare = once(with_it);
        let mut lines = Vec::new();
        for (run, report) in self.reports.iter().enumerate() {
            let rounds: Vec<_> = report.repeats.iter().map(|repeat| Some(&repeat.round)).collect();
            lines.push(Line { run, kind: 0, points: distribution(&self.percentiles, &rounds, phase, name) });
            for (number, bare) in bare.iter().enumerate() {
                let rounds: Vec<_> = report.repeats.iter().map(|repeat| repeat.baselines.get(*bare)).collect();
                lines.push(Line {
                    run,
                    kind: number + 1,
                    points: distribution(&self.percentiles, &rounds, phase, name),
                });
            }
        }
        let of_phase = if phase == "load" { String::new() } else { format!(" ({phase})") };
        let kinds = std::iter::once("Switchboard".to_owned()).chain(bare.iter().map(|name| format!("bare {name}")));
        Chart {
            is_log: true,
            ..self.chart(format!("{}{of_phase}", latency(name)), "ms", &self.percentiles, kinds, lines)
        }
    }

    pub(super) fn latencies(&self) -> Vec<Chart<'_>> {
        let mut names = once(seconds(self.reports).flat_map(|second| second.latencies.keys().map(String::as_str)));
        names.sort_by_key(|name| rank(name));
        let chart = |name: &&str| {
            let of = |second: &Second| second.latencies.get(*name).copied();
            let kinds: [(&str, &Of<'_>); 3] = [
                ("p50", &|second| Some(of(second)?.p50_ms)),
                ("p99", &|second| Some(of(second)?.p99_ms)),
                ("max", &|second| Some(of(second)?.max_ms)),
            ];
            Chart { is_log: true, ..self.over_time(latency(name), "ms", &kinds) }
        };
        names.iter().map(chart).collect()
    }

    /// A chart for each counter, starting with those that progress shows.
    pub(super) fn rates(&self) -> Vec<Chart<'_>> {
        let mut names = once(seconds(self.reports).flat_map(|second| second.counters.keys().map(String::as_str)));
        names.sort_by_key(|name| SHOWN.iter().position(|shown| shown == name).unwrap_or(SHOWN.len()));
        let chart = |name: &&str| {
            let rate = |second: &Second| {
                let count = second.counters.get(*name).copied().unwrap_or(0) as f64;
                Some(count / second.passed_s)
            };
            self.over_time(sentence(name), "1/s", &[(*name, &rate)])
        };
        names.iter().map(chart).collect()
    }

    /// CPU and memory of each server and of the clients.
    pub(super) fn processes(&self) -> Vec<Chart<'_>> {
        let mut names = once(seconds(self.reports).flat_map(|second| second.servers.keys().map(String::as_str)));
        names.push(CLIENTS);
        let chart = |title: &str, unit, of: &dyn Fn(Usage) -> f64| {
            let values: Vec<_> =
                names.iter().map(|name| move |second: &Second| Some(of(usage(second, name)?))).collect();
            let kinds: Vec<(&str, &Of<'_>)> =
                names.iter().zip(&values).map(|(name, value)| (*name, value as &Of<'_>)).collect();
            self.over_time(title.to_owned(), unit, &kinds)
        };
        vec![
            chart("Processors", "busy", &|usage| usage.cpu),
            chart("Resident memory", "MB", &|usage| usage.resident_bytes as f64 / 1e6),
        ]
    }

    /// Kinds that no report has are left out.
    fn over_time(&self, title: String, unit: &'static str, kinds: &[(&str, &Of<'_>)]) -> Chart<'_> {
        let there = kinds.iter().filter(|(_, of)| seconds(self.reports).any(|second| of(second).is_some()));
        let there: Vec<_> = there.collect();
        let mut lines = Vec::new();
        for (run, report) in self.reports.iter().enumerate() {
            for (kind, (_, of)) in there.iter().enumerate() {
                lines.push(Line { run, kind, points: self.time.line(&report.repeats, of) });
            }
        }
        self.chart(title, unit, &self.time.along, there.iter().map(|(name, _)| (*name).to_owned()), lines)
    }

    fn chart<'b>(
        &'b self,
        title: String,
        unit: &'static str,
        along: &'b Along,
        kinds: impl Iterator<Item = String>,
        lines: Vec<Line>,
    ) -> Chart<'b> {
        Chart { title, unit, is_log: false, along, runs: self.names, kinds: kinds.collect(), lines }
    }
}

const CLIENTS: &str = "clients";

fn usage(second: &Second, name: &str) -> Option<Usage> {
    second.servers.get(name).copied().or(second.clients.filter(|_| name == CLIENTS))
}

fn seconds<'a>(reports: &[&'a Report]) -> impl Iterator<Item = &'a Second> {
    reports.iter().flat_map(|report| phases(report)).flat_map(|phase| &phase.series)
}

/// Without duplicates, in the original order.
fn once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

/// Percentiles as HdrHistogram draws them: each nine has the same width.
fn percentiles() -> Along {
    let (mut columns, mut marks) = (Vec::new(), Vec::new());
    for number in 0..=9 * NINES_MAX {
        let (nines, ninth) = (number / 9, number % 9);
        let longer = f64::from(10 - ninth) / 10_f64.powi(nines + 1);
        let decimals = usize::try_from(nines - 1).unwrap_or(0);
        let percentile = format!("{:.decimals$}", 100.0 * (1.0 - longer));
        let text = if nines > 1 { percentile.trim_end_matches('0').trim_end_matches('.') } else { &percentile };
        let at = -longer.log10();
        if MARKED.contains(&text) {
            marks.push(Mark { at, text: text.to_owned() });
        }
        columns.push(Column { at, name: format!("{text} %") });
    }
    let axis = Axis::marked(f64::from(NINES_MAX), marks);
    let stretch = Stretch { name: String::new(), from: 0.0, to: f64::from(NINES_MAX), columns: (0, columns.len()) };
    Along { name: "percentile", axis, columns, stretches: vec![stretch] }
}

/// A curve ends where not a single sample is larger.
fn distribution(along: &Along, rounds: &[Option<&Round>], phase: &str, name: &str) -> Vec<Option<Spread>> {
    let mut values = vec![Vec::new(); along.columns.len()];
    let all = rounds.iter().filter_map(|round| round.as_ref()?.phase(phase)?.latencies.get(name));
    for latencies in all.map(Latencies::from) {
        for (column, values) in along.columns.iter().zip(&mut values) {
            let longer = 10_f64.powf(-column.at);
            if latencies.count() as f64 * longer > 0.999 {
                values.push(latencies.percentile_ms(100.0 * (1.0 - longer)));
            }
        }
    }
    spreads(values)
}

/// The title of a latency.
fn latency(name: &str) -> String {
    match name {
        "sent" => "Send to `sent`".to_owned(),
        "delivery" => "Send to the other side".to_owned(),
        "lag" => "The generator's own delay".to_owned(),
        other => sentence(other),
    }
}

/// The generator's own delay explains the others, so it comes last.
fn rank(name: &str) -> u8 {
    match name {
        "sent" => 0,
        "delivery" => 1,
        "lag" => 3,
        _ => 2,
    }
}

/// `send_errors` → `Send errors`.
fn sentence(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", letters.as_str().replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_is_as_wide_as_the_others() {
        let along = percentiles();
        let marks: Vec<(f64, &str)> =
            along.axis.marks.iter().map(|mark| ((mark.at * 1e3).round() / 1e3, mark.text.as_str())).collect();
        let expected = [(0.301, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
        assert_eq!(marks, expected);
        assert_eq!((along.columns.len(), along.columns[10].name.as_str()), (46, "91 %"));
    }

    #[test]
    fn a_curve_ends_where_nothing_took_longer() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.record_ns(ms * 1_000_000));
        let latencies = [("sent".to_owned(), latencies.counts())].into();
        let phase = Phase { name: "load".to_owned(), latencies, ..Phase::default() };
        let round = Round { phases: vec![phase], ..Round::default() };
        let along = percentiles();
        let points = distribution(&along, &[Some(&round), None], "load", "sent");
        let last = points.iter().rposition(Option::is_some).unwrap();
        assert_eq!(along.columns[last].name, "99 %");
        assert!((points[last].as_ref().unwrap().median - 99.0).abs() < 0.1);
        assert!(distribution(&along, &[Some(&round)], "load", "other").iter().all(Option::is_none));
    }

    #[test]
    fn names_become_titles() {
        assert_eq!((sentence("send_errors").as_str(), sentence("").as_str()), ("Send errors", ""));
    }
}
