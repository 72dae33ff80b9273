//! Pixels in the lanes, the weights broadcast: depthwise layers, narrow groups and few output
//! channels where planes are contiguous, and weights that were not packed.
//!
//! ```text
//! for each block of pixels                      (whose input the second-level cache holds)
//!   for each tile of output channels of a group (1, 2 or 4)
//!     for each row
//!       for each tile of pixels in the row      (1 to 4 vectors)
//!         sums = bias
//!         for each channel block, kd, kh inside the input, kw, channel of the block
//!           for each vector, output channel: sums += x[lanes] * w     (outer product)
//!         finish the outputs
//! ```
//!
//! Where every lane of a tile has a tap inside the input and the lanes are neighbours there,
//! vectors are loaded as they lie; elsewhere only the lanes inside, and zeros for the rest.

use super::finish::Outputs;
use super::walk::{Row, Rows, div_ceil, even_piece, input_offset, taps_inside};
use super::{Part, Task, WeightPanels};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::{LANES_PER_PANEL, panel_channels};
use crate::simd::{Kernel, Simd};
use core::ops::Range;

pub(super) struct Run<'a> {
    pub task: &'a Task,
    pub weights: WeightPanels<'a>,
    pub part: Part,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let out_per_group = geometry.out_per_group();
        let mut first_pixel = self.part.pixels.start;
        while first_pixel < self.part.pixels.end {
            let end = self.part.pixels.end.min(first_pixel + plan.pixel_block);
            for panel in self.part.panels.clone() {
                let (first, count) = panel_channels(geometry, panel);
                let mut channel = first;
                while channel < first + count {
                    let group = channel / out_per_group;
                    let left = (first + count).min((group + 1) * out_per_group) - channel;
                    let count = match left {
                        1 => 1,
                        2 | 3 => 2,
                        _ => 4,
                    };
                    let channels = Channels {
                        task: self.task,
                        outputs: Outputs::of(self.task),
                        weights: self.weights_of(panel, channel - first, channel),
                        group,
                        first: channel,
                        count,
                    };
                    channels.rows(simd, first_pixel..end);
                    channel += count;
                }
            }
            first_pixel = end;
        }
    }
}

impl Run<'_> {
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
    task: &'a Task,
    outputs: Outputs,
    weights: ChannelWeights,
    group: usize,
    first: usize,
    count: usize,
}

impl Channels<'_> {
    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, pixels: Range<usize>) {
        let geometry = &self.task.plan.geometry;
        let mut bias = [simd.splat(0.0); MOST_CHANNELS];
        if !self.task.bias.is_null() {
            let mut channel = 0;
            while channel < self.count {
                // SAFETY: the bias has a value for each output channel.
                bias[channel] = simd.splat(unsafe { *self.task.bias.add(self.first + channel) });
                channel += 1;
            }
        }
        let mut rows = Rows::of(geometry, pixels);
        while let Some(row) = rows.next(geometry) {
            self.row(simd, &bias, &row);
        }
    }

    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, bias: &[S::V; MOST_CHANNELS], row: &Row) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let start = row.pixel.window_start(geometry);
        let mut tile = Tile {
            channels: self,
            input: self
                .task
                .input
                .wrapping_add(row.pixel.image * plan.input.batch)
                .wrapping_add(self.group * geometry.in_per_group() * plan.input.channel)
                .wrapping_offset(input_offset(&plan.input, start)),
            step: geometry.stride[2].wrapping_mul(plan.input.pixel),
            column: start[2],
            pixels: 0,
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
        };
        let mut offset = row.pixel.output_offset(&plan.output) + self.first * plan.output.channel;
        let mut left = row.count;
        while left > 0 {
            let vectors = even_piece(left.div_ceil(S::LANES), S::PIXEL_VECTORS);
            tile.pixels = left.min(vectors * S::LANES);
            let mut sums = [simd.splat(0.0); MOST_CHANNELS * MOST_VECTORS];
            // SAFETY: the tile describes windows of the task's input; the weights are those of
            // the channels.
            unsafe { tile.enter(simd, vectors, bias, &mut sums) };
            let mut sums = sums.chunks_exact(vectors);
            for channel in 0..self.count {
                for (vector, &sum) in sums.next().unwrap_or_default().iter().enumerate() {
                    let pixel = vector * S::LANES;
                    let count = S::LANES.min(tile.pixels - pixel);
                    let stride = plan.output.pixel;
                    let offset = offset + channel * plan.output.channel + pixel * stride;
                    // SAFETY: outputs of the task's part.
                    unsafe { self.outputs.store_strided(simd, sum, offset, stride, count) };
                }
            }
            tile.input = tile.input.wrapping_add(tile.pixels.wrapping_mul(tile.step));
            tile.column += (tile.pixels * geometry.stride[2]) as isize;
            offset += tile.pixels * plan.output.pixel;
            left -= tile.pixels;
        }
    }
}

/// The most output channels of a tile.
const MOST_CHANNELS: usize = 4;

/// The most vectors of pixels of a tile, on any instruction set.
const MOST_VECTORS: usize = 4;

/// Neighbouring pixels of a row, for a few output channels.
struct Tile<'a> {
    channels: &'a Channels<'a>,
    /// The first tap of the first pixel, at the first channel of the group.
    input: *const f32,
    /// From a pixel's window to the next.
    step: usize,
    /// The column of the first tap of the first pixel; negative in the padding.
    column: isize,
    pixels: usize,
    /// The taps in depth and height that lie inside the input.
    taps: [Range<usize>; 2],
}

impl Tile<'_> {
    /// Enters the body for just this number of channels and vectors.
    #[inline(always)]
    unsafe fn enter<S: Simd>(
        &self,
        simd: S,
        vectors: usize,
        bias: &[S::V; MOST_CHANNELS],
        sums: &mut [S::V],
    ) {
        macro_rules! with_vectors {
            ($channels:literal) => {
                match vectors {
                    1 => self.accumulate::<S, $channels, 1>(simd, bias, sums),
                    2 => self.accumulate::<S, $channels, 2>(simd, bias, sums),
                    _ if S::PIXEL_VECTORS <= 2 => {}
                    3 => self.accumulate::<S, $channels, 3>(simd, bias, sums),
                    _ if S::PIXEL_VECTORS <= 3 => {}
                    _ => self.accumulate::<S, $channels, 4>(simd, bias, sums),
                }
            };
        }
        // SAFETY: as the caller's.
        unsafe {
            match self.channels.count {
                1 => with_vectors!(1),
                2 => with_vectors!(2),
                _ => with_vectors!(4),
            }
        }
    }

    /// The whole chain: `result[channel * VECTORS + vector]`.
    #[inline(always)]
    unsafe fn accumulate<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        bias: &[S::V; MOST_CHANNELS],
        result: &mut [S::V],
    ) {
        let plan = &self.channels.task.plan;
        let geometry = &plan.geometry;
        let strides = &plan.input;
        let weights = &self.channels.weights;
        let [depth, height] = &self.taps;
        let [_, kernel_height, kernel_width] = geometry.kernel;
        let in_per_group = geometry.in_per_group();
        let [depth_step, row_step, pixel_step] = [
            geometry.dilation[0].wrapping_mul(strides.depth),
            geometry.dilation[1].wrapping_mul(strides.row),
            geometry.dilation[2].wrapping_mul(strides.pixel),
        ];
        let full = self.step == 1 && self.pixels == VECTORS * S::LANES;
        let past = ((self.pixels - 1) * geometry.stride[2]) as isize;
        let size = geometry.input[2] as isize;

        let mut sums = [[simd.splat(0.0); VECTORS]; CHANNELS];
        let mut channel = 0;
        while channel < CHANNELS {
            sums[channel] = [bias[channel]; VECTORS];
            channel += 1;
        }
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
                        // SAFETY: the lanes that are read have this tap inside the input; the
                        // weights hold these steps for each output channel.
                        unsafe {
                            if full && column >= 0 && column + past < size {
                                self.block::<S, CHANNELS, VECTORS, true>(
                                    simd,
                                    w,
                                    x,
                                    block,
                                    &[(0, 0); VECTORS],
                                    &mut sums,
                                );
                            } else if column + past >= 0 && column < size {
                                let lanes = self.lanes_inside::<S, VECTORS>(column);
                                self.block::<S, CHANNELS, VECTORS, false>(
                                    simd, w, x, block, &lanes, &mut sums,
                                );
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
        for (to, from) in result.iter_mut().zip(sums.as_flattened()) {
            *to = *from;
        }
    }

    /// The channels of a block at one tap.
    #[inline(always)]
    unsafe fn block<S: Simd, const CHANNELS: usize, const VECTORS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        w: *const f32,
        x: *const f32,
        channels: usize,
        lanes: &[(usize, usize); VECTORS],
        sums: &mut [[S::V; VECTORS]; CHANNELS],
    ) {
        let stride = self.channels.task.plan.input.channel;
        let ChannelWeights { to_channel, to_output, .. } = self.channels.weights;
        let (mut w, mut x) = (w, x);
        let mut left = channels;
        while left > 0 {
            // SAFETY: the caller vouches for `channels` steps of weights and of the lanes.
            unsafe {
                let values = self.load::<S, VECTORS, WHOLE>(simd, x, lanes);
                let mut output = 0;
                while output < CHANNELS {
                    let weight = simd.splat(*w.wrapping_add(output * to_output));
                    let mut vector = 0;
                    while vector < VECTORS {
                        sums[output][vector] =
                            simd.fma(values[vector], weight, sums[output][vector]);
                        vector += 1;
                    }
                    output += 1;
                }
            }
            w = w.wrapping_add(to_channel);
            x = x.wrapping_add(stride);
            left -= 1;
        }
    }

    /// The lanes of each vector that exist and lie inside the input at a tap whose first pixel
    /// reads `column`.
    #[inline(always)]
    fn lanes_inside<S: Simd, const VECTORS: usize>(
        &self,
        column: isize,
    ) -> [(usize, usize); VECTORS] {
        let geometry = &self.channels.task.plan.geometry;
        let stride = geometry.stride[2];
        let before = if column < 0 { div_ceil(column.unsigned_abs(), stride) } else { 0 };
        let until = div_ceil((geometry.input[2] as isize - column) as usize, stride);
        let until = until.min(self.pixels);
        let mut lanes = [(0, 0); VECTORS];
        let mut vector = 0;
        while vector < VECTORS {
            let first = vector * S::LANES;
            let to = until.saturating_sub(first).min(S::LANES);
            lanes[vector] = (before.saturating_sub(first).min(to), to);
            vector += 1;
        }
        lanes
    }

    #[inline(always)]
    unsafe fn load<S: Simd, const VECTORS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        at: *const f32,
        lanes: &[(usize, usize); VECTORS],
    ) -> [S::V; VECTORS] {
        let mut values = [simd.splat(0.0); VECTORS];
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: the caller vouches for `lanes`, or for all of a whole tile.
            values[vector] = unsafe {
                if WHOLE {
                    simd.load(at.wrapping_add(vector * S::LANES))
                } else {
                    let (from, to) = lanes[vector];
                    let at = at.wrapping_add((vector * S::LANES).wrapping_mul(self.step));
                    match self.step {
                        1 => simd.load_range(at, from, to),
                        2 => load_alternate(simd, at, from, to),
                        step => simd.load_strided(at, step as isize, from, to),
                    }
                }
            };
            vector += 1;
        }
        values
    }
}

/// `p[2 * lane]` for lanes in `from..to`, `+0.0` in the others; reads nothing behind the last.
#[inline(always)]
unsafe fn load_alternate<S: Simd>(simd: S, p: *const f32, from: usize, to: usize) -> S::V {
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
