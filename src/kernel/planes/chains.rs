//! The chains of a piece in one channel.

use super::piece::Piece;
use super::tiling::most_vectors;
use crate::kernel::finish::Outputs;
use crate::kernel::weights::ChannelWeights;
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::LANES_PER_PANEL;
use crate::problem::strides::Strides;
use crate::simd::{Body, Simd};

/// The outputs of a piece in one channel.
pub(super) struct Chains<'a> {
    pub piece: &'a Piece<'a>,
    pub channel: usize,
    pub weights: ChannelWeights,
    /// Where the first one lies in the output.
    pub offset: usize,
}

/// Which loops the chains need.
mod kind {
    /// One input channel, packed weights.
    pub const ONE: usize = 0;
    /// One input channel, weights that are not packed.
    pub const ONE_UNPACKED: usize = 1;
    /// Several input channels.
    pub const SEVERAL: usize = 2;
}

/// Chains of one input channel whose weights are packed.
pub(super) struct OneChannel<'a>(pub &'a Chains<'a>);

/// Chains of one input channel whose weights are not.
pub(super) struct OneUnpacked<'a>(pub &'a Chains<'a>);

/// Chains of several input channels.
pub(super) struct Channels<'a>(pub &'a Chains<'a>);

impl Body for OneChannel<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.run::<S, { kind::ONE }>(simd);
    }
}

impl Body for OneUnpacked<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.run::<S, { kind::ONE_UNPACKED }>(simd);
    }
}

impl Body for Channels<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.run::<S, { kind::SEVERAL }>(simd);
    }
}

/// Vectors in a line: where the first one is in the long row, and from each to the next; and the
/// same of their outputs, of which each has `count`, `lane_step` apart.
struct Line<'a> {
    vectors: usize,
    at: usize,
    step: usize,
    outputs: Outputs<'a>,
    offset: usize,
    output_step: usize,
    lane_step: usize,
    count: usize,
}

impl Chains<'_> {
    #[inline(always)]
    fn run<S: Simd, const KIND: usize>(&self, simd: S) {
        let Piece { call, band, rows, columns, .. } = *self.piece;
        let in_row = columns.div_ceil(S::LANES);
        let in_rows = rows * in_row;
        let long_row = ((rows - 1) * band.row_len + columns).div_ceil(S::LANES);
        let fills_vectors = columns.is_multiple_of(S::LANES);
        let outputs = call.outputs();
        let plain = outputs.strides().pixel == 1 && !outputs.have_residual();
        // A short row has too few independent sums to keep a machine busy.
        if S::LANES == 1 || rows == 1 || in_row >= 2 * most_vectors(S::FACTS) {
            for row in 0..rows {
                self.row::<S, KIND>(simd, row);
            }
        } else if !plain || fills_vectors || long_row > in_rows + in_rows / 4 + 1 {
            self.stacked::<S, KIND>(simd);
        } else {
            self.long_row::<S, KIND>(simd, long_row);
        }
    }

    /// A row of outputs.
    #[inline(always)]
    fn row<S: Simd, const KIND: usize>(&self, simd: S, row: usize) {
        let Piece { call, band, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = *call.outputs().strides();
        let full = columns / S::LANES;
        let mut line = Line {
            vectors: full,
            at: row * band.row_len,
            step: S::LANES,
            outputs: *call.outputs(),
            offset: self.offset + row * to_row,
            output_step: pixel.wrapping_mul(S::LANES),
            lane_step: pixel,
            count: S::LANES,
        };
        self.line::<S, KIND>(simd, &line);
        if full * S::LANES < columns {
            line.vectors = 1;
            line.at += full * S::LANES;
            line.offset += full * S::LANES * pixel;
            line.count = columns - full * S::LANES;
            self.line::<S, KIND>(simd, &line);
        }
    }

    /// All rows, vectors below each other.
    #[inline(always)]
    fn stacked<S: Simd, const KIND: usize>(&self, simd: S) {
        let Piece { call, band, rows, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = *call.outputs().strides();
        let mut column = 0;
        while column < columns {
            let line = Line {
                vectors: rows,
                at: column,
                step: band.row_len,
                outputs: *call.outputs(),
                offset: self.offset + column * pixel,
                output_step: to_row,
                lane_step: pixel,
                count: S::LANES.min(columns - column),
            };
            self.line::<S, KIND>(simd, &line);
            column += S::LANES;
        }
    }

    /// All rows, as one of so many vectors: it is finished in scratch memory, and what means
    /// something is copied. The pixels of the output adjoin, and there is no residual.
    #[inline(always)]
    fn long_row<S: Simd, const KIND: usize>(&self, simd: S, vectors: usize) {
        let Piece { call, band, rows, columns, .. } = *self.piece;
        let (outputs, to) = (call.outputs(), call.outputs().strides());
        let finished = call.scratch().wrapping_add(band.copies_len(call.geometry()));
        let line = Line {
            vectors,
            at: 0,
            step: S::LANES,
            outputs: outputs.into_memory(finished),
            offset: 0,
            output_step: S::LANES,
            lane_step: 1,
            count: S::LANES,
        };
        self.line::<S, KIND>(simd, &line);
        // Vector by vector, from the last column to the first. Where rows adjoin, a vector may reach over
        // the end of its row, as what it spoils is still to be written; but for the last rows.
        let mut column = columns.next_multiple_of(S::LANES);
        while column > 0 {
            column -= S::LANES;
            let count = S::LANES.min(columns - column);
            let rows_of_vectors = if to.row == columns || count == S::LANES {
                rows.saturating_sub((S::LANES - count).div_ceil(columns))
            } else {
                0
            };
            let mut from = finished.wrapping_add(column).cast_const();
            let mut offset = self.offset + column;
            for row in 0..rows {
                let count = if row < rows_of_vectors { S::LANES } else { count };
                // SAFETY: the long row is in scratch memory; outputs of the call's part.
                unsafe { outputs.store_finished(simd, simd.load(from), offset, count) };
                from = from.wrapping_add(band.row_len);
                offset = offset.wrapping_add(to.row);
            }
        }
    }

    #[inline(always)]
    fn line<S: Simd, const KIND: usize>(&self, simd: S, line: &Line) {
        let mut done = 0;
        while done < line.vectors {
            // SAFETY: outputs of the call's part, of which scratch memory holds the copy; or room
            // behind it.
            done += unsafe {
                match line.vectors - done {
                    8.. if const { most_vectors(S::FACTS) >= 8 } => {
                        self.tile::<S, 8, KIND>(simd, line, done)
                    }
                    6.. if const { most_vectors(S::FACTS) >= 6 } => {
                        self.tile::<S, 6, KIND>(simd, line, done)
                    }
                    4.. if const { most_vectors(S::FACTS) >= 4 } => {
                        self.tile::<S, 4, KIND>(simd, line, done)
                    }
                    2.. if const { most_vectors(S::FACTS) >= 2 } => {
                        self.tile::<S, 2, KIND>(simd, line, done)
                    }
                    _ => self.tile::<S, 1, KIND>(simd, line, done),
                }
            };
        }
    }

    /// Vectors of a line, from one on; how many.
    ///
    /// # Safety
    /// The copy of the band is made, and has the vectors of the line from `first` on, as the output has
    /// their places.
    #[inline(always)]
    unsafe fn tile<S: Simd, const VECTORS: usize, const KIND: usize>(
        &self,
        simd: S,
        line: &Line,
        first: usize,
    ) -> usize {
        let Line { at, step, outputs, offset, output_step, lane_step, count, .. } = line;
        let offset = offset.wrapping_add(output_step.wrapping_mul(first));
        // SAFETY: the caller vouches for the copy and for the outputs.
        unsafe {
            let at = at + step * first;
            let sums = if KIND == kind::SEVERAL {
                self.sums_of_channels::<S, VECTORS>(simd, at, *step)
            } else {
                self.sums_of_one_channel::<S, VECTORS, KIND>(simd, at, *step)
            };
            outputs.store_vectors(simd, &sums, offset, *output_step, *lane_step, *count);
        }
        VECTORS
    }

    /// Adds up the chains of vectors that are `step` apart, the first one at position `at` of the
    /// long row, of one input channel.
    ///
    /// # Safety
    /// The copy of the band is made, and has these vectors for every tap of the window.
    #[inline(always)]
    unsafe fn sums_of_one_channel<S: Simd, const VECTORS: usize, const KIND: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS] {
        let Piece { call, steps, .. } = *self.piece;
        let mut sums = [self.bias(simd); VECTORS];
        let [mut kd, height, width] = call.geometry().window;
        // To the next tap, from behind the taps of a row to the next row, and of a plane to the next.
        let (to_tap, after_row, after_plane) = if KIND == kind::ONE {
            (LANES_PER_PANEL, 0, 0)
        } else {
            let [plane, row, tap] = self.weights.to_tap;
            let after_row = row.wrapping_sub(tap.wrapping_mul(width));
            (tap, after_row, plane.wrapping_sub(row.wrapping_mul(height)))
        };
        let mut w = self.weights.first;
        let mut plane = call.scratch().cast_const().wrapping_add(at);
        while kd > 0 {
            let mut row = (plane, 0);
            let mut kh = height;
            while kh > 0 {
                let mut column = (row.0, 0);
                let mut kw = width;
                while kw > 0 {
                    // SAFETY: the weights hold this tap; the copy holds what it sees.
                    unsafe { step_of_chain::<S, VECTORS>(simd, w, column.0, step, &mut sums) };
                    w = w.wrapping_add(to_tap);
                    column = steps.column.next(column);
                    kw -= 1;
                }
                w = w.wrapping_add(after_row);
                row = steps.row.next(row);
                kh -= 1;
            }
            w = w.wrapping_add(after_plane);
            plane = plane.wrapping_add(steps.plane);
            kd -= 1;
        }
        sums
    }

    /// The bias in every lane.
    #[inline(always)]
    pub fn bias<S: Simd>(&self, simd: S) -> S::V {
        let bias = self.piece.call.bias();
        // SAFETY: the bias has a value for each output channel.
        simd.splat(if bias.is_null() { 0.0 } else { unsafe { *bias.add(self.channel) } })
    }

    /// The same of any number of input channels.
    ///
    /// # Safety
    /// As of [`sums_of_one_channel`](Chains::sums_of_one_channel).
    #[inline(always)]
    unsafe fn sums_of_channels<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS] {
        let Piece { call, band, steps, .. } = *self.piece;
        let geometry = call.geometry();
        let weights = &self.weights;
        let mut sums = [self.bias(simd); VECTORS];
        let copy = call.scratch().cast_const().wrapping_add(at);
        let channel_len = band.channel_len(geometry);
        let [depth, height, width] = geometry.window;
        let mut first = 0;
        while first < geometry.in_per_group {
            let block = CHANNEL_BLOCK.min(geometry.in_per_group - first);
            let between = if weights.channels_in_tap { block } else { 1 };
            let to_tap = weights.to_tap.map(|to_tap| to_tap.wrapping_mul(between));
            let mut w_plane = weights.first.wrapping_add(first.wrapping_mul(weights.before_block));
            let mut plane = copy.wrapping_add(first * channel_len);
            let mut kd = depth;
            while kd > 0 {
                let mut w_row = w_plane;
                let mut row = (plane, 0);
                let mut kh = height;
                while kh > 0 {
                    let mut w = w_row;
                    let mut column = (row.0, 0);
                    let mut kw = width;
                    while kw > 0 {
                        let (mut w_channel, mut x_channel) = (w, column.0);
                        let mut left = block;
                        while left > 0 {
                            // SAFETY: the weights hold this step; the copy holds what it sees.
                            unsafe {
                                step_of_chain::<S, VECTORS>(
                                    simd, w_channel, x_channel, step, &mut sums,
                                );
                            }
                            w_channel = w_channel.wrapping_add(weights.to_channel);
                            x_channel = x_channel.wrapping_add(channel_len);
                            left -= 1;
                        }
                        w = w.wrapping_add(to_tap[2]);
                        column = steps.column.next(column);
                        kw -= 1;
                    }
                    w_row = w_row.wrapping_add(to_tap[1]);
                    row = steps.row.next(row);
                    kh -= 1;
                }
                w_plane = w_plane.wrapping_add(to_tap[0]);
                plane = plane.wrapping_add(steps.plane);
                kd -= 1;
            }
            first += block;
        }
        sums
    }
}

/// A step of the chains of vectors that are `step` apart.
///
/// # Safety
/// The weight and the vectors can be read.
#[inline(always)]
unsafe fn step_of_chain<S: Simd, const VECTORS: usize>(
    simd: S,
    w: *const f32,
    x: *const f32,
    step: usize,
    sums: &mut [S::V; VECTORS],
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let weight = simd.splat(*w);
        let mut vector = 0;
        while vector < VECTORS {
            let x = simd.load(x.wrapping_add(vector * step));
            sums[vector] = simd.fma(x, weight, sums[vector]);
            vector += 1;
        }
    }
}
