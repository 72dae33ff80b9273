//! Pixels in the lanes, one input channel for each output channel: depthwise layers whose planes are
//! contiguous.
//!
//! What a band of output rows sees of its plane is copied to scratch memory with its padding, so
//! that no tap has to be tested. Where the stride is not 1, rows and columns that are that far
//! apart lie together in the copy: neighbouring outputs then read neighbours. As each row of the
//! copy is as long, the rows of a band are also one long row of outputs, of which those at the seams
//! mean nothing; narrow rows are taken so, and fill vectors well.
//!
//! ```text
//! for each band of rows of a plane of the output   (whose copy the first-level cache holds)
//!   for each output channel
//!     copy the band, with zeros for padding        (if another input channel than before)
//!     for each tile of pixels                      (as many vectors as keep the machine busy)
//!       sums = bias
//!       for each kd, kh, kw: sums += x[lanes] * w
//!       finish the outputs; or, of a long row, keep the sums and finish row by row
//! ```

use super::pixels::load_alternate;
use super::walk::{Pixel, input_offset, places_inside};
use super::{Part, Task};
use crate::band::Band;
use crate::pack::{LANES_PER_PANEL, panel_channels};
use crate::plan::Strides;
use crate::shape::divide;
use crate::simd::{Kernel, Simd};
use core::ops::Range;

pub(super) struct Run<'a> {
    pub task: &'a Task<'a>,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
    /// For the copy of a band, and behind it its sums.
    pub scratch: *mut f32,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = self.task.plan;
        let geometry = &plan.geometry;
        let band = &plan.band;
        let steps = TapSteps::of(self.task);
        let [_, height, width] = geometry.output;
        let mut number = self.part.pixels.start;
        while number < self.part.pixels.end {
            let left = self.part.pixels.end - number;
            let pixel = Pixel::of(geometry, number);
            let (rows, columns) = if pixel.at[2] > 0 || left < width || band.columns < width {
                (1, band.columns.min(width - pixel.at[2]).min(left))
            } else {
                (band.rows.min(height - pixel.at[1]).min(divide(left, width).0), width)
            };
            let piece = Piece { run: &self, steps: &steps, pixel, rows, columns };
            piece.channels(simd);
            number += rows * columns;
        }
    }
}

/// From a tap to the next in the copy of a band. Along rows and columns, a step that leads past
/// the last remainder is corrected.
struct TapSteps {
    plane: usize,
    row: usize,
    row_remainder: usize,
    row_correction: usize,
    column: usize,
    column_remainder: usize,
    column_correction: usize,
    /// The copy's elements: the sums lie behind them.
    copied_len: usize,
}

impl TapSteps {
    #[inline(always)]
    fn of(task: &Task) -> TapSteps {
        let geometry = &task.plan.geometry;
        let band = &task.plan.band;
        let [_, stride_rows, stride_columns] = geometry.stride;
        let (rows, row_remainder) = divide(geometry.dilation[1], stride_rows);
        let (columns, column_remainder) = divide(geometry.dilation[2], stride_columns);
        let phase = band.copied_rows * band.row_len;
        let row_phase = band.phases[1] * phase;
        TapSteps {
            plane: band.phases[0] * row_phase,
            row: row_remainder
                .wrapping_mul(row_phase)
                .wrapping_add(rows.wrapping_mul(band.row_len)),
            row_remainder,
            row_correction: band.row_len.wrapping_sub(stride_rows.wrapping_mul(row_phase)),
            column: column_remainder.wrapping_mul(phase).wrapping_add(columns),
            column_remainder,
            column_correction: 1_usize.wrapping_sub(stride_columns.wrapping_mul(phase)),
            copied_len: geometry.kernel[0] * band.phases[0] * row_phase,
        }
    }
}

/// A band, or a part of a row.
struct Piece<'a> {
    run: &'a Run<'a>,
    steps: &'a TapSteps,
    /// The first one.
    pixel: Pixel,
    rows: usize,
    columns: usize,
}

impl Piece<'_> {
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S) {
        let task = self.run.task;
        let geometry = &task.plan.geometry;
        let image = task.input.wrapping_add(self.pixel.image * task.plan.input.batch);
        let offset = self.pixel.output_offset(&task.plan.output);
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let mut copied = None;
        for panel in self.run.part.panels.clone() {
            let (first, count) = panel_channels(geometry, panel);
            let panel = (panel - self.run.first_panel) * panel_len;
            for lane in 0..count {
                let channel = first + lane;
                let (in_channel, _) = divide(channel, geometry.out_per_group());
                if copied != Some(in_channel) {
                    let plane = image.wrapping_add(in_channel * task.plan.input.channel);
                    simd.enter(CopyBand { piece: self, plane });
                    copied = Some(in_channel);
                }
                let weights = self.run.panels.as_ptr().wrapping_add(panel + lane);
                let offset = offset + channel * task.plan.output.channel;
                simd.enter(Body(&Chains { piece: self, channel, weights, offset }));
            }
        }
    }
}

/// Copies what a piece sees of a plane of the input.
struct CopyBand<'a> {
    piece: &'a Piece<'a>,
    plane: *const f32,
}

impl Kernel for CopyBand<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let run = self.piece.run;
        let plan = run.task.plan;
        let (geometry, strides, band) = (&plan.geometry, &plan.input, &plan.band);
        let [_, stride_rows, stride_columns] = geometry.stride;
        let start = self.piece.pixel.window_start(geometry);
        let size = geometry.input.map(|size| size as isize);
        let rows = self.piece.rows + (band.copied_rows - band.rows);
        let columns = self.piece.columns + (band.row_len - band.columns);
        let mut target = run.scratch;
        for kd in 0..geometry.kernel[0] {
            let d = start[0] + (kd * geometry.dilation[0]) as isize;
            for row_phase in 0..band.phases[0] {
                let h = start[1] + row_phase as isize;
                let mut rows_inside = places_inside(h, size[1], stride_rows, rows);
                if !(0..size[0]).contains(&d) {
                    rows_inside = 0..0;
                }
                for column_phase in 0..band.phases[1] {
                    let w = start[2] + column_phase as isize;
                    let source = self.plane.wrapping_offset(input_offset(strides, [d, h, w]));
                    let copy = CopyRows {
                        source,
                        step: stride_columns.wrapping_mul(strides.pixel),
                        row_step: stride_rows.wrapping_mul(strides.row),
                        rows,
                        columns,
                        rows_inside: rows_inside.clone(),
                        columns_inside: places_inside(w, size[2], stride_columns, columns),
                        target,
                        row_len: band.row_len,
                    };
                    // SAFETY: what is inside, the input holds; scratch memory has room for all
                    // rows, and for the sums and a vector behind the last one.
                    unsafe {
                        match copy.step {
                            1 => copy.copy::<S, 1>(simd),
                            2 => copy.copy::<S, 2>(simd),
                            _ => copy.copy::<S, 0>(simd),
                        }
                    }
                    target = target.wrapping_add(band.copied_rows * band.row_len);
                }
            }
        }
    }
}

/// Rows of the input with zeros around them.
struct CopyRows {
    /// At the first column of the first row, which may lie in the padding.
    source: *const f32,
    /// From a column to the next, and from a row to the next.
    step: usize,
    row_step: usize,
    rows: usize,
    columns: usize,
    rows_inside: Range<usize>,
    columns_inside: Range<usize>,
    target: *mut f32,
    row_len: usize,
}

impl CopyRows {
    /// Vector by vector, from the last column to the first: a vector that reaches over the end of
    /// its row spoils what is still to be written.
    #[inline(always)]
    unsafe fn copy<S: Simd, const STEP: usize>(&self, simd: S) {
        let mut column = self.columns.next_multiple_of(S::LANES);
        while column > 0 {
            column -= S::LANES;
            let lanes = |place: usize| place.saturating_sub(column).min(S::LANES);
            let (from, until) = (lanes(self.columns_inside.start), lanes(self.columns_inside.end));
            let mut at = self
                .source
                .wrapping_add(column.wrapping_mul(self.step))
                .wrapping_add(self.rows_inside.start.wrapping_mul(self.row_step));
            let mut to = self.target.wrapping_add(column);
            let mut row = 0;
            // SAFETY: the caller vouches for what is inside, and for the room.
            unsafe {
                while row < self.rows_inside.start {
                    simd.store(to, simd.splat(0.0));
                    to = to.wrapping_add(self.row_len);
                    row += 1;
                }
                if STEP == 1 && from == 0 && until == S::LANES {
                    while row < self.rows_inside.end {
                        simd.store(to, simd.load(at));
                        at = at.wrapping_add(self.row_step);
                        to = to.wrapping_add(self.row_len);
                        row += 1;
                    }
                }
                while row < self.rows_inside.end {
                    let v = match STEP {
                        1 => simd.load_range(at, from, until),
                        2 => load_alternate(simd, at, from, until),
                        _ => simd.load_strided(at, self.step as isize, from, until),
                    };
                    simd.store(to, v);
                    at = at.wrapping_add(self.row_step);
                    to = to.wrapping_add(self.row_len);
                    row += 1;
                }
                while row < self.rows {
                    simd.store(to, simd.splat(0.0));
                    to = to.wrapping_add(self.row_len);
                    row += 1;
                }
            }
        }
    }
}

/// The outputs of a piece in one channel.
struct Chains<'a> {
    piece: &'a Piece<'a>,
    channel: usize,
    /// Of the first tap.
    weights: *const f32,
    /// Where the first one lies in the output.
    offset: usize,
}

struct Body<'a>(&'a Chains<'a>);

impl Kernel for Body<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let chains = self.0;
        let Piece { run, steps, rows, columns, .. } = *chains.piece;
        let Band { row_len, .. } = run.task.plan.band;
        let in_row = columns.div_ceil(S::LANES);
        let in_rows = rows * in_row;
        let long_row = ((rows - 1) * row_len + columns).div_ceil(S::LANES);
        let fills_vectors = columns.is_multiple_of(S::LANES);
        // A short row has too few independent sums to keep a machine busy.
        if S::LANES == 1 || rows == 1 || in_row >= 2 * S::PIXEL_VECTORS_DEPTHWISE {
            for row in 0..rows {
                chains.row(simd, row);
            }
        } else if fills_vectors || long_row > in_rows + in_rows / 4 + 1 {
            chains.stacked(simd, chains);
        } else {
            let sums = run.scratch.wrapping_add(steps.copied_len);
            let early = run.task.outputs.is_plain() && run.task.plan.output.pixel == 1;
            let mut done = 0;
            while done < long_row {
                let at = done * S::LANES;
                // SAFETY: scratch memory holds the copy, and room for whole vectors of sums.
                done += unsafe {
                    match (long_row - done).min(S::PIXEL_VECTORS_DEPTHWISE) {
                        8.. => chains.keep::<S, 8>(simd, at, sums, early),
                        4.. => chains.keep::<S, 4>(simd, at, sums, early),
                        2.. => chains.keep::<S, 2>(simd, at, sums, early),
                        _ => chains.keep::<S, 1>(simd, at, sums, early),
                    }
                };
            }
            if early {
                // SAFETY: the long row is finished.
                unsafe { chains.copy_rows(simd, sums) };
            } else {
                chains.stacked(simd, &Kept(sums));
            }
        }
    }
}

/// Vectors in a line: where the sums of the first one are, and from each to the next; where its
/// outputs go, and those of the next; how many outputs each has.
struct Line {
    vectors: usize,
    at: usize,
    step: usize,
    offset: usize,
    output_step: usize,
    count: usize,
}

/// Where vectors of outputs find their sums.
trait Sums {
    /// Those of vectors that are `step` apart, the first one at position `at` of the long row.
    unsafe fn sums<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS];
}

/// In scratch memory.
struct Kept(*const f32);

impl Sums for Kept {
    #[inline(always)]
    unsafe fn sums<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS] {
        let mut sums = [simd.splat(0.0); VECTORS];
        let mut vector = 0;
        while vector < VECTORS {
            // SAFETY: the caller vouches for these sums.
            sums[vector] = unsafe { simd.load(self.0.wrapping_add(at + vector * step)) };
            vector += 1;
        }
        sums
    }
}

impl Sums for Chains<'_> {
    /// Adds up the chains.
    #[inline(always)]
    unsafe fn sums<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS] {
        let Piece { run, steps, .. } = *self.piece;
        let geometry = &run.task.plan.geometry;
        let [_, stride_rows, stride_columns] = geometry.stride;
        let bias = run.task.bias;
        // SAFETY: the bias has a value for each output channel.
        let bias = if bias.is_null() { 0.0 } else { unsafe { *bias.add(self.channel) } };
        let mut sums = [simd.splat(bias); VECTORS];
        let mut w = self.weights;
        let mut plane = run.scratch.cast_const().wrapping_add(at);
        let mut kd = geometry.kernel[0];
        while kd > 0 {
            let (mut row, mut row_phase) = (plane, 0);
            let mut kh = geometry.kernel[1];
            while kh > 0 {
                let (mut x, mut column_phase) = (row, 0);
                let mut kw = geometry.kernel[2];
                while kw > 0 {
                    // SAFETY: the weights hold this tap; the copy holds what it sees.
                    unsafe {
                        let weight = simd.splat(*w);
                        let mut vector = 0;
                        while vector < VECTORS {
                            let x = simd.load(x.wrapping_add(vector * step));
                            sums[vector] = simd.fma(x, weight, sums[vector]);
                            vector += 1;
                        }
                    }
                    w = w.wrapping_add(LANES_PER_PANEL);
                    x = x.wrapping_add(steps.column);
                    column_phase += steps.column_remainder;
                    if column_phase >= stride_columns {
                        column_phase -= stride_columns;
                        x = x.wrapping_add(steps.column_correction);
                    }
                    kw -= 1;
                }
                row = row.wrapping_add(steps.row);
                row_phase += steps.row_remainder;
                if row_phase >= stride_rows {
                    row_phase -= stride_rows;
                    row = row.wrapping_add(steps.row_correction);
                }
                kh -= 1;
            }
            plane = plane.wrapping_add(steps.plane);
            kd -= 1;
        }
        sums
    }
}

impl Chains<'_> {
    /// Adds up a tile of the long row and keeps its sums, finished early or not; how many vectors
    /// it has.
    #[inline(always)]
    unsafe fn keep<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        to: *mut f32,
        early: bool,
    ) -> usize {
        // SAFETY: the caller vouches for the copy, and for room for the sums.
        unsafe {
            let mut sums = self.sums::<S, VECTORS>(simd, at, S::LANES);
            if early {
                sums = self.piece.run.task.outputs.finished(simd, sums);
            }
            let mut vector = 0;
            while vector < VECTORS {
                simd.store(to.wrapping_add(at + vector * S::LANES), sums[vector]);
                vector += 1;
            }
        }
        VECTORS
    }

    /// All rows, from a long row that is finished.
    #[inline(always)]
    unsafe fn copy_rows<S: Simd>(&self, simd: S, finished: *const f32) {
        let Piece { run, rows, columns, .. } = *self.piece;
        let Strides { row: to_row, .. } = run.task.plan.output;
        for row in 0..rows {
            let from = finished.wrapping_add(row * run.task.plan.band.row_len);
            let offset = self.offset + row * to_row;
            // What may be written behind a row, as the rows below will be written over it.
            let room = if to_row == columns { (rows - 1 - row) * columns } else { 0 };
            let mut column = 0;
            while column < columns {
                let count = S::LANES.min(columns - column);
                let stored = if S::LANES - count <= room { S::LANES } else { count };
                // SAFETY: outputs of the task's part; the long row is in scratch memory.
                unsafe {
                    let v = simd.load(from.wrapping_add(column));
                    run.task.outputs.store_finished(simd, v, offset + column, stored);
                }
                column += S::LANES;
            }
        }
    }

    /// A row of outputs, from its own sums.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize) {
        let Piece { run, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = run.task.plan.output;
        let full = columns / S::LANES;
        let mut line = Line {
            vectors: full,
            at: row * run.task.plan.band.row_len,
            step: S::LANES,
            offset: self.offset + row * to_row,
            output_step: pixel.wrapping_mul(S::LANES),
            count: S::LANES,
        };
        self.line(simd, self, &line);
        if full * S::LANES < columns {
            line.vectors = 1;
            line.count = columns - full * S::LANES;
            line.at += full * S::LANES;
            line.offset += full * S::LANES * pixel;
            self.line(simd, self, &line);
        }
    }

    /// All rows, vectors below each other.
    #[inline(always)]
    fn stacked<S: Simd, F: Sums>(&self, simd: S, sums: &F) {
        let Piece { run, rows, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = run.task.plan.output;
        let mut column = 0;
        while column < columns {
            let line = Line {
                vectors: rows,
                at: column,
                step: run.task.plan.band.row_len,
                offset: self.offset + column * pixel,
                output_step: to_row,
                count: S::LANES.min(columns - column),
            };
            self.line(simd, sums, &line);
            column += S::LANES;
        }
    }

    #[inline(always)]
    fn line<S: Simd, F: Sums>(&self, simd: S, sums: &F, line: &Line) {
        let mut done = 0;
        while done < line.vectors {
            // SAFETY: outputs of the task's part, of which scratch memory holds the copy or the
            // sums.
            done += unsafe {
                match (line.vectors - done).min(S::PIXEL_VECTORS_DEPTHWISE) {
                    8.. => self.store::<S, F, 8>(simd, sums, line, done),
                    4.. => self.store::<S, F, 4>(simd, sums, line, done),
                    2.. => self.store::<S, F, 2>(simd, sums, line, done),
                    _ => self.store::<S, F, 1>(simd, sums, line, done),
                }
            };
        }
    }

    /// Vectors of a line, from one on; how many.
    #[inline(always)]
    unsafe fn store<S: Simd, F: Sums, const VECTORS: usize>(
        &self,
        simd: S,
        sums: &F,
        line: &Line,
        first: usize,
    ) -> usize {
        let task = self.piece.run.task;
        let offset = line.offset.wrapping_add(line.output_step.wrapping_mul(first));
        // SAFETY: the caller vouches for the sums and for the outputs.
        unsafe {
            let sums = sums.sums::<S, VECTORS>(simd, line.at + line.step * first, line.step);
            let pixel = task.plan.output.pixel;
            task.outputs.store_vectors(simd, &sums, offset, line.output_step, pixel, line.count);
        }
        VECTORS
    }
}
