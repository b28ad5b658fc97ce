//! The report for people: a table of the figures, and doubts about them.

use std::fmt::Write;

use super::Report;
use super::figure::{Bar, Spread, Summary};
use super::round::Phase;

/// The whole text.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ =
        writeln!(text, "{} on {} (commit {}, {})", report.scenario, report.machine, report.commit, report.started_at);
    let _ = writeln!(
        text,
        "{} connections, {} a second, {} s after {} s of warm-up, {} client process(es), {} node(s), {} run(s)\n",
        report.load.connections,
        report.load.rate,
        report.load.duration_s,
        report.load.warm_up_s,
        report.processes,
        report.nodes,
        report.repeats.len()
    );
    let head = ["figure", "value", "baseline", "ratio", "bar", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(report.figures.iter().map(row)).collect();
    aligned(&rows, &mut text);
    text.push_str(&clients(report));
    for repeat in &report.repeats {
        for (complaint, count) in &repeat.round.complaints {
            let _ = writeln!(text, "clients saw {count} × {complaint}");
        }
    }
    for verdict in report.verdicts() {
        let _ = writeln!(
            text,
            "verified: {} operations, {} acknowledged sends, {} entries shown, {} logs read back, {} violations",
            verdict.operations, verdict.acknowledged, verdict.shown, verdict.read_back, verdict.violations
        );
        for (rule, count) in &verdict.by_rule {
            let _ = writeln!(text, "  {count} × {rule}");
        }
        for violation in &verdict.listed {
            let _ = writeln!(
                text,
                "  {} at {}: {}: {}",
                violation.conversation_id, violation.seq, violation.rule, violation.what
            );
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if report.is_interrupted {
        text.push_str("ended early: these are the figures so far\n");
    }
    text
}

/// The generator's own share of the machine.
fn clients(report: &Report) -> String {
    let phases = report.repeats.iter().flat_map(|repeat| &repeat.round.phases);
    let loads = phases.filter(|phase| phase.name == "load");
    let most = loads.map(Phase::client_cpu).max_by(f64::total_cmp);
    most.map_or_else(String::new, |most| {
        format!("the clients themselves used {most:.2} of {} processors\n", report.machine.processors)
    })
}

fn row(figure: &Summary) -> [String; 6] {
    let baseline = figure.baseline.as_ref().map(|(name, spread)| format!("{} ({name})", shown(spread)));
    let met = match figure.is_met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    [
        figure.name.clone(),
        format!("{} {}", shown(&figure.value), figure.unit),
        baseline.unwrap_or_default(),
        figure.ratio.as_ref().map(shown).unwrap_or_default(),
        figure.bar.map(bar).unwrap_or_default(),
        met.to_owned(),
    ]
}

pub(super) fn bar(bar: Bar) -> String {
    match bar {
        Bar::AtMost(most) => format!("≤ {most}"),
        Bar::AtLeast(least) => format!("≥ {least}"),
        Bar::RatioAtMost(most) => format!("ratio ≤ {most}"),
        Bar::RatioAtLeast(least) => format!("ratio ≥ {least}"),
    }
}

/// `2.41 (2.30–2.55)`; without the spread if there is one value.
pub(super) fn shown(spread: &Spread) -> String {
    if spread.values.len() < 2 {
        return number(spread.median);
    }
    format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max))
}

/// Measurements are accurate to three digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => {
            let digits = format!("{:.0}", value.abs());
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
            format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","))
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn aligned<const N: usize>(rows: &[[String; N]], text: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.0123, "0.012"),
            (2.71528, "2.72"),
            (27.1528, "27.2"),
            (271.528, "272"),
            (27_152.8, "27,153"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut text = String::new();
        aligned(&[["a", "bbb", ""], ["µµ", "c", "d"]].map(|row| row.map(str::to_owned)), &mut text);
        assert_eq!(text, "a   bbb\nµµ  c    d\n");
    }
}
