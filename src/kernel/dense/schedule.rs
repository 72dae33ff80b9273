//! How the dense kernel cuts its loops, and the scratch memory that it needs.

use crate::element::Element;
use crate::kernel::caches::{Caches, pixel_bytes};
use crate::kernel::fit::{Fit, weights_are_more};
use crate::kernel::part::{Cut, Part, Wanted, at_least};
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::{LANES_PER_PANEL, is_narrow};
use crate::problem::Problem;
use crate::problem::arithmetic::{at_least_1, smaller};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

/// The widest tile of output channels of any instruction set. Scratch memory is sized by it, so
/// that sizes do not depend on the machine.
pub(super) const WIDEST_TILE: usize = 4 * LANES_PER_PANEL;

/// The most pixels whose sums wait in scratch memory to be turned into rows of planes: whole
/// tiles of 6 and of 8, whole vectors of pixels.
const MOST_IN_STRIP: usize = 48;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How many units (channel block, tap) of the chain a pass over the pixels takes.
    pub segment: usize,
    /// How many pixels a pass covers before it turns to the next output channels.
    pub pixel_block: usize,
    /// From a pixel to the next among the sums in scratch memory: the widest tile, or all channels
    /// of a narrower group.
    pub sums_width: usize,
    /// How many pixels' sums wait in scratch memory to be turned into rows of planes, at most.
    pub strip: usize,
    /// Whether outputs lie in planes.
    pub in_planes: bool,
    /// Whether the input is channels last and larger than the second-level cache.
    pub prefetches: bool,
    /// The pixels whose sums are in scratch memory at a time.
    pixels_in_scratch: usize,
    /// Whether there are more weights than inputs.
    weights_are_more: bool,
}

impl Schedule {
    pub const READS_UNPACKED: bool = false;

    /// Panels that span groups cannot be read.
    pub const fn fit(problem: &Problem, _unpacked: bool) -> Fit {
        if is_narrow(&problem.geometry) { Fit::Cannot } else { Fit::Fair }
    }

    pub const fn of(problem: &Problem, caches: &Caches, _unpacked: bool) -> Schedule {
        let geometry = &problem.geometry;
        let element = size_of::<Element>();
        let taps = geometry.taps();
        let units = geometry.in_per_group.div_ceil(CHANNEL_BLOCK) * taps;
        // A quarter of the second level for the weights that every pixel of a pass needs,
        // a quarter for the input or for the partial sums of the pass.
        let unit_bytes = CHANNEL_BLOCK * WIDEST_TILE * element;
        let segment = at_least_1(caches.second / 4 / unit_bytes);
        // Whole channel blocks, if one fits.
        let segment = if segment < taps { segment } else { segment - segment % taps };
        let one_segment = units <= segment;
        let channels = geometry.out_per_group.next_multiple_of(LANES_PER_PANEL);
        let sums_width = smaller(channels, WIDEST_TILE);
        let pixel_block = caches.pixel_block(
            geometry,
            if one_segment {
                pixel_bytes(geometry, geometry.in_per_group, element)
            } else {
                sums_width * element
            },
        );
        // Half of the first level for a strip, but no less than the pixels of a vector.
        let strip = caches.first / 2 / (sums_width * element);
        let strip = if strip < MOST_IN_STRIP { LANES_PER_PANEL } else { MOST_IN_STRIP };
        let in_planes = matches!(problem.layout, Layout::Nchw);
        Schedule {
            segment: if one_segment { units } else { segment },
            pixel_block,
            sums_width,
            strip,
            in_planes,
            prefetches: !in_planes && problem.input_elements() > caches.second / element,
            pixels_in_scratch: if !one_segment {
                pixel_block
            } else if in_planes {
                smaller(geometry.pixels(), strip)
            } else {
                0
            },
            weights_are_more: weights_are_more(geometry),
        }
    }

    pub const fn scratch_len(&self, _geometry: &Geometry) -> usize {
        self.pixels_in_scratch.saturating_mul(self.sums_width)
    }

    /// The operand that is larger is the one that parts should not have to share; groups share none.
    /// Between panels by whole tiles, between pixels by rows, unless rows are few and long.
    pub fn cut(&self, problem: &Problem, whole: &Part, wanted: Wanted) -> Cut {
        const PANELS: usize = WIDEST_TILE / LANES_PER_PANEL;
        const PIXELS: usize = 2 * MOST_IN_STRIP;
        let width = problem.geometry.output[2];
        let few_rows = whole.pixels.end < wanted.parts.saturating_mul(width);
        let pixels =
            if few_rows && width > PIXELS { MOST_IN_STRIP } else { at_least(width, PIXELS) };
        if self.weights_are_more || problem.geometry.groups > 1 {
            Cut::panels_first(whole, wanted, PANELS, pixels)
        } else {
            Cut::pixels_first(whole, wanted, PANELS, pixels)
        }
    }
}
