//! Where the sums of a tile come from and go to, if not from nothing and to the output.

use super::tile::{DenseTile, Segment};
use crate::kernel::walk::input_offset;
use crate::numerics::CHANNEL_BLOCK;
use crate::simd::Simd;

/// Asks for what the tile behind this one in the row will see first: with channels last, a pixel
/// is a few lines far from those of its neighbours, which hardware does not foresee.
#[inline(always)]
pub(super) fn prefetch_next<S: Simd, const PIXELS: usize>(simd: S, tile: &DenseTile) {
    let segment = tile.segment;
    let geometry = segment.geometry;
    let reach = |axis: usize| geometry.reach(axis) as isize;
    // Far apart, windows may step beyond what a number holds.
    let ahead = PIXELS.wrapping_mul(geometry.stride[2]) as isize;
    let corner = [reach(0), reach(1), reach(2).wrapping_add(ahead)];
    let input = segment.input.first.wrapping_offset(input_offset(segment.input.strides, corner));
    let mut pixel = 0;
    while pixel < PIXELS {
        let window = input.wrapping_offset(tile.window[pixel]);
        let mut channel = 0;
        while channel < geometry.in_per_group {
            simd.prefetch(window.wrapping_add(channel));
            channel += CHANNEL_BLOCK;
        }
        pixel += 1;
    }
}

/// Sums from the bias.
///
/// # Safety
/// The bias has as many values as the segment has channels.
#[inline(always)]
pub(super) unsafe fn load_bias<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    segment: &Segment,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut vector = 0;
    while vector < VECTORS {
        let first = vector * S::LANES;
        let count = S::LANES.min(segment.channels - first);
        // SAFETY: the bias has `channels` values from here on.
        let bias = unsafe { simd.load_first(segment.bias.add(first), count) };
        let mut pixel = 0;
        while pixel < PIXELS {
            sums[pixel][vector] = bias;
            pixel += 1;
        }
        vector += 1;
    }
}

/// Sums from the segment before.
///
/// # Safety
/// The sums of the tile have room for `sums_width` values for each of its pixels.
#[inline(always)]
pub(super) unsafe fn load_sums<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    tile: &DenseTile,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut from = tile.sums;
    let mut pixel = 0;
    while pixel < PIXELS {
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: `sums_width` values for each pixel, as the caller vouches.
            sums[pixel][vector] = unsafe { simd.load(from.wrapping_add(vector * S::LANES)) };
            vector += 1;
        }
        from = from.wrapping_add(tile.segment.sums_width);
        pixel += 1;
    }
}

/// Sums for the next segment, or for a strip.
///
/// # Safety
/// As of [`load_sums`].
#[inline(always)]
pub(super) unsafe fn store_sums<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    tile: &DenseTile,
    sums: &[[S::V; VECTORS]; PIXELS],
) {
    let mut to = tile.sums;
    let mut pixel = 0;
    while pixel < PIXELS {
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: `sums_width` values for each pixel, as the caller vouches.
            unsafe { simd.store(to.wrapping_add(vector * S::LANES), sums[pixel][vector]) };
            vector += 1;
        }
        to = to.wrapping_add(tile.segment.sums_width);
        pixel += 1;
    }
}
