//! What was measured, as a table and as a picture: time against events, both in steps of ten.

use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

use super::Done;

const SIZE: (u32, u32) = (1100, 640);
const INK: RGBColor = RGBColor(15, 23, 42);
const SOFT: RGBColor = RGBColor(100, 116, 139);
const FAINT: RGBColor = RGBColor(226, 232, 240);

/// A line: what it is, where its microseconds are in a step, and what makes microseconds of the number there.
struct Curve {
    name: &'static str,
    at: &'static str,
    factor: f64,
    colour: RGBColor,
}

const fn curve(name: &'static str, at: &'static str, factor: f64, colour: RGBColor) -> Curve {
    Curve { name, at, factor, colour }
}

const CURVES: [Curve; 10] = [
    curve("open, writer killed", "/crashed/open_ms", 1e3, RGBColor(153, 27, 27)),
    curve("open, closed in order", "/clean/open_ms", 1e3, RGBColor(217, 119, 6)),
    curve("first stream after opening", "/clean/first_stream_us", 1.0, RGBColor(120, 113, 108)),
    curve("a stream of 100 events", "/clean/stream_us/p50", 1.0, RGBColor(13, 118, 110)),
    curve("the same, not in the processor's cache", "/clean/stream_us/uncached/p50", 1.0, RGBColor(94, 234, 212)),
    curve("what occurred in a second", "/clean/occurred_in_a_second_us/p50", 1.0, RGBColor(124, 58, 237)),
    curve("state as of an instant", "/clean/state_as_of_instant_us/p50", 1.0, RGBColor(37, 99, 235)),
    curve("log as of an instant", "/clean/as_of_instant_us/p50", 1.0, RGBColor(8, 145, 178)),
    curve("event by id", "/clean/locate_us/p50", 1.0, RGBColor(21, 128, 61)),
    curve("id that is not there", "/clean/locate_absent_us/p50", 1.0, RGBColor(190, 24, 93)),
];

/// Prints the table, and writes the picture.
pub(super) fn draw(measured: &Path, svg: &Path) -> Done {
    let text = std::fs::read_to_string(measured)?;
    let steps = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    print!("{}", table(&steps));
    picture(&steps, svg)
}

fn number(step: &Value, at: &str) -> Option<f64> {
    step.pointer(at)?.as_f64()
}

/// The events of a step, and the microseconds of a line in it.
fn points(steps: &[Value], curve: &Curve) -> Vec<(f64, f64)> {
    steps.iter().filter_map(|step| Some((number(step, "/events")?, number(step, curve.at)? * curve.factor))).collect()
}

fn table(steps: &[Value]) -> String {
    let events = steps.iter().map(|step| number(step, "/events").map_or_else(String::new, count));
    let mut rows = vec![("| |".to_owned(), events.collect::<Vec<_>>())];
    let row = |name: &str, cell: &dyn Fn(&Value) -> Option<String>| {
        (format!("| {name} |"), steps.iter().map(|step| cell(step).unwrap_or_default()).collect())
    };
    rows.push(row("bytes of log", &|step| Some(bytes(number(step, "/clean/bytes")?))));
    rows.push(row("bytes of index", &|step| Some(bytes(number(step, "/clean/index_bytes")?))));
    rows.push(row("segments", &|step| Some(number(step, "/clean/segments")?.to_string())));
    rows.push(row("appended, indexed meanwhile", &|step| {
        let per_second = number(step, "/filled/appended")? / number(step, "/filled/seconds")?;
        Some(format!("{:.0} k/s", per_second / 1e3))
    }));
    for curve in &CURVES {
        rows.push(row(curve.name, &|step| {
            let middle = time(number(step, curve.at)? * curve.factor);
            let slow = curve.at.strip_suffix("/p50").and_then(|at| number(step, &format!("{at}/p99")));
            Some(slow.map_or(middle.clone(), |slow| format!("{middle}, {}", time(slow * curve.factor))))
        }));
    }
    let mut lines: Vec<String> = rows.iter().map(|(name, cells)| format!("{name} {} |\n", cells.join(" | "))).collect();
    lines.insert(1, format!("|{}\n", "---|".repeat(1 + steps.len())));
    lines.concat()
}

fn count(number: f64) -> String {
    if number >= 1e6 { format!("{:.0} M", number / 1e6) } else { format!("{:.0} k", number / 1e3) }
}

fn bytes(number: f64) -> String {
    let mib = number / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

fn time(us: f64) -> String {
    match us {
        us if us < 9.95 => format!("{us:.1} us"),
        us if us < 995.0 => format!("{us:.0} us"),
        us if us < 9950.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}

fn picture(steps: &[Value], path: &Path) -> Done {
    let lines: Vec<(&Curve, Vec<(f64, f64)>)> = CURVES.iter().map(|curve| (curve, points(steps, curve))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let events = all().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.0), high.max(point.0)));
    let (low, high) = all().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.1), high.max(point.1)));
    if high == 0.0 {
        return Err("nothing was measured".into());
    }
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: f64, colour: &RGBColor| ("sans-serif", size).into_font().color(colour);
    let mut chart = ChartBuilder::on(&area)
        .margin(18)
        .margin_right(236)
        .caption("Opening a log and asking it, as it grows", text(20.0, &INK))
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (events.0..events.1).log_scale(),
            (10_f64.powf(low.log10().floor())..10_f64.powf(high.log10().ceil())).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("events in the log")
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .axis_style(SOFT)
        .label_style(text(13.0, &SOFT))
        .x_label_formatter(&|events| count(*events))
        .y_label_formatter(&|us| time(*us))
        .draw()?;
    // Names stand at the ends of their lines, as far from each other as they are high.
    let mut names: Vec<(i32, i32, &Curve)> = Vec::new();
    for (curve, points) in &lines {
        chart.draw_series(LineSeries::new(points.iter().copied(), curve.colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, curve.colour.filled())))?;
        if let Some(end) = points.last() {
            let (x, y) = chart.backend_coord(end);
            names.push((x, y, curve));
        }
    }
    names.sort_unstable_by_key(|(_, y, _)| *y);
    let mut free = 0;
    for (x, y, curve) in names {
        let y = free.max(y - 7);
        area.draw_text(curve.name, &text(14.0, &curve.colour), (x + 12, y))?;
        free = y + 17;
    }
    area.present()?;
    Ok(())
}
