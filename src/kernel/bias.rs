//! Outputs that no input meets: their chains are the bias.

use super::finish::Outputs;
use super::part::Part;
use super::walk::Rows;
use crate::panels;
use crate::problem::geometry::Geometry;
use crate::simd::{Body, Simd};

/// Finishes a part of the outputs of a problem.
pub(crate) struct BiasAlone<'a> {
    pub geometry: &'a Geometry,
    /// A value for each output channel, or null.
    pub bias: *const f32,
    pub outputs: &'a Outputs<'a>,
    pub part: &'a Part,
}

impl Body for BiasAlone<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut rows = Rows::of(self.geometry, self.part.pixels.clone());
        while let Some(row) = rows.next(self.geometry) {
            let offset = row.pixel.output_offset(self.outputs.strides());
            for panel in self.part.panels.clone() {
                let (first, count) = panels::channels(self.geometry, panel);
                if self.outputs.strides().channel == 1 {
                    self.channels(simd, offset, row.count, first, count);
                } else {
                    self.planes(simd, offset, row.count, first, count);
                }
            }
        }
    }
}

impl BiasAlone<'_> {
    /// Pixel by pixel, channels in the lanes.
    #[inline(always)]
    fn channels<S: Simd>(
        &self,
        simd: S,
        offset: usize,
        pixels: usize,
        first: usize,
        channels: usize,
    ) {
        let mut done = 0;
        while done < channels {
            let count = S::LANES.min(channels - done);
            let channel = first + done;
            let bias = if self.bias.is_null() {
                simd.splat(0.0)
            } else {
                // SAFETY: the bias has a value for each output channel.
                unsafe { simd.load_first(self.bias.add(channel), count) }
            };
            let mut at = offset + channel;
            for _ in 0..pixels {
                // SAFETY: outputs of the part.
                unsafe { self.outputs.store(simd, bias, at, count) };
                at += self.outputs.strides().pixel;
            }
            done += count;
        }
    }

    /// Channel by channel, pixels in the lanes.
    #[inline(always)]
    fn planes<S: Simd>(
        &self,
        simd: S,
        offset: usize,
        pixels: usize,
        first: usize,
        channels: usize,
    ) {
        let to = self.outputs.strides();
        for channel in first..first + channels {
            let bias = if self.bias.is_null() {
                0.0
            } else {
                // SAFETY: the bias has a value for each output channel.
                unsafe { *self.bias.add(channel) }
            };
            let bias = simd.splat(bias);
            let mut at = offset + channel * to.channel;
            let mut left = pixels;
            while left > 0 {
                let count = S::LANES.min(left);
                // SAFETY: outputs of the part.
                unsafe { self.outputs.store_strided(simd, bias, at, to.pixel, count) };
                at += count * to.pixel;
                left -= count;
            }
        }
    }
}
