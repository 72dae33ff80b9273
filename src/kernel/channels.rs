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
//!       for each tile of pixels in the row      (as many as the registers hold)
//!         sums = bias
//!         for each channel block, kd, kh inside the input, kw
//!           if some pixel has this tap inside the input
//!             for each channel of the block, for each pixel: sums += x[lanes] * w[lanes]
//!         finish the outputs
//! ```
//!
//! Where a tap lies inside for some pixels of a tile only, the others multiply by zero.

use super::finish::Outputs;
use super::walk::{Row, Rows, input_offset, taps_inside};
use super::{Part, Task};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::plan::Strides;
use crate::shape::divide;
use crate::simd::{Kernel, MOST_LANES, Simd};
use core::ops::Range;

pub(super) struct Run<'a> {
    pub task: &'a Task<'a>,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        let width = geometry.output[2];
        let block = divide(plan.pixel_block, width).0.max(1) * width;
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let mut first_pixel = self.part.pixels.start;
        while first_pixel < self.part.pixels.end {
            // Blocks end where rows do.
            let row_start = first_pixel - divide(first_pixel, width).1;
            let end = self.part.pixels.end.min(row_start + block);
            for panel in self.part.panels.clone() {
                let first_channel = panel * LANES_PER_PANEL;
                let channels = LANES_PER_PANEL.min(geometry.out_channels - first_channel);
                let mut lane = 0;
                while lane < channels {
                    let vector = Vector {
                        task: self.task,
                        outputs: &self.task.outputs,
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
    task: &'a Task<'a>,
    outputs: &'a Outputs,
    /// The first step of the chain, at the vector's lanes.
    weights: *const f32,
    first: usize,
    count: usize,
}

/// How the lanes get their input.
trait Spread {
    /// Whether the chain has one channel.
    const DEPTHWISE: bool;
    /// The input of each lane, `p` being at channel `channel` of the first lane's group.
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, channel: usize) -> S::V;
}

/// One lane, whatever its group.
struct OneLane;

impl Spread for OneLane {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds this channel of the lane's group.
        unsafe { simd.load(p) }
    }
}

/// Depthwise, a full vector: as it lies.
struct Adjoining;

impl Spread for Adjoining {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each lane.
        unsafe { simd.load(p) }
    }
}

/// Depthwise, the last channels.
struct AdjoiningFirst(usize);

impl Spread for AdjoiningFirst {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each of the first lanes.
        unsafe { simd.load_first(p, self.0) }
    }
}

/// Groups whose channels fit a vector.
struct Permuted {
    index: [u32; MOST_LANES],
    span: usize,
}

impl Spread for Permuted {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, channel: usize) -> S::V {
        // SAFETY: the groups of the lanes have `span` channels, `p` being at number `channel`.
        unsafe { simd.permute(simd.load_first(p, self.span - channel), simd.index(&self.index)) }
    }
}

/// Any groups, any stride between channels.
struct Collected {
    offsets: [usize; MOST_LANES],
    count: usize,
}

impl Spread for Collected {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
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
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        if S::LANES == 1 {
            return self.rows(simd, &OneLane, pixels);
        }
        let channels_adjoin = plan.input.channel == 1;
        if geometry.is_plain_depthwise() && channels_adjoin {
            return if self.count == S::LANES {
                self.rows(simd, &Adjoining, pixels)
            } else {
                self.rows(simd, &AdjoiningFirst(self.count), pixels)
            };
        }
        let (in_per_group, out_per_group) = (geometry.in_per_group(), geometry.out_per_group());
        let mut offsets = [0; MOST_LANES];
        let mut index = [0; MOST_LANES];
        let mut span = 0;
        for lane in 0..self.count {
            let group = |channel: usize| divide(channel, out_per_group).0;
            let groups = group(self.first + lane) - group(self.first);
            let channel = groups * in_per_group;
            offsets[lane] = channel * plan.input.channel;
            index[lane] = channel as u32;
            span = channel + in_per_group;
        }
        if channels_adjoin && span <= S::LANES {
            self.rows(simd, &Permuted { index, span }, pixels);
        } else {
            self.rows(simd, &Collected { offsets, count: self.count }, pixels);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, L: Spread>(&self, simd: S, spread: &L, pixels: Range<usize>) {
        let geometry = &self.task.plan.geometry;
        let mut rows = Rows::of(geometry, pixels);
        while let Some(row) = rows.next(geometry) {
            self.row(simd, spread, &row);
        }
    }

    /// Cuts the row into tiles of at most two sizes.
    #[inline(always)]
    fn row<S: Simd, L: Spread>(&self, simd: S, spread: &L, row: &Row) {
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        let start = row.pixel.window_start(geometry);
        let (group, _) = divide(self.first, geometry.out_per_group());
        let group = self
            .task
            .input
            .wrapping_add(group * geometry.in_per_group() * plan.input.channel)
            .wrapping_add(row.pixel.image * plan.input.batch);
        let tiles = row.count.div_ceil(S::ROW_PIXELS);
        let (pixels, larger) = divide(row.count, tiles);
        let mut in_row = TilesInRow {
            vector: self,
            spread,
            group,
            window: group.wrapping_offset(input_offset(&plan.input, start)),
            step: geometry.stride[2].wrapping_mul(plan.input.pixel),
            column: start[2],
            taps: [taps_inside(geometry, 0, start[0]), taps_inside(geometry, 1, start[1])],
            tiles: larger,
            pixels: pixels + 1,
            offset: row.pixel.output_offset(&plan.output) + self.first * plan.output.channel,
        };
        if larger > 0 {
            in_row.enter(simd);
            let done = larger * (pixels + 1);
            in_row.window = in_row.window.wrapping_add(done.wrapping_mul(in_row.step));
            in_row.column += (done * geometry.stride[2]) as isize;
            in_row.offset += done * plan.output.pixel;
        }
        in_row.tiles = tiles - larger;
        in_row.pixels = pixels;
        in_row.enter(simd);
    }
}

/// Tiles of the same number of neighbouring pixels, side by side in a row.
struct TilesInRow<'a, L> {
    vector: &'a Vector<'a>,
    spread: &'a L,
    /// The first pixel of the image, at the first lane's group.
    group: *const f32,
    /// The first tap of the first pixel.
    window: *const f32,
    /// From a pixel's window to the next.
    step: usize,
    /// The column of the first tap of the first pixel; negative in the padding.
    column: isize,
    /// The taps in depth and height that lie inside the input.
    taps: [Range<usize>; 2],
    tiles: usize,
    pixels: usize,
    /// Where the first pixel lies in the output, at the first lane.
    offset: usize,
}

impl<L: Spread> TilesInRow<'_, L> {
    /// Enters the body for just this number of pixels, and for the usual depthwise windows.
    #[inline(always)]
    fn enter<S: Simd>(&self, simd: S) {
        let geometry = &self.vector.task.plan.geometry;
        let dense_windows = geometry.dilation[2] == 1 && geometry.stride[2] == 1;
        if L::DEPTHWISE && self.pixels >= 4 && dense_windows {
            match geometry.kernel[2] {
                3 => return self.enter_window::<S, 3>(simd),
                5 => return self.enter_window::<S, 5>(simd),
                _ => {}
            }
        }
        match self.pixels {
            1 => simd.enter(Body::<L, 1, 0>(self)),
            _ if S::ROW_PIXELS <= 1 => {}
            2 => simd.enter(Body::<L, 2, 0>(self)),
            _ if S::ROW_PIXELS <= 2 => {}
            3 => simd.enter(Body::<L, 3, 0>(self)),
            4 => simd.enter(Body::<L, 4, 0>(self)),
            5 => simd.enter(Body::<L, 5, 0>(self)),
            6 => simd.enter(Body::<L, 6, 0>(self)),
            7 => simd.enter(Body::<L, 7, 0>(self)),
            _ => simd.enter(Body::<L, 8, 0>(self)),
        }
    }

    #[inline(always)]
    fn enter_window<S: Simd, const WIDTH: usize>(&self, simd: S) {
        match self.pixels {
            4 => simd.enter(Body::<L, 4, WIDTH>(self)),
            5 => simd.enter(Body::<L, 5, WIDTH>(self)),
            6 => simd.enter(Body::<L, 6, WIDTH>(self)),
            7 => simd.enter(Body::<L, 7, WIDTH>(self)),
            _ => simd.enter(Body::<L, 8, WIDTH>(self)),
        }
    }
}

/// The tiles of a row. A `WIDTH` other than 0 is that of a depthwise window with neither dilation
/// nor stride along the row: neighbouring pixels then share their input vectors.
struct Body<'a, L, const PIXELS: usize, const WIDTH: usize>(&'a TilesInRow<'a, L>);

impl<L: Spread, const PIXELS: usize, const WIDTH: usize> Kernel for Body<'_, L, PIXELS, WIDTH> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.0;
        let vector = row.vector;
        let plan = vector.task.plan;
        let geometry = &plan.geometry;
        // SAFETY: the bias has a value for each lane.
        let bias = unsafe {
            if vector.task.bias.is_null() {
                simd.splat(0.0)
            } else {
                simd.load_first(vector.task.bias.add(vector.first), vector.count)
            }
        };
        let size = geometry.input[2] as isize;
        let reach = ((geometry.kernel[2] - 1) * geometry.dilation[2]) as isize;
        let past = ((PIXELS - 1) * geometry.stride[2]) as isize;
        let mut window = row.window;
        let mut column = row.column;
        let mut offset = row.offset;
        let mut left = row.tiles;
        while left > 0 {
            let whole = column >= 0 && column + past + reach < size;
            let mut sums = [bias; PIXELS];
            // SAFETY: the windows are of the task's input, and where a tap of them may lie
            // outside it is tested; the panels hold the weights of the lanes.
            unsafe {
                if WIDTH == 0 {
                    let mut windows = [window; PIXELS];
                    let mut pixel = 1;
                    while pixel < PIXELS {
                        windows[pixel] = windows[pixel - 1].wrapping_add(row.step);
                        pixel += 1;
                    }
                    if whole {
                        row.accumulate::<S, PIXELS, true>(simd, &windows, column, &mut sums);
                    } else {
                        row.accumulate::<S, PIXELS, false>(simd, &windows, column, &mut sums);
                    }
                } else if whole {
                    row.accumulate_shared::<S, PIXELS, WIDTH, true>(
                        simd, window, column, &mut sums,
                    );
                } else {
                    row.accumulate_shared::<S, PIXELS, WIDTH, false>(
                        simd, window, column, &mut sums,
                    );
                }
            }
            // SAFETY: outputs of the task's part.
            unsafe {
                let Strides { pixel, channel, .. } = plan.output;
                vector.outputs.store_vectors(simd, &sums, offset, pixel, channel, vector.count);
            }
            offset += PIXELS * plan.output.pixel;
            window = window.wrapping_add(PIXELS.wrapping_mul(row.step));
            column += (PIXELS * geometry.stride[2]) as isize;
            left -= 1;
        }
    }
}

impl<L: Spread> TilesInRow<'_, L> {
    /// Adds the whole chain. `WHOLE`: every column of taps lies inside for every pixel.
    #[inline(always)]
    unsafe fn accumulate<S: Simd, const PIXELS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        windows: &[*const f32; PIXELS],
        column: isize,
        sums: &mut [S::V; PIXELS],
    ) {
        let geometry = &self.vector.task.plan.geometry;
        let strides = &self.vector.task.plan.input;
        let [depth, height] = &self.taps;
        let [_, kernel_height, kernel_width] = geometry.kernel;
        let in_per_group = geometry.in_per_group();
        let steps = geometry.dilation.map(|dilation| dilation as isize);
        let depth_step = steps[0].wrapping_mul(strides.depth as isize);
        let row_step = steps[1].wrapping_mul(strides.row as isize);
        let pixel_step = steps[2].wrapping_mul(strides.pixel as isize);
        let past = ((PIXELS - 1) * geometry.stride[2]) as isize;
        let size = geometry.input[2] as isize;
        let mut first = 0;
        while first < in_per_group {
            let channels = if L::DEPTHWISE { 1 } else { CHANNEL_BLOCK.min(in_per_group - first) };
            let weights =
                self.vector.weights.wrapping_add(first * geometry.taps() * LANES_PER_PANEL);
            let mut kd = depth.start;
            while kd < depth.end {
                let mut kh = height.start;
                while kh < height.end {
                    let tap = (kd * kernel_height + kh) * kernel_width;
                    let mut w = weights.wrapping_add(tap * channels * LANES_PER_PANEL);
                    let mut offset = (kd as isize)
                        .wrapping_mul(depth_step)
                        .wrapping_add((kh as isize).wrapping_mul(row_step));
                    let mut column = column;
                    let mut left = kernel_width;
                    while left > 0 {
                        // SAFETY: these taps lie inside the input, or the first pixel of the
                        // image is read; the panel holds these steps.
                        unsafe {
                            if WHOLE || column >= 0 && column + past < size {
                                self.block::<S, PIXELS, false>(
                                    simd,
                                    w,
                                    first,
                                    channels,
                                    windows,
                                    offset,
                                    &[0; PIXELS],
                                    sums,
                                );
                            } else if column + past >= 0 && column < size {
                                let mut at = [self.group; PIXELS];
                                let mut masks = [0; PIXELS];
                                let mut pixel = 0;
                                while pixel < PIXELS {
                                    let shift = (pixel * geometry.stride[2]) as isize;
                                    if (0..size).contains(&(column + shift)) {
                                        at[pixel] = windows[pixel].wrapping_offset(offset);
                                        masks[pixel] = u32::MAX;
                                    }
                                    pixel += 1;
                                }
                                self.block::<S, PIXELS, true>(
                                    simd, w, first, channels, &at, 0, &masks, sums,
                                );
                            }
                        }
                        w = w.wrapping_add(channels * LANES_PER_PANEL);
                        offset = offset.wrapping_add(pixel_step);
                        column += steps[2];
                        left -= 1;
                    }
                    kh += 1;
                }
                kd += 1;
            }
            first += channels;
        }
    }

    /// Adds the whole chain of a depthwise window of `WIDTH` columns: each column of the input is
    /// loaded once for all the pixels that see it. Columns ascend, so the taps of each pixel do.
    #[inline(always)]
    unsafe fn accumulate_shared<
        S: Simd,
        const PIXELS: usize,
        const WIDTH: usize,
        const WHOLE: bool,
    >(
        &self,
        simd: S,
        window: *const f32,
        column: isize,
        sums: &mut [S::V; PIXELS],
    ) {
        let geometry = &self.vector.task.plan.geometry;
        let strides = &self.vector.task.plan.input;
        let [depth, height] = &self.taps;
        let depth_step = geometry.dilation[0].wrapping_mul(strides.depth);
        let row_step = geometry.dilation[1].wrapping_mul(strides.row);
        let size = geometry.input[2] as isize;
        let mut kd = depth.start;
        while kd < depth.end {
            let mut kh = height.start;
            while kh < height.end {
                let tap = (kd * geometry.kernel[1] + kh) * WIDTH;
                let mut w = [simd.splat(0.0); WIDTH];
                let mut kw = 0;
                while kw < WIDTH {
                    let step = (tap + kw) * LANES_PER_PANEL;
                    // SAFETY: the panel holds this step.
                    w[kw] = unsafe { simd.load(self.vector.weights.wrapping_add(step)) };
                    kw += 1;
                }
                let mut x = window
                    .wrapping_add(kd.wrapping_mul(depth_step))
                    .wrapping_add(kh.wrapping_mul(row_step));
                let mut shift = 0;
                while shift < PIXELS - 1 + WIDTH {
                    // A branch, not a choice of addresses: the compiler would load all columns
                    // ahead of the sums, and there are not the registers to hold them.
                    if WHOLE || (0..size).contains(&(column + shift as isize)) {
                        // SAFETY: this column lies inside the input.
                        let value = unsafe { self.spread.load(simd, x, 0) };
                        let mut pixel = 0;
                        while pixel < PIXELS {
                            if pixel <= shift && shift < pixel + WIDTH {
                                sums[pixel] = simd.fma(value, w[shift - pixel], sums[pixel]);
                            }
                            pixel += 1;
                        }
                    }
                    x = x.wrapping_add(strides.pixel);
                    shift += 1;
                }
                kh += 1;
            }
            kd += 1;
        }
    }

    /// The channels of a block, from `first` on, at one tap.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn block<S: Simd, const PIXELS: usize, const MASKED: bool>(
        &self,
        simd: S,
        weights: *const f32,
        first: usize,
        channels: usize,
        at: &[*const f32; PIXELS],
        offset: isize,
        masks: &[u32; PIXELS],
        sums: &mut [S::V; PIXELS],
    ) {
        let stride = self.vector.task.plan.input.channel;
        let mut channel = 0;
        while channel < channels {
            let offset = offset.wrapping_add(((first + channel).wrapping_mul(stride)) as isize);
            // SAFETY: the caller vouches for `channels` steps of weights and of each pixel.
            unsafe {
                let w = simd.load(weights.wrapping_add(channel * LANES_PER_PANEL));
                let mut pixel = 0;
                while pixel < PIXELS {
                    let at = at[pixel].wrapping_offset(offset);
                    let mut x = self.spread.load(simd, at, first + channel);
                    if MASKED {
                        x = simd.keep(x, masks[pixel]);
                    }
                    sums[pixel] = simd.fma(x, w, sums[pixel]);
                    pixel += 1;
                }
            }
            channel += 1;
        }
    }
}
