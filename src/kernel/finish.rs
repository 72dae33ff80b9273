//! From finished chains to the output: residual, activation, canonical form, store.

use super::Task;
use crate::epilogue::Activation;
use crate::simd::{Kernel, MOST_LANES, Simd};

/// The part of a [`Task`] that outputs need.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    output: *mut f32,
    residual: *const f32,
    activation: Activation,
    channel_stride: usize,
    pixel_stride: usize,
}

impl Outputs {
    pub fn of(task: &Task) -> Outputs {
        Outputs {
            output: task.output,
            residual: task.residual,
            activation: task.activation,
            channel_stride: task.plan.output.channel,
            pixel_stride: task.plan.output.pixel,
        }
    }

    /// Whether neighbouring channels are neighbours in memory.
    #[inline(always)]
    pub fn channels_adjoin(&self) -> bool {
        self.channel_stride == 1
    }

    /// Finishes and stores the first `count` lanes, at `offset` and behind.
    ///
    /// # Safety
    /// Those elements belong to the part of the output that is computed.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, simd: S, v: S::V, offset: usize, count: usize) {
        let output = self.output.wrapping_add(offset);
        let residual = self.residual.wrapping_add(offset);
        // SAFETY: the elements are in the output, and in the residual, which has its strides.
        unsafe {
            if count == S::LANES {
                let sum =
                    if self.residual.is_null() { v } else { simd.add(v, simd.load(residual)) };
                simd.store(output, finish(simd, sum, self.activation));
            } else {
                let sum = if self.residual.is_null() {
                    v
                } else {
                    simd.add(v, simd.load_first(residual, count))
                };
                simd.store_first(output, finish(simd, sum, self.activation), count);
            }
        }
    }

    /// The same for lanes that are `stride` elements apart in the output.
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
            simd.store(lanes.as_mut_ptr(), finish(simd, sum, self.activation));
            let mut lane = 0;
            while lane < count {
                *self.output.wrapping_add(offset + lane * stride) = lanes[lane];
                lane += 1;
            }
        }
    }
}

/// [`crate::numerics::finish`] without the residual, on a vector.
#[inline(always)]
fn finish<S: Simd>(simd: S, v: S::V, activation: Activation) -> S::V {
    let activated = match activation {
        Activation::None => v,
        Activation::Relu => simd.select_less(v, simd.splat(0.0), simd.splat(0.0), v),
        Activation::Clamp { lower, upper } => clamp(simd, v, lower, upper),
        Activation::LeakyRelu { slope } => {
            let below = simd.mul(v, simd.splat(slope));
            simd.select_less(simd.splat(0.0), v, v, below)
        }
        Activation::HardSwish => {
            let gate = clamp(simd, simd.add(v, simd.splat(3.0)), 0.0, 6.0);
            simd.div(simd.mul(v, gate), simd.splat(6.0))
        }
    };
    simd.canonical(activated)
}

#[inline(always)]
fn clamp<S: Simd>(simd: S, v: S::V, lower: f32, upper: f32) -> S::V {
    let (lower, upper) = (simd.splat(lower), simd.splat(upper));
    let v = simd.select_less(v, lower, lower, v);
    simd.select_less(upper, v, upper, v)
}

/// A tile whose lanes are output channels: `pixels` rows of `width` sums, in the registers' order.
pub(super) struct FinishTile<'a> {
    pub outputs: &'a Outputs,
    /// `sums[pixel * width + channel]`
    pub sums: *const f32,
    pub width: usize,
    /// Channels that exist, at most `width`.
    pub channels: usize,
    /// Of each pixel, at the first channel of the tile.
    pub offsets: &'a [usize],
}

impl Kernel for FinishTile<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.outputs.channels_adjoin() {
            self.channels_in_lanes(simd);
        } else {
            self.pixels_in_lanes(simd);
        }
    }
}

impl FinishTile<'_> {
    /// A vector of the tile is a vector of the output.
    #[inline(always)]
    fn channels_in_lanes<S: Simd>(&self, simd: S) {
        for (pixel, &offset) in self.offsets.iter().enumerate() {
            let mut channel = 0;
            while channel < self.channels {
                let count = S::LANES.min(self.channels - channel);
                // SAFETY: `sums` holds `width` values for each offset, `width` being whole
                // vectors; the offsets are those of the part of the output that is computed.
                unsafe {
                    let v = simd.load(self.sums.add(pixel * self.width + channel));
                    self.outputs.store(simd, v, offset + channel, count);
                }
                channel += S::LANES;
            }
        }
    }

    /// Planes of channels: squares of the tile are transposed.
    #[inline(always)]
    fn pixels_in_lanes<S: Simd>(&self, simd: S) {
        let outputs = self.outputs;
        let mut first = 0;
        while first < self.offsets.len() {
            let pixels = &self.offsets[first..self.offsets.len().min(first + S::LANES)];
            // Offsets ascend, so the ends tell whether the pixels between are in one row.
            let stride = outputs.pixel_stride;
            let in_line = pixels[pixels.len() - 1] - pixels[0] == (pixels.len() - 1) * stride;
            let mut channel = 0;
            while channel < self.channels {
                let mut rows = [simd.splat(0.0); MOST_LANES];
                let mut pixel = 0;
                while pixel < pixels.len() {
                    // SAFETY: `sums` holds `width` values for each offset.
                    rows[pixel] = unsafe {
                        simd.load(self.sums.add((first + pixel) * self.width + channel))
                    };
                    pixel += 1;
                }
                simd.transpose(&mut rows);
                let count = S::LANES.min(self.channels - channel);
                for (lane, &row) in rows.iter().enumerate().take(count) {
                    let plane = (channel + lane) * outputs.channel_stride;
                    // SAFETY: pixels and channels of the part of the output that is computed.
                    unsafe {
                        if in_line {
                            let offset = pixels[0] + plane;
                            outputs.store_strided(simd, row, offset, stride, pixels.len());
                        } else {
                            scatter(simd, outputs, row, pixels, plane);
                        }
                    }
                }
                channel += S::LANES;
            }
            first += S::LANES;
        }
    }
}

/// Stores the lanes of `v` one by one, each at the offset of its pixel.
///
/// # Safety
/// As of [`Outputs::store`].
#[inline(always)]
unsafe fn scatter<S: Simd>(simd: S, outputs: &Outputs, v: S::V, pixels: &[usize], plane: usize) {
    let mut lanes = [0.0; MOST_LANES];
    // SAFETY: `lanes` holds a vector; the offsets are the caller's.
    unsafe {
        simd.store(lanes.as_mut_ptr(), v);
        for (&lane, &pixel) in lanes.iter().zip(pixels) {
            outputs.store(simd, simd.splat(lane), pixel + plane, 1);
        }
    }
}
