//! A server's own counters, from its `/metrics` (Prometheus text format).

use std::collections::BTreeMap;

/// Series by name with labels, as in the text: `switchboard_frames_sent_total{type="message"}`.
pub(crate) type Series = BTreeMap<String, f64>;

/// Parses a page; unknown lines are skipped.
pub(crate) fn parse(page: &str) -> Series {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// The growth of each series; unchanged ones are left out. A series that fell (after a restart) counts from zero.
pub(crate) fn growth(before: &Series, after: &Series) -> Series {
    let grown = after.iter().map(|(name, value)| {
        let before = before.get(name).copied().unwrap_or(0.0);
        (name.clone(), if *value >= before { value - before } else { *value })
    });
    grown.filter(|(_, value)| *value != 0.0).collect()
}

/// The sum over all series of a metric, whatever their labels.
pub(crate) fn sum(series: &Series, metric: &str) -> f64 {
    let is_of = |name: &str| name.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    // From zero: the sum of nothing would be minus zero.
    series.iter().filter(|(name, _)| is_of(name)).fold(0.0, |sum, (_, value)| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# HELP a A thing\n# TYPE a counter\na{type=\"x y\"} 3\na{type=\"z\"} 4\nab 9\nb 1.5\nnonsense\n\n";

    #[test]
    fn a_page_becomes_series() {
        let series = parse(PAGE);
        assert_eq!(series.len(), 4);
        assert!((series["a{type=\"x y\"}"] - 3.0).abs() < f64::EPSILON);
        assert!((sum(&series, "a") - 7.0).abs() < f64::EPSILON);
        assert!(sum(&series, "c").abs() < f64::EPSILON);
    }

    #[test]
    fn growth_is_a_difference_and_a_new_process_begins_at_zero() {
        let grown = growth(&parse(PAGE), &parse("a{type=\"x y\"} 10\na{type=\"z\"} 4\nb 1\nnew 2\n"));
        let expected = [("a{type=\"x y\"}", 7.0), ("b", 1.0), ("new", 2.0)];
        assert_eq!(grown, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
