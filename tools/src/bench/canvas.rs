//! Text, lines and scales on a picture, in whole pixels.
//!
//! The backend writes text as text, so no font is needed here; its width is only guessed, and nothing depends on it closely.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) type Area<'p> = DrawingArea<SVGBackend<'p>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

pub(super) const INK: RGBColor = RGBColor(15, 23, 42);
pub(super) const SOFT: RGBColor = RGBColor(100, 116, 139);
pub(super) const FAINT: RGBColor = RGBColor(226, 232, 240);
pub(super) const ENGINE: RGBColor = RGBColor(13, 118, 110);
pub(super) const BASELINE: RGBColor = RGBColor(217, 119, 6);

const FAMILY: &str = "Inter, Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif";
/// The backend draws text smaller than it is told, by this.
const SIZE_FACTOR: f64 = 1.24;

/// How text is written.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) colour: RGBColor,
    pub(super) is_bold: bool,
    pub(super) side: HPos,
}

impl Type {
    pub(super) const fn new(size: f64, colour: RGBColor) -> Type {
        Type { size, colour, is_bold: false, side: HPos::Left }
    }

    pub(super) const fn bold(self) -> Type {
        Type { is_bold: true, ..self }
    }

    pub(super) const fn to_the(self, side: HPos) -> Type {
        Type { side, ..self }
    }
}

/// Writes text, centred on the height `at.1`.
pub(super) fn write(area: &Area<'_>, text: &str, at: (i32, i32), of: Type) -> Drawn {
    let font = (FAMILY, of.size * SIZE_FACTOR).into_font();
    let font = if of.is_bold { font.style(FontStyle::Bold) } else { font };
    let style = font.color(&of.colour).pos(Pos::new(of.side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
}

/// Draws a line through points.
pub(super) fn stroke(area: &Area<'_>, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Drawn {
    area.draw(&PathElement::new(points, colour.stroke_width(width)))
}

/// Draws a level line of dashes.
pub(super) fn dashes(area: &Area<'_>, x: Range<i32>, y: i32, colour: RGBColor) -> Drawn {
    x.clone().step_by(9).try_for_each(|from| stroke(area, vec![(from, y), ((from + 5).min(x.end), y)], colour, 1))
}

/// Fills what lies between points and a level.
pub(super) fn fill_down_to(area: &Area<'_>, points: &[(i32, i32)], level: i32, colour: RGBColor) -> Drawn {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    let mut outline = points.to_vec();
    outline.extend([(last.0, level), (first.0, level)]);
    area.draw(&Polygon::new(outline, colour.mix(0.12).filled()))
}

/// Fills a rectangle.
pub(super) fn fill(area: &Area<'_>, x: Range<i32>, y: Range<i32>, colour: RGBColor) -> Drawn {
    area.draw(&Rectangle::new([(x.start, y.start), (x.end, y.end)], colour.filled()))
}

/// From numbers to pixels.
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) pixels: Range<i32>,
    pub(super) is_logarithmic: bool,
}

impl Scale {
    /// The pixel of a number; what lies outside is drawn at the edge.
    pub(super) fn at(&self, number: f64) -> i32 {
        let on = |number: f64| if self.is_logarithmic { number.max(f64::MIN_POSITIVE).ln() } else { number };
        let (low, high) = (on(self.low), on(self.high));
        let part = if high > low { ((on(number) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        self.pixels.start + (part * f64::from(self.pixels.end - self.pixels.start)).round() as i32
    }
}

/// Round numbers from 0 to at least `high`, a handful.
pub(super) fn ticks(high: f64) -> Vec<f64> {
    const TICKS: f64 = 5.0;
    if !(high.is_finite() && high > 0.0) {
        return vec![0.0, 1.0];
    }
    let rough = high / TICKS;
    let exponent = rough.log10().floor().max(-300.0) as i32;
    // Powers of ten from 1 to 10^22 are exact, and so a division by one is as near as can be: 0.6, not 0.6000000000000001.
    let scaled = |number: f64| if exponent < 0 { number / 10_f64.powi(-exponent) } else { number * 10_f64.powi(exponent) };
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| scaled(*factor) >= rough * 0.999).unwrap_or(10.0);
    (0..=(high / scaled(factor)).ceil() as u32).map(|number| scaled(f64::from(number) * factor)).collect()
}

/// Round numbers from below `low` to above `high`, so many to a decade that they can be told apart.
pub(super) fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[f64] = if last - first > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power))).collect();
    let from = all.iter().rposition(|tick| *tick <= low * 1.000_001).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= high * 0.999_999).unwrap_or(all.len() - 1);
    all[from..=to.max(from)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_far_enough() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(6.3), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.9), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(1e6 / 3.0), [0.0, 1e5, 2e5, 3e5, 4e5]);
        assert_eq!(ticks(1e-310).len(), 2);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        assert_eq!(ticks(f64::NAN), [0.0, 1.0]);
        assert_eq!(logarithmic_ticks(120.0, 900.0), [100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(logarithmic_ticks(100.0, 100.0), [100.0]);
        assert_eq!(logarithmic_ticks(0.5, 2e5).len(), 8);
    }

    #[test]
    fn scales_keep_within_their_pixels() {
        let (bottom, top) = (200, 0);
        let scale = Scale { low: 1.0, high: 100.0, pixels: bottom..top, is_logarithmic: true };
        assert_eq!([0.0, 1.0, 10.0, 100.0, 1e9].map(|number| scale.at(number)), [200, 200, 100, 0, 0]);
    }
}
