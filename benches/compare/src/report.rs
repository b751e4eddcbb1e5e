//! From lines of JSON to a table and a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::drive::Cell;
use crate::host::Host;
use crate::store::Failure;
use crate::workload::{WORKLOADS, Workload};
use crate::{is_stricter, peers};

/// Every round of a cell.
struct Rounds<'c>(Vec<&'c Cell>);

impl Rounds<'_> {
    /// The median of one figure over the rounds, with the lower of two middles.
    fn median(&self, figure: impl Fn(&Cell) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(|cell| figure(cell)).collect();
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) / 2]
    }

    fn range(&self, figure: impl Fn(&Cell) -> f64) -> (f64, f64) {
        let values = self.0.iter().map(|cell| figure(cell));
        values.fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(value), high.max(value)))
    }
}

fn rounds<'c>(cells: &'c [Cell], workload: &Workload, peer: &str) -> Option<Rounds<'c>> {
    let found: Vec<&Cell> = cells.iter().filter(|cell| cell.workload == workload.name && cell.peer == peer).collect();
    (!found.is_empty()).then_some(Rounds(found))
}

/// Writes `results.md` and `results.svg` beside `results.jsonl`.
pub fn write(out: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(out.join("results.jsonl"))?;
    let mut lines = text.lines();
    let host: Host = serde_json::from_str(lines.next().ok_or("no results")?)?;
    let cells = lines.map(serde_json::from_str).collect::<Result<Vec<Cell>, _>>()?;
    fs::write(out.join("results.md"), table(&host, &cells)?)?;
    picture(&cells, &out.join("results.svg"))
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e5 => format!("{:.0} k", rate / 1e3),
        rate if rate >= 1e3 => format!("{:.1} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

fn table(host: &Host, cells: &[Cell]) -> Result<String, Failure> {
    let mut text = String::new();
    let Host { kernel, processor, cores, memory_gib, filesystem, seconds, rounds: count } = host;
    writeln!(
        text,
        "{kernel}; {processor}, {cores} cores, {memory_gib} GiB; {filesystem}. {count} rounds of {seconds} s a cell; medians, and the range of the rate.\n"
    )?;
    for workload in &WORKLOADS {
        let Some(raw) = rounds(cells, workload, "raw") else { continue };
        writeln!(text, "### {}: {}\n", workload.name, workload.what)?;
        writeln!(
            text,
            "| | events/s | low - high | of raw | p50 us | p99 us | p99.9 us | longest ms | CPU us/event | written B/event | on disk B/event | memory MiB |"
        )?;
        writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        let yardstick = raw.median(|cell| cell.events_per_second);
        for peer in &peers::all() {
            let Some(of) = rounds(cells, workload, peer.name) else { continue };
            let (low, high) = of.range(|cell| cell.events_per_second);
            let mut name = if peer.name == "chainring" { "**chainring**".to_owned() } else { peer.name.to_owned() };
            if !peer.has_group_commit && workload.threads > 1 {
                name += " +gc";
            }
            if is_stricter(peer, workload) {
                name += " (synced)";
            }
            if !peer.has_streams {
                name += " (no streams)";
            }
            writeln!(
                text,
                "| {name} | {} | {} - {} | {:.2} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} |",
                rate(of.median(|cell| cell.events_per_second)),
                rate(low),
                rate(high),
                of.median(|cell| cell.events_per_second) / yardstick,
                of.median(|cell| cell.p50_us),
                of.median(|cell| cell.p99_us),
                of.median(|cell| cell.p999_us),
                of.median(|cell| cell.longest_ms),
                of.median(|cell| cell.cpu_us_per_event),
                of.median(|cell| cell.written_bytes_per_event),
                of.median(|cell| cell.disk_bytes_per_event),
                of.median(|cell| cell.memory_peak_mib),
            )?;
        }
        text.push('\n');
    }
    let versions: Vec<String> = peers::all().iter().map(|peer| format!("{} {}", peer.name, peer.version)).collect();
    writeln!(
        text,
        "Versions: {}. `+gc`: a leader-and-followers group commit stands in front. `(synced)`: has no weaker level.",
        versions.join(", ")
    )?;
    Ok(text)
}

const WIDTH: u32 = 1180;
const BAR_HEIGHT: i32 = 15;
const PANEL_WIDTH: i32 = 380;
const NAME_WIDTH: i32 = 110;
const MARGIN: i32 = 18;
const PANELS_A_ROW: i32 = 3;

/// Name, events per second, and whether it has streams.
type Bar = (&'static str, f64, bool);

/// A panel for each workload: bars in the order of their length.
fn picture(cells: &[Cell], path: &Path) -> Result<(), Failure> {
    let known = peers::all();
    let panels: Vec<(&Workload, Vec<Bar>)> = WORKLOADS
        .iter()
        .filter_map(|workload| {
            let mut bars: Vec<Bar> = known
                .iter()
                .filter_map(|peer| {
                    let of = rounds(cells, workload, peer.name)?;
                    Some((peer.name, of.median(|cell| cell.events_per_second), peer.has_streams))
                })
                .collect();
            bars.sort_by(|a, b| b.1.total_cmp(&a.1));
            (!bars.is_empty()).then_some((workload, bars))
        })
        .collect();
    let panel_height = BAR_HEIGHT * known.len() as i32 + 52;
    let panel_rows = (panels.len() as i32 + PANELS_A_ROW - 1) / PANELS_A_ROW;
    let height = 62 + panel_height * panel_rows;
    let area = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let ink = RGBColor(40, 44, 52);
    let text = |size: i32, color: RGBColor| ("sans-serif", size).into_font().color(&color);
    area.draw_text("Events per second, durable unless said otherwise, each workload on its own scale", &text(17, ink), (MARGIN, 14))?;
    let legend = "orange: Chainring, hash-chained - grey-blue: event stores and databases - light: bare logs, no streams";
    area.draw_text(legend, &text(12, RGBColor(110, 116, 126)), (MARGIN, 38))?;
    for (index, (workload, bars)) in panels.iter().enumerate() {
        let (column, row) = (index as i32 % PANELS_A_ROW, index as i32 / PANELS_A_ROW);
        let (left, top) = (MARGIN + column * (PANEL_WIDTH + 4), 62 + row * panel_height);
        area.draw_text(&format!("{}  {}", workload.name, workload.what), &text(12, ink), (left, top))?;
        let longest = bars.first().map_or(1.0, |bar| bar.1);
        for (place, (name, value, has_streams)) in bars.iter().enumerate() {
            let y = top + 20 + place as i32 * BAR_HEIGHT;
            let room = f64::from(PANEL_WIDTH - NAME_WIDTH - 60);
            let color = match (*name, has_streams) {
                ("chainring", _) => RGBColor(226, 112, 32),
                (_, true) => RGBColor(104, 132, 168),
                (_, false) => RGBColor(196, 204, 214),
            };
            area.draw_text(name, &text(11, ink), (left, y))?;
            let bar = [(left + NAME_WIDTH, y), (left + NAME_WIDTH + 1 + (room * value / longest) as i32, y + BAR_HEIGHT - 4)];
            area.draw(&Rectangle::new(bar, color.filled()))?;
            area.draw_text(&rate(*value), &text(11, ink), (bar[1].0 + 5, y))?;
        }
    }
    area.present()?;
    Ok(())
}
