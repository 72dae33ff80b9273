//! From finished chains to the output: residual, activation, canonical form, store.

use super::walk::Pixel;
use crate::activation::Activation;
#[cfg(doc)]
use crate::numerics;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::{Body, HAS_VECTORS, MOST_LANES, Simd};
use core::mem::MaybeUninit;
use core::ops::Range;

/// Where outputs go, and what becomes of them on the way.
#[derive(Clone, Copy)]
pub(crate) struct Outputs<'a> {
    output: *mut f32,
    /// With the strides of the output, or null.
    residual: *const f32,
    function: Function,
    strides: &'a Strides,
}

/// An activation, in as few forms as there are.
#[derive(Clone, Copy)]
enum Function {
    /// With infinite bounds the identity, with 0 and infinity ReLU.
    Clamp {
        lower: f32,
        upper: f32,
    },
    LeakyRelu {
        slope: f32,
    },
    HardSwish,
}

impl<'a> Outputs<'a> {
    /// `residual`, which may be null, has the strides of the output.
    pub fn new(
        strides: &'a Strides,
        output: *mut f32,
        residual: *const f32,
        activation: Activation,
    ) -> Outputs<'a> {
        let (lower, upper) = (f32::NEG_INFINITY, f32::INFINITY);
        Outputs {
            output,
            residual,
            function: match activation {
                Activation::Relu => Function::Clamp { lower: 0.0, upper },
                Activation::Clamp { lower, upper } => Function::Clamp { lower, upper },
                Activation::LeakyRelu { slope } => Function::LeakyRelu { slope },
                Activation::HardSwish => Function::HardSwish,
                // None, or one that comes after the kernel: see `activate.rs`.
                _ => Function::Clamp { lower, upper },
            },
            strides,
        }
    }

    /// Where outputs lie: the only place from which a kernel learns it.
    #[inline(always)]
    pub fn strides(&self) -> &'a Strides {
        self.strides
    }

    /// Finishes and stores vectors whose starts are `stride` apart: of each, `count` lanes that
    /// are `lane_stride` apart.
    ///
    /// # Safety
    /// Those elements, the first at `offset`, belong to the part of the output that is computed.
    #[inline(always)]
    pub unsafe fn store_vectors<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        sums: &[S::V; VECTORS],
        offset: usize,
        stride: usize,
        lane_stride: usize,
        count: usize,
    ) {
        let whole = count == S::LANES && lane_stride == 1;
        if let (true, Some(bounds)) = (whole, self.clamped_alone()) {
            // SAFETY: the caller's elements.
            unsafe { self.store_clamped(simd, bounds, sums, VECTORS, offset, stride) };
        } else {
            let mut offset = offset;
            for sum in spilled(sums) {
                // SAFETY: the caller's elements.
                unsafe { self.store_strided(simd, sum, offset, lane_stride, count) };
                offset = offset.wrapping_add(stride);
            }
        }
    }

    /// Finishes and stores a tile in the usual case, from register to memory: channels that adjoin,
    /// nothing to be added, an activation that clamps. Else it stores nothing and returns `false`.
    ///
    /// # Safety
    /// At each offset, as many channels as `VECTORS` hold belong to the part of the output that is
    /// computed.
    #[inline(always)]
    pub unsafe fn store_whole<S: Simd, const VECTORS: usize, const PIXELS: usize>(
        &self,
        simd: S,
        sums: &[[S::V; VECTORS]; PIXELS],
        offsets: &[usize; MOST_PIXELS],
    ) -> bool {
        let (1, Some(bounds)) = (self.strides.channel, self.clamped_alone()) else { return false };
        let mut pixel = 0;
        while pixel < PIXELS {
            let (vectors, offset) = (&sums[pixel], offsets[pixel]);
            // SAFETY: the caller's elements.
            unsafe { self.store_clamped(simd, bounds, vectors, VECTORS, offset, S::LANES) };
            pixel += 1;
        }
        true
    }

    /// The bounds, if sums are only clamped: the usual case.
    #[inline(always)]
    fn clamped_alone(&self) -> Option<[f32; 2]> {
        match self.function {
            Function::Clamp { lower, upper } if self.residual.is_null() => Some([lower, upper]),
            _ => None,
        }
    }

    /// Stores the first `count` vectors between these bounds, whole and `stride` apart, from register to
    /// memory.
    ///
    /// # Safety
    /// Those elements, the first at `offset`, belong to the part of the output that is computed.
    #[inline(always)]
    unsafe fn store_clamped<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        [lower, upper]: [f32; 2],
        sums: &[S::V; VECTORS],
        count: usize,
        offset: usize,
        stride: usize,
    ) {
        let mut output = self.output.wrapping_add(offset);
        let mut vector = 0;
        while vector < count {
            let v = simd.canonical(clamp(simd, sums[vector], lower, upper));
            // SAFETY: the caller's elements.
            unsafe { simd.store(output, v) };
            output = output.wrapping_add(stride);
            vector += 1;
        }
    }

    /// Whether something is added to the sums.
    pub fn have_residual(&self) -> bool {
        !self.residual.is_null()
    }

    /// The same with another place for the output.
    pub fn into_memory(self, output: *mut f32) -> Outputs<'a> {
        Outputs { output, ..self }
    }

    /// Stores the first `count` lanes, which are finished, at `offset` and behind.
    ///
    /// # Safety
    /// Those elements belong to the part of the output that is computed.
    #[inline(always)]
    pub unsafe fn store_finished<S: Simd>(&self, simd: S, v: S::V, offset: usize, count: usize) {
        let output = self.output.wrapping_add(offset);
        // SAFETY: the elements are in the output.
        unsafe {
            if count == S::LANES {
                simd.store(output, v);
            } else {
                simd.store_first(output, v, count);
            }
        }
    }

    /// Finishes and stores the first `count` lanes, at `offset` and behind.
    ///
    /// # Safety
    /// Those elements belong to the part of the output that is computed.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, simd: S, v: S::V, offset: usize, count: usize) {
        let residual = self.residual.wrapping_add(offset);
        // SAFETY: the elements are in the output, and in the residual, which has its strides.
        unsafe {
            // Whole vectors are a branch of their own from end to end: otherwise short chains take a
            // sixth longer on the portable path.
            if S::LANES > 1 && count == S::LANES {
                let sum =
                    if self.residual.is_null() { v } else { simd.add(v, simd.load(residual)) };
                let output = self.output.wrapping_add(offset);
                return simd.store(output, finish(simd, sum, self.function));
            }
            let sum = if self.residual.is_null() {
                v
            } else if count == S::LANES {
                simd.add(v, simd.load(residual))
            } else {
                simd.add(v, simd.load_first(residual, count))
            };
            self.store_finished(simd, finish(simd, sum, self.function), offset, count);
        }
    }

    /// The same for lanes that are `stride` elements apart in the output; it wraps, they may descend.
    ///
    /// # Safety
    /// As of [`Outputs::store`].
    #[inline(always)]
    pub unsafe fn store_strided<S: Simd>(
        &self,
        simd: S,
        v: S::V,
        offset: usize,
        stride: usize,
        count: usize,
    ) {
        if stride == 1 {
            // SAFETY: as the caller's.
            return unsafe { self.store(simd, v, offset, count) };
        }
        let mut lanes = [0.0; MOST_LANES];
        // SAFETY: the elements are in the output and in the residual; `lanes` holds a vector.
        unsafe {
            let sum = if self.residual.is_null() {
                v
            } else {
                let residual = self.residual.wrapping_add(offset);
                simd.add(v, simd.load_strided(residual, stride as isize, 0, count))
            };
            simd.store(lanes.as_mut_ptr(), finish(simd, sum, self.function));
            for (lane, value) in lanes.iter().enumerate().take(count) {
                let offset = offset.wrapping_add(lane.wrapping_mul(stride));
                *self.output.wrapping_add(offset) = *value;
            }
        }
    }
}

/// The same vectors, for a loop that takes them in turn: such a loop over the array itself would
/// keep it in memory from where its vectors are made.
#[inline(always)]
pub(super) fn spilled<V: Copy, const COUNT: usize>(vectors: &[V; COUNT]) -> [V; COUNT] {
    let mut copy = [MaybeUninit::uninit(); COUNT];
    let mut vector = 0;
    while vector < COUNT {
        copy[vector].write(vectors[vector]);
        vector += 1;
    }
    // SAFETY: every element was written.
    copy.map(|v| unsafe { v.assume_init() })
}

/// [`numerics::finish`] without the residual, on a vector.
#[inline(always)]
fn finish<S: Simd>(simd: S, v: S::V, function: Function) -> S::V {
    let activated = match function {
        Function::Clamp { lower, upper } => clamp(simd, v, lower, upper),
        Function::LeakyRelu { slope } => {
            let below = simd.mul(v, simd.splat(slope));
            simd.select_less(simd.splat(0.0), v, v, below)
        }
        Function::HardSwish => {
            let gate = clamp(simd, simd.add(v, simd.splat(3.0)), 0.0, 6.0);
            simd.div(simd.mul(v, gate), simd.splat(6.0))
        }
    };
    simd.canonical(activated)
}

#[inline(always)]
fn clamp<S: Simd>(simd: S, v: S::V, lower: f32, upper: f32) -> S::V {
    simd.smaller(simd.splat(upper), simd.larger(simd.splat(lower), v))
}

/// A tile whose lanes are output channels: `PIXELS` rows of `width` sums.
pub(super) struct FinishTile<'a, const PIXELS: usize> {
    pub outputs: &'a Outputs<'a>,
    /// `sums[pixel * width + channel]`; `width` is whole vectors.
    pub sums: *const f32,
    pub width: usize,
    /// Channels that exist, at most `width`.
    pub channels: usize,
    /// Of each pixel, at the first channel of the tile.
    pub offsets: &'a [usize; MOST_PIXELS],
}

/// The most pixels of a tile.
pub(super) const MOST_PIXELS: usize = if HAS_VECTORS { 8 } else { 1 };

impl<const PIXELS: usize> Body for FinishTile<'_, PIXELS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let stride = self.outputs.strides.channel;
        let mut channel = 0;
        while channel < self.channels {
            let count = S::LANES.min(self.channels - channel);
            for (pixel, &offset) in self.offsets[..PIXELS].iter().enumerate() {
                // SAFETY: `sums` holds `width` values for each pixel; the offsets are those of
                // the part of the output that is computed.
                unsafe {
                    let v = simd.load(self.sums.add(pixel * self.width + channel));
                    self.outputs.store_strided(simd, v, offset + channel * stride, stride, count);
                }
            }
            channel += S::LANES;
        }
    }
}

/// Pixels whose sums are in memory, for an output in planes of channels: squares of them are
/// transposed, so that lanes become neighbouring pixels.
pub(crate) struct FinishStrip<'a> {
    pub outputs: &'a Outputs<'a>,
    pub geometry: &'a Geometry,
    /// `sums[pixel * sums_width + channel]`
    pub sums: *const f32,
    pub sums_width: usize,
    pub channels: usize,
    /// Of the first channel, in the output.
    pub channel_offset: usize,
    pub pixel: Pixel,
    pub columns: &'a Range<usize>,
    pub count: usize,
}

impl Body for FinishStrip<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Few planes at a time, so that the processor sees through which rows they go.
        let mut channel = 0;
        while channel < self.channels {
            self.planes(simd, channel, S::LANES.min(self.channels - channel));
            channel += S::LANES;
        }
    }
}

impl FinishStrip<'_> {
    /// All pixels, at so many channels from that one on.
    #[inline(always)]
    fn planes<S: Simd>(&self, simd: S, channel: usize, channels: usize) {
        let Strides { channel: to_channel, pixel: to_pixel, .. } = *self.outputs.strides;
        let mut next = self.pixel;
        let mut sums = self.sums.wrapping_add(channel);
        let mut left = self.count;
        while left > 0 {
            let pixel = next;
            let mut in_line = self.pass_line(&mut next).min(left);
            left -= in_line;
            let mut offset = pixel.output_offset(self.outputs.strides);
            offset += self.channel_offset + channel * to_channel;
            while in_line > 0 {
                let pixels = in_line.min(S::LANES);
                // SAFETY: `sums` holds `sums_width` values, whole vectors, for each pixel; these are
                // pixels and channels of the part of the output that is computed.
                unsafe { self.square(simd, sums, offset, pixels, channels) };
                sums = sums.wrapping_add(pixels * self.sums_width);
                offset = offset.wrapping_add(pixels.wrapping_mul(to_pixel));
                in_line -= pixels;
            }
        }
    }

    /// Passes over the pixels whose outputs are in line with that of `next`: those of its row, or of its
    /// plane where rows adjoin. How many they are.
    #[inline(always)]
    fn pass_line(&self, next: &mut Pixel) -> usize {
        let Strides { row: to_row, pixel: to_pixel, .. } = *self.outputs.strides;
        let [_, height, width] = self.geometry.output;
        let [_, row, column] = next.at;
        let adjoin = self.columns.len() == width && to_row == width.wrapping_mul(to_pixel);
        let last_row = if adjoin { height - 1 } else { row };
        next.at[1] = last_row;
        next.at[2] = self.columns.end - 1;
        next.next(self.geometry, self.columns);
        (last_row - row) * width + self.columns.end - column
    }

    /// As many pixels in line as there are lanes, or fewer, the first at that offset.
    ///
    /// # Safety
    /// These are pixels and channels of the part of the output that is computed, and their sums are at
    /// `sums`.
    #[inline(always)]
    unsafe fn square<S: Simd>(
        &self,
        simd: S,
        sums: *const f32,
        offset: usize,
        pixels: usize,
        channels: usize,
    ) {
        // Fewer pixels are not worth a transposition.
        const LEAST: usize = 4;
        let outputs = self.outputs;
        let Strides { channel: to_channel, pixel: to_pixel, .. } = *outputs.strides;
        // SAFETY: as the caller vouches.
        unsafe {
            if pixels < LEAST {
                for pixel in 0..pixels {
                    let v = simd.load(sums.add(pixel * self.sums_width));
                    let offset = offset + pixel * to_pixel;
                    outputs.store_strided(simd, v, offset, to_channel, channels);
                }
                return;
            }
            let rows = self.transposed(simd, sums, pixels);
            let whole = pixels == S::LANES && channels == S::LANES && to_pixel == 1;
            if let (true, Some(bounds)) = (whole, outputs.clamped_alone()) {
                outputs.store_clamped(simd, bounds, &rows, S::LANES, offset, to_channel);
            } else {
                for (lane, row) in spilled(&rows).into_iter().enumerate().take(channels) {
                    let offset = offset + lane * to_channel;
                    outputs.store_strided(simd, row, offset, to_pixel, pixels);
                }
            }
        }
    }

    /// A vector of pixels for each channel, from a vector of channels for each pixel.
    ///
    /// # Safety
    /// `sums` holds a vector for each of `pixels` pixels, `sums_width` apart.
    #[inline(always)]
    unsafe fn transposed<S: Simd>(
        &self,
        simd: S,
        sums: *const f32,
        pixels: usize,
    ) -> [S::V; MOST_LANES] {
        let mut rows = [simd.splat(0.0); MOST_LANES];
        let mut sums = sums;
        let mut lane = 0;
        while lane < S::LANES {
            // SAFETY: as the caller vouches.
            rows[lane] = unsafe { simd.load(sums) };
            lane += 1;
            // Past the last pixel it stands in.
            sums = sums.wrapping_add(if lane < pixels { self.sums_width } else { 0 });
        }
        simd.transpose(&mut rows);
        rows
    }
}
