//! Output channels in the lanes, each lane with an input channel of its own: depthwise layers
//! and narrow groups, channels last.
//!
//! The lanes of a vector are neighbouring output channels; a plain depthwise layer loads their
//! input as it lies, a group of several channels spreads a vector over the lanes, or collects
//! them one by one where a panel spans more input channels than a vector has lanes.
//!
//! ```text
//! for each block of pixels                      (whose input the second-level cache holds)
//!   for each run of panels                      (whose weights the first-level cache holds)
//!     for each row
//!       for each tile of pixels in the row      (as many as the registers hold)
//!         for each vector of output channels
//!           sums = bias
//!           for each channel block, kd, kh inside the input, kw
//!             if some pixel has this tap inside the input
//!               for each channel of the block, for each pixel: sums += x[lanes] * w[lanes]
//!           finish the outputs
//! ```
//!
//! Pixels of many channels lie far apart, in few sets of a cache, and hardware does not foresee
//! the next one. So depthwise layers visit all vectors of a tile before the next tile; layers of
//! narrow groups take each vector of output channels alone.
//!
//! Where a tap lies inside for some pixels of a tile only, the others multiply by zero.

mod body;
mod chain;
mod row;
pub(super) mod schedule;
mod shared;
mod spread;
pub(super) mod tiling;

pub(super) use schedule::Schedule;

use super::call::{Call, Input};
use super::walk::{Row, Rows, input_offset, taps_inside};
use crate::panels::LANES_PER_PANEL;
use crate::problem::arithmetic::divide;
use crate::simd::{Body, HAS_VECTORS, MOST_LANES, Simd};
use core::ops::Range;
use row::{TilesInRow, Vectors};
use spread::{Adjoining, AdjoiningFirst, Collected, Permuted, SingleLane, Spread};
use tiling::most_pixels;

/// Over the part of a call.
pub(super) struct Walk<'a> {
    pub call: &'a Call<'a>,
    pub schedule: &'a Schedule,
}

impl Body for Walk<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.call.geometry().output[2];
        let part = self.call.part();
        let Schedule { pixel_block, panel_run, .. } = *self.schedule;
        let (rows, _) = divide(pixel_block, width);
        let mut pixel = part.pixels.start;
        while pixel < part.pixels.end {
            // Blocks end where rows do, unless a row is several.
            let (_, column) = divide(pixel, width);
            let most =
                if rows > 0 { rows * width } else { width.min(column + pixel_block) } - column;
            let end = part.pixels.end.min(pixel + most);
            let mut panel = part.panels.start;
            while panel < part.panels.end {
                let end_panel = part.panels.end.min(panel + panel_run);
                self.panels(simd, pixel..end, panel..end_panel);
                panel = end_panel;
            }
            pixel = end;
        }
    }
}

impl Walk<'_> {
    /// A run of panels: full vectors of a depthwise layer together, others one by one.
    #[inline(always)]
    fn panels<S: Simd>(&self, simd: S, pixels: Range<usize>, panels: Range<usize>) {
        let geometry = self.call.geometry();
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let first_channel = panels.start * LANES_PER_PANEL;
        let end_channel = geometry.out_channels.min(panels.end * LANES_PER_PANEL);
        let panels = self.call.panel(panels.start);
        // Where code has to be small, one lane has one way to its input.
        let together = const { S::LANES > 1 || HAS_VECTORS }
            && geometry.is_plain_depthwise()
            && self.call.input().strides.channel == 1;
        let mut channel = first_channel;
        while channel < end_channel {
            let left = end_channel - channel;
            let vectors = if together { (left / S::LANES).max(1) } else { 1 };
            let vectors = Vectors {
                call: self.call,
                panels,
                panel_len,
                lane: channel - first_channel,
                first: channel,
                vectors,
                count: S::LANES.min(left),
            };
            vectors.spread(simd, together, pixels.clone());
            channel += vectors.vectors * S::LANES;
        }
    }
}

impl Vectors<'_> {
    /// Chooses how the lanes get their input.
    #[inline(always)]
    fn spread<S: Simd>(&self, simd: S, depthwise: bool, pixels: Range<usize>) {
        let geometry = self.call.geometry();
        let strides = self.call.input().strides;
        if depthwise {
            return if const { S::LANES == 1 } || self.count == S::LANES {
                self.rows(simd, &Adjoining, pixels)
            } else {
                self.rows(simd, &AdjoiningFirst(self.count), pixels)
            };
        }
        if const { S::LANES == 1 } {
            return self.rows(simd, &SingleLane, pixels);
        }
        let (in_per_group, out_per_group) = (geometry.in_per_group, geometry.out_per_group);
        let mut offsets = [0; MOST_LANES];
        let mut index = [0; MOST_LANES];
        let mut span = 0;
        for lane in 0..self.count {
            let group = |channel: usize| divide(channel, out_per_group).0;
            let groups = group(self.first + lane) - group(self.first);
            let channel = groups * in_per_group;
            offsets[lane] = channel * strides.channel;
            index[lane] = channel as u32;
            span = channel + in_per_group;
        }
        if strides.channel == 1 && span <= S::LANES {
            self.rows(simd, &Permuted { index, span }, pixels);
        } else {
            self.rows(simd, &Collected { offsets, count: self.count }, pixels);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, L: Spread>(&self, simd: S, spread: &L, pixels: Range<usize>) {
        let geometry = self.call.geometry();
        let mut rows = Rows::of(geometry, pixels);
        while let Some(row) = rows.next(geometry) {
            self.row(simd, spread, &row);
        }
    }

    /// Cuts the row into tiles of at most two sizes.
    #[inline(always)]
    fn row<S: Simd, L: Spread>(&self, simd: S, spread: &L, row: &Row) {
        let geometry = self.call.geometry();
        let Input { first, strides } = self.call.input();
        let to = self.call.outputs().strides();
        let start = row.pixel.window_start(geometry);
        let (group, _) = divide(self.first, geometry.out_per_group);
        let group = first
            .wrapping_add(group * geometry.in_per_group * strides.channel)
            .wrapping_add(row.pixel.image * strides.batch);
        let tiles = row.count.div_ceil(most_pixels(S::FACTS));
        let (pixels, larger) = divide(row.count, tiles);
        let mut in_row = TilesInRow {
            vectors: self,
            spread,
            group,
            window: group.wrapping_offset(input_offset(strides, start)),
            step: geometry.stride[2].wrapping_mul(strides.pixel),
            column: start[2],
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
            tiles: larger,
            pixels: pixels + 1,
            offset: row.pixel.output_offset(to) + self.first * to.channel,
        };
        if larger > 0 {
            in_row.enter(simd);
            let done = larger * (pixels + 1);
            in_row.window = in_row.window.wrapping_add(done.wrapping_mul(in_row.step));
            in_row.column += (done * geometry.stride[2]) as isize;
            in_row.offset += done * to.pixel;
        }
        in_row.tiles = tiles - larger;
        in_row.pixels = pixels;
        in_row.enter(simd);
    }
}
