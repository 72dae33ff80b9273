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
//!       finish the outputs; those of a long row in scratch memory, to be copied row by row
//! ```

use super::finish::Outputs;
use super::pixels::load_alternate;
use super::walk::{Pixel, input_offset, places_inside};
use super::{Part, Task};
use crate::band::Band;
use crate::pack::{LANES_PER_PANEL, panel_channels};
use crate::plan::{Plan, Strides};
use crate::shape::{Geometry, divide};
use crate::simd::{Kernel, Simd};
use core::ops::Range;

pub(super) struct Run<'a> {
    pub task: &'a Task<'a>,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
    /// For the copy of a band, and behind it a long row of outputs.
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

/// From a tap to the next in the copy of a band.
struct TapSteps {
    plane: usize,
    row: TapStep,
    column: TapStep,
}

/// Along an axis whose places lie apart by their remainders. A step that leads past the last
/// remainder is corrected.
struct TapStep {
    step: usize,
    remainder: usize,
    stride: usize,
    correction: usize,
}

impl TapSteps {
    #[inline(always)]
    fn of(task: &Task) -> TapSteps {
        let Geometry { dilation, stride, .. } = task.plan.geometry;
        let Band { phases, copied_rows, row_len, .. } = task.plan.band;
        let column_phase = copied_rows * row_len;
        let row_phase = phases[1] * column_phase;
        TapSteps {
            plane: phases[0] * row_phase,
            row: TapStep::of(dilation[1], stride[1], row_len, row_phase),
            column: TapStep::of(dilation[2], stride[2], 1, column_phase),
        }
    }
}

impl TapStep {
    /// From a place to the next with the same remainder are `unit` elements, to the next
    /// remainder `phase`.
    #[inline(always)]
    fn of(dilation: usize, stride: usize, unit: usize, phase: usize) -> TapStep {
        let (units, remainder) = divide(dilation, stride);
        TapStep {
            step: remainder.wrapping_mul(phase).wrapping_add(units.wrapping_mul(unit)),
            remainder,
            stride,
            correction: unit.wrapping_sub(stride.wrapping_mul(phase)),
        }
    }

    /// From a tap, and the remainder of its place, to the next.
    #[inline(always)]
    fn next(&self, (at, remainder): (*const f32, usize)) -> (*const f32, usize) {
        let (at, remainder) = (at.wrapping_add(self.step), remainder + self.remainder);
        if remainder < self.stride {
            (at, remainder)
        } else {
            (at.wrapping_add(self.correction), remainder - self.stride)
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
                    // rows, and for a vector behind the last one.
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
        let Piece { run, rows, columns, .. } = *chains.piece;
        let in_row = columns.div_ceil(S::LANES);
        let in_rows = rows * in_row;
        let long_row = ((rows - 1) * run.task.plan.band.row_len + columns).div_ceil(S::LANES);
        let fills_vectors = columns.is_multiple_of(S::LANES);
        let outputs = &run.task.outputs;
        let plain = run.task.plan.output.pixel == 1 && !outputs.have_residual();
        // A short row has too few independent sums to keep a machine busy.
        if S::LANES == 1 || rows == 1 || in_row >= 2 * S::PIXEL_VECTORS_DEPTHWISE {
            for row in 0..rows {
                chains.row(simd, row);
            }
        } else if !plain || fills_vectors || long_row > in_rows + in_rows / 4 + 1 {
            chains.stacked(simd);
        } else {
            chains.long_row(simd, long_row);
        }
    }
}

/// Vectors in a line: where the first one is in the long row, and from each to the next; and the
/// same of their outputs, of which each has `count`.
struct Line {
    vectors: usize,
    at: usize,
    step: usize,
    outputs: Outputs,
    offset: usize,
    output_step: usize,
    count: usize,
}

impl Chains<'_> {
    /// A row of outputs.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize) {
        let Piece { run, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = run.task.plan.output;
        let full = columns / S::LANES;
        let mut line = Line {
            vectors: full,
            at: row * run.task.plan.band.row_len,
            step: S::LANES,
            outputs: run.task.outputs,
            offset: self.offset + row * to_row,
            output_step: pixel.wrapping_mul(S::LANES),
            count: S::LANES,
        };
        self.line(simd, &line);
        if full * S::LANES < columns {
            line.vectors = 1;
            line.at += full * S::LANES;
            line.offset += full * S::LANES * pixel;
            line.count = columns - full * S::LANES;
            self.line(simd, &line);
        }
    }

    /// All rows, vectors below each other.
    #[inline(always)]
    fn stacked<S: Simd>(&self, simd: S) {
        let Piece { run, rows, columns, .. } = *self.piece;
        let Strides { row: to_row, pixel, .. } = run.task.plan.output;
        let mut column = 0;
        while column < columns {
            let line = Line {
                vectors: rows,
                at: column,
                step: run.task.plan.band.row_len,
                outputs: run.task.outputs,
                offset: self.offset + column * pixel,
                output_step: to_row,
                count: S::LANES.min(columns - column),
            };
            self.line(simd, &line);
            column += S::LANES;
        }
    }

    /// All rows, as one of so many vectors: it is finished in scratch memory, and what means
    /// something is copied. The pixels of the output adjoin, and there is no residual.
    #[inline(always)]
    fn long_row<S: Simd>(&self, simd: S, vectors: usize) {
        let Piece { run, rows, columns, .. } = *self.piece;
        let Plan { geometry, band, output, .. } = run.task.plan;
        let finished = run.scratch.wrapping_add(band.copied_len(geometry));
        let line = Line {
            vectors,
            at: 0,
            step: S::LANES,
            outputs: run.task.outputs.into_memory(finished),
            offset: 0,
            output_step: S::LANES,
            count: S::LANES,
        };
        self.line(simd, &line);
        for row in 0..rows {
            let from = finished.wrapping_add(row * band.row_len);
            let offset = self.offset + row * output.row;
            // Where rows adjoin, what reaches over the end of one is written again.
            let room = if output.row == columns { (rows - 1 - row) * columns } else { 0 };
            let mut column = 0;
            while column < columns {
                let count = S::LANES.min(columns - column);
                let count = if S::LANES - count <= room { S::LANES } else { count };
                // SAFETY: the long row is in scratch memory; outputs of the task's part.
                unsafe {
                    let v = simd.load(from.wrapping_add(column));
                    run.task.outputs.store_finished(simd, v, offset + column, count);
                }
                column += S::LANES;
            }
        }
    }

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, line: &Line) {
        let mut done = 0;
        while done < line.vectors {
            // SAFETY: outputs of the task's part, of which scratch memory holds the copy; or room
            // behind it.
            done += unsafe {
                match (line.vectors - done).min(S::PIXEL_VECTORS_DEPTHWISE) {
                    8.. => self.tile::<S, 8>(simd, line, done),
                    4.. => self.tile::<S, 4>(simd, line, done),
                    2.. => self.tile::<S, 2>(simd, line, done),
                    _ => self.tile::<S, 1>(simd, line, done),
                }
            };
        }
    }

    /// Vectors of a line, from one on; how many.
    #[inline(always)]
    unsafe fn tile<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        line: &Line,
        first: usize,
    ) -> usize {
        let Line { at, step, outputs, offset, output_step, count, .. } = line;
        let offset = offset.wrapping_add(output_step.wrapping_mul(first));
        let pixel = self.piece.run.task.plan.output.pixel;
        // SAFETY: the caller vouches for the copy and for the outputs.
        unsafe {
            let sums = self.sums::<S, VECTORS>(simd, at + step * first, *step);
            outputs.store_vectors(simd, &sums, offset, *output_step, pixel, *count);
        }
        VECTORS
    }

    /// Adds up the chains of vectors that are `step` apart, the first one at position `at` of the
    /// long row.
    #[inline(always)]
    unsafe fn sums<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        at: usize,
        step: usize,
    ) -> [S::V; VECTORS] {
        let Piece { run, steps, .. } = *self.piece;
        let bias = run.task.bias;
        // SAFETY: the bias has a value for each output channel.
        let bias = if bias.is_null() { 0.0 } else { unsafe { *bias.add(self.channel) } };
        let mut sums = [simd.splat(bias); VECTORS];
        let mut w = self.weights;
        let mut plane = run.scratch.cast_const().wrapping_add(at);
        let [mut kd, height, width] = run.task.plan.geometry.kernel;
        while kd > 0 {
            let mut row = (plane, 0);
            let mut kh = height;
            while kh > 0 {
                let mut column = (row.0, 0);
                let mut kw = width;
                while kw > 0 {
                    // SAFETY: the weights hold this tap; the copy holds what it sees.
                    unsafe {
                        let weight = simd.splat(*w);
                        let mut vector = 0;
                        while vector < VECTORS {
                            let x = simd.load(column.0.wrapping_add(vector * step));
                            sums[vector] = simd.fma(x, weight, sums[vector]);
                            vector += 1;
                        }
                    }
                    w = w.wrapping_add(LANES_PER_PANEL);
                    column = steps.column.next(column);
                    kw -= 1;
                }
                row = steps.row.next(row);
                kh -= 1;
            }
            plane = plane.wrapping_add(steps.plane);
            kd -= 1;
        }
        sums
    }
}
