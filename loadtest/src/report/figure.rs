//! Figures: a number with its unit, the baseline in the same run, the ratio, and the bar of DESIGN §8.

use serde::{Deserialize, Serialize};

/// A figure of one repeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) bar: Option<Bar>,
}

/// The same figure of the baseline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) name: String,
    pub(crate) value: f64,
}

/// The goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

/// A figure over all repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: Spread,
    pub(crate) baseline: Option<(String, Spread)>,
    pub(crate) ratio: Option<Spread>,
    pub(crate) bar: Option<Bar>,
    /// For the median.
    pub(crate) is_met: Option<bool>,
}

/// The values of all repeats, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) values: Vec<f64>,
}

impl Figure {
    /// A figure, if it has a value.
    pub(crate) fn new(name: &str, unit: &str, value: Option<f64>) -> Option<Self> {
        Some(Self { name: name.to_owned(), unit: unit.to_owned(), value: value?, baseline: None, bar: None })
    }

    pub(crate) fn against(mut self, name: &str, value: Option<f64>) -> Self {
        self.baseline = value.map(|value| Baseline { name: name.to_owned(), value });
        self
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }
}

impl Bar {
    /// `None` if the bar is about a ratio, and there is none.
    pub(crate) fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
        }
    }
}

impl Spread {
    pub(super) fn of(values: Vec<f64>) -> Self {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        let (min, max) = (sorted.first().copied().unwrap_or(median), sorted.last().copied().unwrap_or(median));
        Self { median, min, max, values }
    }
}

/// Combines the figures of all repeats, in the order of the first.
pub(crate) fn summaries(repeats: &[Vec<Figure>]) -> Vec<Summary> {
    let first = repeats.first().map(Vec::as_slice).unwrap_or_default();
    first.iter().map(|figure| summary(&figure.name, repeats)).collect()
}

fn summary(name: &str, repeats: &[Vec<Figure>]) -> Summary {
    let all: Vec<&Figure> = repeats.iter().flatten().filter(|figure| figure.name == name).collect();
    let of = |value: &dyn Fn(&Figure) -> Option<f64>| {
        let values: Vec<f64> = all.iter().filter_map(|figure| value(figure)).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    };
    let value = of(&|figure| Some(figure.value)).unwrap_or_default();
    let baseline = of(&|figure| Some(figure.baseline.as_ref()?.value));
    let ratio = of(&|figure| Some(figure.value / figure.baseline.as_ref()?.value).filter(|ratio| ratio.is_finite()));
    let bar = all.iter().find_map(|figure| figure.bar);
    let baseline_name = all.iter().find_map(|figure| Some(figure.baseline.as_ref()?.name.clone()));
    Summary {
        name: name.to_owned(),
        unit: all.first().map(|figure| figure.unit.clone()).unwrap_or_default(),
        is_met: bar.and_then(|bar| bar.is_met(value.median, ratio.as_ref().map(|ratio| ratio.median))),
        value,
        baseline: baseline_name.zip(baseline),
        ratio,
        bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, baseline: f64) -> Vec<Figure> {
        let figure = Figure::new("cost", "µs", Some(value)).unwrap();
        vec![figure.against("bare", Some(baseline)).bar(Bar::RatioAtMost(2.0))]
    }

    #[test]
    fn the_median_and_the_spread_of_repeats() {
        let summaries = summaries(&[figure(30.0, 10.0), figure(10.0, 10.0), figure(18.0, 10.0)]);
        let summary = &summaries[0];
        assert_eq!((summary.value.median, summary.value.min, summary.value.max), (18.0, 10.0, 30.0));
        assert_eq!(summary.value.values, [30.0, 10.0, 18.0]);
        assert_eq!(summary.ratio.as_ref().unwrap().median, 1.8);
        assert_eq!((summaries.len(), summary.is_met), (1, Some(true)));
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!(Spread::of(vec![1.0, 4.0]).median, 2.5);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn a_ratio_that_is_not_there_meets_no_bar() {
        let without = vec![Figure::new("cost", "µs", Some(1.0)).unwrap().bar(Bar::RatioAtMost(2.0))];
        assert_eq!(summaries(&[without])[0].is_met, None);
        let nothing = summaries(&[figure(1.0, 0.0)]);
        assert_eq!((nothing[0].ratio.clone(), nothing[0].is_met), (None, None));
        assert!(Figure::new("cost", "µs", None).is_none());
    }

    #[test]
    fn bars_have_two_sides() {
        assert_eq!(Bar::AtMost(5.0).is_met(5.1, None), Some(false));
        assert_eq!(Bar::AtLeast(5.0).is_met(5.1, None), Some(true));
        assert_eq!(Bar::RatioAtLeast(0.7).is_met(0.0, Some(0.6)), Some(false));
    }
}
