//! Rows of several phases, woven into rows of an output.

use super::finish::Outputs;
use crate::problem::arithmetic::div_ceil;
use crate::simd::{Body, Simd};

/// Rows of `phases` planes of sums, one after the other in memory, become rows in which neighbours are
/// of neighbouring phases.
///
/// ```text
/// a0 a1 a2     b0 b1     =>     a0 b0 a1 b1 a2
/// ```
pub(crate) struct Weave<'a> {
    /// The plane of the first phase, at the first channel.
    pub sums: *const f32,
    /// From a channel to the next, from a phase to the next, from a row to the next.
    pub to_channel: usize,
    pub to_phase: usize,
    pub to_row: usize,
    pub phases: usize,
    pub outputs: &'a Outputs<'a>,
    /// Where the first of them goes; neighbours in a row are neighbours in memory.
    pub offset: usize,
    pub channels: usize,
    pub rows: usize,
    /// From a row to the next in the output.
    pub output_row: usize,
    /// Of a row of the output.
    pub columns: usize,
}

impl Body for Weave<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let to_channel = self.outputs.strides().channel;
        for channel in 0..self.channels {
            for row in 0..self.rows {
                let sums = self.sums.wrapping_add(channel * self.to_channel + row * self.to_row);
                let offset = self.offset + channel * to_channel + row * self.output_row;
                // SAFETY: the sums have this row of each phase; the outputs are the maker's.
                unsafe {
                    let woven = if const { S::LANES > 1 } && self.phases == 2 {
                        self.pairs(simd, sums, offset)
                    } else {
                        0
                    };
                    self.apart(simd, sums, offset, woven);
                }
            }
        }
    }
}

impl Weave<'_> {
    /// Two phases, vector by vector; the columns that were woven.
    ///
    /// # Safety
    /// The sums of a row of each phase are at `sums`, its outputs at `offset`.
    #[inline(always)]
    unsafe fn pairs<S: Simd>(&self, simd: S, sums: *const f32, offset: usize) -> usize {
        let mut column = 0;
        while column + 2 * S::LANES <= self.columns {
            let first = sums.wrapping_add(column / 2);
            // SAFETY: as the caller vouches.
            unsafe {
                let a = simd.load(first);
                let b = simd.load(first.wrapping_add(self.to_phase));
                let [low, high] = simd.interleaved(a, b);
                self.outputs.store(simd, low, offset + column, S::LANES);
                self.outputs.store(simd, high, offset + column + S::LANES, S::LANES);
            }
            column += 2 * S::LANES;
        }
        column
    }

    /// Phase by phase, the columns from `from` on, which is one of the first phase.
    ///
    /// # Safety
    /// The sums of a row of each phase are at `sums`, its outputs at `offset`.
    #[inline(always)]
    unsafe fn apart<S: Simd>(&self, simd: S, sums: *const f32, offset: usize, from: usize) {
        let Weave { phases, columns, .. } = *self;
        let done = if from > 0 { from / 2 } else { 0 };
        for phase in 0..phases.min(columns) {
            let mut column = from + phase;
            let mut sums = sums.wrapping_add(phase * self.to_phase + done);
            while column < columns {
                let count = if const { S::LANES > 1 } {
                    div_ceil(columns - column, phases).min(S::LANES)
                } else {
                    1
                };
                // SAFETY: as the caller vouches.
                unsafe {
                    let v = simd.load_first(sums, count);
                    self.outputs.store_strided(simd, v, offset + column, phases, count);
                }
                sums = sums.wrapping_add(count);
                column += count * phases;
            }
        }
    }
}
