//! A chart: lines over columns, drawn as SVG, with a legend and a table of the same data.
//!
//! It knows nothing of reports. Colours and dashes are classes, defined in `page.css`.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::Axis;
use crate::report::figure::Spread;
use crate::report::table::{number, shown};

/// In the drawing's own units; on the page it takes the available width.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 38.0;
const RIGHT: f64 = 4.0;
/// Space for the stretches' names.
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Approximate width of a letter: names of stretches that do not fit are left out.
const LETTER_WIDTH: f64 = 6.5;

/// The number of colours and dashes in `page.css`.
const COLOURS: usize = 6;
const DASHES: usize = 4;

/// The horizontal axis.
pub(super) struct Along {
    /// The name of its quantity, such as "time".
    pub(super) name: &'static str,
    pub(super) axis: Axis,
    pub(super) columns: Vec<Column>,
    pub(super) stretches: Vec<Stretch>,
}

pub(super) struct Column {
    pub(super) at: f64,
    pub(super) name: String,
}

/// Columns that belong together: lines are not connected between stretches.
pub(super) struct Stretch {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Its first column, and the one after its last.
    pub(super) columns: (usize, usize),
}

pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) is_log: bool,
    pub(super) along: &'a Along,
    /// The runs of the lines. If there is only one, colours distinguish kinds; dashes always do.
    pub(super) runs: &'a [String],
    pub(super) kinds: Vec<String>,
    pub(super) lines: Vec<Line>,
}

/// A value or nothing for each column.
pub(super) struct Line {
    /// Indices into [`Chart::runs`] and [`Chart::kinds`].
    pub(super) run: usize,
    pub(super) kind: usize,
    pub(super) points: Vec<Option<Spread>>,
}

impl Chart<'_> {
    /// `id` distinguishes it from the page's other charts.
    pub(super) fn figure(&self, id: &str) -> Markup {
        html! {
            figure.chart {
                figcaption {
                    h3 { (prose(&self.title)) @if !self.unit.is_empty() { " " small { (self.unit) } } }
                    (self.legend())
                }
                (self.drawing(id))
                details { summary { "Table" } div.scroll tabindex="0" { (self.table()) } }
            }
        }
    }

    fn legend(&self) -> Markup {
        let is_one = self.runs.len() == 1;
        html! {
            @if !is_one {
                ul.legend { @for (run, name) in self.runs.iter().enumerate() { li { (swatch(&style(run, 0))) (name) } } }
            }
            @if self.kinds.len() > 1 {
                ul.legend {
                    @for (kind, name) in self.kinds.iter().enumerate() {
                        li { (swatch(&if is_one { style(kind, kind) } else { format!("ink {}", dash(kind)) })) (name) }
                    }
                }
            }
        }
    }

    fn drawing(&self, id: &str) -> Markup {
        let upright = self.upright();
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (self.title.replace('`', "")) }
                desc id={ (id) "-desc" } { (self.description()) }
                @for stretch in &self.along.stretches { (self.stretch(stretch)) }
                @for mark in &upright.marks {
                    @let y = coordinate(y(&upright, mark.at));
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                    text.mark x=(LEFT - 6.0) y=(y) dy="0.32em" text-anchor="end" { (mark.text) }
                }
                @for mark in &self.along.axis.marks {
                    @let x = coordinate(self.x(mark.at));
                    line.tick x1=(x) x2=(x) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM + 4.0) {}
                    text.mark x=(x) y=(HEIGHT - 7.0) text-anchor=(anchor(self.along.axis.place(mark.at))) { (mark.text) }
                }
                @for line in &self.lines {
                    @let style = self.style(line);
                    @for (from, to) in self.pieces(line) {
                        @let points = &line.points[from..to];
                        @if points.iter().flatten().any(|point| point.min < point.max) {
                            path class={ "band " (style) } d=(self.band(&upright, from, points)) {}
                        }
                        path class={ "line " (style) } d=(self.path(&upright, from, points)) {}
                    }
                }
                @for (place, column) in self.along.columns.iter().enumerate() { (self.pointer(place, column)) }
            }
        }
    }

    /// Its name, and its start.
    fn stretch(&self, stretch: &Stretch) -> Markup {
        let (from, to) = (self.x(stretch.from), self.x(stretch.to));
        let has_room = stretch.name.chars().count() as f64 * LETTER_WIDTH < to - from;
        html! {
            rect.stretch x=(coordinate(from)) width=(coordinate(to - from)) y="2" height=(HEIGHT - BOTTOM - 2.0) {}
            @if has_room { text.mark x=(coordinate(from + 5.0)) y=(TOP - 5.0) { (stretch.name) } }
        }
    }

    /// Shows a column's values under the pointer.
    fn pointer(&self, place: usize, column: &Column) -> Markup {
        let values: Vec<String> = self
            .lines
            .iter()
            .filter_map(|line| {
                Some(format!("\n{}: {} {}", self.name(line), shown(line.points.get(place)?.as_ref()?), self.unit))
            })
            .collect();
        let near = |other: Option<&Column>, edge: f64| other.map_or(edge, |other| f64::midpoint(column.at, other.at));
        let columns = &self.along.columns;
        let from = self.x(near(place.checked_sub(1).and_then(|before| columns.get(before)), f64::MIN));
        let to = self.x(near(columns.get(place + 1), f64::MAX));
        let at = coordinate(self.x(column.at));
        html! {
            @if !values.is_empty() {
                g.pointer {
                    rect x=(coordinate(from)) width=(coordinate((to - from).max(0.0))) y=(TOP) height=(HEIGHT - BOTTOM - TOP) {}
                    line x1=(at) x2=(at) y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                    title { (column.name) (values.concat()) }
                }
            }
        }
    }

    fn table(&self) -> Markup {
        let is_filled = |place: &usize| self.lines.iter().any(|line| matches!(line.points.get(*place), Some(Some(_))));
        html! {
            table.data {
                thead {
                    tr {
                        th scope="col" { (self.along.name) }
                        @for line in &self.lines { th scope="col" { (self.name(line)) @if !self.unit.is_empty() { ", " (self.unit) } } }
                    }
                }
                tbody {
                    @for place in (0..self.along.columns.len()).filter(is_filled) {
                        tr {
                            th scope="row" { (self.along.columns[place].name) }
                            @for line in &self.lines {
                                td { @if let Some(Some(point)) = line.points.get(place) { (shown(point)) } }
                            }
                        }
                    }
                }
            }
        }
    }

    /// A description of the lines, for people who can't see them.
    fn description(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let medians: Vec<f64> = line.points.iter().flatten().map(|point| point.median).collect();
            let (least, most) = extent(&medians);
            // Writing to a string can't fail.
            let _ = write!(text, "{}: {} to {} {}. ", self.name(line), number(least), number(most), self.unit);
        }
        text
    }

    fn name(&self, line: &Line) -> String {
        let (run, kind) = (&self.runs[line.run], &self.kinds[line.kind]);
        match (self.runs.len(), self.kinds.len()) {
            (1, _) => kind.clone(),
            (_, 1) => run.clone(),
            _ => format!("{run}, {kind}"),
        }
    }

    fn style(&self, line: &Line) -> String {
        style(if self.runs.len() == 1 { line.kind } else { line.run }, line.kind)
    }

    fn upright(&self) -> Axis {
        let points = self.lines.iter().flat_map(|line| line.points.iter().flatten());
        let values: Vec<f64> = points.flat_map(|point| [point.min, point.max]).collect();
        if !self.is_log {
            return Axis::from_zero(extent(&values).1);
        }
        let positive: Vec<f64> = values.into_iter().filter(|value| *value > 0.0).collect();
        let (least, most) = extent(&positive);
        Axis::log(least, most)
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + self.along.axis.place(at) * (WIDTH - LEFT - RIGHT)
    }

    /// The gapless pieces of a line: the first column, and the one after the last.
    fn pieces(&self, line: &Line) -> Vec<(usize, usize)> {
        let mut pieces = Vec::new();
        for stretch in &self.along.stretches {
            let (first, end) = (stretch.columns.0, stretch.columns.1.min(line.points.len()));
            let mut from = None;
            for place in first..end {
                match (&line.points[place], from) {
                    (Some(_), None) => from = Some(place),
                    (None, Some(first)) => {
                        pieces.push((first, place));
                        from = None;
                    }
                    _ => {}
                }
            }
            pieces.extend(from.map(|first| (first, end)));
        }
        pieces
    }

    /// `from` is the column of the first of `points`, none of which is missing.
    fn path(&self, upright: &Axis, from: usize, points: &[Option<Spread>]) -> String {
        let medians = points.iter().flatten().enumerate();
        let path = polyline(medians.map(|(place, point)| self.at(upright, from + place, point.median)));
        // A single point is a line of length zero, which shows as a dot.
        format!("M{path}h0")
    }

    fn band(&self, upright: &Axis, from: usize, points: &[Option<Spread>]) -> String {
        let points: Vec<(usize, &Spread)> =
            points.iter().flatten().enumerate().map(|(place, point)| (from + place, point)).collect();
        let there = polyline(points.iter().map(|(place, point)| self.at(upright, *place, point.max)));
        let back = polyline(points.iter().rev().map(|(place, point)| self.at(upright, *place, point.min)));
        format!("M{there}L{back}Z")
    }

    fn at(&self, upright: &Axis, column: usize, value: f64) -> (f64, f64) {
        (self.x(self.along.columns[column].at), y(upright, value))
    }
}

fn y(upright: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - upright.place(value) * (HEIGHT - BOTTOM - TOP)
}

/// Keeps marks at the ends within the drawing.
fn anchor(place: f64) -> &'static str {
    match place {
        place if place > 0.95 => "end",
        place if place < 0.02 => "start",
        _ => "middle",
    }
}

fn polyline(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect::<Vec<_>>().join("L")
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

fn extent(values: &[f64]) -> (f64, f64) {
    let of = |choose: fn(f64, f64) -> f64| values.iter().copied().reduce(choose).unwrap_or(0.0);
    (of(f64::min), of(f64::max))
}

/// The classes of a colour and a dash.
pub(super) fn style(colour: usize, kind: usize) -> String {
    format!("colour-{} {}", colour % COLOURS, dash(kind))
}

fn dash(kind: usize) -> String {
    format!("dash-{}", kind % DASHES)
}

/// Text between backticks is code.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A sample of a line, for the legend.
pub(super) fn swatch(style: &str) -> Markup {
    html! { svg.swatch viewBox="0 0 22 8" aria-hidden="true" { path class={ "line " (style) } d="M2 4H20" {} } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<Spread> {
        Some(Spread::of(values.to_vec()))
    }

    fn along() -> Along {
        let columns = (0..5).map(|number| Column { at: f64::from(number), name: format!("c{number}") }).collect();
        let stretch = |name: &str, columns: (usize, usize)| Stretch {
            name: name.to_owned(),
            from: columns.0 as f64,
            to: columns.1 as f64,
            columns,
        };
        let stretches = vec![stretch("warm-up", (0, 2)), stretch("load", (2, 5))];
        Along { name: "time", axis: Axis::until(5.0), columns, stretches }
    }

    fn chart<'a>(along: &'a Along, runs: &'a [String], points: Vec<Option<Spread>>) -> Chart<'a> {
        Chart {
            title: "A <b> & \"c\"".to_owned(),
            unit: "ms",
            is_log: false,
            along,
            runs,
            kinds: vec!["p50".to_owned()],
            lines: vec![Line { run: 0, kind: 0, points }],
        }
    }

    #[test]
    fn lines_end_where_stretches_end_and_where_values_are_missing() {
        let (along, runs) = (along(), ["r".to_owned()]);
        let chart = chart(&along, &runs, vec![spread(&[1.0]), spread(&[1.0]), spread(&[2.0]), None, spread(&[3.0])]);
        assert_eq!(chart.pieces(&chart.lines[0]), [(0, 2), (2, 3), (4, 5)]);
        let text = chart.figure("x").into_string();
        assert_eq!((text.matches("class=\"line").count(), text.matches("class=\"band").count()), (3, 0));
        assert!(text.contains("p50: 1.00 to 3.00 ms."), "{text}");
    }

    #[test]
    fn several_values_make_a_band_and_are_in_the_table() {
        let (along, runs) = (along(), ["r".to_owned()]);
        let text = chart(&along, &runs, vec![spread(&[1.0, 4.0]), spread(&[2.0])]).figure("x").into_string();
        assert_eq!(text.matches("class=\"band").count(), 1);
        assert!(text.contains("<td>2.50 (1.00–4.00)</td>"), "{text}");
        assert!(text.contains("c0\np50: 2.50 (1.00–4.00) ms</title>"), "{text}");
        assert!(!text.contains(">c2<"), "columns without values are not in the table: {text}");
    }

    #[test]
    fn a_chart_has_a_name_and_everything_is_escaped() {
        let (along, runs) = (along(), ["<r>".to_owned(), "s".to_owned()]);
        let text = chart(&along, &runs, vec![spread(&[1.0])]).figure("x").into_string();
        assert!(text.contains("aria-labelledby=\"x-title x-desc\""));
        assert!(text.contains("<title id=\"x-title\">A &lt;b&gt; &amp; &quot;c&quot;</title>"), "{text}");
        assert!(!text.contains("<b>") && !text.contains("<r>"), "{text}");
    }
}
