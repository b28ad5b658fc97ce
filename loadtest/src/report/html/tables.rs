//! The page's tables: figures and their differences, parameters, and counters.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::chart::{prose, style, swatch};
use crate::report::Report;
use crate::report::figure::{Bar, Spread, Summary};
use crate::report::round::Phase;
use crate::report::table::{bar, number, shown};

/// Each figure with its baseline and its bar.
pub(super) fn figures(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table.figures {
                thead { tr { @for head in ["Figure", "Value", "Baseline", "Ratio", "Bar"] { th scope="col" { (head) } } } }
                tbody {
                    @for figure in &report.figures {
                        tr {
                            th scope="row" { (prose(&figure.name)) }
                            td { (measured(&figure.value, &figure.unit)) }
                            td { @if let Some((name, value)) = &figure.baseline { (measured(value, &figure.unit)) small { (prose(name)) } } }
                            td { @if let Some(ratio) = &figure.ratio { (measured(ratio, "×")) } }
                            td { @if let Some(of) = figure.bar { span.bar { (bar(of)) } " " (met(figure.is_met)) } }
                        }
                    }
                }
            }
        }
    }
}

fn measured(spread: &Spread, unit: &str) -> Markup {
    html! { (value(spread, unit)) (least_and_most(spread)) }
}

fn value(spread: &Spread, unit: &str) -> Markup {
    html! { span.value { b { (number(spread.median)) } @if !unit.is_empty() { " " (unit) } } }
}

fn least_and_most(spread: &Spread) -> Markup {
    html! { @if spread.min < spread.max { small { (number(spread.min)) "–" (number(spread.max)) } } }
}

fn met(is_met: Option<bool>) -> Markup {
    html! {
        @match is_met {
            Some(true) => span.chip.good { "met" },
            Some(false) => span.chip.bad { "not met" },
            None => {}
        }
    }
}

/// The figures of several runs, each with its difference to the first.
pub(super) fn comparison(names: &[String], reports: &[&Report]) -> Markup {
    let mut figures: Vec<&Summary> = Vec::new();
    for figure in reports.iter().flat_map(|report| &report.figures) {
        if !figures.iter().any(|other| other.name == figure.name) {
            figures.push(figure);
        }
    }
    let of = |name: &str| -> Vec<Option<&Summary>> {
        reports.iter().map(|report| report.figures.iter().find(|figure| figure.name == name)).collect()
    };
    html! {
        div.scroll tabindex="0" {
            table.figures {
                thead {
                    tr {
                        th scope="col" { "Figure" }
                        @for (run, name) in names.iter().enumerate() { th scope="col" { (swatch(&style(run, 0))) (name) } }
                    }
                }
                tbody { @for figure in figures { (compared(figure, &of(&figure.name))) } }
            }
        }
        p.note {
            "Percentages compare medians with those of " (names[0]) ". Grey ones are within the spread of the repeats."
        }
    }
}

/// A row for the values, and one for the ratios if there are any. `figure` is the first of `all` that exists.
fn compared(figure: &Summary, all: &[Option<&Summary>]) -> Markup {
    let is_about_ratio = matches!(figure.bar, Some(Bar::RatioAtMost(_) | Bar::RatioAtLeast(_)));
    let ratios: Vec<Option<&Spread>> = all.iter().map(|figure| (*figure)?.ratio.as_ref()).collect();
    let values: Vec<Option<&Spread>> = all.iter().map(|figure| Some(&(*figure)?.value)).collect();
    let row = |name: Markup, spreads: &[Option<&Spread>], unit: &str, has_bar: bool| {
        html! {
            tr {
                th scope="row" { (name) @if let Some(of) = figure.bar.filter(|_| has_bar) { small { "bar: " (bar(of)) } } }
                @for (run, spread) in spreads.iter().enumerate() {
                    td {
                        @if let Some(spread) = spread {
                            (value(spread, unit))
                            @if let Some(first) = spreads[0].filter(|_| run > 0) { (difference(first, spread, figure.bar)) }
                            @if has_bar { " " (met(all[run].and_then(|figure| figure.is_met))) }
                            (least_and_most(spread))
                        }
                    }
                }
            }
        }
    };
    let baseline = all.iter().find_map(|figure| Some((*figure)?.baseline.as_ref()?.0.as_str())).unwrap_or_default();
    html! {
        (row(html! { (prose(&figure.name)) }, &values, &figure.unit, !is_about_ratio))
        @if ratios.iter().any(Option::is_some) {
            (row(html! { span.sub { "ratio to " (baseline) } }, &ratios, "×", is_about_ratio))
        }
    }
}

/// The difference of the medians, and whether it is an improvement, as far as the bar tells.
fn difference(first: &Spread, other: &Spread, bar: Option<Bar>) -> Markup {
    let percent = 100.0 * (other.median / first.median - 1.0);
    let is_less_better = bar.map(|bar| matches!(bar, Bar::AtMost(_) | Bar::RatioAtMost(_)));
    let has_spread = first.values.len() > 1 && other.values.len() > 1;
    let class = match is_less_better {
        _ if has_spread && first.min <= other.max && other.min <= first.max => "noise",
        Some(is_less_better) if percent != 0.0 => {
            if is_less_better == (percent < 0.0) {
                "better"
            } else {
                "worse"
            }
        }
        _ => "",
    };
    html! { @if percent.is_finite() { " " span.difference.(class) { (format!("{percent:+.1} %").replace('-', "−")) } } }
}

/// The parameters, time and place of the runs. Rows that differ between runs are highlighted.
pub(super) fn particulars(names: &[String], reports: &[&Report]) -> Markup {
    let all: Vec<Vec<(String, String)>> = reports.iter().map(|report| particulars_of(report)).collect();
    let mut heads: Vec<&str> = Vec::new();
    for (head, _) in all.iter().flatten() {
        if !heads.contains(&head.as_str()) {
            heads.push(head);
        }
    }
    let values = |head: &str| -> Vec<&str> {
        let of = |rows: &'_ Vec<(String, String)>| rows.iter().position(|(name, _)| name == head);
        all.iter().map(|rows| of(rows).map_or("", |place| rows[place].1.as_str())).collect()
    };
    html! {
        div.scroll tabindex="0" {
            table.particulars {
                @if reports.len() > 1 {
                    thead {
                        tr {
                            td {}
                            @for (run, name) in names.iter().enumerate() { th scope="col" { (swatch(&style(run, 0))) (name) } }
                        }
                    }
                }
                tbody {
                    @for head in heads {
                        @let values = values(head);
                        tr.differs[values.iter().any(|value| *value != values[0])] {
                            th scope="row" { (head) }
                            @for value in values { td { (value) } }
                        }
                    }
                }
            }
        }
    }
}

fn particulars_of(report: &Report) -> Vec<(String, String)> {
    let load = &report.load;
    let rows = [
        ("Begun", report.started_at.clone()),
        ("Version", format!("{} (commit {})", report.version, report.commit)),
        ("Machine", report.machine.to_string()),
        ("Descriptors per process", report.machine.descriptors.to_string()),
        ("Command", format!("switchboard-loadtest {}", report.command.join(" "))),
        ("Connections", load.connections.to_string()),
        ("Rate", format!("{} a second", load.rate)),
        ("Duration", format!("{} s after {} s of warm-up", load.duration_s, load.warm_up_s)),
        ("Nodes", report.nodes.to_string()),
        ("Client processes", report.processes.to_string()),
        ("Repeats", report.repeats.len().to_string()),
        ("Settings", report.settings.join(" ")),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty()).map(|(head, value)| (head.to_owned(), value));
    rows.chain(load.params.clone()).collect()
}

/// The totals of each phase: clients' and servers' counters, and resource use.
pub(super) fn counters(names: &[String], reports: &[&Report]) -> Markup {
    let mut phases: Vec<&str> = Vec::new();
    for phase in reports.iter().flat_map(|report| &report.repeats).flat_map(|repeat| &repeat.round.phases) {
        if !phases.contains(&phase.name.as_str()) {
            phases.push(&phase.name);
        }
    }
    html! {
        @for phase in phases {
            details { summary { "Phase " b { (phase) } } div.scroll tabindex="0" { (totals(names, reports, phase)) } }
        }
    }
}

fn totals(names: &[String], reports: &[&Report], phase: &str) -> Markup {
    let mut rows: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for (run, report) in reports.iter().enumerate() {
        for phase in report.repeats.iter().filter_map(|repeat| repeat.round.phase(phase)) {
            for (name, value) in totals_of(phase) {
                rows.entry(name).or_insert_with(|| vec![Vec::new(); reports.len()])[run].push(value);
            }
        }
    }
    html! {
        table.data {
            thead { tr { th scope="col" { "what" } @for name in names { th scope="col" { (name) } } } }
            tbody {
                @for (name, values) in rows {
                    tr {
                        th scope="row" { (name) }
                        @for values in values { td { @if !values.is_empty() { (shown(&Spread::of(values))) } } }
                    }
                }
            }
        }
    }
}

fn totals_of(phase: &Phase) -> Vec<(String, f64)> {
    let mut totals = vec![("seconds".to_owned(), phase.seconds)];
    totals.extend(phase.counters.iter().map(|(name, count)| (format!("clients: {name}"), *count as f64)));
    totals.extend(phase.server_counters.iter().map(|(name, value)| (format!("servers: {name}"), *value)));
    totals.push(("other programs: processors".to_owned(), phase.foreign_cpu()));
    for process in phase.servers.iter().chain(&phase.workers) {
        totals.push((format!("{}: processor time, s", process.name), process.cpu_us as f64 / 1e6));
        totals.push((format!("{}: memory before, MB", process.name), process.resident_before_bytes as f64 / 1e6));
        totals.push((format!("{}: memory after, MB", process.name), process.resident_after_bytes as f64 / 1e6));
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference_of(first: &[f64], other: &[f64], bar: Option<Bar>) -> String {
        difference(&Spread::of(first.to_vec()), &Spread::of(other.to_vec()), bar).into_string()
    }

    #[test]
    fn a_difference_is_good_or_bad_by_the_side_of_its_bar() {
        let least = Some(Bar::RatioAtLeast(0.7));
        assert!(difference_of(&[2.0], &[1.0], Some(Bar::AtMost(9.0))).contains("better\">−50.0 %"));
        assert!(difference_of(&[2.0], &[3.0], Some(Bar::AtMost(9.0))).contains("worse\">+50.0 %"));
        assert!(difference_of(&[2.0], &[3.0], least).contains("better\">+50.0 %"));
        assert!(difference_of(&[2.0], &[3.0], None).contains("\"difference \">+50.0 %"));
    }

    #[test]
    fn a_difference_within_the_spread_is_none_and_one_from_zero_has_no_percentage() {
        let bar = Some(Bar::AtMost(9.0));
        assert!(difference_of(&[1.0, 3.0], &[2.0, 4.0], bar).contains("noise"));
        assert!(difference_of(&[1.0, 1.5], &[2.0, 4.0], bar).contains("worse"));
        assert_eq!(difference_of(&[0.0], &[4.0], bar), "");
    }
}
