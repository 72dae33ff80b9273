//! The body of a tile.

use super::tile::PixelTile;
use super::tiling::fits;
use crate::kernel::walk::{no_body, places_inside};
use crate::kernel::weights::ChannelWeights;
use crate::numerics::CHANNEL_BLOCK;
use crate::simd::{Body, Simd};
use core::ops::Range;

/// How the lanes of a vector are loaded.
mod lanes {
    /// All, side by side.
    pub const ALL: usize = 0;
    /// Some, side by side.
    pub const SOME: usize = 1;
    /// Some, every other element.
    pub const ALTERNATE: usize = 2;
    /// Some, at any distance.
    pub const APART: usize = 3;
}

impl PixelTile<'_> {
    /// Enters the body for just this number of channels and vectors.
    #[inline(always)]
    pub fn enter<S: Simd>(&self, simd: S, vectors: usize) {
        macro_rules! enter {
            ($($channels:literal x [$($vectors:literal)*])*) => {
                match (self.channels.count, vectors) {
                    $($(
                        ($channels, $vectors) if const { fits(S::FACTS, $channels, $vectors) } => {
                            simd.enter(TileBody::<$channels, $vectors>(self));
                        }
                    )*)*
                    _ => no_body(),
                }
            };
        }
        enter! {
            1 x [1 2 3 4 6 8]
            2 x [1 2 3 4]
            4 x [1 2 3 4]
            6 x [1 2 3 4]
            8 x [1 2 3 4]
        }
    }
}

struct TileBody<'a, const CHANNELS: usize, const VECTORS: usize>(&'a PixelTile<'a>);

impl<const CHANNELS: usize, const VECTORS: usize> Body for TileBody<'_, CHANNELS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        let channels = tile.channels;
        let call = channels.call;
        let mut sums = [[simd.splat(0.0); VECTORS]; CHANNELS];
        if !call.bias().is_null() {
            let mut channel = 0;
            while channel < CHANNELS {
                // SAFETY: the bias has a value for each output channel.
                let bias = unsafe { *call.bias().add(channels.first + channel) };
                sums[channel] = [simd.splat(bias); VECTORS];
                channel += 1;
            }
        }
        // SAFETY: the tile describes windows of the call's input and where they lie in it; the
        // weights are those of the channels.
        unsafe { tile.accumulate(simd, &mut sums) };
        let sums = sums;
        let outputs = call.outputs();
        let to = outputs.strides();
        let count = S::LANES.min(tile.pixels);
        for (channel, sums) in sums.iter().enumerate() {
            let offset = tile.offset + channel * to.channel;
            // SAFETY: outputs of the call's part.
            unsafe {
                let step = tile.vector.output;
                outputs.store_vectors(simd, sums, offset, step, to.pixel, count);
            }
        }
    }
}

impl PixelTile<'_> {
    /// Adds the whole chain.
    ///
    /// # Safety
    /// The tile describes windows of the call's input; its weights are those of the tile's channels.
    #[inline(always)]
    unsafe fn accumulate<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        sums: &mut [[S::V; VECTORS]; CHANNELS],
    ) {
        use lanes::{ALL, ALTERNATE, APART, SOME};
        let geometry = self.channels.call.geometry();
        let strides = self.channels.call.input().strides;
        let weights = &self.channels.weights;
        let [depth, height] = &self.taps;
        let in_per_group = geometry.in_per_group;
        let [depth_step, row_step, pixel_step] = [
            geometry.dilation[0].wrapping_mul(strides.depth),
            geometry.dilation[1].wrapping_mul(strides.row),
            geometry.dilation[2].wrapping_mul(strides.pixel),
        ];
        let full = self.step == 1 && self.pixels.is_multiple_of(S::LANES);
        let past = ((self.pixels - 1) * geometry.stride[2]) as isize;
        let size = geometry.input[2] as isize;

        let mut first = 0;
        while first < in_per_group {
            let block = CHANNEL_BLOCK.min(in_per_group - first);
            let between = if weights.channels_in_tap { block } else { 1 };
            let to_tap = weights.to_tap.map(|to_tap| to_tap.wrapping_mul(between));
            let block_weights =
                weights.first.wrapping_add(first.wrapping_mul(weights.before_block));
            let block_input = self.input.wrapping_add(first.wrapping_mul(strides.channel));
            let mut kd = depth.start;
            while kd < depth.end {
                let mut kh = height.start;
                while kh < height.end {
                    let mut w = block_weights
                        .wrapping_add(kd.wrapping_mul(to_tap[0]))
                        .wrapping_add(kh.wrapping_mul(to_tap[1]));
                    let mut x = block_input
                        .wrapping_add(kd.wrapping_mul(depth_step))
                        .wrapping_add(kh.wrapping_mul(row_step));
                    let mut column = self.column;
                    let mut left = geometry.window[2];
                    while left > 0 {
                        let all_inside = column >= 0 && column + past < size;
                        let some_inside = column + past >= 0 && column < size;
                        // SAFETY: the lanes that are read have this tap inside the input; the
                        // weights hold these steps for each output channel.
                        unsafe {
                            if full && all_inside {
                                self.block::<S, CHANNELS, VECTORS, ALL>(
                                    simd, w, x, block, column, sums,
                                );
                            } else if some_inside {
                                match self.step {
                                    1 => self.block::<S, CHANNELS, VECTORS, SOME>(
                                        simd, w, x, block, column, sums,
                                    ),
                                    2 => self.block::<S, CHANNELS, VECTORS, ALTERNATE>(
                                        simd, w, x, block, column, sums,
                                    ),
                                    _ => self.block::<S, CHANNELS, VECTORS, APART>(
                                        simd, w, x, block, column, sums,
                                    ),
                                }
                            }
                        }
                        w = w.wrapping_add(to_tap[2]);
                        x = x.wrapping_add(pixel_step);
                        column += geometry.dilation[2] as isize;
                        left -= 1;
                    }
                    kh += 1;
                }
                kd += 1;
            }
            first += block;
        }
    }

    /// The channels of a block at one tap, the first pixel of which reads `column`.
    ///
    /// # Safety
    /// The weights hold `channels` steps from `w` on for each output channel. `x` is where the first
    /// pixel reads them; with [`lanes::ALL`] all pixels have this tap inside the input.
    #[inline(always)]
    unsafe fn block<S: Simd, const CHANNELS: usize, const VECTORS: usize, const LANES: usize>(
        &self,
        simd: S,
        w: *const f32,
        x: *const f32,
        channels: usize,
        column: isize,
        sums: &mut [[S::V; VECTORS]; CHANNELS],
    ) {
        let stride = self.channels.call.input().strides.channel;
        let ChannelWeights { to_channel, to_output, .. } = self.channels.weights;
        let inside = if LANES == lanes::ALL { 0..0 } else { self.pixels_inside(column) };
        let (mut w, mut x) = (w, x);
        let mut left = channels;
        while left > 0 {
            let mut values = [simd.splat(0.0); VECTORS];
            let mut vector = 0;
            while vector < VECTORS {
                let first = vector * self.vector.pixels;
                let to = inside.end.saturating_sub(first).min(S::LANES);
                let from = inside.start.saturating_sub(first).min(to);
                let at = x.wrapping_add(vector.wrapping_mul(self.vector.input));
                // SAFETY: these lanes have the tap inside the input, as the caller vouches.
                values[vector] = unsafe {
                    match LANES {
                        lanes::ALL => simd.load(at),
                        lanes::SOME => simd.load_range(at, from, to),
                        lanes::ALTERNATE => simd.load_alternate(at, from, to),
                        _ => simd.load_strided(at, self.step as isize, from, to),
                    }
                };
                vector += 1;
            }
            let mut output = 0;
            while output < CHANNELS {
                // SAFETY: the weights hold this step, as the caller vouches.
                let weight = simd.splat(unsafe { *w.wrapping_add(output.wrapping_mul(to_output)) });
                let mut vector = 0;
                while vector < VECTORS {
                    sums[output][vector] = simd.fma(values[vector], weight, sums[output][vector]);
                    vector += 1;
                }
                output += 1;
            }
            w = w.wrapping_add(to_channel);
            x = x.wrapping_add(stride);
            left -= 1;
        }
    }

    /// The pixels that exist and lie inside the input at a tap whose first pixel reads `column`.
    #[inline(always)]
    fn pixels_inside(&self, column: isize) -> Range<usize> {
        let geometry = self.channels.call.geometry();
        places_inside(column, geometry.input[2] as isize, geometry.stride[2], self.pixels)
    }
}
