//! Output channels in the lanes, each lane with an input channel of its own: depthwise layers
//! and narrow groups, channels last.
//!
//! The lanes of a vector are neighbouring output channels; a plain depthwise layer loads their
//! input as it lies, a group of several channels spreads a vector over the lanes, or collects
//! them one by one where a panel spans more input channels than a vector has lanes.
//!
//! ```text
//! for each block of rows                        (whose input the second-level cache holds)
//!   for each vector of output channels
//!     for each row
//!       for each tile of pixels in the row      (whose windows have the same taps inside)
//!         sums = bias
//!         for each channel block, kd, kh, kw inside the input, channel of the block
//!           for each pixel: sums += x[lanes] * w[lanes]
//!         finish the outputs
//! ```
//!
//! Taps outside the input are not visited: pixels at the ends of a row are tiles of their own.

use super::finish::Outputs;
use super::walk::{Row, even_piece, input_offset, interior, next_row, taps_inside};
use super::{Part, Task};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::simd::{Kernel, MOST_LANES, Simd};
use core::ops::Range;

/// The most pixels of a tile.
const MOST_PIXELS: usize = 8;

pub(super) struct Run<'a> {
    pub task: &'a Task,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let width = geometry.output[2];
        let block = (plan.pixel_block / width).max(1) * width;
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let mut first_pixel = self.part.pixels.start;
        while first_pixel < self.part.pixels.end {
            // Blocks end where rows do.
            let end = self.part.pixels.end.min((first_pixel / width * width) + block);
            for panel in self.part.panels.clone() {
                let first_channel = panel * LANES_PER_PANEL;
                let channels = LANES_PER_PANEL.min(geometry.out_channels - first_channel);
                let mut lane = 0;
                while lane < channels {
                    let vector = Vector {
                        task: self.task,
                        outputs: Outputs::of(self.task),
                        weights: self
                            .panels
                            .as_ptr()
                            .wrapping_add((panel - self.first_panel) * panel_len + lane),
                        first: first_channel + lane,
                        count: S::LANES.min(channels - lane),
                    };
                    vector.spread(simd, first_pixel..end);
                    lane += S::LANES;
                }
            }
            first_pixel = end;
        }
    }
}

/// The output channels of a vector.
struct Vector<'a> {
    task: &'a Task,
    outputs: Outputs,
    /// The first step of the chain, at the vector's lanes.
    weights: *const f32,
    first: usize,
    count: usize,
}

/// How the lanes get their input.
trait Spread<S: Simd>: Copy {
    /// Whether the chain has one channel.
    const DEPTHWISE: bool;
    /// The input of each lane, `p` being at channel `channel` of the first lane's group.
    unsafe fn load(&self, simd: S, p: *const f32, channel: usize) -> S::V;
}

/// Depthwise, a full vector: as it lies.
#[derive(Clone, Copy)]
struct Adjoining;

impl<S: Simd> Spread<S> for Adjoining {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each lane.
        unsafe { simd.load(p) }
    }
}

/// Depthwise, the last channels.
#[derive(Clone, Copy)]
struct AdjoiningFirst(usize);

impl<S: Simd> Spread<S> for AdjoiningFirst {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each of the first lanes.
        unsafe { simd.load_first(p, self.0) }
    }
}

/// Groups whose channels fit a vector.
#[derive(Clone, Copy)]
struct Permuted<S: Simd> {
    index: S::Index,
    span: usize,
}

impl<S: Simd> Spread<S> for Permuted<S> {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load(&self, simd: S, p: *const f32, channel: usize) -> S::V {
        // SAFETY: the groups of the lanes have `span` channels, `p` being at number `channel`.
        unsafe { simd.permute(simd.load_first(p, self.span - channel), self.index) }
    }
}

/// Any groups, any stride between channels.
#[derive(Clone, Copy)]
struct Collected {
    offsets: [usize; MOST_LANES],
    count: usize,
}

impl<S: Simd> Spread<S> for Collected {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        let mut lanes = [0.0; MOST_LANES];
        let mut lane = 0;
        while lane < self.count {
            // SAFETY: the input holds this channel of the group of the lane.
            lanes[lane] = unsafe { *p.wrapping_add(self.offsets[lane]) };
            lane += 1;
        }
        // SAFETY: `lanes` holds a vector.
        unsafe { simd.load(lanes.as_ptr()) }
    }
}

impl Vector<'_> {
    /// Chooses how the lanes get their input.
    #[inline(always)]
    fn spread<S: Simd>(&self, simd: S, pixels: Range<usize>) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let channels_adjoin = plan.input.channel == 1;
        if geometry.is_plain_depthwise() && (channels_adjoin || S::LANES == 1) {
            return if self.count == S::LANES {
                self.rows(simd, Adjoining, pixels)
            } else {
                self.rows(simd, AdjoiningFirst(self.count), pixels)
            };
        }
        let (in_per_group, out_per_group) = (geometry.in_per_group(), geometry.out_per_group());
        let mut channels = [0; MOST_LANES];
        let mut offsets = [0; MOST_LANES];
        let mut index = [0; MOST_LANES];
        let mut lane = 0;
        while lane < self.count {
            let groups = (self.first + lane) / out_per_group - self.first / out_per_group;
            channels[lane] = groups * in_per_group;
            offsets[lane] = channels[lane] * plan.input.channel;
            index[lane] = channels[lane] as u32;
            lane += 1;
        }
        let span = channels[self.count - 1] + in_per_group;
        if channels_adjoin && span <= S::LANES {
            self.rows(simd, Permuted::<S> { index: simd.index(&index), span }, pixels);
        } else {
            self.rows(simd, Collected { offsets, count: self.count }, pixels);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, L: Spread<S>>(&self, simd: S, spread: L, mut pixels: Range<usize>) {
        let geometry = &self.task.plan.geometry;
        while let Some(row) = next_row(geometry, &mut pixels) {
            self.row(simd, spread, &row);
        }
    }

    #[inline(always)]
    fn row<S: Simd, L: Spread<S>>(&self, simd: S, spread: L, row: &Row) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let start = row.pixel.window_start(geometry);
        let group = self.first / geometry.out_per_group();
        let input = self
            .task
            .input
            .wrapping_add(row.pixel.image * plan.input.batch)
            .wrapping_add(group * geometry.in_per_group() * plan.input.channel)
            .wrapping_offset(input_offset(&plan.input, start));
        let mut tile = Tile {
            vector: self,
            input,
            step: geometry.stride[2] * plan.input.pixel,
            offset: row.pixel.output_offset(&plan.output) + self.first * plan.output.channel,
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1]), 0..0],
        };
        let whole = interior(geometry, 2, row.width.clone());
        let mut at = row.width.start;
        while at < row.width.end {
            let inside = whole.contains(&at);
            let count = if inside { even_piece(whole.end - at, MOST_PIXELS) } else { 1 };
            tile.taps[2] = if inside {
                0..geometry.kernel[2]
            } else {
                let shift = (at - row.width.start) * geometry.stride[2];
                taps_inside(geometry, 2, start[2] + shift as isize)
            };
            // SAFETY: the windows of these pixels have the tile's taps inside the input; the
            // panels hold the weights of the lanes; the outputs are of the task's part.
            unsafe {
                match count {
                    1 => tile.run::<S, L, 1>(simd, spread),
                    2 => tile.run::<S, L, 2>(simd, spread),
                    3 => tile.run::<S, L, 3>(simd, spread),
                    4 => tile.run::<S, L, 4>(simd, spread),
                    5 => tile.run::<S, L, 5>(simd, spread),
                    6 => tile.run::<S, L, 6>(simd, spread),
                    7 => tile.run::<S, L, 7>(simd, spread),
                    _ => tile.run::<S, L, 8>(simd, spread),
                }
            }
            tile.input = tile.input.wrapping_add(count * tile.step);
            tile.offset += count * plan.output.pixel;
            at += count;
        }
    }
}

/// Neighbouring pixels of a row whose windows have the same taps inside.
struct Tile<'a> {
    vector: &'a Vector<'a>,
    /// The first tap of the first pixel, at the first lane's group.
    input: *const f32,
    /// From a pixel's window to the next.
    step: usize,
    /// The first pixel in the output, at the first lane.
    offset: usize,
    taps: [Range<usize>; 3],
}

impl Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, L: Spread<S>, const PIXELS: usize>(&self, simd: S, spread: L) {
        let vector = self.vector;
        let plan = &vector.task.plan;
        let geometry = &plan.geometry;
        let strides = &plan.input;
        let [depth, height, width] = &self.taps;
        let in_per_group = geometry.in_per_group();
        let [depth_step, row_step, pixel_step] = [
            geometry.dilation[0].wrapping_mul(strides.depth),
            geometry.dilation[1].wrapping_mul(strides.row),
            geometry.dilation[2].wrapping_mul(strides.pixel),
        ];

        // SAFETY: the bias has a value for each lane.
        let bias = unsafe {
            if vector.task.bias.is_null() {
                simd.splat(0.0)
            } else {
                simd.load_first(vector.task.bias.add(vector.first), vector.count)
            }
        };
        let mut sums = [bias; PIXELS];
        let mut first = 0;
        while first < in_per_group {
            let channels = if L::DEPTHWISE { 1 } else { CHANNEL_BLOCK.min(in_per_group - first) };
            let weights = vector.weights.wrapping_add(first * geometry.taps() * LANES_PER_PANEL);
            let mut kd = depth.start;
            while kd < depth.end {
                let mut kh = height.start;
                while kh < height.end {
                    let tap = (kd * geometry.kernel[1] + kh) * geometry.kernel[2] + width.start;
                    let mut w = weights.wrapping_add(tap * channels * LANES_PER_PANEL);
                    let mut x = self
                        .input
                        .wrapping_add(first.wrapping_mul(strides.channel))
                        .wrapping_add(kd.wrapping_mul(depth_step))
                        .wrapping_add(kh.wrapping_mul(row_step))
                        .wrapping_add(width.start.wrapping_mul(pixel_step));
                    let mut left = width.end - width.start;
                    while left > 0 {
                        let mut channel = 0;
                        while channel < channels {
                            // SAFETY: these taps lie inside the input, and in the panel.
                            unsafe {
                                let weight = simd.load(w);
                                let mut pixel = 0;
                                while pixel < PIXELS {
                                    let at = x
                                        .wrapping_add(pixel * self.step)
                                        .wrapping_add(channel.wrapping_mul(strides.channel));
                                    let value = spread.load(simd, at, first + channel);
                                    sums[pixel] = simd.fma(value, weight, sums[pixel]);
                                    pixel += 1;
                                }
                            }
                            w = w.wrapping_add(LANES_PER_PANEL);
                            channel += 1;
                        }
                        x = x.wrapping_add(pixel_step);
                        left -= 1;
                    }
                    kh += 1;
                }
                kd += 1;
            }
            first += channels;
        }

        let mut pixel = 0;
        while pixel < PIXELS {
            let offset = self.offset + pixel * plan.output.pixel;
            let stride = plan.output.channel;
            // SAFETY: outputs of the task's part.
            unsafe {
                vector.outputs.store_strided(simd, sums[pixel], offset, stride, vector.count);
            }
            pixel += 1;
        }
    }
}
