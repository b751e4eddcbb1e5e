//! A picture of a run: its figures, the rate over time, and latency percentiles or bars; the baseline beside the engine; below it the machine.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{
    Area, BASELINE, Drawn, ENGINE, FAINT, INK, SOFT, Scale, Type, dashes, fill, fill_down_to, logarithmic_ticks, stroke, ticks, write,
};
use super::report::{short, time_us};
use crate::output::Failure;

const WIDTH: i32 = 1200;
const HEIGHT: i32 = 680;
const MARGIN: i32 = 44;

const HEADING: Type = Type::new(15.0, INK).bold();
const LABEL: Type = Type::new(12.0, SOFT);

/// What is drawn.
pub(super) struct Picture {
    pub(super) title: String,
    /// Figures and what they are.
    pub(super) tiles: Vec<(String, String)>,
    pub(super) left: Lines,
    pub(super) right: Chart,
    pub(super) footer: Vec<String>,
}

/// Rates over time.
pub(super) struct Lines {
    pub(super) title: String,
    /// The engine's first.
    pub(super) lines: Vec<Line>,
}

/// One rate over time: seconds, and so many a second.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// What stands beside the rates.
pub(super) enum Chart {
    /// Latencies by percentile, the engine's first.
    Latency { title: String, curves: Vec<Curve> },
    /// A few figures side by side, the engine's first: name, value, value in words.
    Bars { title: String, bars: Vec<(&'static str, f64, String)> },
}

/// Latencies by percentile: nines (1 = 90 %, 2 = 99 %, ...), and us.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Where a chart lies: its heading above, its labels left and below.
#[derive(Clone, Copy)]
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

const LEFT_FRAME: Frame = Frame { left: MARGIN + 56, right: 690, top: 236, bottom: 556 };
const RIGHT_FRAME: Frame = Frame { left: 812, right: WIDTH - MARGIN, top: 236, bottom: 556 };

/// The picture as SVG.
pub(super) fn draw(picture: &Picture) -> Result<String, Failure> {
    let mut svg = String::new();
    let draw = |svg: &mut String| {
        let area = SVGBackend::with_string(svg, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        head(&area, picture)?;
        lines(&area, &picture.left, LEFT_FRAME)?;
        match &picture.right {
            Chart::Latency { title, curves } => latencies(&area, title, curves, RIGHT_FRAME)?,
            Chart::Bars { title, bars } => self::bars(&area, title, bars, RIGHT_FRAME)?,
        }
        foot(&area, &picture.footer)?;
        area.present()
    };
    draw(&mut svg).map_err(|error| Failure::Cannot(format!("cannot draw: {error}")))?;
    Ok(svg)
}

fn colour(index: usize) -> RGBColor {
    if index == 0 { ENGINE } else { BASELINE }
}

fn head(area: &Area<'_>, picture: &Picture) -> Drawn {
    fill(area, 0..WIDTH, 0..6, ENGINE)?;
    write(area, "CHAINRING BENCH", (MARGIN, 40), Type::new(12.0, ENGINE).bold())?;
    write(area, &picture.title, (MARGIN, 66), Type::new(20.0, INK).bold())?;
    let step = (WIDTH - 2 * MARGIN) / picture.tiles.len().max(1) as i32;
    for (number, (figure, what)) in picture.tiles.iter().enumerate() {
        let x = MARGIN + number as i32 * step;
        fill(area, x..x + 3, 104..160, if number == 0 { ENGINE } else { FAINT })?;
        write(area, figure, (x + 16, 122), Type::new(27.0, INK).bold())?;
        write(area, what, (x + 16, 150), Type::new(13.0, SOFT))?;
    }
    Ok(())
}

fn foot(area: &Area<'_>, footer: &[String]) -> Drawn {
    const STEP: i32 = 18;
    stroke(area, vec![(MARGIN, 606), (WIDTH - MARGIN, 606)], FAINT, 1)?;
    for (number, text) in footer.iter().enumerate() {
        write(area, text, (MARGIN, 626 + number as i32 * STEP), LABEL)?;
    }
    Ok(())
}

/// Heading and legend.
fn heading<'n>(area: &Area<'_>, title: &str, names: impl Iterator<Item = &'n str>, frame: Frame, left: i32) -> Drawn {
    let y = frame.top - 30;
    write(area, title, (left, y), HEADING)?;
    let names: Vec<&str> = names.collect();
    let mut x = frame.right;
    for (number, name) in names.iter().enumerate().rev() {
        write(area, name, (x, y), LABEL.to_the(HPos::Right))?;
        x -= 7 * name.len() as i32 + 10;
        stroke(area, vec![(x - 18, y), (x, y)], colour(number), 3)?;
        x -= 36;
    }
    Ok(())
}

/// A line of the grid with its label.
fn level(area: &Area<'_>, y: i32, label: &str, frame: Frame) -> Drawn {
    stroke(area, vec![(frame.left, y), (frame.right, y)], FAINT, 1)?;
    write(area, label, (frame.left - 10, y), LABEL.to_the(HPos::Right))
}

fn lines(area: &Area<'_>, chart: &Lines, frame: Frame) -> Drawn {
    heading(area, &chart.title, chart.lines.iter().map(|line| line.name), frame, MARGIN)?;
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let (x_max, y_max) = points().fold((0.0_f64, 0.0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let levels = ticks(y_max);
    let high = levels.last().copied().unwrap_or(1.0);
    let y = Scale { low: 0.0, high, pixels: frame.bottom..frame.top, is_logarithmic: false };
    let x = Scale { low: 0.0, high: x_max, pixels: frame.left..frame.right, is_logarithmic: false };
    for tick in levels {
        level(area, y.at(tick), &if tick == 0.0 { "0".to_owned() } else { short(tick) }, frame)?;
    }
    for tick in ticks(x_max).into_iter().filter(|tick| *tick <= x_max * 1.001) {
        write(area, &format!("{tick} s"), (x.at(tick), frame.bottom + 18), LABEL.to_the(HPos::Center))?;
    }
    // The engine's lines last, above the others.
    for (number, line) in chart.lines.iter().enumerate().rev() {
        let mut drawn: Vec<(i32, i32)> = line.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
        // The first stretch begins where the run does.
        if let Some(&(first, level)) = drawn.first()
            && first > frame.left
        {
            drawn.insert(0, (frame.left, level));
        }
        if number == 0 {
            fill_down_to(area, &drawn, frame.bottom, colour(number))?;
        } else if !line.points.is_empty() {
            // It ran for a shorter time; its mean goes on to compare with.
            let mean = line.points.iter().map(|point| point.1).sum::<f64>() / line.points.len() as f64;
            dashes(area, frame.left..frame.right, y.at(mean), colour(number))?;
        }
        stroke(area, drawn, colour(number), 2)?;
    }
    stroke(area, vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], SOFT, 1)
}

fn latencies(area: &Area<'_>, title: &str, curves: &[Curve], frame: Frame) -> Drawn {
    const NINES: [(f64, &str); 5] = [(0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9"), (4.0, "p99.99")];
    heading(area, title, curves.iter().map(|curve| curve.name), frame, frame.left - 56)?;
    let all = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let (low, high) = all().fold((f64::INFINITY, 0.0_f64), |(low, high), us| (low.min(us), high.max(us)));
    let levels = if high > 0.0 { logarithmic_ticks(low, high) } else { vec![1.0, 10.0] };
    let (low, high) = (levels.first().copied().unwrap_or(1.0), levels.last().copied().unwrap_or(10.0));
    let y = Scale { low, high, pixels: frame.bottom..frame.top, is_logarithmic: true };
    let x = Scale { low: 0.0, high: 4.0, pixels: frame.left..frame.right, is_logarithmic: false };
    for tick in levels {
        level(area, y.at(tick), &round_time(tick), frame)?;
    }
    for (nines, label) in NINES {
        stroke(area, vec![(x.at(nines), frame.top), (x.at(nines), frame.bottom)], FAINT, 1)?;
        write(area, label, (x.at(nines), frame.bottom + 18), LABEL.to_the(HPos::Center))?;
    }
    for (number, curve) in curves.iter().enumerate().rev() {
        let drawn: Vec<(i32, i32)> = curve.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
        if number == 0 {
            fill_down_to(area, &drawn, frame.bottom, colour(number))?;
        }
        stroke(area, drawn, colour(number), 2)?;
    }
    stroke(area, vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], SOFT, 1)
}

/// A round time in us, without needless digits.
fn round_time(us: f64) -> String {
    let (number, unit) = match us {
        us if us < 0.999 => (us * 1e3, "ns"),
        us if us < 999.0 => (us, "us"),
        us if us < 999e3 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    if number >= 0.999 { format!("{number:.0} {unit}") } else { time_us(us) }
}

fn bars(area: &Area<'_>, title: &str, bars: &[(&'static str, f64, String)], frame: Frame) -> Drawn {
    const THICK: i32 = 46;
    const STEP: i32 = 104;
    let left = frame.left - 56;
    write(area, title, (left, frame.top - 30), HEADING)?;
    let high = bars.iter().fold(0.0_f64, |high, bar| high.max(bar.1));
    let x = Scale { low: 0.0, high, pixels: left..frame.right, is_logarithmic: false };
    for (number, (name, value, words)) in bars.iter().enumerate() {
        let y = frame.top + 12 + number as i32 * STEP;
        write(area, name, (left, y), Type::new(14.0, INK))?;
        write(area, words, (frame.right, y), Type::new(14.0, INK).bold().to_the(HPos::Right))?;
        fill(area, left..frame.right, y + 16..y + 16 + THICK, FAINT)?;
        fill(area, left..x.at(*value), y + 16..y + 16 + THICK, colour(number))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(right: Chart, points: Vec<(f64, f64)>) -> Picture {
        Picture {
            title: "a <title> & \"more\"".into(),
            tiles: vec![("1.02 M".into(), "events/s".into())],
            left: Lines {
                title: "rate".into(),
                lines: vec![Line { name: "Chainring", points: points.clone() }, Line { name: "raw", points }],
            },
            right,
            footer: vec!["machine".into()],
        }
    }

    /// A very small reader of what must hold of XML: tags close in the order they opened, text has no bare signs.
    fn check_well_formed(svg: &str) -> usize {
        let (mut open, mut elements) = (Vec::new(), 0);
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text:?}");
            for after in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
                assert!(["lt;", "gt;", "amp;", "quot;", "apos;"].iter().any(|name| after.starts_with(name)), "{after:?}");
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.trim()), "closed in order");
                continue;
            }
            assert!(tag.matches('"').count() % 2 == 0, "{tag:?}");
            elements += 1;
            if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().expect("a tag has a name"));
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
        elements
    }

    #[test]
    fn every_chart_is_well_formed_also_without_measurements() {
        let curve = |points| Curve { name: "Chainring", points };
        let charts = [
            Chart::Latency { title: "latency".into(), curves: vec![curve(vec![(0.0, 120.0), (1.0, 150.0), (4.0, 9000.0)])] },
            Chart::Latency { title: "latency".into(), curves: vec![curve(Vec::new())] },
            Chart::Bars { title: "bars".into(), bars: vec![("Chainring", 3.0, "3 GB/s".into()), ("raw", 4.0, "4 GB/s".into())] },
            Chart::Bars { title: "bars".into(), bars: vec![("Chainring", 0.0, "0".into())] },
        ];
        for (chart, points) in charts.into_iter().zip([vec![(0.1, 5.0), (0.2, 7.0)], Vec::new(), vec![(0.1, 0.0)], Vec::new()]) {
            let svg = draw(&picture(chart, points)).unwrap_or_default();
            assert!(check_well_formed(&svg) > 20 && svg.starts_with("<svg") && svg.contains("&lt;title&gt; &amp;"), "{svg}");
        }
    }

    #[test]
    #[should_panic(expected = "closed in order")]
    fn the_check_can_fail() {
        check_well_formed("<svg><g></svg></g>");
    }

    #[test]
    fn round_times() {
        assert_eq!([0.5, 1.0, 200.0, 5000.0, 2e6].map(round_time), ["500 ns", "1 us", "200 us", "5 ms", "2 s"]);
    }
}
