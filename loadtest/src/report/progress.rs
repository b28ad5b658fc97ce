//! A progress line each second, on standard error.

use std::fmt::Write;

use super::round::Second;

/// Counters that show how a load is going; the others are in the report.
pub(super) const SHOWN: &[&str] = &["connects", "sends", "sent", "deliveries", "send_errors", "sessions_lost"];

pub(crate) fn show(title: &str, phase: &str, second: &Second) {
    eprintln!("{}", line(title, phase, second));
}

fn line(title: &str, phase: &str, second: &Second) -> String {
    let mut line = format!("[{title}] {phase} {:>3.0} s", second.at_s);
    // Writing to a string can't fail.
    for name in SHOWN {
        if let Some(count) = second.counters.get(*name) {
            let _ = write!(line, "  {name} {:.0}/s", *count as f64 / second.passed_s.max(1e-3));
        }
    }
    for (name, latency) in &second.latencies {
        let _ = write!(line, "  {name} {:.2}|{:.2}|{:.1} ms", latency.p50_ms, latency.p99_ms, latency.max_ms);
    }
    if !second.servers.is_empty() {
        let cpu: f64 = second.servers.values().map(|server| server.cpu).sum();
        let bytes: u64 = second.servers.values().map(|server| server.resident_bytes).sum();
        let _ = write!(line, "  server {:.0} % {:.0} MB", cpu * 100.0, bytes as f64 / 1e6);
    }
    if let Some(clients) = second.clients {
        let _ = write!(line, "  clients {:.0} %", clients.cpu * 100.0);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::round::{Percentiles, Usage};

    #[test]
    fn a_line_has_rates_and_percentiles() {
        let second = Second {
            at_s: 3.0,
            passed_s: 0.5,
            counters: [("sent".to_owned(), 100), ("bytes".to_owned(), 5)].into(),
            latencies: [("sent".to_owned(), Percentiles { p50_ms: 0.5, p99_ms: 2.0, max_ms: 7.0 })].into(),
            servers: ["n1", "n2"]
                .map(|name| (name.to_owned(), Usage { cpu: 0.125, resident_bytes: 15_000_000 }))
                .into(),
            clients: None,
        };
        assert_eq!(
            line("direct", "load", &second),
            "[direct] load   3 s  sent 200/s  sent 0.50|2.00|7.0 ms  server 25 % 30 MB"
        );
    }
}
