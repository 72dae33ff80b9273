//! Parts of an output, and cuts into parts.

use crate::problem::arithmetic::{div_ceil, divide};
use core::ops::Range;

/// A part of the output: pixels (counted through all images) times panels of output channels.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub pixels: Range<usize>,
    pub panels: Range<usize>,
}

/// How an output is cut into disjoint parts of about equal work: a grid of ranges of pixels and
/// ranges of panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pixels: Side,
    panels: Side,
}

/// One side of a grid: `count` things, cut into `parts` at multiples of `unit`.
#[derive(Clone, Copy, Debug)]
struct Side {
    count: usize,
    parts: usize,
    unit: usize,
}

impl Side {
    /// As many parts as wanted, but none with less than a unit, unless there is no more.
    fn new(count: usize, wanted: usize, unit: usize) -> Side {
        let (units, _) = divide(count, unit);
        Side { count, parts: wanted.min(units).max(1), unit }
    }

    fn range(&self, part: usize) -> Range<usize> {
        let (units, left_over) = divide(div_ceil(self.count, self.unit), self.parts);
        // Where the parts before end; without overflow.
        let before = |part: usize| {
            let units = units * part + left_over.min(part);
            units.saturating_mul(self.unit).min(self.count)
        };
        before(part)..before(part + 1)
    }
}

/// What is asked of a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The most parts.
    pub parts: usize,
    /// The least pixels of a part, where a part has work to do before its first pixel.
    pub least_pixels: usize,
}

impl Cut {
    /// Nothing to cut.
    pub const NONE: Cut = {
        let none = Side { count: 0, parts: 0, unit: 1 };
        Cut { pixels: none, panels: none }
    };

    /// Between panels first, then between units of pixels. `panel_unit` and `pixel_unit` are what a
    /// part holds at least.
    pub fn panels_first(whole: &Part, wanted: Wanted, panel_unit: usize, pixel_unit: usize) -> Cut {
        let panels = Side::new(whole.panels.end, wanted.parts, panel_unit);
        let (left, _) = divide(wanted.parts, panels.parts);
        let pixels = Side::new(whole.pixels.end, left, at_least(pixel_unit, wanted.least_pixels));
        Cut { pixels, panels }
    }

    /// The same, between pixels first.
    pub fn pixels_first(whole: &Part, wanted: Wanted, panel_unit: usize, pixel_unit: usize) -> Cut {
        let pixel_unit = at_least(pixel_unit, wanted.least_pixels);
        let pixels = Side::new(whole.pixels.end, wanted.parts, pixel_unit);
        let (left, _) = divide(wanted.parts, pixels.parts);
        let panels = Side::new(whole.panels.end, left, panel_unit);
        Cut { pixels, panels }
    }

    /// The number of parts.
    pub fn len(&self) -> usize {
        self.pixels.parts * self.panels.parts
    }

    /// One of them.
    pub fn part(&self, number: usize) -> Part {
        let (pixels, panels) = divide(number, self.panels.parts);
        Part { pixels: self.pixels.range(pixels), panels: self.panels.range(panels) }
    }
}

/// As many units as hold so many things.
pub(crate) fn at_least(unit: usize, least: usize) -> usize {
    div_ceil(least, unit).max(1).saturating_mul(unit)
}
