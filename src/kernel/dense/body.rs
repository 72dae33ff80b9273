//! The body of a tile: sums in registers, from the bias or a partial sum to the output.

use super::steps::{STEPS, Steps, tap_steps};
use super::sums::{load_bias, load_sums, prefetch_next, store_sums};
use super::tile::DenseTile;
use super::tiling::fits;
use crate::kernel::finish::FinishTile;
use crate::kernel::walk::no_body;
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::LANES_PER_PANEL;
use crate::simd::{Body, HAS_VECTORS, Simd};
use core::ops::Range;

/// Enters the body for just this number of vectors and pixels, of which there is one for each tile
/// that the walk cuts.
#[inline(always)]
pub(super) fn enter_tile<S: Simd>(simd: S, tile: &DenseTile, vectors: usize, pixels: usize) {
    macro_rules! enter {
        ($($vectors:literal x [$($pixels:literal)*])*) => {
            match (vectors, pixels) {
                $($(
                    ($vectors, $pixels) if const { fits(S::FACTS, $vectors, $pixels) } => {
                        simd.enter(TileBody::<$vectors, $pixels>(tile));
                    }
                )*)*
                _ => no_body(),
            }
        };
    }
    enter! {
        1 x [1 2 3 4 5 6 7 8]
        2 x [1 2 3 4 5 6 7 8]
        3 x [1 2 3 4 5 6 7 8]
        4 x [1 2 3 4 5 6 7 8]
    }
}

struct TileBody<'a, const VECTORS: usize, const PIXELS: usize>(&'a DenseTile<'a>);

impl<const VECTORS: usize, const PIXELS: usize> Body for TileBody<'_, VECTORS, PIXELS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        let segment = tile.segment;
        let mut sums = [[simd.splat(0.0); VECTORS]; PIXELS];
        // SAFETY: `sums` of the tile has room for `sums_width` values for each of its pixels
        // where the chain has several segments or strips; the bias has `channels` values.
        unsafe {
            if !segment.first {
                load_sums(simd, tile, &mut sums);
            } else if !segment.bias.is_null() {
                load_bias(simd, segment, &mut sums);
            }
            if HAS_VECTORS && segment.prefetches {
                prefetch_next::<S, PIXELS>(simd, tile);
            }
            accumulate(simd, tile, &mut sums);
            if !segment.last || segment.in_strips {
                return store_sums(simd, tile, &sums);
            }
        }
        if S::LANES > 1 && segment.channels == VECTORS * S::LANES {
            // SAFETY: the offsets are those of the part of the output that is computed.
            if unsafe { segment.outputs.store_whole(simd, &sums, &tile.offsets) } {
                return;
            }
        }
        let sums = sums;
        simd.enter(FinishTile::<PIXELS> {
            outputs: segment.outputs,
            sums: (&raw const sums).cast(),
            width: VECTORS * S::LANES,
            channels: segment.channels,
            offsets: &tile.offsets,
        });
    }
}

/// The segment of the chain.
///
/// # Safety
/// The tile lies where [`DenseTile::place`] has put it, in a segment of the call's chain: its windows
/// are of the call's input, the panels hold its weights.
#[inline(always)]
unsafe fn accumulate<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    tile: &DenseTile,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let segment = tile.segment;
    let geometry = segment.geometry;
    let in_per_group = geometry.in_per_group;
    let taps = geometry.taps();
    let mut channel = segment.first_channel;
    let mut first_tap = segment.first_tap;
    let mut weights = segment.weights;
    let mut left = segment.units;
    while left > 0 {
        let mut channels = in_per_group - channel;
        let mut steps = segment.last_block;
        if taps == 1 {
            // Blocks without a seam between them.
            channels = channels.min(left * CHANNEL_BLOCK);
            steps = segment.full_blocks;
            left = 1;
        } else if channels >= CHANNEL_BLOCK {
            channels = CHANNEL_BLOCK;
            steps = segment.full_blocks;
        }
        let block = Block {
            steps,
            input: segment
                .input
                .first
                .wrapping_add(channel.wrapping_mul(segment.input.strides.channel)),
            weights,
            channels,
            taps: first_tap..taps.min(first_tap + left),
        };
        // SAFETY: as the caller's, for a channel block of the segment.
        unsafe { block.rows(simd, tile, sums) };
        let count = block.taps.end - first_tap;
        weights = weights.wrapping_add(count * channels * LANES_PER_PANEL);
        left -= count;
        first_tap = 0;
        channel += CHANNEL_BLOCK;
    }
}

/// Taps of a channel block.
struct Block<'a> {
    steps: &'a Steps,
    /// At the first channel.
    input: *const f32,
    /// At the first tap.
    weights: *const f32,
    channels: usize,
    taps: Range<usize>,
}

impl Block<'_> {
    /// All rows of taps that lie inside the input for some pixel.
    ///
    /// # Safety
    /// As of [`accumulate`], the block being one of the segment.
    #[inline(always)]
    unsafe fn rows<S: Simd, const VECTORS: usize, const PIXELS: usize>(
        &self,
        simd: S,
        tile: &DenseTile,
        sums: &mut [[S::V; VECTORS]; PIXELS],
    ) {
        let segment = tile.segment;
        let [_, height, width] = segment.geometry.window;
        let [to_plane, to_row, to_tap] = tap_steps(segment.geometry, segment.input.strides);
        let step_len = self.channels * LANES_PER_PANEL;
        let pointwise = segment.geometry.taps() == 1;
        let in_fours =
            segment.input.strides.channel == 1 && (pointwise || self.channels.is_multiple_of(4));
        let (at_once, advance) = if pointwise {
            (STEPS, (segment.input.strides.channel as isize).wrapping_mul(STEPS as isize))
        } else {
            let taps = self.steps.taps;
            (taps * self.channels, to_tap.wrapping_mul(taps as isize))
        };
        let whole = self.taps == (0..segment.geometry.taps());
        // Several rows are one run, as far as the table of steps goes.
        let most_rows = if HAS_VECTORS && whole { self.steps.rows } else { 1 };
        let mut kd = tile.some[0].start;
        while kd < tile.some[0].end {
            let mut kh = tile.some[1].start;
            // For one pixel, some is all.
            let all = if PIXELS == 1 {
                tile.some[1].clone()
            } else if tile.all[0].contains(&kd) {
                tile.all[1].clone()
            } else {
                0..0
            };
            let mut tap = (kd * height + kh) * width;
            let mut weights =
                self.weights.wrapping_add(tap * step_len).wrapping_sub(self.taps.start * step_len);
            let mut offset =
                to_plane.wrapping_mul(kd as isize).wrapping_add(to_row.wrapping_mul(kh as isize));
            while kh < tile.some[1].end {
                // What of the row is asked for and lies inside.
                let (mut from, mut to) = (segment.taps.start, segment.taps.end);
                if !whole {
                    from = from.max(self.taps.start.saturating_sub(tap));
                    to = to.min(self.taps.end.saturating_sub(tap));
                }
                let all_inside = PIXELS == 1 || all.contains(&kh);
                let rows = if all_inside { most_rows.min(all.end - kh) } else { 1 };
                if from < to {
                    let run = StepRun {
                        steps: self.steps,
                        weights: weights.wrapping_add(from * step_len),
                        count: (to - from) * self.channels,
                        in_fours,
                        at_once,
                        advance,
                        rows,
                        row_len: width * self.channels,
                        panel_len: segment.panel_len,
                    };
                    let offset = offset.wrapping_add(to_tap.wrapping_mul(from as isize));
                    // SAFETY: the panels hold these steps; the input is read at taps that lie
                    // inside, or, for pixels that are masked, at as many places from its first
                    // one on.
                    unsafe {
                        if all_inside {
                            let at = tile.places::<PIXELS>(self.input, offset, &[-1; PIXELS]);
                            run.all::<S, VECTORS, PIXELS, false>(simd, at, &[-1; PIXELS], sums);
                        } else {
                            let masks = tile.masks([kd, kh]);
                            let at = tile.places::<PIXELS>(self.input, offset, &masks);
                            run.all::<S, VECTORS, PIXELS, true>(simd, at, &masks, sums);
                        }
                    }
                }
                kh += rows;
                tap += rows * width;
                weights = weights.wrapping_add(rows * width * step_len);
                offset = offset.wrapping_add(to_row.wrapping_mul(rows as isize));
            }
            kd += 1;
        }
    }
}

impl DenseTile<'_> {
    /// Where each pixel reads the input, `offset` behind the start of its window; where it is
    /// masked, the first place of the input.
    #[inline(always)]
    fn places<const PIXELS: usize>(
        &self,
        input: *const f32,
        offset: isize,
        masks: &[isize; PIXELS],
    ) -> [*const f32; PIXELS] {
        let mut at = [input; PIXELS];
        let mut pixel = 0;
        while pixel < PIXELS {
            at[pixel] =
                input.wrapping_offset(self.window[pixel].wrapping_add(offset) & masks[pixel]);
            pixel += 1;
        }
        at
    }
}

/// The steps along rows of taps.
struct StepRun<'a> {
    steps: &'a Steps,
    weights: *const f32,
    /// The steps of each row.
    count: usize,
    /// Whether each four of them read neighbours.
    in_fours: bool,
    /// The most that the table holds, and from as many steps to the next.
    at_once: usize,
    advance: isize,
    rows: usize,
    /// The steps of a row from its first tap to its last, of which only some lie inside.
    row_len: usize,
    panel_len: usize,
}

impl StepRun<'_> {
    /// All steps: several rows as the table holds them, or a row in as many parts as it takes.
    ///
    /// # Safety
    /// The panels hold the steps of all rows from `weights` on. For each of them `at` is where the pixel
    /// reads the input; for a pixel that is masked, any place with as many steps behind it.
    #[inline(always)]
    unsafe fn all<S: Simd, const VECTORS: usize, const PIXELS: usize, const MASKED: bool>(
        &self,
        simd: S,
        mut at: [*const f32; PIXELS],
        masks: &[isize; PIXELS],
        sums: &mut [[S::V; VECTORS]; PIXELS],
    ) {
        let mut weights = self.weights;
        let mut row = self.steps.offsets.as_ptr();
        let mut rows = self.rows;
        loop {
            let mut left = self.count;
            loop {
                let count = if left < self.at_once { left } else { self.at_once };
                let mut offsets = row;
                let end = offsets.wrapping_add(count);
                if S::FACTS.takes_a_lane && !MASKED && self.in_fours {
                    let end = offsets.wrapping_add(count - count % 4);
                    while offsets < end {
                        // SAFETY: as below, for four steps whose inputs adjoin.
                        unsafe {
                            four_steps(simd, weights, self.panel_len, &at, *offsets, sums);
                        }
                        weights = weights.wrapping_add(4 * LANES_PER_PANEL);
                        offsets = offsets.wrapping_add(4);
                    }
                }
                while offsets < end {
                    // SAFETY: the table holds as many steps, the panels hold all, and the caller
                    // vouches for the places of the input.
                    unsafe {
                        step::<S, VECTORS, PIXELS, MASKED>(
                            simd,
                            weights,
                            self.panel_len,
                            &at,
                            *offsets,
                            masks,
                            sums,
                        );
                    }
                    weights = weights.wrapping_add(LANES_PER_PANEL);
                    offsets = offsets.wrapping_add(1);
                }
                left -= count;
                if left == 0 {
                    break;
                }
                let mut pixel = 0;
                while pixel < PIXELS {
                    at[pixel] = at[pixel].wrapping_offset(self.advance);
                    pixel += 1;
                }
            }
            rows -= 1;
            if rows == 0 {
                return;
            }
            row = row.wrapping_add(self.row_len);
            weights = weights.wrapping_add((self.row_len - self.count) * LANES_PER_PANEL);
        }
    }
}

/// One step of every chain of the tile: an outer product.
///
/// # Safety
/// The panels hold the step at `weights`, the input that of each pixel at `offset` from `at`.
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
    // SAFETY: the panels of the tile hold this step.
    let w: [S::V; VECTORS] = unsafe { load_weights(simd, weights, panel_len) };
    let mut pixel = 0;
    while pixel < PIXELS {
        // SAFETY: the input holds this channel of the tap of the pixel.
        let value = unsafe { *at[pixel].wrapping_offset(offset) };
        let x =
            if MASKED { simd.splat_kept(value, masks[pixel] as u32) } else { simd.splat(value) };
        let mut vector = 0;
        while vector < VECTORS {
            sums[pixel][vector] = simd.fma(x, w[vector], sums[pixel][vector]);
            vector += 1;
        }
        pixel += 1;
    }
}

/// The weights of a step.
///
/// # Safety
/// The panels hold the step at `weights`.
#[inline(always)]
unsafe fn load_weights<S: Simd, const VECTORS: usize>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
) -> [S::V; VECTORS] {
    let mut w = [simd.splat(0.0); VECTORS];
    let mut vector = 0;
    while vector < VECTORS {
        let channel = vector * S::LANES;
        let (panel, lane) = (channel / LANES_PER_PANEL, channel % LANES_PER_PANEL);
        // SAFETY: the caller vouches that the panels of the tile hold this step.
        w[vector] = unsafe { simd.load(weights.wrapping_add(panel * panel_len + lane)) };
        vector += 1;
    }
    w
}

/// Four steps whose inputs adjoin, in this order: a vector of them for each pixel.
///
/// # Safety
/// As of [`step`], for four steps; and a vector has no more than four lanes.
#[inline(always)]
unsafe fn four_steps<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    at: &[*const f32; PIXELS],
    offset: isize,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut x = [simd.splat(0.0); PIXELS];
    let mut pixel = 0;
    while pixel < PIXELS {
        // SAFETY: the input holds these channels of the tap of the pixel.
        x[pixel] = unsafe { simd.load(at[pixel].wrapping_offset(offset)) };
        pixel += 1;
    }
    // SAFETY: the panels of the tile hold these steps. No loop: a compiler may not unroll it.
    unsafe {
        step_of_four::<S, VECTORS, PIXELS, 0>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 1>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 2>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 3>(simd, weights, panel_len, &x, sums);
    }
}

/// One of four steps.
///
/// # Safety
/// The panels hold the four steps from `weights` on.
#[inline(always)]
unsafe fn step_of_four<S: Simd, const VECTORS: usize, const PIXELS: usize, const STEP: i32>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    x: &[S::V; PIXELS],
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let weights = weights.wrapping_add(STEP as usize * LANES_PER_PANEL);
    // SAFETY: the panels of the tile hold this step.
    let w: [S::V; VECTORS] = unsafe { load_weights(simd, weights, panel_len) };
    let mut pixel = 0;
    while pixel < PIXELS {
        let x = simd.splat_lane::<STEP>(x[pixel]);
        let mut vector = 0;
        while vector < VECTORS {
            sums[pixel][vector] = simd.fma(x, w[vector], sums[pixel][vector]);
            vector += 1;
        }
        pixel += 1;
    }
}
