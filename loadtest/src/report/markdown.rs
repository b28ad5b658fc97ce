//! The figures of several runs as rows of a Markdown table, for `docs/performance.md`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::Report;
use super::figure::{Spread, Summary};
use super::read::read;
use super::table::{bar, number};

/// The table from `--json` files, a row for each figure, followed by each file's command.
///
/// # Errors
/// A file is not a report.
pub(crate) fn table(files: &[PathBuf]) -> Result<String> {
    let reports = files.iter().map(|file| read(file)).collect::<Result<Vec<Report>>>()?;
    let mut text = String::from("| | figure | runs | baseline | ratio | bar |\n|---|---|---|---|---|---|\n");
    for (report, figure) in reports.iter().flat_map(|report| report.figures.iter().map(move |figure| (report, figure)))
    {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", row(report, figure));
    }
    text.push('\n');
    for report in &reports {
        let _ = writeln!(
            text,
            "- {}: `switchboard-loadtest {}` ({}, commit {}, {})",
            report.scenario,
            report.command.join(" "),
            report.machine,
            report.commit,
            report.started_at
        );
    }
    Ok(text)
}

fn row(report: &Report, figure: &Summary) -> String {
    let values = |spread: &Spread| spread.values.iter().map(|value| number(*value)).collect::<Vec<_>>().join(", ");
    let baseline = figure.baseline.as_ref().map(|(name, spread)| format!("{name}: {}", values(spread)));
    let met = figure.is_met.map(|is_met| if is_met { ": met" } else { ": **not met**" }).unwrap_or_default();
    format!(
        "| {} | {} | {} {} | {} | {} | {}{met} |",
        report.scenario,
        figure.name,
        values(&figure.value),
        figure.unit,
        baseline.unwrap_or_default(),
        figure.ratio.as_ref().map(values).unwrap_or_default(),
        figure.bar.map(bar).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Bar, Figure, summaries};

    #[test]
    fn a_row_has_every_run() {
        let repeat = |value: f64| {
            let figure = Figure::new("cost", "µs", Some(value)).unwrap();
            vec![figure.against("bare", Some(2.0)).bar(Bar::RatioAtMost(1.4))]
        };
        let summary = &summaries(&[repeat(2.0), repeat(3.0), repeat(4.0)])[0];
        let report = Report { scenario: "fanout".to_owned(), ..crate::report::html::tests::report() };
        assert_eq!(
            row(&report, summary),
            "| fanout | cost | 2.00, 3.00, 4.00 µs | bare: 2.00, 2.00, 2.00 | 1.00, 1.50, 2.00 | ratio ≤ 1.4: **not met** |"
        );
    }
}
