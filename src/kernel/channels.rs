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

use super::finish::Outputs;
use super::walk::{Row, Rows, input_offset, taps_inside};
use super::{Part, Task};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::plan::{Plan, Strides};
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
        let width = plan.geometry.output[2];
        let (rows, _) = divide(plan.pixel_block, width);
        let mut pixel = self.part.pixels.start;
        while pixel < self.part.pixels.end {
            // Blocks end where rows do, unless a row is several.
            let (_, column) = divide(pixel, width);
            let most =
                if rows > 0 { rows * width } else { width.min(column + plan.pixel_block) } - column;
            let end = self.part.pixels.end.min(pixel + most);
            let mut panel = self.part.panels.start;
            while panel < self.part.panels.end {
                let end_panel = self.part.panels.end.min(panel + plan.panel_run);
                self.panels(simd, pixel..end, panel..end_panel);
                panel = end_panel;
            }
            pixel = end;
        }
    }
}

impl Run<'_> {
    /// A run of panels: full vectors of a depthwise layer together, others one by one.
    #[inline(always)]
    fn panels<S: Simd>(&self, simd: S, pixels: Range<usize>, panels: Range<usize>) {
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let first_channel = panels.start * LANES_PER_PANEL;
        let end_channel = geometry.out_channels.min(panels.end * LANES_PER_PANEL);
        let panels =
            self.panels.as_ptr().wrapping_add((panels.start - self.first_panel) * panel_len);
        let together = S::LANES > 1 && geometry.is_plain_depthwise() && plan.input.channel == 1;
        let mut channel = first_channel;
        while channel < end_channel {
            let left = end_channel - channel;
            let vectors = if together { (left / S::LANES).max(1) } else { 1 };
            let vectors = Vectors {
                task: self.task,
                outputs: &self.task.outputs,
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

/// Neighbouring vectors of output channels.
struct Vectors<'a> {
    task: &'a Task<'a>,
    outputs: &'a Outputs,
    /// The first step of the chain, in the first panel of the run.
    panels: *const f32,
    panel_len: usize,
    /// How many lanes of the run lie before.
    lane: usize,
    /// The first output channel.
    first: usize,
    vectors: usize,
    /// The lanes that are channels, of each vector.
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

impl Vectors<'_> {
    /// Chooses how the lanes get their input.
    #[inline(always)]
    fn spread<S: Simd>(&self, simd: S, depthwise: bool, pixels: Range<usize>) {
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        if S::LANES == 1 {
            return self.rows(simd, &OneLane, pixels);
        }
        if depthwise {
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
        if plan.input.channel == 1 && span <= S::LANES {
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
            vectors: self,
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
    vectors: &'a Vectors<'a>,
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

/// The rows of taps that lie inside the input, of a depthwise window.
struct TapRows {
    /// The first one, in the weights and behind the window's start; from each to the next; and from
    /// behind the last one of a plane to the next plane.
    weights: usize,
    input: usize,
    to_weights: usize,
    to_input: usize,
    plane_to_weights: usize,
    plane_to_input: usize,
    /// How many planes of taps, rows in each, taps in each row.
    depth: usize,
    height: usize,
    width: usize,
}

impl TapRows {
    #[inline(always)]
    fn of(plan: &Plan, taps: &[Range<usize>; 2]) -> TapRows {
        let geometry = &plan.geometry;
        let [depth, height] = taps;
        let [_, kernel_height, width] = geometry.kernel;
        let to_weights = width * LANES_PER_PANEL;
        let to_input = geometry.dilation[1].wrapping_mul(plan.input.row);
        let to_plane = geometry.dilation[0].wrapping_mul(plan.input.depth);
        let rows = height.end - height.start;
        TapRows {
            weights: (depth.start * kernel_height + height.start) * to_weights,
            input: depth
                .start
                .wrapping_mul(to_plane)
                .wrapping_add(height.start.wrapping_mul(to_input)),
            to_weights,
            to_input,
            plane_to_weights: (kernel_height - rows) * to_weights,
            plane_to_input: to_plane.wrapping_sub(rows.wrapping_mul(to_input)),
            depth: depth.end - depth.start,
            height: rows,
            width,
        }
    }
}

impl<L: Spread> TilesInRow<'_, L> {
    /// Enters the body for just this number of pixels, and for how many columns of a depthwise
    /// window share their input.
    #[inline(always)]
    fn enter<S: Simd>(&self, simd: S) {
        let geometry = &self.vectors.task.plan.geometry;
        let dense_windows = geometry.dilation[2] == 1 && geometry.stride[2] == 1;
        if L::DEPTHWISE && self.pixels >= 4 && dense_windows {
            match geometry.kernel[2] {
                0..3 => {}
                3 | 4 => return self.enter_shared::<S, 3>(simd),
                _ => return self.enter_shared::<S, 5>(simd),
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
    fn enter_shared<S: Simd, const COLUMNS: usize>(&self, simd: S) {
        match self.pixels {
            4 => simd.enter(Body::<L, 4, COLUMNS>(self)),
            5 => simd.enter(Body::<L, 5, COLUMNS>(self)),
            6 => simd.enter(Body::<L, 6, COLUMNS>(self)),
            7 => simd.enter(Body::<L, 7, COLUMNS>(self)),
            _ => simd.enter(Body::<L, 8, COLUMNS>(self)),
        }
    }
}

/// The tiles of a row. Where `COLUMNS` is not 0, a depthwise window has neither dilation nor stride
/// along the row, and so many columns of it at a time share their input among the pixels.
struct Body<'a, L, const PIXELS: usize, const COLUMNS: usize>(&'a TilesInRow<'a, L>);

/// A tile at one vector of output channels.
struct Tile {
    /// The first step of the chain.
    weights: *const f32,
    /// The first pixel of the image, at the first lane's group.
    group: *const f32,
    /// The first tap of the first pixel.
    window: *const f32,
    /// Its column; negative in the padding.
    column: isize,
}

impl<L: Spread, const PIXELS: usize, const COLUMNS: usize> Kernel for Body<'_, L, PIXELS, COLUMNS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.0;
        let vectors = row.vectors;
        let plan = vectors.task.plan;
        let geometry = &plan.geometry;
        let size = geometry.input[2] as isize;
        let reach = ((geometry.kernel[2] - 1) * geometry.dilation[2]) as isize;
        let past = ((PIXELS - 1) * geometry.stride[2]) as isize;
        let to_vector = plan.output.channel.wrapping_mul(S::LANES);
        let tap_rows = TapRows::of(plan, &row.taps);
        let mut window = row.window;
        let mut column = row.column;
        let mut tile_offset = row.offset;
        let mut left = row.tiles;
        while left > 0 {
            let whole = column >= 0 && column + past + reach < size;
            let mut offset = tile_offset;
            let mut vector = 0;
            while vector < vectors.vectors {
                let first = vector * S::LANES;
                let lane = vectors.lane + first;
                let (panel, lane) = (lane / LANES_PER_PANEL, lane % LANES_PER_PANEL);
                let tile = Tile {
                    weights: vectors.panels.wrapping_add(panel * vectors.panel_len + lane),
                    group: row.group.wrapping_add(first),
                    window: window.wrapping_add(first),
                    column,
                };
                // SAFETY: the bias has a value for each lane.
                let bias = unsafe {
                    if vectors.task.bias.is_null() {
                        simd.splat(0.0)
                    } else {
                        let bias = vectors.task.bias.add(vectors.first + first);
                        simd.load_first(bias, vectors.count)
                    }
                };
                let mut sums = [bias; PIXELS];
                // SAFETY: the windows are of the task's input, and where a tap of them may lie
                // outside it is tested; the panels hold the weights of the lanes.
                unsafe {
                    match (COLUMNS, whole) {
                        (0, true) => row.accumulate::<S, PIXELS, true>(simd, &tile, &mut sums),
                        (0, false) => row.accumulate::<S, PIXELS, false>(simd, &tile, &mut sums),
                        (_, true) => row.accumulate_shared::<S, PIXELS, COLUMNS, true>(
                            simd, &tile, &tap_rows, &mut sums,
                        ),
                        (_, false) => row.accumulate_shared::<S, PIXELS, COLUMNS, false>(
                            simd, &tile, &tap_rows, &mut sums,
                        ),
                    }
                }
                // SAFETY: outputs of the task's part.
                unsafe {
                    let Strides { pixel, channel, .. } = plan.output;
                    vectors.outputs.store_vectors(
                        simd,
                        &sums,
                        offset,
                        pixel,
                        channel,
                        vectors.count,
                    );
                }
                offset = offset.wrapping_add(to_vector);
                vector += 1;
            }
            tile_offset += PIXELS * plan.output.pixel;
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
        tile: &Tile,
        sums: &mut [S::V; PIXELS],
    ) {
        let geometry = &self.vectors.task.plan.geometry;
        let strides = &self.vectors.task.plan.input;
        let mut windows = [tile.window; PIXELS];
        let mut pixel = 1;
        while pixel < PIXELS {
            windows[pixel] = windows[pixel - 1].wrapping_add(self.step);
            pixel += 1;
        }
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
            let weights = tile.weights.wrapping_add(first * geometry.taps() * LANES_PER_PANEL);
            let mut kd = depth.start;
            while kd < depth.end {
                let mut kh = height.start;
                while kh < height.end {
                    let tap = (kd * kernel_height + kh) * kernel_width;
                    let mut w = weights.wrapping_add(tap * channels * LANES_PER_PANEL);
                    let mut offset = (kd as isize)
                        .wrapping_mul(depth_step)
                        .wrapping_add((kh as isize).wrapping_mul(row_step));
                    let mut column = tile.column;
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
                                    &windows,
                                    offset,
                                    &[0; PIXELS],
                                    sums,
                                );
                            } else if column + past >= 0 && column < size {
                                let mut at = [tile.group; PIXELS];
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

    /// Adds the whole chain of a depthwise window, `COLUMNS` taps of a row at a time, those that
    /// are left one by one.
    #[inline(always)]
    unsafe fn accumulate_shared<
        S: Simd,
        const PIXELS: usize,
        const COLUMNS: usize,
        const WHOLE: bool,
    >(
        &self,
        simd: S,
        tile: &Tile,
        rows: &TapRows,
        sums: &mut [S::V; PIXELS],
    ) {
        let to_column = self.vectors.task.plan.input.pixel;
        let mut w = tile.weights.wrapping_add(rows.weights);
        let mut x = tile.window.wrapping_add(rows.input);
        let mut planes = rows.depth;
        while planes > 0 {
            let mut height = rows.height;
            while height > 0 {
                let (mut w_tap, mut x_tap, mut column) = (w, x, tile.column);
                let mut left = rows.width;
                while left >= COLUMNS {
                    // SAFETY: the panel holds these steps; the columns are of the input, or in
                    // the padding.
                    unsafe {
                        self.columns::<S, PIXELS, COLUMNS, WHOLE>(simd, w_tap, x_tap, column, sums);
                    }
                    w_tap = w_tap.wrapping_add(COLUMNS * LANES_PER_PANEL);
                    x_tap = x_tap.wrapping_add(COLUMNS.wrapping_mul(to_column));
                    column += COLUMNS as isize;
                    left -= COLUMNS;
                }
                while left > 0 {
                    // SAFETY: as above.
                    unsafe {
                        self.columns::<S, PIXELS, 1, WHOLE>(simd, w_tap, x_tap, column, sums);
                    }
                    w_tap = w_tap.wrapping_add(LANES_PER_PANEL);
                    x_tap = x_tap.wrapping_add(to_column);
                    column += 1;
                    left -= 1;
                }
                w = w.wrapping_add(rows.to_weights);
                x = x.wrapping_add(rows.to_input);
                height -= 1;
            }
            w = w.wrapping_add(rows.plane_to_weights);
            x = x.wrapping_add(rows.plane_to_input);
            planes -= 1;
        }
    }

    /// `COLUMNS` taps of a row, the first one at `x` and `column` for the first pixel: each column
    /// of the input is loaded once for all the pixels that see it. Columns ascend, so the taps of
    /// each pixel do.
    #[inline(always)]
    unsafe fn columns<S: Simd, const PIXELS: usize, const COLUMNS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        weights: *const f32,
        mut x: *const f32,
        column: isize,
        sums: &mut [S::V; PIXELS],
    ) {
        let plan = self.vectors.task.plan;
        let size = plan.geometry.input[2] as isize;
        let seen = PIXELS - 1 + COLUMNS;
        if !WHOLE && (column + seen as isize <= 0 || column >= size) {
            return;
        }
        let mut w = [simd.splat(0.0); COLUMNS];
        let mut tap = 0;
        while tap < COLUMNS {
            // SAFETY: the panel holds these steps.
            w[tap] = unsafe { simd.load(weights.wrapping_add(tap * LANES_PER_PANEL)) };
            tap += 1;
        }
        let mut shift = 0;
        while shift < seen {
            // A branch, not a choice of addresses: the compiler would load all columns ahead of
            // the sums, and there are not the registers to hold them.
            if WHOLE || (0..size).contains(&(column + shift as isize)) {
                // SAFETY: this column lies inside the input.
                let value = unsafe { self.spread.load(simd, x, 0) };
                let mut pixel = 0;
                while pixel < PIXELS {
                    if pixel <= shift && shift < pixel + COLUMNS {
                        sums[pixel] = simd.fma(value, w[shift - pixel], sums[pixel]);
                    }
                    pixel += 1;
                }
            }
            x = x.wrapping_add(plan.input.pixel);
            shift += 1;
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
        let stride = self.vectors.task.plan.input.channel;
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
