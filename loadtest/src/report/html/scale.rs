//! Axes: the position of values, and the marks.

/// Approximate maximum number of marks on an axis.
const MARKS: f64 = 5.0;

#[derive(Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    pub(super) marks: Vec<Mark>,
}

#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) text: String,
}

impl Axis {
    /// From zero to a round number of at least `most`.
    pub(super) fn from_zero(most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = round_step(most / MARKS);
        let marks = (0..=(most / step).ceil() as u32).map(|number| f64::from(number) * step);
        let marks: Vec<f64> = marks.collect();
        Self::new(0.0, *marks.last().unwrap_or(&most), false, marks)
    }

    /// From zero to exactly `most`: for quantities with an end, such as time.
    pub(super) fn until(most: f64) -> Self {
        let mut axis = Self::from_zero(most);
        axis.to = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        axis.marks.retain(|mark| mark.at <= most);
        axis
    }

    /// Logarithmic, between round numbers around positive values; other values are at its lower end.
    pub(super) fn log(least: f64, most: f64) -> Self {
        let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
        let most = if most.is_finite() { most.max(least) } else { least };
        let from = power_of_ten(least.log10().floor());

        let to = [2.0, 5.0, 10.0].map(|digit| digit * power_of_ten(most.log10().floor()));
        let to = to.into_iter().find(|to| *to >= most).unwrap_or(most).max(from * 10.0);
        let decades = (to / from).log10();
        let digits: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / MARKS).ceil().max(1.0) as usize;
        let powers = (from.log10().round() as i32..=to.log10().floor() as i32).step_by(every);
        let marks = powers.flat_map(|power| digits.iter().map(move |digit| digit * power_of_ten(f64::from(power))));
        Self::new(from, to, true, marks.filter(|mark| *mark <= to * 1.000_1).collect())
    }

    /// With custom marks.
    pub(super) fn marked(to: f64, marks: Vec<Mark>) -> Self {
        Self { from: 0.0, to, is_log: false, marks }
    }

    fn new(from: f64, to: f64, is_log: bool, marks: Vec<f64>) -> Self {
        Self { from, to, is_log, marks: marks.into_iter().map(|at| Mark { at, text: short(at) }).collect() }
    }

    /// 0 at the start, 1 at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }
}

fn power_of_ten(power: f64) -> f64 {
    10_f64.powf(power)
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn round_step(step: f64) -> f64 {
    let power = power_of_ten(step.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|round| *round >= step).unwrap_or(10.0 * power)
}

/// `0.05`, `20`, `50k`, `1.5M`: as short as possible.
fn short(value: f64) -> String {
    let (value, letter) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let decimals = if value > 0.0 { (1.0 - value.log10().floor()).clamp(0.0, 9.0) as usize } else { 0 };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|mark| mark.text.as_str()).collect()
    }

    #[test]
    fn marks_are_round_and_reach_the_largest_value() {
        assert_eq!(texts(&Axis::from_zero(0.29)), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(texts(&Axis::from_zero(49_990.0)), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(texts(&Axis::from_zero(1_400_000.0)), ["0", "500k", "1M", "1.5M"]);
        assert_eq!(texts(&Axis::until(12.1)), ["0", "5", "10"]);
        assert_eq!(Axis::until(12.1).place(12.1), 1.0);
    }

    #[test]
    fn a_logarithmic_axis_has_the_same_length_for_each_decade() {
        let axis = Axis::log(0.02, 70.0);
        assert_eq!(texts(&axis), ["0.01", "0.1", "1", "10", "100"]);
        assert!((axis.place(1.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
        assert_eq!(texts(&Axis::log(0.2, 1.4)), ["0.1", "0.2", "0.5", "1", "2"]);
    }

    #[test]
    fn whatever_the_values_there_is_an_axis() {
        for value in [0.0, -1.0, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY] {
            for axis in [Axis::from_zero(value), Axis::until(value), Axis::log(value, value), Axis::log(1e-9, value)] {
                assert!((0.0..=1.0).contains(&axis.place(1.0)), "{value}: {axis:?}");
                assert!(axis.marks.len() <= 12, "{value}: {axis:?}");
            }
        }
    }
}
