//! Problems of a run, and doubts about it.

use maud::{Markup, html};

use super::chart::{style, swatch};
use crate::report::Report;
use crate::report::table::number;

/// The result at a glance.
pub(super) fn state(report: &Report) -> Markup {
    let bars: Vec<bool> = report.figures.iter().filter_map(|figure| figure.is_met).collect();
    let met = bars.iter().filter(|is_met| **is_met).count();
    let violations = report.verdicts().map(|verdict| verdict.violations).reduce(|sum, one| sum + one);
    let class = |is_good| if is_good { "good" } else { "bad" };
    html! {
        @if !bars.is_empty() {
            span.chip.(class(met == bars.len())) { (met) " of " (counted(bars.len() as u64, "bar")) " met" }
        }
        @if let Some(count) = violations { span.chip.(class(count == 0)) { (counted(count, "violation")) } }
        @if report.is_interrupted { span.chip.doubt { "ended early" } }
        @if !report.warnings.is_empty() { span.chip.doubt { (counted(report.warnings.len() as u64, "warning")) } }
    }
}

/// Problems and doubts; empty if there are none and nothing was verified.
pub(super) fn findings(names: &[String], reports: &[&Report]) -> Markup {
    let has_some = |report: &&Report| {
        let mut rounds = report.repeats.iter().map(|repeat| &repeat.round);
        report.is_interrupted
            || !report.warnings.is_empty()
            || report.verdicts().next().is_some()
            || rounds.any(|round| !round.complaints.is_empty())
    };
    html! {
        @if reports.iter().any(has_some) {
            section {
                h2 { "Findings" }
                @for (run, report) in reports.iter().enumerate().filter(|(_, report)| has_some(report)) {
                    @if reports.len() > 1 { h3 { (swatch(&style(run, 0))) (names[run]) } }
                    (findings_of(report))
                }
            }
        }
    }
}

fn findings_of(report: &Report) -> Markup {
    let violations: Vec<_> = report.verdicts().flat_map(|verdict| &verdict.listed).collect();
    html! {
        ul.findings {
            @if report.is_interrupted { li.doubt { "Ended early: these are the figures so far." } }
            @for warning in &report.warnings { li.doubt { (warning) } }
            @for (complaint, count) in report.repeats.iter().flat_map(|repeat| &repeat.round.complaints) {
                li.doubt { "Clients saw " (count) " × " (complaint) }
            }
            @for verdict in report.verdicts() {
                li.(if verdict.violations == 0 { "good" } else { "bad" }) {
                    "Verified: " (counted(verdict.operations, "operation")) ", "
                    (counted(verdict.acknowledged, "acknowledged send")) ", " (verdict.shown)
                    " entries shown, " (counted(verdict.read_back, "log")) " read back, "
                    (counted(verdict.violations, "violation"))
                    @for (rule, count) in &verdict.by_rule { ", " (count) " × " (rule) }
                }
            }
        }
        @if !violations.is_empty() {
            div.scroll tabindex="0" {
                table.data {
                    thead { tr { @for head in ["rule", "conversation", "seq", "what"] { th scope="col" { (head) } } } }
                    tbody {
                        @for violation in violations {
                            tr {
                                th scope="row" { (violation.rule) }
                                td { (violation.conversation_id) }
                                td { (violation.seq) }
                                td { (violation.what) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `1 violation`, `2,000 violations`.
fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        ..1_000 => format!("{count} {what}s"),
        _ => format!("{} {what}s", number(count as f64)),
    }
}
