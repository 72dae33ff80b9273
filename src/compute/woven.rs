//! A transposed convolution in planes: neighbours in a row are of different phases.
//!
//! Stored one by one, the outputs of a phase would each take an instruction, and every cache line would
//! be fetched for each phase. So the sums of all phases of a few rows wait in scratch memory:
//!
//! ```text
//! for each phase along depth and height
//!   for each piece of its rows in the part     (rows, or a part of one)
//!     for each run of panels
//!       for each phase along the row: its sums in the piece, to scratch memory
//!       finish the outputs
//! ```
//!
//! The dense kernel has channels in its lanes, and leaves sums pixel by pixel in the order of the
//! output, from which rows are transposed as for any layer in planes. Kernels with pixels in the lanes
//! leave a plane for each phase, and rows are woven from those.

use super::layer::{Layer, Options};
use super::operands::Operands;
use super::phases::{Phased, Sums};
use crate::element::Element;
use crate::kernel::Kernel;
use crate::kernel::finish::{FinishStrip, Outputs};
use crate::kernel::part::Part;
use crate::kernel::walk::Pixel;
use crate::kernel::weave::Weave;
use crate::panels::{self, LANES_PER_PANEL};
use crate::problem::Problem;
use crate::problem::arithmetic::{div_ceil, quotient, remainder, smaller};
use crate::problem::geometry::Geometry;
use crate::problem::phases::Phases;
use crate::problem::strides::Strides;
use crate::simd::enter::enter;
use core::ops::Range;

/// How much of an output waits to be woven: rows of one phase along the height, all columns or, of one
/// row, whole steps of the stride.
pub(super) struct Piece {
    panels: usize,
    rows: usize,
    columns: usize,
}

impl Piece {
    /// A quarter of the second-level cache, of enough panels and pixels for tiles to be full; `None`
    /// where outputs of a phase are not apart, or where nothing is to wait.
    pub const fn of(problem: &Problem, options: &Options) -> Option<Piece> {
        const PIXELS: usize = 256;
        const LEAST: usize = 16;
        let geometry = &problem.geometry;
        let [_, height, width] = geometry.output;
        let [_, row_step, step] = geometry.stride;
        if !options.weaves || problem.output.pixel != 1 || step == 1 || width == 1 {
            return None;
        }
        let phases = smaller(step, width);
        let elements = options.caches.second / 4 / size_of::<Element>();
        let panel = elements / LANES_PER_PANEL;
        let fitting = quotient(panel, PIXELS.saturating_mul(phases));
        let panels = smaller(panels::count(geometry), fitting);
        let panels = if panels == 0 { 1 } else { panels };
        let least = LEAST.saturating_mul(phases);
        let fitting = quotient(panel, panels);
        let columns = if fitting < least { least } else { fitting };
        if columns < width {
            let columns = columns - remainder(columns, phases);
            return Some(Piece { panels, rows: 1, columns });
        }
        let all = div_ceil(height, row_step);
        let rows = quotient(columns, width);
        // Pieces alike.
        let rows = if rows < all { div_ceil(all, div_ceil(all, rows)) } else { all };
        Some(Piece { panels, rows, columns: width })
    }

    /// The outputs of each phase along a row.
    const fn row_len(&self, geometry: &Geometry) -> usize {
        div_ceil(self.columns, geometry.stride[2])
    }

    /// The sums of all phases along a row, in elements.
    pub const fn sums_len(&self, geometry: &Geometry) -> usize {
        let phases = smaller(geometry.stride[2], geometry.output[2]);
        let plane = self.rows.saturating_mul(self.row_len(geometry)).saturating_mul(phases);
        plane.saturating_mul(self.panels * LANES_PER_PANEL)
    }
}

/// Whether the kernel of a layer that is woven leaves sums pixel by pixel.
pub(super) const fn leaves_channels_last(layer: &Layer) -> bool {
    matches!(layer.schedule.kernel(), Kernel::Dense)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
pub(super) unsafe fn compute(phased: &Phased, piece: &Piece, part: &Part, scratch: &mut [Element]) {
    let geometry = &phased.layer.problem.geometry;
    let (sums, scratch) =
        scratch.split_at_mut_checked(piece.sums_len(geometry)).unwrap_or_default();
    let [depth, height, _] = phased.phases.counts();
    // As if rows were of one phase.
    let [depth_step, row_step, _] = geometry.stride;
    let rows = Geometry { stride: [depth_step, row_step, 1], ..*geometry };
    let of_rows = Phases::of(&rows);
    for d in 0..depth {
        for h in 0..height {
            let output = of_rows.outputs([d, h, 0]);
            let rows = Geometry { output, ..*geometry };
            let rank = |pixel| of_rows.rank(geometry, [d, h, 0], pixel);
            let (mut number, end) = (rank(part.pixels.start), rank(part.pixels.end));
            while number < end {
                let first = Pixel::of(&rows, number);
                let most = [piece.rows, piece.columns];
                let [count, columns] = first.rectangle(output, end - number, most);
                let mut panel = part.panels.start;
                while panel < part.panels.end {
                    let panels = panel..part.panels.end.min(panel + piece.panels);
                    panel = panels.end;
                    let woven = Woven { phased, piece, phase: [d, h], first, count, columns };
                    // SAFETY: as the caller vouches; these are outputs of the part.
                    unsafe { woven.compute(panels, sums, scratch) };
                }
                number += count * columns;
            }
        }
    }
}

/// A piece of the rows of a phase along depth and height.
struct Woven<'a> {
    phased: &'a Phased<'a>,
    piece: &'a Piece,
    phase: [usize; 2],
    /// Its first pixel, among the rows of the phase.
    first: Pixel,
    count: usize,
    columns: usize,
}

impl Woven<'_> {
    /// # Safety
    /// As of [`ComputePart`](super::layer::ComputePart); there is room for the sums.
    unsafe fn compute(&self, panels: Range<usize>, sums: &mut [Element], scratch: &mut [Element]) {
        let Phased { layer, phases, operands, .. } = *self.phased;
        let geometry = &layer.problem.geometry;
        let [_, _, step] = geometry.stride;
        let [d, h] = self.phase;
        let Pixel { image, at: [depth, row, column] } = self.first;
        let (channel, _) = panels::channels(geometry, panels.start);
        let (last, lanes) = panels::channels(geometry, panels.end - 1);
        let channels_last = leaves_channels_last(layer);
        let row_len = self.piece.row_len(geometry);
        let width = self.piece.panels * LANES_PER_PANEL;
        let (to_phase, strides) = if channels_last {
            let pixel = step.min(geometry.output[2]) * width;
            let row = row_len * pixel;
            (width, Strides { batch: 0, channel: 1, depth: 0, row, pixel })
        } else {
            let plane = self.piece.rows * row_len;
            let channel = plane;
            (plane * width, Strides { batch: 0, channel, depth: 0, row: row_len, pixel: 1 })
        };
        for w in 0..step.min(geometry.output[2]) {
            let phase = [d, h, w];
            let [planes, rows, columns] = phases.outputs(phase);
            let before = phases.outputs_before(w, column);
            let within = phases.outputs_before(w, column + self.columns) - before;
            let number = ((image * planes + depth) * rows + row) * columns + before;
            let pixels = number..number + within * self.count;
            let sums = sums.get_mut(w * to_phase..).unwrap_or_default().as_mut_ptr();
            let to_first = channel * strides.channel + row * strides.row + before * strides.pixel;
            let sums = Sums { first: sums.wrapping_sub(to_first), strides };
            let part = Part { pixels, panels: panels.clone() };
            // SAFETY: as the caller vouches.
            unsafe { self.phased.compute(phase, &part, Some(&sums), scratch) };
        }
        let Operands { isa, output, residual, activation, .. } = *operands;
        let to = &layer.problem.output;
        let [depth_step, row_step, _] = geometry.stride;
        let (depth, row) = (d + depth * depth_step, h + row * row_step);
        let pixel = Pixel { image, at: [depth, row, column] };
        debug_assert!(remainder(column, step) == 0, "a piece that begins between phases");
        let outputs = &Outputs::new(to, output, residual, activation);
        let (sums, channels) = (sums.as_ptr(), last + lanes - channel);
        let channel_offset = channel * to.channel;
        if !channels_last {
            let weave = Weave {
                sums,
                to_channel: strides.channel,
                to_phase,
                to_row: strides.row,
                phases: step,
                outputs,
                offset: pixel.output_offset(to) + channel_offset,
                channels,
                rows: self.count,
                output_row: to.row.wrapping_mul(row_step),
                columns: self.columns,
            };
            // SAFETY: the operands have the instruction set; the outputs are the caller's.
            return unsafe { enter(isa, weave) };
        }
        let [_, _, width_out] = geometry.output;
        for row in 0..self.count {
            let [depth, first_row, column] = pixel.at;
            let strip = FinishStrip {
                outputs,
                geometry,
                sums: sums.wrapping_add(row * strides.row),
                sums_width: width,
                channels,
                channel_offset,
                pixel: Pixel { image, at: [depth, first_row + row * row_step, column] },
                columns: &(0..width_out),
                count: self.columns,
            };
            // SAFETY: the operands have the instruction set; the outputs are the caller's.
            unsafe { enter(isa, strip) };
        }
    }
}
