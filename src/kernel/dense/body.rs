//! The body of a tile: sums in registers, from the bias or a partial sum to the output.

use super::outer_product::TableRun;
use super::steps::{STEPS, Steps, tap_steps};
use super::sums::{load_bias, load_sums, prefetch_next, store_sums};
use super::tile::DenseTile;
use super::tiling::fits;
use crate::kernel::call::Input;
use crate::kernel::finish::FinishTile;
use crate::kernel::walk::no_body;
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::LANES_PER_PANEL;
use crate::problem::geometry::Geometry;
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
            if HAS_VECTORS && segment.whole_windows && tile.is_inside() {
                accumulate_whole_windows(simd, tile, &mut sums);
            } else {
                accumulate(simd, tile, &mut sums);
            }
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

/// The segment of the chain, for a tile whose windows lie inside the input, where the tables of steps hold
/// whole windows: from table to table.
///
/// # Safety
/// As of [`accumulate`]; [`Segment::whole_windows`](super::tile::Segment::whole_windows) and
/// [`DenseTile::is_inside`] hold.
#[inline(always)]
unsafe fn accumulate_whole_windows<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    tile: &DenseTile,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let segment = tile.segment;
    let Geometry { in_per_group, .. } = *segment.geometry;
    let Input { first, strides } = segment.input;
    let block = CHANNEL_BLOCK.wrapping_mul(strides.channel);
    let taps = segment.geometry.taps();
    let first = first.wrapping_add(segment.first_channel.wrapping_mul(strides.channel));
    let mut at = tile.places::<PIXELS>(first, 0, &[-1; PIXELS]);
    let mut weights = segment.weights;
    let mut channels = in_per_group - segment.first_channel;
    let mut left = segment.units;
    loop {
        let of_block = channels.min(CHANNEL_BLOCK);
        let full = of_block == CHANNEL_BLOCK;
        let table = TableRun {
            offsets: (if full { segment.full_blocks } else { segment.last_block }).offsets.as_ptr(),
            count: of_block * taps,
            in_fours: segment.in_fours(of_block),
            panel_len: segment.panel_len,
        };
        // SAFETY: the panels hold the steps of the block; every tap lies inside the input.
        weights = unsafe {
            table.all::<S, VECTORS, PIXELS, false>(simd, weights, &at, &[-1; PIXELS], sums)
        };
        if left <= taps {
            return;
        }
        left -= taps;
        channels -= of_block;
        let mut pixel = 0;
        while pixel < PIXELS {
            at[pixel] = at[pixel].wrapping_add(block);
            pixel += 1;
        }
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
        let in_fours = segment.in_fours(self.channels);
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
                let Self { in_fours, panel_len, .. } = *self;
                let table = TableRun { offsets: row, count, in_fours, panel_len };
                // SAFETY: the caller's steps and places.
                weights = unsafe {
                    table.all::<S, VECTORS, PIXELS, MASKED>(simd, weights, &at, masks, sums)
                };
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
