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

impl Cut {
    /// Nothing to cut.
    pub const NONE: Cut = {
        let none = Side { count: 0, parts: 0, unit: 1 };
        Cut { pixels: none, panels: none }
    };

    /// At most `wanted` parts, between panels first, then between units of pixels. `panel_unit` and
    /// `pixel_unit` are what a part holds at least.
    pub fn panels_first(whole: &Part, wanted: usize, panel_unit: usize, pixel_unit: usize) -> Cut {
        let panels = Side::new(whole.panels.end, wanted, panel_unit);
        let pixels = Side::new(whole.pixels.end, divide(wanted, panels.parts).0, pixel_unit);
        Cut { pixels, panels }
    }

    /// The same, between pixels first.
    pub fn pixels_first(whole: &Part, wanted: usize, panel_unit: usize, pixel_unit: usize) -> Cut {
        let pixels = Side::new(whole.pixels.end, wanted, pixel_unit);
        let panels = Side::new(whole.panels.end, divide(wanted, pixels.parts).0, panel_unit);
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
