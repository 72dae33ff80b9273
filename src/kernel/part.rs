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

/// One side of a grid: `count` things, cut into `parts` at multiples of `grain`.
#[derive(Clone, Copy, Debug)]
struct Side {
    count: usize,
    parts: usize,
    grain: usize,
}

impl Side {
    /// As many parts as wanted, but none with less than a grain, unless there is no more.
    fn new(count: usize, wanted: usize, grain: usize) -> Side {
        let (grains, _) = divide(count, grain);
        Side { count, parts: wanted.min(grains).max(1), grain }
    }

    fn range(&self, part: usize) -> Range<usize> {
        let (grains, left_over) = divide(div_ceil(self.count, self.grain), self.parts);
        // Where the parts before end; without overflow.
        let before = |part: usize| {
            let grains = grains * part + left_over.min(part);
            grains.saturating_mul(self.grain).min(self.count)
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
        let none = Side { count: 0, parts: 0, grain: 1 };
        Cut { pixels: none, panels: none }
    };

    /// Between panels first, then between grains of pixels. `panel_grain` and `pixel_grain` are what a
    /// part holds at least.
    pub fn panels_first(
        whole: &Part,
        wanted: Wanted,
        panel_grain: usize,
        pixel_grain: usize,
    ) -> Cut {
        let panels = Side::new(whole.panels.end, wanted.parts, panel_grain);
        let (left, _) = divide(wanted.parts, panels.parts);
        let pixels = Side::new(whole.pixels.end, left, at_least(pixel_grain, wanted.least_pixels));
        Cut { pixels, panels }
    }

    /// The same, between pixels first.
    pub fn pixels_first(
        whole: &Part,
        wanted: Wanted,
        panel_grain: usize,
        pixel_grain: usize,
    ) -> Cut {
        let pixel_grain = at_least(pixel_grain, wanted.least_pixels);
        let pixels = Side::new(whole.pixels.end, wanted.parts, pixel_grain);
        let (left, _) = divide(wanted.parts, pixels.parts);
        let panels = Side::new(whole.panels.end, left, panel_grain);
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

/// As many grains as hold so many things.
pub(crate) fn at_least(grain: usize, least: usize) -> usize {
    div_ceil(least, grain).max(1).saturating_mul(grain)
}
