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

use super::copy::{block_end, copy_input};
use super::finish::Outputs;
use super::walk::{Row, Rows, input_offset, interior, places_inside, taps_inside};
use super::{Part, Task, WeightPanels};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::{LANES_PER_PANEL, panel_channels};
use crate::shape::divide;
use crate::simd::{Kernel, Simd};
use core::ops::Range;

pub(super) struct Run<'a> {
    pub task: &'a Task<'a>,
    pub weights: WeightPanels<'a>,
    pub part: Part,
    /// For a copy of the input.
    pub scratch: *mut f32,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = self.task.plan;
        let copies_input = plan.copies_input && matches!(self.weights, WeightPanels::Packed { .. });
        let mut first = self.part.pixels.start;
        while first < self.part.pixels.end {
            let mut end = self.part.pixels.end.min(first + plan.pixel_block);
            if copies_input {
                end = block_end(plan, first, self.part.pixels.end);
                // SAFETY: the task's input is valid, and its scratch memory long enough.
                let (input, strides) = unsafe { copy_input(self.task, first..end, self.scratch) };
                let task = Task { input, input_strides: &strides, ..*self.task };
                self.block(simd, &task, first..end);
            } else {
                self.block(simd, self.task, first..end);
            }
            first = end;
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn block<S: Simd>(&self, simd: S, task: &Task, pixels: Range<usize>) {
        let geometry = &task.plan.geometry;
        let out_per_group = geometry.out_per_group();
        for panel in self.part.panels.clone() {
            let (first, count) = panel_channels(geometry, panel);
            let mut channel = first;
            while channel < first + count {
                let (group, _) = divide(channel, out_per_group);
                let left = (first + count).min((group + 1) * out_per_group) - channel;
                let count = match left.min(S::PIXEL_CHANNELS) {
                    1 => 1,
                    2 | 3 => 2,
                    4 | 5 => 4,
                    6 | 7 => 6,
                    _ => 8,
                };
                let channels = Channels {
                    task,
                    outputs: &task.outputs,
                    weights: self.weights_of(panel, channel - first, channel),
                    group,
                    first: channel,
                    count,
                };
                channels.rows(simd, pixels.clone());
                channel += count;
            }
        }
    }

    #[inline(always)]
    fn weights_of(&self, panel: usize, lane: usize, channel: usize) -> ChannelWeights {
        let geometry = &self.task.plan.geometry;
        let (chain, taps) = (geometry.chain(), geometry.taps());
        match self.weights {
            WeightPanels::Packed { panels, first_panel } => ChannelWeights {
                first: panels
                    .as_ptr()
                    .wrapping_add((panel - first_panel) * chain * LANES_PER_PANEL + lane),
                to_output: 1,
                to_channel: LANES_PER_PANEL,
                to_tap: LANES_PER_PANEL,
                channels_in_tap: true,
                before_block: taps * LANES_PER_PANEL,
            },
            WeightPanels::Unpacked(weights) => ChannelWeights {
                first: weights.as_ptr().wrapping_add(channel * chain),
                to_output: chain,
                to_channel: taps,
                to_tap: 1,
                channels_in_tap: false,
                before_block: taps,
            },
        }
    }
}

/// Where the weights of a few output channels lie, packed or not.
#[derive(Clone, Copy)]
struct ChannelWeights {
    /// The first step of the first channel's chain.
    first: *const f32,
    /// To the next output channel.
    to_output: usize,
    /// To the next input channel of a block, at the same tap.
    to_channel: usize,
    /// To the next tap; for each channel of the block, if the channels of a block lie between.
    to_tap: usize,
    channels_in_tap: bool,
    /// To the block that begins with an input channel, per channel before it.
    before_block: usize,
}

/// Output channels of one group that share tiles.
struct Channels<'a> {
    task: &'a Task<'a>,
    outputs: &'a Outputs,
    weights: ChannelWeights,
    group: usize,
    first: usize,
    count: usize,
}

impl Channels<'_> {
    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, pixels: Range<usize>) {
        let geometry = &self.task.plan.geometry;
        let whole_rows = interior(geometry, 1, 0..geometry.output[1]);
        // One channel and a narrow row would be too few independent sums to keep a machine busy.
        let stacked = self.count == 1 && geometry.output[2] < 2 * S::LANES;
        let mut rows = Rows::of(geometry, pixels);
        while let Some(row) = rows.next(geometry) {
            let mut below = 1;
            if stacked && row.count == geometry.output[2] && whole_rows.contains(&row.pixel.at[1]) {
                let most = (whole_rows.end - row.pixel.at[1]).min(1 + rows.whole_rows(geometry));
                below = some_vectors(most, S::PIXEL_VECTORS_DEPTHWISE);
                rows.skip(geometry, below - 1);
            }
            self.row(simd, &row, below);
        }
    }

    /// Cuts a row, and those `below` it with the same taps inside, into tiles of full vectors,
    /// and one of what is left.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: &Row, below: usize) {
        let plan = self.task.plan;
        let strides = self.task.input_strides;
        let geometry = &plan.geometry;
        let start = row.pixel.window_start(geometry);
        let step = geometry.stride[2].wrapping_mul(strides.pixel);
        let mut tile = Tile {
            channels: self,
            input: self
                .task
                .input
                .wrapping_add(row.pixel.image * strides.batch)
                .wrapping_add(self.group * geometry.in_per_group() * strides.channel)
                .wrapping_offset(input_offset(strides, start)),
            step,
            vector: VectorStep {
                pixels: S::LANES,
                input: step.wrapping_mul(S::LANES),
                output: plan.output.pixel.wrapping_mul(S::LANES),
            },
            column: start[2],
            pixels: 0,
            offset: row.pixel.output_offset(&plan.output) + self.first * plan.output.channel,
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
        };
        let most = if self.count == 1 { S::PIXEL_VECTORS_DEPTHWISE } else { S::PIXEL_VECTORS };
        if below > 1 {
            tile.vector = VectorStep {
                pixels: 0,
                input: geometry.stride[1].wrapping_mul(strides.row),
                output: plan.output.row,
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
            tile.offset += tile.pixels * plan.output.pixel;
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

/// Neighbouring pixels of a row, or of rows below each other, for a few output channels.
struct Tile<'a> {
    channels: &'a Channels<'a>,
    /// The first tap of the first pixel, at the first channel of the group.
    input: *const f32,
    /// From a pixel's window to the next.
    step: usize,
    vector: VectorStep,
    /// The column of the first tap of the first pixel; negative in the padding.
    column: isize,
    /// In a row: full vectors, or fewer lanes than one.
    pixels: usize,
    /// Where the first pixel lies in the output, at the first channel.
    offset: usize,
    /// The taps in depth and height that lie inside the input.
    taps: [Range<usize>; 2],
}

/// From a vector of a tile to the next: in the row, or below.
struct VectorStep {
    /// Pixels of the row, or 0.
    pixels: usize,
    input: usize,
    output: usize,
}

/// How the lanes of a vector are loaded.
mod lanes {
    /// All, side by side.
    pub const ALL: usize = 0;
    /// Some, side by side.
    pub const SOME: usize = 1;
    /// Some, every other element.
    pub const ALTERNATE: usize = 2;
    /// Some, at any distance.
    pub const APART: usize = 3;
}

impl Tile<'_> {
    /// Enters the body for just this number of channels and vectors.
    #[inline(always)]
    fn enter<S: Simd>(&self, simd: S, vectors: usize) {
        macro_rules! with_vectors {
            ($channels:literal) => {
                match vectors {
                    1 => simd.enter(Body::<$channels, 1>(self)),
                    _ if S::PIXEL_VECTORS <= 1 && S::PIXEL_VECTORS_DEPTHWISE <= 1 => {}
                    2 => simd.enter(Body::<$channels, 2>(self)),
                    _ if S::PIXEL_VECTORS <= 2 && S::PIXEL_VECTORS_DEPTHWISE <= 2 => {}
                    3 if S::PIXEL_VECTORS >= 3 || $channels == 1 => {
                        simd.enter(Body::<$channels, 3>(self));
                    }
                    4 if S::PIXEL_VECTORS >= 4 || $channels == 1 => {
                        simd.enter(Body::<$channels, 4>(self));
                    }
                    6 if $channels == 1 => simd.enter(Body::<1, 6>(self)),
                    _ => simd.enter(Body::<1, 8>(self)),
                }
            };
        }
        match self.channels.count {
            1 => with_vectors!(1),
            _ if S::PIXEL_CHANNELS <= 1 => {}
            2 => with_vectors!(2),
            4 => with_vectors!(4),
            _ if S::PIXEL_CHANNELS <= 4 => {}
            6 => with_vectors!(6),
            _ if S::PIXEL_CHANNELS <= 6 => {}
            _ => with_vectors!(8),
        }
    }
}

struct Body<'a, const CHANNELS: usize, const VECTORS: usize>(&'a Tile<'a>);

impl<const CHANNELS: usize, const VECTORS: usize> Kernel for Body<'_, CHANNELS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        let channels = tile.channels;
        let task = channels.task;
        let mut sums = [[simd.splat(0.0); VECTORS]; CHANNELS];
        if !task.bias.is_null() {
            let mut channel = 0;
            while channel < CHANNELS {
                // SAFETY: the bias has a value for each output channel.
                let bias = unsafe { *task.bias.add(channels.first + channel) };
                sums[channel] = [simd.splat(bias); VECTORS];
                channel += 1;
            }
        }
        // SAFETY: the tile describes windows of the task's input and where they lie in it; the
        // weights are those of the channels.
        unsafe { tile.accumulate(simd, &mut sums) };
        let sums = sums;
        let output = &task.plan.output;
        let count = S::LANES.min(tile.pixels);
        for (channel, sums) in sums.iter().enumerate() {
            let offset = tile.offset + channel * output.channel;
            // SAFETY: outputs of the task's part.
            unsafe {
                let step = tile.vector.output;
                channels.outputs.store_vectors(simd, sums, offset, step, output.pixel, count);
            }
        }
    }
}

impl Tile<'_> {
    /// Adds the whole chain.
    #[inline(always)]
    unsafe fn accumulate<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        sums: &mut [[S::V; VECTORS]; CHANNELS],
    ) {
        use lanes::{ALL, ALTERNATE, APART, SOME};
        let plan = self.channels.task.plan;
        let geometry = &plan.geometry;
        let strides = self.channels.task.input_strides;
        let weights = &self.channels.weights;
        let [depth, height] = &self.taps;
        let [_, kernel_height, kernel_width] = geometry.kernel;
        let in_per_group = geometry.in_per_group();
        let [depth_step, row_step, pixel_step] = [
            geometry.dilation[0].wrapping_mul(strides.depth),
            geometry.dilation[1].wrapping_mul(strides.row),
            geometry.dilation[2].wrapping_mul(strides.pixel),
        ];
        let full = self.step == 1 && self.pixels.is_multiple_of(S::LANES);
        let past = ((self.pixels - 1) * geometry.stride[2]) as isize;
        let size = geometry.input[2] as isize;

        let mut first = 0;
        while first < in_per_group {
            let block = CHANNEL_BLOCK.min(in_per_group - first);
            let to_tap =
                if weights.channels_in_tap { block * weights.to_tap } else { weights.to_tap };
            let block_weights = weights.first.wrapping_add(first * weights.before_block);
            let block_input = self.input.wrapping_add(first.wrapping_mul(strides.channel));
            let mut kd = depth.start;
            while kd < depth.end {
                let mut kh = height.start;
                while kh < height.end {
                    let tap = (kd * kernel_height + kh) * kernel_width;
                    let mut w = block_weights.wrapping_add(tap * to_tap);
                    let mut x = block_input
                        .wrapping_add(kd.wrapping_mul(depth_step))
                        .wrapping_add(kh.wrapping_mul(row_step));
                    let mut column = self.column;
                    let mut left = kernel_width;
                    while left > 0 {
                        let all_inside = column >= 0 && column + past < size;
                        let some_inside = column + past >= 0 && column < size;
                        // SAFETY: the lanes that are read have this tap inside the input; the
                        // weights hold these steps for each output channel.
                        unsafe {
                            if full && all_inside {
                                self.block::<S, CHANNELS, VECTORS, ALL>(
                                    simd, w, x, block, column, sums,
                                );
                            } else if some_inside {
                                match self.step {
                                    1 => self.block::<S, CHANNELS, VECTORS, SOME>(
                                        simd, w, x, block, column, sums,
                                    ),
                                    2 => self.block::<S, CHANNELS, VECTORS, ALTERNATE>(
                                        simd, w, x, block, column, sums,
                                    ),
                                    _ => self.block::<S, CHANNELS, VECTORS, APART>(
                                        simd, w, x, block, column, sums,
                                    ),
                                }
                            }
                        }
                        w = w.wrapping_add(to_tap);
                        x = x.wrapping_add(pixel_step);
                        column += geometry.dilation[2] as isize;
                        left -= 1;
                    }
                    kh += 1;
                }
                kd += 1;
            }
            first += block;
        }
    }

    /// The channels of a block at one tap, the first pixel of which reads `column`.
    #[inline(always)]
    unsafe fn block<S: Simd, const CHANNELS: usize, const VECTORS: usize, const LANES: usize>(
        &self,
        simd: S,
        w: *const f32,
        x: *const f32,
        channels: usize,
        column: isize,
        sums: &mut [[S::V; VECTORS]; CHANNELS],
    ) {
        let stride = self.channels.task.input_strides.channel;
        let ChannelWeights { to_channel, to_output, .. } = self.channels.weights;
        let inside = if LANES == lanes::ALL { 0..0 } else { self.pixels_inside(column) };
        let (mut w, mut x) = (w, x);
        let mut left = channels;
        while left > 0 {
            let mut values = [simd.splat(0.0); VECTORS];
            let mut vector = 0;
            while vector < VECTORS {
                let first = vector * self.vector.pixels;
                let to = inside.end.saturating_sub(first).min(S::LANES);
                let from = inside.start.saturating_sub(first).min(to);
                let at = x.wrapping_add(vector.wrapping_mul(self.vector.input));
                // SAFETY: these lanes have the tap inside the input, as the caller vouches.
                values[vector] = unsafe {
                    match LANES {
                        lanes::ALL => simd.load(at),
                        lanes::SOME => simd.load_range(at, from, to),
                        lanes::ALTERNATE => load_alternate(simd, at, from, to),
                        _ => simd.load_strided(at, self.step as isize, from, to),
                    }
                };
                vector += 1;
            }
            let mut output = 0;
            while output < CHANNELS {
                // SAFETY: the weights hold this step, as the caller vouches.
                let weight = simd.splat(unsafe { *w.wrapping_add(output * to_output) });
                let mut vector = 0;
                while vector < VECTORS {
                    sums[output][vector] = simd.fma(values[vector], weight, sums[output][vector]);
                    vector += 1;
                }
                output += 1;
            }
            w = w.wrapping_add(to_channel);
            x = x.wrapping_add(stride);
            left -= 1;
        }
    }

    /// The pixels that exist and lie inside the input at a tap whose first pixel reads `column`.
    #[inline(always)]
    fn pixels_inside(&self, column: isize) -> Range<usize> {
        let geometry = &self.channels.task.plan.geometry;
        places_inside(column, geometry.input[2] as isize, geometry.stride[2], self.pixels)
    }
}

/// `p[2 * lane]` for lanes in `from..to`, `+0.0` in the others; reads nothing behind the last.
#[inline(always)]
pub(super) unsafe fn load_alternate<S: Simd>(
    simd: S,
    p: *const f32,
    from: usize,
    to: usize,
) -> S::V {
    let end = (2 * to).saturating_sub(1);
    let (first, second) = (0, S::LANES);
    let within = |from_lane: usize| {
        let to = end.saturating_sub(from_lane).min(S::LANES);
        ((2 * from).saturating_sub(from_lane).min(to), to)
    };
    let (low, high) = (within(first), within(second));
    // SAFETY: the elements from that of the first lane to that of the last; the caller vouches
    // for both, and they lie in one row of the input.
    unsafe {
        let low = simd.load_range(p, low.0, low.1);
        let high = simd.load_range(p.wrapping_add(S::LANES), high.0, high.1);
        simd.even_lanes(low, high)
    }
}
