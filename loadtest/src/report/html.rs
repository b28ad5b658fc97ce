//! The report as a page: a single file that loads nothing and runs no scripts. The charts are SVG that is drawn here,
//! and everything from reports is escaped by the templates.
//!
//! A page shows one run, or several of the same scenario side by side.

mod chart;
mod curves;
mod findings;
mod scale;
mod tables;
mod time;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;
use super::read::read;
use chart::{Chart, style, swatch};
use curves::Curves;
use findings::{findings, state};

const STYLE: &str = include_str!("html/page.css");
/// Only the page's own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Writes the page of a run.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(path: &Path, report: &Report) -> Result<()> {
    write_page(path, std::slice::from_ref(&report.scenario), &[report])
}

/// Writes a page that compares runs with the first of them, from `--json` files.
///
/// # Errors
/// A file is not a report, or of another scenario; or the page can't be written.
pub(crate) fn compare(files: &[PathBuf], path: &Path) -> Result<()> {
    let reports = files.iter().map(|file| read(file)).collect::<Result<Vec<Report>>>()?;
    for (file, report) in files.iter().zip(&reports) {
        let (scenario, first) = (&report.scenario, &reports[0].scenario);
        if scenario != first {
            bail!("{} is a run of {scenario}, but {} of {first}", file.display(), files[0].display());
        }
    }
    write_page(path, &names(files), &reports.iter().collect::<Vec<_>>())
}

/// The files' names without their common parts: folders, if possible, and the extension.
fn names(files: &[PathBuf]) -> Vec<String> {
    let short: Vec<String> =
        files.iter().map(|file| file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()).collect();
    let is_clear = (1..short.len()).all(|place| !short[..place].contains(&short[place]));
    if is_clear { short } else { files.iter().map(|file| file.display().to_string()).collect() }
}

fn write_page(path: &Path, names: &[String], reports: &[&Report]) -> Result<()> {
    fs::write(path, page(names, reports)).with_context(|| format!("can't write {}", path.display()))
}

/// `names` are the reports' names if there are several.
fn page(names: &[String], reports: &[&Report]) -> String {
    let scenario = reports.first().map(|report| report.scenario.as_str()).unwrap_or_default();
    let curves = Curves::new(reports, names);
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (scenario) " · Switchboard load test" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p { "Switchboard load test" }
                    h1 { (scenario) }
                    @for (run, report) in reports.iter().enumerate() {
                        div.run {
                            @if reports.len() > 1 { (swatch(&style(run, 0))) b { (names[run]) } }
                            span { (report.started_at) }
                            span { (report.version) " (" (report.commit) ")" }
                            (state(report))
                        }
                    }
                }
                main {
                    section {
                        h2 { "Figures" }
                        @if let [report] = reports { (tables::figures(report)) } @else { (tables::comparison(names, reports)) }
                    }
                    (findings(names, reports))
                    (charts("Latency by percentile", "percentile", &curves.distributions()))
                    (charts("Latency over time", "latency", &curves.latencies()))
                    (charts("Throughput", "rate", &curves.rates()))
                    (charts("Processes", "process", &curves.processes()))
                    section { h2 { "What was run" } (tables::particulars(names, reports)) }
                    section { h2 { "Counters" } (tables::counters(names, reports)) }
                }
                footer {
                    "Values are medians over the repeats, with the least and the most where there are several; bands in \
                     the charts are the same. Curves over time leave out what is shorter than half a second. Latency counts from the moment for which a send was intended."
                }
            }
        }
    };
    document.into_string()
}

/// A section of charts, without those that have no values.
fn charts(title: &str, id: &str, charts: &[Chart<'_>]) -> Markup {
    let has_values = |chart: &&Chart<'_>| chart.lines.iter().any(|line| line.points.iter().any(Option::is_some));
    let charts: Vec<&Chart<'_>> = charts.iter().filter(has_values).collect();
    html! {
        @if !charts.is_empty() {
            section {
                h2 { (title) }
                div.charts { @for (number, chart) in charts.iter().enumerate() { (chart.figure(&format!("{id}-{number}"))) } }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::Load;
    use crate::meter::latency::Latencies;
    use crate::report::figure::{Bar, Figure, summaries};
    use crate::report::machine::Machine;
    use crate::report::round::{Percentiles, Phase, ProcessShare, Round, Second, Usage};
    use crate::report::{FORMAT, Repeat};
    use crate::verify::Verdict;

    /// Nobody would use this name, but it must not break a page.
    const HOSTILE: &str = "</style><script>alert(\"1\")</script>&'";

    /// A report of two repeats in which everything has a value.
    pub(in crate::report) fn report() -> Report {
        let figure = |value: f64| {
            let figure = Figure::new("send to `sent`, p99", "ms", Some(value)).unwrap();
            vec![figure.against("bare echo", Some(0.5)).bar(Bar::AtMost(10.0))]
        };
        Report {
            format: FORMAT,
            scenario: "direct".to_owned(),
            version: "1.2.3".to_owned(),
            commit: "abcdef".to_owned(),
            started_at: "2026-01-02T03:04:05.678Z".to_owned(),
            machine: Machine { processors: 2, model: "A processor".to_owned(), ..Machine::default() },
            command: vec!["direct".to_owned(), HOSTILE.to_owned()],
            load: Load { params: [("text_bytes".to_owned(), "64".to_owned())].into(), ..Load::default() },
            processes: 1,
            nodes: 1,
            settings: vec!["limits.frames_per_s=50".to_owned()],
            is_interrupted: false,
            warnings: Vec::new(),
            repeats: vec![repeat(1.0), repeat(2.0)],
            figures: summaries(&[figure(1.0), figure(2.0)]),
        }
    }

    fn repeat(ms: f64) -> Repeat {
        let round = Round { phases: vec![phase("warm-up", ms), phase("load", ms)], ..Round::default() };
        Repeat { baselines: [("echo".to_owned(), round.clone())].into(), round, verdict: None }
    }

    fn phase(name: &str, ms: f64) -> Phase {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|number| latencies.record_ns((ms * 1e4) as u64 * number));
        let share = ProcessShare { name: "n1".to_owned(), cpu_us: 5_000_000, ..ProcessShare::default() };
        Phase {
            name: name.to_owned(),
            seconds: 3.0,
            counters: [("sends".to_owned(), 300)].into(),
            latencies: [("sent".to_owned(), latencies.counts())].into(),
            servers: vec![share],
            server_counters: [("switchboard_sends_total{result=\"ok\"}".to_owned(), 300.0)].into(),
            series: (1..=3).map(|at| second(f64::from(at), ms)).collect(),
            ..Phase::default()
        }
    }

    fn second(at_s: f64, ms: f64) -> Second {
        Second {
            at_s,
            passed_s: 1.0,
            counters: [("sends".to_owned(), 100)].into(),
            latencies: [("sent".to_owned(), Percentiles { p50_ms: ms, p99_ms: 2.0 * ms, max_ms: 3.0 * ms })].into(),
            servers: [("n1".to_owned(), Usage { cpu: 0.5, resident_bytes: 20_000_000 })].into(),
            clients: Some(Usage { cpu: 0.25, resident_bytes: 10_000_000 }),
        }
    }

    fn page_of(report: &Report) -> String {
        page(std::slice::from_ref(&report.scenario), &[report])
    }

    #[test]
    fn a_page_has_everything_that_was_measured() {
        let text = page_of(&report());
        for part in [
            "<h1>direct</h1>",
            "1 of 1 bar met",
            "2026-01-02T03:04:05.678Z",
            "1.2.3 (abcdef)",
            "2 × A processor",
            "text_bytes",
            "limits.frames_per_s=50",
            "<b>1.50</b> ms</span><small>1.00–2.00</small>",
            "<b>3.00</b> ×",
            "≤ 10",
            "bare echo",
            ">99.99</text>",
            ">50 %</th>",
            "load 3 s\np50: 1.50 (1.00–2.00) ms\np99: 3.00 (2.00–4.00) ms\nmax: 4.50 (3.00–6.00) ms",
            "Sends <small>1/s</small>",
            "n1: 0.500 (0.500–0.500) busy\nclients: 0.250 (0.250–0.250) busy",
            "n1: 20.0 (20.0–20.0) MB\nclients: 10.0 (10.0–10.0) MB",
            "switchboard_sends_total{result=&quot;ok&quot;}",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("<h2>Findings"), "nothing was found");
        assert_eq!(text.matches("<figure").count(), 5);
    }

    #[test]
    fn what_is_wrong_or_doubtful_is_shown() {
        let mut report = report();
        report.is_interrupted = true;
        report.warnings.push("the generator was late".to_owned());
        report.repeats[0].round.complaints.insert("refused".to_owned(), 7);
        let verdict = serde_json::json!({ "operations": 9, "acknowledged": 4, "violations": 1,
            "listed": [{ "rule": "no loss", "conversation_id": "c1", "seq": 12, "what": "missing" }] });
        report.repeats[1].verdict = Some(serde_json::from_value::<Verdict>(verdict).unwrap());
        let text = page_of(&report);
        for part in ["Ended early", "the generator was late", "7 × refused", "1 violation<", "no loss", "<td>12</td>"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn everything_in_a_report_is_escaped_and_nothing_is_fetched() {
        let text = page_of(&report()).to_lowercase();
        let json = serde_json::to_string(&report()).unwrap();
        // Makes each text of the report hostile in turn.
        let mut hostile = 0;
        for word in ["direct", "1.2.3", "abcdef", "a processor", "text_bytes", "bare echo", "n1", "sends", "warm-up"] {
            let other = json.replacen(&format!("\"{word}"), &format!("\"{}", HOSTILE.replace('"', "\\\"")), usize::MAX);
            let Ok(report) = serde_json::from_str::<Report>(&other) else { panic!("{word} is a field") };
            let page = page_of(&report);
            assert!(!page.contains("<script") && page.matches("</style>").count() == 1, "{word}: {page}");
            hostile += page.matches("&lt;script&gt;").count();
        }
        assert!(hostile > 50, "{hostile}");
        for fetched in ["http://", "https://", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!text.contains(fetched), "{fetched}");
        }
    }

    #[test]
    fn a_report_without_rounds_is_a_page_too() {
        let text = page_of(&Report { repeats: Vec::new(), figures: Vec::new(), ..report() });
        assert!(text.contains("Machine") && !text.contains("<figure"), "{text}");
    }

    #[test]
    fn runs_are_compared_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before.json"), folder.path().join("after.json"));
        let mut report = report();
        fs::write(&before, serde_json::to_vec(&report).unwrap()).unwrap();
        report.figures[0].value =
            super::super::figure::Spread { median: 3.0, min: 2.5, max: 3.5, values: vec![2.5, 3.5] };
        report.load.connections = 7;
        fs::write(&after, serde_json::to_vec(&report).unwrap()).unwrap();
        let html = folder.path().join("page.html");
        compare(&[before.clone(), after.clone()], &html).unwrap();
        let text = fs::read_to_string(&html).unwrap();
        for part in [
            "<b>before</b>",
            "<b>after</b>",
            "worse\">+100.0 %",
            "ratio to bare echo",
            "<tr class=\"differs\"><th scope=\"row\">Connections</th><td>0</td><td>7</td></tr>",
            "before, p50: 1.50 (1.00–2.00) ms\nbefore, p99",
            "after, p50: 1.50 (1.00–2.00) ms\nafter, p99",
            "before, bare echo",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        report.scenario = "fanout".to_owned();
        fs::write(&after, serde_json::to_vec(&report).unwrap()).unwrap();
        let error = compare(&[before.clone(), after], &html).unwrap_err().to_string();
        assert!(error.contains("after.json is a run of fanout") && error.contains("before.json of direct"), "{error}");
        assert!(compare(&[before], folder.path()).is_err(), "a page can't be a folder");
    }

    #[test]
    fn files_are_called_as_shortly_as_they_can_be_told_apart() {
        let files = |files: &[&str]| names(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(files(&["x/a.json", "y/b.json"]), ["a", "b"]);
        assert_eq!(files(&["x/a.json", "y/a.json"]), ["x/a.json", "y/a.json"]);
    }
}
