//! Lines in panels side by side, as SVG.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Pixels of a panel.
const SIZE: (u32, u32) = (460, 360);

/// One coordinate system, from zero.
#[derive(Debug)]
pub struct Panel {
    title: String,
    x: String,
    y: String,
    /// Its lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Panel {
    /// Without lines as yet.
    pub fn new(title: &str, x: &str, y: &str) -> Self {
        Self {
            title: title.to_owned(),
            x: x.to_owned(),
            y: y.to_owned(),
            series: Vec::new(),
        }
    }
}

impl Series {
    /// Points from left to right.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
        }
    }
}

/// Draws the panels into a file.
///
/// # Errors
/// The file cannot be written.
pub fn draw(file: &Path, panels: &[Panel]) -> Result<()> {
    let mut svg = String::new();
    {
        let width = SIZE.0 * u32::try_from(panels.len())?;
        let area = SVGBackend::with_string(&mut svg, (width, SIZE.1)).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(|error| anyhow!("{error}"));
        drawn?;
        for (panel, area) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
            draw_panel(panel, &area).with_context(|| format!("drawing {}", panel.title))?;
        }
        area.present().map_err(|error| anyhow!("{error}"))?;
    }
    fs::write(file, svg).with_context(|| format!("writing {}", file.display()))
}

fn draw_panel(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let x_max = points().map(|point| point.0).fold(0.0, f64::max);
    // Room for the names above the lines.
    let y_max = points().map(|point| point.1).fold(0.0, f64::max) * 1.35;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_max * 1.05, 0.0..y_max)
        .map_err(|error| anyhow!("{error}"))?;
    chart
        .configure_mesh()
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 12))
        .draw()
        .map_err(|error| anyhow!("{error}"))?;
    for (number, series) in panel.series.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let marks = series
            .points
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|error| anyhow!("{error}"))?;
        chart
            .draw_series(marks)
            .map_err(|error| anyhow!("{error}"))?;
        let style = ("sans-serif", 12)
            .into_font()
            .color(&colour)
            .pos(Pos::new(HPos::Left, VPos::Top));
        let y = 40 + 16 * i32::try_from(number)?;
        area.draw_text(&series.name, &style, (90, y))
            .map_err(|error| anyhow!("{error}"))?;
    }
    Ok(())
}

/// 250k, 10M: the axis has little room.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 100.0).round() / 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_short_numbers() {
        assert_eq!(
            [0.0, 7.5, 2500.0, 1e7].map(short),
            ["0", "7.5", "2.5k", "10M"]
        );
    }
}
