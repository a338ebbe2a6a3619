//! Plots as SVG files: bars in groups with error bars, and curves.

use crate::statistics::Summary;
use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::path::{Path, PathBuf};

/// Width and height of a plot in pixels.
const PLOT_PIXELS: (u32, u32) = (800, 440);
/// The share of a group's width that its bars take together.
const GROUP_FILLED: f64 = 0.8;
/// Half the width of an error bar's ends, as a share of its bar's width.
const WHISKER: f64 = 0.2;
/// Room above the highest value.
const HEADROOM: f64 = 1.1;
/// The same on a logarithmic axis; the legend is there.
const LOGARITHMIC_HEADROOM: f64 = 4.0;
/// One colour for each series, distinguishable for colour-blind readers.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(240, 228, 66),
];

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot draw: {reason}")]
pub struct PlotError {
    /// The file.
    pub path: PathBuf,
    /// What the drawing library said.
    pub reason: String,
}

/// A plot of one kind or the other.
#[derive(Clone, Debug)]
pub enum Plot {
    /// Bars in groups.
    Bars(Bars),
    /// Curves over a share of requests.
    Curves {
        /// Above the plot.
        title: String,
        /// What the height means, with its unit.
        y_title: String,
        /// The curves.
        curves: Vec<Curve>,
    },
}

/// Bars in groups, such as one group for each size and one bar in it for each subject. The axis is
/// logarithmic: sizes differ by orders of magnitude, and what counts is the ratio between bars. A
/// value that is not positive is not drawn.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Above the plot.
    pub title: String,
    /// What the height means, with its unit.
    pub y_title: String,
    /// The names of the groups.
    pub groups: Vec<String>,
    /// The bars.
    pub series: Vec<Series>,
}

/// The bars of one subject.
#[derive(Clone, Debug)]
pub struct Series {
    /// The subject.
    pub name: String,
    /// One for each group.
    pub cells: Vec<Cell>,
}

/// A bar up to the median, with a whisker from the least to the greatest; `None` draws nothing.
pub type Cell = Option<Summary>;

/// Latency percentiles of one subject.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The subject.
    pub name: String,
    /// Percentile (0 to 100, without 100) and value.
    pub points: Vec<(f64, f64)>,
}

impl Plot {
    /// Draws it into an SVG file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<(), PlotError> {
        let area = SVGBackend::new(path, PLOT_PIXELS).into_drawing_area();
        let drawn = match self {
            Self::Bars(bars) => bars.draw(&area),
            Self::Curves { title, y_title, curves } => draw_curves(&area, title, y_title, curves),
        };
        drawn
            .and_then(|()| area.present().map_err(|error| error.to_string()))
            .map_err(|reason| PlotError { path: path.to_owned(), reason })
    }
}

/// A chart with groups of bars: places along, values on a logarithmic axis.
type BarChart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, LogCoord<f64>>>;

impl Bars {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let text = |error: DrawingAreaErrorKind<_>| error.to_string();
        area.fill(&WHITE).map_err(text)?;
        let (lowest, highest) = self.range();
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(72)
            .build_cartesian_2d(-0.5..self.groups.len() as f64 - 0.5, (lowest..highest).log_scale())
            .map_err(text)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            // Labels at the middle of the groups only.
            .x_labels(2 * self.groups.len() + 1)
            .x_label_formatter(&|place| self.group_at(*place))
            .y_desc(format!("{}, logarithmic", self.y_title))
            .draw()
            .map_err(text)?;
        for number in 0..self.series.len() {
            self.draw_series(&mut chart, number, lowest).map_err(text)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.4))
            .draw()
            .map_err(text)
    }

    /// Draws the bars of one subject, from `lowest` up, with their error bars.
    fn draw_series(
        &self,
        chart: &mut BarChart<'_, '_>,
        number: usize,
        lowest: f64,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let series = &self.series[number];
        let colour = COLOURS[number % COLOURS.len()];
        let width = GROUP_FILLED / self.series.len() as f64;
        let bars = series.cells.iter().enumerate().filter_map(|(group, cell)| {
            let left = group as f64 - GROUP_FILLED / 2.0 + number as f64 * width;
            Some((left, cell.filter(|cell| cell.min > 0.0)?))
        });
        let bars: Vec<(f64, Summary)> = bars.collect();
        chart
            .draw_series(bars.iter().map(|(left, cell)| {
                let corners = [(*left, lowest), (left + width * 0.9, cell.median)];
                Rectangle::new(corners, colour.filled())
            }))?
            .label(&series.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        chart.draw_series(bars.iter().flat_map(|(left, cell)| whisker(*left, width, *cell)))?;
        Ok(())
    }

    /// The ends of the value axis: a decade mark below every value, and room above.
    fn range(&self) -> (f64, f64) {
        let cells = || self.series.iter().flat_map(|series| series.cells.iter().flatten());
        let lowest = cells().map(|cell| cell.min).filter(|value| *value > 0.0);
        let lowest = lowest.fold(f64::INFINITY, f64::min);
        let highest = cells().map(|cell| cell.max).fold(0.0, f64::max);
        if lowest.is_infinite() {
            return (1.0, 10.0);
        }
        (10f64.powf((lowest / 2.0).log10().floor()), highest * LOGARITHMIC_HEADROOM)
    }

    /// The name of the group whose middle is at `place`; nothing between groups.
    fn group_at(&self, place: f64) -> String {
        let nearest = place.round();
        if (place - nearest).abs() > 0.01 || nearest < 0.0 {
            return String::new();
        }
        self.groups.get(nearest as usize).cloned().unwrap_or_default()
    }
}

/// The lines of an error bar: the range, and its two ends.
fn whisker(left: f64, width: f64, cell: Summary) -> [PathElement<(f64, f64)>; 3] {
    let middle = left + width * 0.45;
    let (from, to) = (middle - width * WHISKER, middle + width * WHISKER);
    [
        PathElement::new(vec![(middle, cell.min), (middle, cell.max)], BLACK),
        PathElement::new(vec![(from, cell.min), (to, cell.min)], BLACK),
        PathElement::new(vec![(from, cell.max), (to, cell.max)], BLACK),
    ]
}

/// Percentile curves, over an axis that gives each further nine the same room.
fn draw_curves(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    y_title: &str,
    curves: &[Curve],
) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<_>| error.to_string();
    area.fill(&WHITE).map_err(text)?;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let nines_max = points().map(|(percentile, _)| nines(*percentile)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..nines_max, 0.0..above(highest))
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(nines_max.ceil() as usize + 1)
        .x_label_formatter(&|nines| percentile_label(*nines))
        .x_desc("percentile")
        .y_desc(y_title)
        .draw()
        .map_err(text)?;
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points = curve.points.iter().map(|(percentile, value)| (nines(*percentile), *value));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(text)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.4))
        .draw()
        .map_err(text)
}

/// How many nines a percentile has: 1 for 90, 2 for 99.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// The percentile with that many nines: `90`, `99`, `99.9`.
fn percentile_label(nines: f64) -> String {
    let percentile = 100.0 * (1.0 - 10f64.powf(-nines));
    let decimals = (nines.ceil() - 2.0).max(0.0) as usize;
    format!("{percentile:.decimals$}")
}

/// The top of an axis for values up to `highest`.
fn above(highest: f64) -> f64 {
    if highest > 0.0 { highest * HEADROOM } else { 1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn drawn(plot: &Plot) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.svg");
        plot.draw(&path).unwrap();
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn bars_show_groups_subjects_and_their_range() {
        let cell = Summary::of(&[1.0, 2.0, 4.0]);
        let bars = Bars {
            title: "throughput".to_owned(),
            y_title: "MB/s".to_owned(),
            groups: vec!["1KiB".to_owned(), "1MiB".to_owned()],
            series: vec![
                Series { name: "ours".to_owned(), cells: vec![cell, cell] },
                Series { name: "theirs".to_owned(), cells: vec![cell, None] },
            ],
        };
        let svg = drawn(&Plot::Bars(bars));
        for text in ["throughput", "MB/s", "1KiB", "1MiB", "ours", "theirs"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Three bars with three lines each.
        assert!(svg.matches("<polyline").count() >= 9);
    }

    #[test]
    fn curves_are_drawn_over_percentiles() {
        let points = vec![(0.0, 1.0), (50.0, 2.0), (99.0, 5.0), (99.9, 9.0)];
        let curves = vec![Curve { name: "ours".to_owned(), points }];
        let (title, y_title) = ("latency".to_owned(), "ms".to_owned());
        let svg = drawn(&Plot::Curves { title, y_title, curves });
        for text in ["latency", "ours", "99.9", "percentile"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn nothing_to_draw_is_an_empty_plot() {
        let (title, y_title) = ("empty".to_owned(), "ms".to_owned());
        assert!(drawn(&Plot::Curves { title, y_title, curves: Vec::new() }).contains("empty"));
    }

    #[test]
    fn percentiles_are_labelled_by_their_nines() {
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(percentile_label), ["0", "90", "99", "99.9"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let plot =
            Plot::Curves { title: String::new(), y_title: String::new(), curves: Vec::new() };
        let error = plot.draw(Path::new("/nonexistent/plot.svg")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/plot.svg"));
    }
}
