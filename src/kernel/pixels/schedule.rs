//! How the pixels kernel cuts its loops, and the scratch memory for a copy of its input.

use crate::element::Element;
use crate::kernel::caches::{Caches, pixel_bytes};
use crate::kernel::fit::{Fit, has_wide_rows, weights_are_more};
use crate::kernel::part::{Cut, Part, Wanted, at_least};
use crate::panels::{LANES_PER_PANEL, is_narrow};
use crate::problem::Problem;
use crate::problem::arithmetic::smaller;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How many pixels a pass covers before it turns to the next output channels.
    pub pixel_block: usize,
    /// Where blocks of pixels work on a copy of their input: from a channel of it to the next.
    /// Elsewhere 0.
    pub copied_channel: usize,
    /// Whether there are more weights than inputs.
    weights_are_more: bool,
}

impl Schedule {
    pub const READS_UNPACKED: bool = true;

    pub const fn fit(problem: &Problem, unpacked: bool) -> Fit {
        let geometry = &problem.geometry;
        let suits = unpacked
            || is_narrow(geometry)
            || geometry.out_channels < LANES_PER_PANEL
            || has_wide_rows(geometry);
        match problem.layout {
            Layout::Nchw if suits => Fit::Good,
            _ => Fit::Poor,
        }
    }

    pub const fn of(problem: &Problem, caches: &Caches, unpacked: bool) -> Schedule {
        let geometry = &problem.geometry;
        let element = size_of::<Element>();
        let bytes = pixel_bytes(geometry, geometry.in_per_group, element);
        let mut schedule = Schedule {
            pixel_block: caches.pixel_block(geometry, bytes),
            copied_channel: 0,
            weights_are_more: weights_are_more(geometry),
        };
        if input_collides(problem) && !unpacked {
            let channel = schedule.seen_by_block(geometry);
            if geometry.in_channels.saturating_mul(channel) <= caches.second / element {
                schedule.copied_channel = channel;
            }
        }
        schedule
    }

    pub const fn scratch_len(&self, geometry: &Geometry) -> usize {
        geometry.in_channels.saturating_mul(self.copied_channel)
    }

    /// Groups share no input, so between panels first; as where there are more weights than inputs,
    /// unless parts would have to copy the same. Between rows that make a few full tiles, or in rows
    /// that are long.
    pub fn cut(&self, problem: &Problem, whole: &Part, wanted: Wanted) -> Cut {
        const PIXELS: usize = 192;
        let width = problem.geometry.output[2];
        let few_rows = whole.pixels.end < wanted.parts.saturating_mul(width);
        let pixels = if few_rows && width > PIXELS { PIXELS } else { at_least(width, PIXELS) };
        let panels = self.weights_are_more || problem.geometry.groups > 1;
        if panels && self.copied_channel == 0 {
            Cut::panels_first(whole, wanted, 1, pixels)
        } else {
            Cut::pixels_first(whole, wanted, 1, pixels)
        }
    }

    /// Room for a channel of what a block of pixels sees of the input: an odd number of cache
    /// lines.
    const fn seen_by_block(&self, geometry: &Geometry) -> usize {
        const LINE: usize = 64 / size_of::<Element>();
        let width = geometry.output[2];
        let (rows, columns) = match self.pixel_block.checked_div(width) {
            None | Some(0) => (1, self.pixel_block),
            Some(rows) => (rows, width),
        };
        let places = [1, rows, columns];
        let mut len = 1_usize;
        let mut axis = 0;
        while axis < 3 {
            let seen = (places[axis] - 1)
                .saturating_mul(geometry.stride[axis])
                .saturating_add(geometry.reach(axis) + 1);
            len = len.saturating_mul(smaller(seen, geometry.input[axis]));
            axis += 1;
        }
        (len.div_ceil(LINE) | 1).saturating_mul(LINE)
    }
}

/// Whether channels share the sets of a cache, and enough is computed from each element of the
/// input to repay a copy.
const fn input_collides(problem: &Problem) -> bool {
    const COLLISION: usize = 2048 / size_of::<Element>();
    let geometry = &problem.geometry;
    geometry.groups == 1
        && geometry.out_channels >= 2 * LANES_PER_PANEL
        && geometry.in_channels >= LANES_PER_PANEL
        && problem.input.channel.is_multiple_of(COLLISION)
}
