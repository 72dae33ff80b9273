//! Pixels in the lanes, the weights broadcast: narrow groups and few output channels where planes
//! are contiguous, depthwise layers of few taps, and weights that were not packed.
//!
//! ```text
//! for each block of pixels                      (whose input the second-level cache holds)
//!   for each tile of output channels of a group (1, 2, 4, 6 or 8)
//!     for each row
//!       for each tile of pixels in the row      (a few vectors; of rows below, if it is narrow)
//!         sums = bias
//!         for each channel block, kd, kh inside the input, kw, channel of the block
//!           for each vector, output channel: sums += x[lanes] * w     (outer product)
//!         finish the outputs
//! ```
//!
//! Where every lane of a tile has a tap inside the input and the lanes are neighbours there,
//! vectors are loaded as they lie; elsewhere only the lanes inside, and zeros for the rest.

mod body;
mod copy;
pub(super) mod schedule;
mod tile;
pub(super) mod tiling;

pub(super) use schedule::Schedule;

use super::call::{Call, Input};
use super::walk::{Row, Rows, input_offset, interior, taps_inside};
use super::weights::ChannelWeights;
use crate::panels;
use crate::problem::arithmetic::divide;
use crate::simd::{Body, Simd};
use copy::{block_end, copy_input};
use core::ops::Range;
use tile::{PixelTile, TileChannels, VectorStep};
use tiling::{most_channels, most_vectors};

/// Over the part of a call. Scratch memory holds a copy of the input, if there is one.
pub(super) struct Walk<'a> {
    pub call: &'a Call<'a>,
    pub schedule: &'a Schedule,
}

impl Body for Walk<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (call, schedule) = (self.call, self.schedule);
        let pixels = &call.part().pixels;
        let mut first = pixels.start;
        while first < pixels.end {
            let mut end = pixels.end.min(first + schedule.pixel_block);
            let (copied, on_copy);
            let mut of_block = call;
            if schedule.copied_channel > 0 {
                end = block_end(call.geometry(), schedule, first, pixels.end);
                // SAFETY: the block is one that `block_end` cut, within the call's part; it is the
                // only one for which the copy is used.
                unsafe {
                    copied = copy_input(call, schedule, first..end);
                    on_copy = call.on_copy(Input { first: copied.0, strides: &copied.1 });
                }
                of_block = &on_copy;
            }
            block(simd, of_block, first..end);
            first = end;
        }
    }
}

/// A block of pixels, in all channels of the part.
#[inline(always)]
fn block<S: Simd>(simd: S, call: &Call, pixels: Range<usize>) {
    let geometry = call.geometry();
    let out_per_group = geometry.out_per_group;
    for panel in call.part().panels.clone() {
        let (first, count) = panels::channels(geometry, panel);
        let mut channel = first;
        while channel < first + count {
            let (group, _) = divide(channel, out_per_group);
            let left = (first + count).min((group + 1) * out_per_group) - channel;
            let count = match left.min(most_channels(S::FACTS)) {
                1 => 1,
                2 | 3 => 2,
                4 | 5 => 4,
                6 | 7 => 6,
                _ => 8,
            };
            let channels = TileChannels {
                call,
                weights: ChannelWeights::of(call, panel, channel - first, channel),
                group,
                first: channel,
                count,
            };
            channels.rows(simd, pixels.clone());
            channel += count;
        }
    }
}

impl TileChannels<'_> {
    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, pixels: Range<usize>) {
        let geometry = self.call.geometry();
        let whole_rows = interior(geometry, 1, 0..geometry.output[1]);
        // One channel and a narrow row would be too few independent sums to keep a machine busy.
        let stacked = self.count == 1 && geometry.output[2] < 2 * S::LANES;
        let mut rows = Rows::of(geometry, pixels);
        while let Some(row) = rows.next(geometry) {
            let mut below = 1;
            if stacked && row.count == geometry.output[2] && whole_rows.contains(&row.pixel.at[1]) {
                let most = (whole_rows.end - row.pixel.at[1]).min(1 + rows.whole_rows(geometry));
                below = some_vectors(most, most_vectors(S::FACTS, 1));
                rows.skip(geometry, below - 1);
            }
            self.row(simd, &row, below);
        }
    }

    /// Cuts a row, and those `below` it with the same taps inside, into tiles of full vectors,
    /// and one of what is left.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: &Row, below: usize) {
        let geometry = self.call.geometry();
        let Input { first, strides } = self.call.input();
        let to = self.call.outputs().strides();
        let start = row.pixel.window_start(geometry);
        let step = geometry.stride[2].wrapping_mul(strides.pixel);
        let mut tile = PixelTile {
            channels: self,
            input: first
                .wrapping_add(row.pixel.image * strides.batch)
                .wrapping_add(self.group * geometry.in_per_group * strides.channel)
                .wrapping_offset(input_offset(strides, start)),
            step,
            vector: VectorStep {
                pixels: S::LANES,
                input: step.wrapping_mul(S::LANES),
                output: to.pixel.wrapping_mul(S::LANES),
            },
            column: start[2],
            pixels: 0,
            offset: row.pixel.output_offset(to) + self.first * to.channel,
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
        };
        let most = most_vectors(S::FACTS, self.count);
        if below > 1 {
            tile.vector = VectorStep {
                pixels: 0,
                input: geometry.stride[1].wrapping_mul(strides.row),
                output: to.row,
            };
        }
        let mut left = row.count;
        while left > 0 {
            let vectors =
                if below > 1 { below } else { some_vectors((left / S::LANES).max(1), most) };
            tile.pixels = left.min(if below > 1 { S::LANES } else { vectors * S::LANES });
            tile.enter(simd, vectors);
            tile.input = tile.input.wrapping_add(tile.pixels.wrapping_mul(tile.step));
            tile.column += (tile.pixels * geometry.stride[2]) as isize;
            tile.offset += tile.pixels * to.pixel;
            left -= tile.pixels;
        }
    }
}

/// As many of `wanted` vectors as there is a body for, at most `most`.
#[inline(always)]
fn some_vectors(wanted: usize, most: usize) -> usize {
    match wanted.min(most) {
        5 => 4,
        7 => 6,
        vectors => vectors,
    }
}
