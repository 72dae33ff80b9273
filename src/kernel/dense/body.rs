//! The body of a tile: sums in registers, from the bias or a partial sum to the output.

use super::{Inside, Steps, Tile};
use crate::kernel::finish::FinishTile;
use crate::kernel::walk::{div_ceil, divide, input_offset, unit};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::plan::WIDEST_TILE;
use crate::simd::{Kernel, Simd};

/// Enters the body for just this number of vectors and pixels.
#[inline(always)]
pub(super) fn enter_tile<S: Simd>(simd: S, tile: &Tile, vectors: usize, pixels: usize) {
    macro_rules! with_pixels {
        ($vectors:literal) => {
            match pixels {
                1 => simd.enter(Body::<$vectors, 1>(tile)),
                _ if S::TILE_PIXELS[$vectors - 1] <= 1 => {}
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
        // where the chain has several segments or strips; the bias has `channels` values.
        unsafe {
            if layer.units.start > 0 {
                load_sums(simd, tile.sums, &mut sums);
            } else if !layer.bias.is_null() {
                load_bias(simd, layer, &mut sums);
            }
            if layer.prefetches {
                prefetch_next::<S, PIXELS>(simd, tile);
            }
            accumulate(simd, tile, &mut sums);
            if !layer.last || layer.in_strips {
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

/// Asks for what the tile behind this one in the row will see first: with channels last, a pixel
/// is a few lines far from those of its neighbours, which hardware does not foresee.
#[inline(always)]
fn prefetch_next<S: Simd, const PIXELS: usize>(simd: S, tile: &Tile) {
    let layer = tile.layer;
    let geometry = layer.geometry;
    let taps = geometry.taps();
    let reach = |axis: usize| ((geometry.kernel[axis] - 1) * geometry.dilation[axis]) as isize;
    let ahead = (PIXELS * geometry.stride[2]) as isize;
    let corner = [reach(0), reach(1), reach(2).wrapping_add(ahead)];
    let input = layer.input.wrapping_offset(input_offset(layer.strides, corner));
    let first = divide(layer.units.start, taps).0 * CHANNEL_BLOCK;
    let end = (div_ceil(layer.units.end, taps) * CHANNEL_BLOCK).min(geometry.in_per_group());
    let mut pixel = 0;
    while pixel < PIXELS {
        let window = input.wrapping_offset(tile.window[pixel]);
        let mut channel = first;
        while channel < end {
            simd.prefetch(window.wrapping_add(channel));
            channel += CHANNEL_BLOCK;
        }
        pixel += 1;
    }
}

#[inline(always)]
unsafe fn load_bias<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    layer: &super::Layer,
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
    let [depth, height, width] = geometry.kernel;
    let taps = geometry.taps();
    let in_per_group = geometry.in_per_group();
    let steps = geometry.dilation.map(|dilation| dilation as isize);
    let to_tap = steps[2].wrapping_mul(strides.pixel as isize);

    // The segment may begin and end at any tap.
    let (block, [mut kd, mut kh, mut kw]) = unit(geometry, layer.units.start);
    let mut channel = block * CHANNEL_BLOCK;
    let mut weights = layer.weights;
    let mut left = layer.units.end - layer.units.start;
    while left > 0 {
        let left_channels = in_per_group - channel;
        let (block, channels) = if taps == 1 {
            let channels = left * CHANNEL_BLOCK;
            left = 1;
            (layer.full_blocks, channels.min(left_channels))
        } else if left_channels < CHANNEL_BLOCK {
            (layer.last_block, left_channels)
        } else {
            (layer.full_blocks, CHANNEL_BLOCK)
        };
        // The rest of a row of taps, and what of it lies inside the input.
        let end = width.min(kw + left);
        let from = kw.max(layer.taps.start);
        let to = end.min(layer.taps.end);
        let row = [kd as isize * steps[0], kh as isize * steps[1]];
        let inside = tile.inside(0, row[0]).and(tile.inside(1, row[1]));
        if from < to && inside != Inside::None {
            let run = Run {
                block,
                weights: weights.wrapping_add((from - kw) * channels * LANES_PER_PANEL),
                steps: (to - from) * channels,
                panel_len: layer.panel_len,
            };
            let to_row = input_offset(strides, [row[0], row[1], 0])
                .wrapping_add(to_tap.wrapping_mul(from as isize));
            let input = layer.input.wrapping_add(channel.wrapping_mul(strides.channel));
            // SAFETY: the panels hold these steps; the input is read at taps that lie inside, or,
            // for pixels that are masked, at taps of the first pixel that lie inside.
            unsafe {
                if inside == Inside::All {
                    let mut at = [input; PIXELS];
                    let mut pixel = 0;
                    while pixel < PIXELS {
                        let offset = tile.window[pixel].wrapping_add(to_row);
                        at[pixel] = input.wrapping_offset(offset);
                        pixel += 1;
                    }
                    run.all::<S, VECTORS, PIXELS, false>(simd, at, &[-1; PIXELS], sums);
                } else {
                    let masks = tile.masks::<PIXELS>(row);
                    let mut at = [input; PIXELS];
                    let mut pixel = 0;
                    while pixel < PIXELS {
                        let offset = tile.window[pixel].wrapping_add(to_row);
                        at[pixel] = input.wrapping_offset(offset & masks[pixel]);
                        pixel += 1;
                    }
                    run.all::<S, VECTORS, PIXELS, true>(simd, at, &masks, sums);
                }
            }
        }
        weights = weights.wrapping_add((end - kw) * channels * LANES_PER_PANEL);
        left -= end - kw;
        kw = 0;
        kh += 1;
        if kh == height {
            kh = 0;
            kd += 1;
            if kd == depth {
                kd = 0;
                channel += CHANNEL_BLOCK;
            }
        }
    }
}

/// The steps along a row of taps.
struct Run<'a> {
    block: &'a Steps,
    weights: *const f32,
    steps: usize,
    panel_len: usize,
}

impl Run<'_> {
    /// All steps, as many at a time as the table holds.
    #[inline(always)]
    unsafe fn all<S: Simd, const VECTORS: usize, const PIXELS: usize, const MASKED: bool>(
        &self,
        simd: S,
        mut at: [*const f32; PIXELS],
        masks: &[isize; PIXELS],
        sums: &mut [[S::V; VECTORS]; PIXELS],
    ) {
        let mut weights = self.weights;
        let mut left = self.steps;
        loop {
            let count = if left < self.block.count { left } else { self.block.count };
            let mut offsets = self.block.offsets.as_ptr();
            let end = offsets.wrapping_add(count);
            while offsets < end {
                // SAFETY: the table holds `count` steps, the panels hold `steps`, and the caller
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
                return;
            }
            let mut pixel = 0;
            while pixel < PIXELS {
                at[pixel] = at[pixel].wrapping_offset(self.block.advance);
                pixel += 1;
            }
        }
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
