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
//! A tile whose every lane has every column of the window inside the input loads vectors as they
//! lie. Others, and those whose lanes are not neighbours in the input, load lane by lane what
//! lies inside and zeros for the rest.

use super::finish::Outputs;
use super::walk::{Row, even_piece, input_offset, next_row, taps_inside};
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
    fn rows<S: Simd>(&self, simd: S, mut pixels: Range<usize>) {
        let geometry = &self.task.plan.geometry;
        while let Some(row) = next_row(geometry, &mut pixels) {
            self.row(simd, &row);
        }
    }

    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: &Row) {
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
            offset: row.pixel.output_offset(&plan.output) + self.first * plan.output.channel,
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
        };
        let reach = ((geometry.kernel[2] - 1) * geometry.dilation[2]) as isize;
        let mut left = row.width.end - row.width.start;
        while left > 0 {
            let vectors = even_piece(left.div_ceil(S::LANES), S::PIXEL_VECTORS);
            tile.pixels = left.min(vectors * S::LANES);
            let past = ((tile.pixels - 1) * geometry.stride[2]) as isize;
            let whole = tile.pixels == vectors * S::LANES
                && tile.step == 1
                && tile.column >= 0
                && tile.column + past + reach < geometry.input[2] as isize;
            // SAFETY: the tile describes outputs of the task's part and their windows; the
            // lanes of a whole tile are neighbours with every column inside the input.
            unsafe {
                if whole {
                    tile.enter::<S, true>(simd, vectors);
                } else {
                    tile.enter::<S, false>(simd, vectors);
                }
            }
            tile.input = tile.input.wrapping_add(tile.pixels.wrapping_mul(tile.step));
            tile.column += (tile.pixels * geometry.stride[2]) as isize;
            tile.offset += tile.pixels * plan.output.pixel;
            left -= tile.pixels;
        }
    }
}

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
    /// The first pixel in the output, at the first channel.
    offset: usize,
    /// The taps in depth and height that lie inside the input.
    taps: [Range<usize>; 2],
}

impl Tile<'_> {
    /// Enters the body for just this number of channels and vectors.
    #[inline(always)]
    unsafe fn enter<S: Simd, const WHOLE: bool>(&self, simd: S, vectors: usize) {
        macro_rules! with_vectors {
            ($channels:literal) => {
                match vectors {
                    1 => self.run::<S, $channels, 1, WHOLE>(simd),
                    2 => self.run::<S, $channels, 2, WHOLE>(simd),
                    _ if S::PIXEL_VECTORS <= 2 => {}
                    3 => self.run::<S, $channels, 3, WHOLE>(simd),
                    _ if S::PIXEL_VECTORS <= 3 => {}
                    _ => self.run::<S, $channels, 4, WHOLE>(simd),
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

    #[inline(always)]
    unsafe fn run<S: Simd, const CHANNELS: usize, const VECTORS: usize, const WHOLE: bool>(
        &self,
        simd: S,
    ) {
        let channels = self.channels;
        let task = channels.task;
        let plan = &task.plan;
        let geometry = &plan.geometry;
        let strides = &plan.input;
        let weights = &channels.weights;
        let [depth, height] = &self.taps;
        let [_, kernel_height, kernel_width] = geometry.kernel;
        let in_per_group = geometry.in_per_group();
        let [depth_step, row_step, pixel_step] = [
            geometry.dilation[0].wrapping_mul(strides.depth),
            geometry.dilation[1].wrapping_mul(strides.row),
            geometry.dilation[2].wrapping_mul(strides.pixel),
        ];

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
                    let mut kw = 0;
                    while kw < kernel_width {
                        let inside = if WHOLE {
                            [(0, 0); VECTORS]
                        } else {
                            self.lanes_inside::<S, VECTORS>(kw)
                        };
                        let mut channel = 0;
                        while channel < block {
                            // SAFETY: the lanes that are read have this tap inside the input;
                            // the weights hold this step for each output channel.
                            unsafe {
                                let at = x.wrapping_add(channel.wrapping_mul(strides.channel));
                                let values = self.load::<S, VECTORS, WHOLE>(simd, at, &inside);
                                let mut output = 0;
                                while output < CHANNELS {
                                    let weight = w
                                        .wrapping_add(channel * weights.to_channel)
                                        .wrapping_add(output * weights.to_output);
                                    let weight = simd.splat(*weight);
                                    let mut vector = 0;
                                    while vector < VECTORS {
                                        sums[output][vector] =
                                            simd.fma(values[vector], weight, sums[output][vector]);
                                        vector += 1;
                                    }
                                    output += 1;
                                }
                            }
                            channel += 1;
                        }
                        w = w.wrapping_add(to_tap);
                        x = x.wrapping_add(pixel_step);
                        kw += 1;
                    }
                    kh += 1;
                }
                kd += 1;
            }
            first += block;
        }

        let mut output = 0;
        while output < CHANNELS {
            let mut vector = 0;
            while vector < VECTORS {
                let pixel = vector * S::LANES;
                let count = S::LANES.min(self.pixels - pixel);
                let stride = plan.output.pixel;
                let offset = self.offset + output * plan.output.channel + pixel * stride;
                // SAFETY: outputs of the task's part.
                unsafe {
                    channels.outputs.store_strided(
                        simd,
                        sums[output][vector],
                        offset,
                        stride,
                        count,
                    );
                }
                vector += 1;
            }
            output += 1;
        }
    }

    /// The lanes of each vector that exist and have a column of the window inside the input.
    #[inline(always)]
    fn lanes_inside<S: Simd, const VECTORS: usize>(&self, kw: usize) -> [(usize, usize); VECTORS] {
        let geometry = &self.channels.task.plan.geometry;
        let stride = geometry.stride[2];
        let tap = self.column + (kw * geometry.dilation[2]) as isize;
        let mut lanes = [(0, 0); VECTORS];
        let mut vector = 0;
        while vector < VECTORS {
            let column = tap + (vector * S::LANES * stride) as isize;
            let before = if column < 0 { column.unsigned_abs() } else { 0 };
            let until = geometry.input[2] as isize - column;
            let until = if until > 0 { until as usize } else { 0 };
            let (before, until) = if stride == 1 {
                (before, until)
            } else {
                (before.div_ceil(stride), until.div_ceil(stride))
            };
            let to = until.min(S::LANES).min(self.pixels - vector * S::LANES);
            lanes[vector] = (before.min(to), to);
            vector += 1;
        }
        lanes
    }

    #[inline(always)]
    unsafe fn load<S: Simd, const VECTORS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        at: *const f32,
        inside: &[(usize, usize); VECTORS],
    ) -> [S::V; VECTORS] {
        let mut values = [simd.splat(0.0); VECTORS];
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: the caller vouches for the lanes `inside`, or for all of a whole tile.
            values[vector] = unsafe {
                if WHOLE {
                    simd.load(at.wrapping_add(vector * S::LANES))
                } else {
                    let (from, to) = inside[vector];
                    let at = at.wrapping_add((vector * S::LANES).wrapping_mul(self.step));
                    if self.step == 1 {
                        simd.load_range(at, from, to)
                    } else {
                        simd.load_strided(at, self.step as isize, from, to)
                    }
                }
            };
            vector += 1;
        }
        values
    }
}
