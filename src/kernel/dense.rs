//! Output channels in the lanes, the input broadcast: every layer whose groups fill a panel.
//!
//! A tile is a few pixels times a few vectors of output channels, held in registers. For each
//! step of the chain it loads the weights of its channels, which lie side by side in the panels,
//! and multiplies them by one input value per pixel, which is broadcast. That value is found by
//! an offset from the pixel's window, so strides, dilation, groups, dimensions and layouts are
//! all the same loop:
//!
//! ```text
//! for each block of pixels                     (as many as the second-level cache holds)
//!   for each tile of output channels           (1 to 3 vectors)
//!     for each segment of the chain            (weights that the second-level cache holds)
//!       for each tile of pixels                (as many as the registers hold)
//!         sums = bias, or the partial sums of the segment before
//!         for each channel block, kd, kh, kw of the segment
//!           if some pixel has this tap inside the input
//!             for each channel of the block: sums += x[pixel] * w     (outer product)
//!         store the partial sums, or finish the outputs
//! ```
//!
//! A tap is tested for the whole tile at once, and passed over where it lies outside for all of
//! it; so tiles are cut from columns whose windows have the same taps inside. Where a tap lies
//! inside for some pixels of a tile only, the others multiply by zero, which leaves their sums as
//! they are.

use super::finish::{FinishTile, MOST_PIXELS, Outputs};
use super::walk::{Pixel, columns_alike, count_in_columns, even_piece, input_offset};
use super::{Part, Task};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::plan::{Strides, WIDEST_TILE};
use crate::shape::Geometry;
use crate::simd::{Kernel, Simd};
use core::ops::Range;

/// Where there is padding, rows of this many pixels are cut into tiles of their own, so that tiles
/// do not mix pixels of which some need a row of taps and others do not.
const OWN_TILES: usize = 5;

pub(super) struct Run<'a> {
    pub task: &'a Task,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
    /// `WIDEST_TILE` partial sums for each pixel of a block, where the chain has several segments.
    pub scratch: *mut f32,
}

/// Output channels of one group that share tiles.
struct Channels {
    group: usize,
    /// Within the group.
    first: usize,
    count: usize,
    vectors: usize,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let out_per_group = geometry.out_per_group();
        let panels_per_group = out_per_group.div_ceil(LANES_PER_PANEL);
        let mut first_pixel = self.part.pixels.start;
        while first_pixel < self.part.pixels.end {
            let end = self.part.pixels.end.min(first_pixel + plan.pixel_block);
            let mut panel = self.part.panels.start;
            while panel < self.part.panels.end {
                let group = panel / panels_per_group;
                let end_of_group = (group + 1) * panels_per_group;
                let end_panel = end_of_group.min(self.part.panels.end);
                let first_of_group = group * panels_per_group;
                let mut channel = (panel - first_of_group) * LANES_PER_PANEL;
                let end_channel =
                    ((end_panel - first_of_group) * LANES_PER_PANEL).min(out_per_group);
                while channel < end_channel {
                    // A tile is whole panels, or it stays within one.
                    let within = if S::TILE_VECTORS * S::LANES > LANES_PER_PANEL {
                        end_channel - channel
                    } else {
                        (end_channel - channel).min(LANES_PER_PANEL - channel % LANES_PER_PANEL)
                    };
                    let vectors = even_piece(within.div_ceil(S::LANES), S::TILE_VECTORS);
                    let count = (vectors * S::LANES).min(within);
                    let channels = Channels { group, first: channel, count, vectors };
                    self.segments(simd, first_pixel..end, &channels);
                    channel += count;
                }
                panel = end_panel;
            }
            first_pixel = end;
        }
    }
}

impl Run<'_> {
    /// The whole chain of a block of pixels and a tile of channels.
    #[inline(always)]
    fn segments<S: Simd>(&self, simd: S, pixels: Range<usize>, channels: &Channels) {
        let task = self.task;
        let plan = &task.plan;
        let geometry = &plan.geometry;
        let in_per_group = geometry.in_per_group();
        let units = in_per_group.div_ceil(CHANNEL_BLOCK) * geometry.taps();
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let panels_per_group = geometry.out_per_group().div_ceil(LANES_PER_PANEL);
        let panel = channels.group * panels_per_group + channels.first / LANES_PER_PANEL;
        let mut layer = Layer {
            geometry,
            strides: &plan.input,
            input: task.input.wrapping_add(channels.group * in_per_group * plan.input.channel),
            weights: self
                .panels
                .as_ptr()
                .wrapping_add((panel - self.first_panel) * panel_len)
                .wrapping_add(channels.first % LANES_PER_PANEL),
            panel_len,
            channel_block: CHANNEL_BLOCK,
            units: 0..0,
            last: false,
            bias: task.bias,
            channels: channels.count,
            outputs: &Outputs::of(task),
        };
        let first_channel = channels.group * geometry.out_per_group() + channels.first;
        if !task.bias.is_null() {
            layer.bias = task.bias.wrapping_add(first_channel);
        }
        let channel_offset = first_channel * plan.output.channel;
        let mut first = 0;
        while first < units {
            let end = units.min(first + plan.segment);
            layer.units = first..end;
            layer.last = end == units;
            self.tiles(simd, pixels.clone(), channels.vectors, &layer, channel_offset);
            // The next segment's weights lie behind this one's.
            let taps = geometry.taps();
            layer.weights = layer.weights.wrapping_add(
                steps_before(geometry, end / taps, end % taps) * LANES_PER_PANEL
                    - steps_before(geometry, first / taps, first % taps) * LANES_PER_PANEL,
            );
            first = end;
        }
    }

    /// A segment of the chain, for a block of pixels: columns whose windows are alike, then tiles.
    #[inline(always)]
    fn tiles<S: Simd>(
        &self,
        simd: S,
        pixels: Range<usize>,
        vectors: usize,
        layer: &Layer,
        channel_offset: usize,
    ) {
        let geometry = layer.geometry;
        let most = S::TILE_PIXELS[vectors - 1];
        let mut done = 0;
        let mut columns = 0..0;
        while columns.end < geometry.output[2] {
            columns = columns_alike(geometry, columns.end);
            let before = count_in_columns(geometry, &columns, pixels.start);
            let mut left = count_in_columns(geometry, &columns, pixels.end) - before;
            if left == 0 {
                continue;
            }
            let by_rows = geometry.padded && columns.end - columns.start >= OWN_TILES;
            let mut next = Pixel::of(geometry, pixels.start);
            if next.at[2] >= columns.end {
                next.at[2] = columns.end - 1;
                next.next(geometry, &columns);
            }
            next.at[2] = next.at[2].max(columns.start);
            while left > 0 {
                let run = if by_rows { left.min(columns.end - next.at[2]) } else { left };
                let count = even_piece(run, most);
                let mut tile = Tile {
                    layer,
                    window: [0; MOST_PIXELS],
                    start: [[0; MOST_PIXELS]; 3],
                    least: [0; 3],
                    most: [0; 3],
                    offsets: [0; MOST_PIXELS],
                    sums: self.scratch.wrapping_add(done * WIDEST_TILE),
                };
                let mut pixel = 0;
                while pixel < count {
                    let start = next.window_start(geometry);
                    let image = next.image.wrapping_mul(layer.strides.batch) as isize;
                    tile.window[pixel] = input_offset(layer.strides, start).wrapping_add(image);
                    tile.offsets[pixel] =
                        next.output_offset(&self.task.plan.output) + channel_offset;
                    if geometry.padded {
                        tile.bound(pixel, start);
                    }
                    next.next(geometry, &columns);
                    pixel += 1;
                }
                enter_tile(simd, &tile, vectors, count);
                done += count;
                left -= count;
            }
        }
    }
}

/// The steps of the chain before a tap of a channel block.
#[inline(always)]
fn steps_before(geometry: &Geometry, block: usize, tap: usize) -> usize {
    let channel = (block * CHANNEL_BLOCK).min(geometry.in_per_group());
    let channels = CHANNEL_BLOCK.min(geometry.in_per_group() - channel);
    channel * geometry.taps() + tap * channels
}

/// What the tiles of a segment have in common.
struct Layer<'a> {
    geometry: &'a Geometry,
    strides: &'a Strides,
    /// At the first channel of the group.
    input: *const f32,
    /// At the first channel of the tile and the first step of the segment.
    weights: *const f32,
    panel_len: usize,
    /// `CHANNEL_BLOCK`, from memory: known to the compiler, it is a reason to unroll the inner
    /// loop, and to run out of registers.
    channel_block: usize,
    /// The segment: (channel block, tap) pairs, counted in the order of the chain.
    units: Range<usize>,
    /// Whether the segment ends the chain.
    last: bool,
    /// At the first channel of the tile, or null.
    bias: *const f32,
    channels: usize,
    outputs: &'a Outputs,
}

/// A tile of pixels.
struct Tile<'a> {
    layer: &'a Layer<'a>,
    /// The offset of the first tap of each pixel.
    window: [isize; MOST_PIXELS],
    /// The coordinates of the first tap of each pixel, and their bounds; zeros without padding,
    /// where every tap lies inside.
    start: [[isize; MOST_PIXELS]; 3],
    least: [isize; 3],
    most: [isize; 3],
    /// Where each pixel lies in the output, at the first channel of the tile.
    offsets: [usize; MOST_PIXELS],
    /// Partial sums, where the chain has several segments.
    sums: *mut f32,
}

/// Which pixels of a tile have a tap inside the input.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    All,
    Some,
    None,
}

impl Inside {
    /// Inside along two axes.
    #[inline(always)]
    fn and(self, other: Inside) -> Inside {
        match (self, other) {
            (Inside::None, _) | (_, Inside::None) => Inside::None,
            (Inside::All, Inside::All) => Inside::All,
            _ => Inside::Some,
        }
    }
}

impl Tile<'_> {
    /// Notes where the window of the next pixel starts.
    #[inline(always)]
    fn bound(&mut self, pixel: usize, start: [isize; 3]) {
        let mut axis = 0;
        while axis < 3 {
            self.start[axis][pixel] = start[axis];
            if pixel == 0 || start[axis] < self.least[axis] {
                self.least[axis] = start[axis];
            }
            if pixel == 0 || start[axis] > self.most[axis] {
                self.most[axis] = start[axis];
            }
            axis += 1;
        }
    }

    /// Along one axis, at a distance from the first tap.
    #[inline(always)]
    fn inside(&self, axis: usize, distance: isize) -> Inside {
        let size = self.layer.geometry.input[axis] as isize;
        let (least, most) = (self.least[axis] + distance, self.most[axis] + distance);
        if most < 0 || least >= size {
            Inside::None
        } else if least < 0 || most >= size {
            Inside::Some
        } else {
            Inside::All
        }
    }

    /// For each pixel: all ones if the tap lies inside, else zero.
    #[inline(always)]
    fn masks<const PIXELS: usize>(&self, tap: [isize; 3]) -> [isize; PIXELS] {
        let mut masks = [-1; PIXELS];
        let mut axis = 0;
        while axis < 3 {
            let size = self.layer.geometry.input[axis];
            let start = &self.start[axis];
            let mut pixel = 0;
            while pixel < PIXELS {
                // A negative coordinate is a huge one.
                let inside = ((start[pixel] + tap[axis]) as usize) < size;
                masks[pixel] &= -(inside as isize);
                pixel += 1;
            }
            axis += 1;
        }
        masks
    }
}

/// Enters the body for just this number of vectors and pixels.
#[inline(always)]
fn enter_tile<S: Simd>(simd: S, tile: &Tile, vectors: usize, pixels: usize) {
    macro_rules! with_pixels {
        ($vectors:literal) => {
            match pixels {
                1 => simd.enter(Body::<$vectors, 1>(tile)),
                2 => simd.enter(Body::<$vectors, 2>(tile)),
                _ if S::TILE_PIXELS[$vectors - 1] <= 2 => {}
                3 => simd.enter(Body::<$vectors, 3>(tile)),
                4 => simd.enter(Body::<$vectors, 4>(tile)),
                5 => simd.enter(Body::<$vectors, 5>(tile)),
                6 => simd.enter(Body::<$vectors, 6>(tile)),
                _ if S::TILE_PIXELS[$vectors - 1] <= 6 => {}
                7 => simd.enter(Body::<$vectors, 7>(tile)),
                _ => simd.enter(Body::<$vectors, 8>(tile)),
            }
        };
    }
    if vectors == 1 {
        with_pixels!(1);
    } else if S::TILE_VECTORS >= 2 && vectors == 2 {
        with_pixels!(2);
    } else if S::TILE_VECTORS >= 3 && vectors == 3 {
        with_pixels!(3);
    } else if S::TILE_VECTORS >= 4 {
        with_pixels!(4);
    }
}

struct Body<'a, const VECTORS: usize, const PIXELS: usize>(&'a Tile<'a>);

impl<const VECTORS: usize, const PIXELS: usize> Kernel for Body<'_, VECTORS, PIXELS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        let layer = tile.layer;
        let mut sums = [[simd.splat(0.0); VECTORS]; PIXELS];
        // SAFETY: `sums` of the tile has room for `WIDEST_TILE` values for each of its pixels
        // where the chain has several segments; the bias has `channels` values.
        unsafe {
            if layer.units.start > 0 {
                load_sums(simd, tile.sums, &mut sums);
            } else if !layer.bias.is_null() {
                load_bias(simd, layer, &mut sums);
            }
            accumulate(simd, tile, &mut sums);
            if !layer.last {
                return store_sums(simd, tile.sums, &sums);
            }
        }
        let sums = sums;
        simd.enter(FinishTile::<PIXELS> {
            outputs: layer.outputs,
            sums: (&raw const sums).cast(),
            width: VECTORS * S::LANES,
            channels: layer.channels,
            offsets: &tile.offsets,
        });
    }
}

#[inline(always)]
unsafe fn load_bias<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    layer: &Layer,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut vector = 0;
    while vector < VECTORS {
        let first = vector * S::LANES;
        let count = S::LANES.min(layer.channels - first);
        // SAFETY: the bias has `channels` values from here on.
        let bias = unsafe { simd.load_first(layer.bias.add(first), count) };
        let mut pixel = 0;
        while pixel < PIXELS {
            sums[pixel][vector] = bias;
            pixel += 1;
        }
        vector += 1;
    }
}

#[inline(always)]
unsafe fn load_sums<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    from: *const f32,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut pixel = 0;
    while pixel < PIXELS {
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: `WIDEST_TILE` values for each pixel, as the caller vouches.
            sums[pixel][vector] =
                unsafe { simd.load(from.add(pixel * WIDEST_TILE + vector * S::LANES)) };
            vector += 1;
        }
        pixel += 1;
    }
}

#[inline(always)]
unsafe fn store_sums<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    to: *mut f32,
    sums: &[[S::V; VECTORS]; PIXELS],
) {
    let mut pixel = 0;
    while pixel < PIXELS {
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: `WIDEST_TILE` values for each pixel, as the caller vouches.
            unsafe {
                simd.store(to.add(pixel * WIDEST_TILE + vector * S::LANES), sums[pixel][vector])
            };
            vector += 1;
        }
        pixel += 1;
    }
}

/// The segment of the chain.
#[inline(always)]
unsafe fn accumulate<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    tile: &Tile,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let layer = tile.layer;
    let geometry = layer.geometry;
    let strides = layer.strides;
    let [_, height, width] = geometry.kernel;
    let taps = geometry.taps();
    let steps = geometry.dilation.map(|dilation| dilation as isize);
    let offset_step = steps[2].wrapping_mul(strides.pixel as isize);

    let mut windows = [layer.input; PIXELS];
    let mut pixel = 0;
    while pixel < PIXELS {
        windows[pixel] = layer.input.wrapping_offset(tile.window[pixel]);
        pixel += 1;
    }

    // The segment may begin and end at any tap.
    let first_tap = layer.units.start % taps;
    let mut channel = layer.units.start / taps * CHANNEL_BLOCK;
    let mut kd = first_tap / (height * width);
    let mut kh = first_tap / width % height;
    let mut kw = first_tap % width;
    let mut weights = layer.weights;
    let mut left = layer.units.end - layer.units.start;
    while left > 0 {
        let mut block = layer.channel_block;
        if taps == 1 {
            // Blocks of one tap follow each other without a seam.
            block *= left;
            left = 1;
        }
        let left_channels = geometry.in_per_group() - channel;
        let channels = if left_channels < block { left_channels } else { block };
        let channel_offset = (channel * strides.channel) as isize;
        let mut tap = [kd as isize * steps[0], kh as isize * steps[1], kw as isize * steps[2]];
        let mut offset = input_offset(strides, tap).wrapping_add(channel_offset);
        let inside_row = tile.inside(0, tap[0]).and(tile.inside(1, tap[1]));
        // The rest of a row of taps.
        let count = left.min(width - kw);
        left -= count;
        if inside_row == Inside::None {
            weights = weights.wrapping_add(count * channels * LANES_PER_PANEL);
        } else {
            let mut taps_left = count;
            while taps_left > 0 {
                // SAFETY: the panels hold `channels` steps for each tap of each block; the
                // input is read at taps that lie inside, or at its first pixel.
                unsafe {
                    match inside_row.and(tile.inside(2, tap[2])) {
                        Inside::All => {
                            block_of_channels::<S, VECTORS, PIXELS, false>(
                                simd,
                                layer,
                                weights,
                                channels,
                                &windows,
                                offset,
                                &[0; PIXELS],
                                sums,
                            );
                        }
                        Inside::Some => {
                            let masks = tile.masks::<PIXELS>(tap);
                            let to_tap = offset.wrapping_sub(channel_offset);
                            let mut at = [layer.input; PIXELS];
                            let mut pixel = 0;
                            while pixel < PIXELS {
                                let offset = tile.window[pixel].wrapping_add(to_tap);
                                at[pixel] = layer.input.wrapping_offset(offset & masks[pixel]);
                                pixel += 1;
                            }
                            block_of_channels::<S, VECTORS, PIXELS, true>(
                                simd,
                                layer,
                                weights,
                                channels,
                                &at,
                                channel_offset,
                                &masks,
                                sums,
                            );
                        }
                        Inside::None => {}
                    }
                }
                weights = weights.wrapping_add(channels * LANES_PER_PANEL);
                offset = offset.wrapping_add(offset_step);
                tap[2] += steps[2];
                taps_left -= 1;
            }
        }
        kw = 0;
        kh += 1;
        if kh == height {
            kh = 0;
            kd += 1;
            if kd == geometry.kernel[0] {
                kd = 0;
                channel += CHANNEL_BLOCK;
            }
        }
    }
}

/// The channels of a block at one tap.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block_of_channels<
    S: Simd,
    const VECTORS: usize,
    const PIXELS: usize,
    const MASKED: bool,
>(
    simd: S,
    layer: &Layer,
    weights: *const f32,
    channels: usize,
    at: &[*const f32; PIXELS],
    offset: isize,
    masks: &[isize; PIXELS],
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let stride = layer.strides.channel as isize;
    let mut offset = offset;
    let mut weights = weights;
    let mut left = channels;
    while left > 0 {
        // SAFETY: the caller vouches for `channels` steps of weights and of each pixel.
        unsafe {
            step::<S, VECTORS, PIXELS, MASKED>(
                simd,
                weights,
                layer.panel_len,
                at,
                offset,
                masks,
                sums,
            );
        }
        weights = weights.wrapping_add(LANES_PER_PANEL);
        offset = offset.wrapping_add(stride);
        left -= 1;
    }
}

/// One step of every chain of the tile: an outer product.
#[inline(always)]
unsafe fn step<S: Simd, const VECTORS: usize, const PIXELS: usize, const MASKED: bool>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    at: &[*const f32; PIXELS],
    offset: isize,
    masks: &[isize; PIXELS],
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut w = [simd.splat(0.0); VECTORS];
    let mut vector = 0;
    while vector < VECTORS {
        let channel = vector * S::LANES;
        let (panel, lane) = (channel / LANES_PER_PANEL, channel % LANES_PER_PANEL);
        // SAFETY: the panels of the tile hold this step.
        w[vector] = unsafe { simd.load(weights.wrapping_add(panel * panel_len + lane)) };
        vector += 1;
    }
    let mut pixel = 0;
    while pixel < PIXELS {
        // SAFETY: the input holds this channel of the tap of the pixel.
        let mut x = simd.splat(unsafe { *at[pixel].wrapping_offset(offset) });
        if MASKED {
            x = simd.keep(x, masks[pixel] as u32);
        }
        let mut vector = 0;
        while vector < VECTORS {
            sums[pixel][vector] = simd.fma(x, w[vector], sums[pixel][vector]);
            vector += 1;
        }
        pixel += 1;
    }
}
