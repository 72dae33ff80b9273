//! Chains of any window: tap by tap.

use super::row::{TilesInRow, VectorTile};
use super::spread::Spread;
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::LANES_PER_PANEL;
use crate::simd::Simd;

impl<L: Spread> TilesInRow<'_, L> {
    /// Adds the whole chain. `WHOLE`: every column of taps lies inside for every pixel.
    ///
    /// # Safety
    /// The windows are of the call's input, as the tile describes them; with `WHOLE` every column of
    /// taps lies inside the input for every pixel. The panel holds the weights of the lanes.
    #[inline(always)]
    pub unsafe fn accumulate<S: Simd, const PIXELS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        tile: &VectorTile,
        sums: &mut [S::V; PIXELS],
    ) {
        let geometry = self.vectors.call.geometry();
        let strides = self.vectors.call.input().strides;
        let mut windows = [tile.window; PIXELS];
        let mut pixel = 1;
        while pixel < PIXELS {
            windows[pixel] = windows[pixel - 1].wrapping_add(self.step);
            pixel += 1;
        }
        let [depth, height] = &self.taps;
        let [_, window_height, window_width] = geometry.window;
        let in_per_group = geometry.in_per_group;
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
                    let tap = (kd * window_height + kh) * window_width;
                    let mut w = weights.wrapping_add(tap * channels * LANES_PER_PANEL);
                    let mut offset = (kd as isize)
                        .wrapping_mul(depth_step)
                        .wrapping_add((kh as isize).wrapping_mul(row_step));
                    let mut column = tile.column;
                    let mut left = window_width;
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

    /// The channels of a block, from `first` on, at one tap.
    ///
    /// # Safety
    /// The panel holds `channels` steps from `weights` on; each place of `at`, moved by `offset`, has
    /// those channels of the input.
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
        let stride = self.vectors.call.input().strides.channel;
        let mut channel = 0;
        while channel < channels {
            let offset = offset.wrapping_add(((first + channel).wrapping_mul(stride)) as isize);
            // SAFETY: the caller vouches for `channels` steps of weights and of each pixel.
            unsafe {
                let w = simd.load(weights.wrapping_add(channel * LANES_PER_PANEL));
                let mut pixel = 0;
                while pixel < PIXELS {
                    // A branch is cheaper than a multiply-add in software.
                    if !MASKED || S::FACTS.fuses || masks[pixel] != 0 {
                        let at = at[pixel].wrapping_offset(offset);
                        let mut x = self.spread.load(simd, at, first + channel);
                        if MASKED {
                            x = simd.keep(x, masks[pixel]);
                        }
                        sums[pixel] = simd.fma(x, w, sums[pixel]);
                    }
                    pixel += 1;
                }
            }
            channel += 1;
        }
    }
}
