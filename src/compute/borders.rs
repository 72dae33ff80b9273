//! A convolution whose padding is not zeros: where windows leave the input, it continues as its padding
//! mode says.
//!
//! Along each axis there are outputs before, inside and behind: of the middle ones no window leaves the
//! input. So the output is a grid of boxes, 27 at most.
//!
//! ```text
//! for each box of the output
//!   inside along every axis: a call of the kernel, without padding
//!   elsewhere, for each piece of the box in the part
//!     copy what its windows see, padding included, to scratch memory
//!     a call of the kernel on the copy
//! ```

use super::direct;
use super::layer::{Extra, Layer, Options};
use super::operands::Operands;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::Caches;
use crate::kernel::call::Call;
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::kernel::walk::Pixel;
use crate::panels::{self, LANES_PER_PANEL};
use crate::problem::Problem;
use crate::problem::arithmetic::{quotient, smaller};
use crate::problem::boxes::Boxes;
use crate::problem::geometry::{Geometry, PaddingMode};
use crate::problem::strides::{Layout, Strides};
use core::ops::Range;

/// Whether some output reads padding that is not zeros.
pub(crate) const fn leaves_zeros(geometry: &Geometry) -> bool {
    geometry.padded && !matches!(geometry.padding_mode, PaddingMode::Zeros)
}

/// A convolution with a padding mode.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    let mut with_zeros = problem;
    with_zeros.geometry.padding_mode = PaddingMode::Zeros;
    let mut layer = match Layer::new(problem, with_zeros.simplest(), Some(compute), options) {
        Ok(layer) => layer,
        Err(error) => return Err(error),
    };
    layer.scheduler = Some(layer.schedule.kernel().scheduler());
    let piece = Piece::of(&problem, &options.caches);
    let Options { caches, unpacked, .. } = &layer.options;
    let kernel = layer.schedule.kernel();
    let on_copy = piece.on_copy(&problem, &piece.strides(&problem));
    let mut most = kernel.schedule(&on_copy, caches, *unpacked).scratch_len(&on_copy.geometry);
    if let Some(inside) = Boxes::of(&problem.geometry).inside(&problem) {
        let inside = inside.problem;
        let len = kernel.schedule(&inside, caches, *unpacked).scratch_len(&inside.geometry);
        most = if len > most { len } else { most };
    }
    layer.scratch_len = most.saturating_add(piece.copy_len(&problem));
    Ok(layer)
}

/// How much of a box is computed on one copy: rows of outputs, and columns.
struct Piece {
    rows: usize,
    columns: usize,
}

impl Piece {
    /// A copy that takes a quarter of the second-level cache, or what a few columns see.
    const fn of(problem: &Problem, caches: &Caches) -> Piece {
        const LEAST: usize = 8;
        let geometry = &problem.geometry;
        let [_, height, width] = geometry.output;
        let elements = caches.second / 4 / size_of::<Element>();
        let [depth, rows, columns] =
            [seen(geometry, 0, 1), seen(geometry, 1, 1), seen(geometry, 2, 1)];
        let places = quotient(elements, geometry.in_channels.saturating_mul(depth));
        let all_columns = seen(geometry, 2, width);
        let fitting = quotient(places, all_columns);
        if fitting >= rows {
            let more = quotient(fitting - rows, geometry.stride[1]);
            return Piece { rows: smaller(1 + more, height), columns: width };
        }
        let more = quotient(quotient(places, rows).saturating_sub(columns), geometry.stride[2]);
        let columns = if more + 1 < LEAST { LEAST } else { more + 1 };
        Piece { rows: 1, columns: smaller(columns, width) }
    }

    /// What the windows of a piece see: its extents.
    const fn extents(&self, geometry: &Geometry) -> [usize; 3] {
        [seen(geometry, 0, 1), seen(geometry, 1, self.rows), seen(geometry, 2, self.columns)]
    }

    /// Where the copy has its elements.
    const fn strides(&self, problem: &Problem) -> Strides {
        let [depth, height, width] = self.extents(&problem.geometry);
        let channels = problem.geometry.in_channels;
        match problem.layout {
            Layout::Nchw => {
                let plane = height.saturating_mul(width);
                // An odd number of cache lines, so that channels do not collide.
                let lines = plane.saturating_mul(depth) / LANES_PER_PANEL + 1;
                let channel = (lines | 1).saturating_mul(LANES_PER_PANEL);
                Strides { batch: 0, channel, depth: plane, row: width, pixel: 1 }
            }
            Layout::Nhwc => {
                let row = width.saturating_mul(channels);
                let depth = height.saturating_mul(row);
                Strides { batch: 0, channel: 1, depth, row, pixel: channels }
            }
        }
    }

    /// The elements of the copy.
    const fn copy_len(&self, problem: &Problem) -> usize {
        let [depth, ..] = self.extents(&problem.geometry);
        let strides = self.strides(problem);
        match problem.layout {
            Layout::Nchw => strides.channel.saturating_mul(problem.geometry.in_channels),
            Layout::Nhwc => strides.depth.saturating_mul(depth),
        }
    }

    /// A piece as a convolution without padding, on a copy with these strides.
    const fn on_copy(&self, problem: &Problem, strides: &Strides) -> Problem {
        let mut on_copy = *problem;
        let geometry = &mut on_copy.geometry;
        geometry.batch = 1;
        geometry.padding_mode = PaddingMode::Zeros;
        geometry.padding = [0; 3];
        geometry.padded = false;
        geometry.output = [1, self.rows, self.columns];
        geometry.input = self.extents(&problem.geometry);
        on_copy.input = *strides;
        on_copy.tamed()
    }
}

/// The places of the input, padding included, that so many outputs see along an axis.
const fn seen(geometry: &Geometry, axis: usize, outputs: usize) -> usize {
    let last = (outputs - 1).saturating_mul(geometry.stride[axis]);
    last.saturating_add(geometry.reach(axis)).saturating_add(1)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    _extra: &Extra,
    part: &Part,
    scratch: &mut [Element],
) {
    let (weights, scratch) = direct::weights(layer, operands, part, scratch);
    let problem = &layer.problem;
    let boxes = Boxes::of(&problem.geometry);
    let planned = Piece::of(problem, &layer.options.caches);
    let (copy, scratch) =
        scratch.split_at_mut_checked(planned.copy_len(problem)).unwrap_or_default();
    let Some(scheduler) = layer.scheduler else {
        debug_assert!(false, "boxes without a scheduler");
        return;
    };
    let Options { caches, unpacked, .. } = &layer.options;
    let Operands { isa, bias, activation, .. } = *operands;
    if let Some(inside) = boxes.inside(problem) {
        let rank = |pixel| boxes.rank(&problem.geometry, [1; 3], pixel);
        let pixels = rank(part.pixels.start)..rank(part.pixels.end);
        let part = Part { pixels, panels: part.panels.clone() };
        if !part.pixels.is_empty() {
            let moved = operands.moved(inside.first_input, inside.first_output);
            let inside = &inside.problem;
            let outputs = Outputs::new(&inside.output, moved.output, moved.residual, activation);
            let schedule = scheduler(inside, caches, *unpacked);
            // SAFETY: as the caller vouches; the box is a part of the output whose windows lie in the
            // input.
            unsafe {
                let call =
                    Call::new(inside, isa, moved.input, weights, bias, &outputs, &part, scratch);
                (layer.entry)(&call, &schedule);
            }
        }
    }
    let strides = planned.strides(problem);
    let schedule = scheduler(&planned.on_copy(problem, &strides), caches, *unpacked);
    for number in 0..27 {
        let place = [number / 9, number / 3 % 3, number % 3];
        let rank = |pixel| boxes.rank(&problem.geometry, place, pixel);
        let (mut next, end) = (rank(part.pixels.start), rank(part.pixels.end));
        if place == [1; 3] || next == end {
            continue;
        }
        let extents = boxes.extents(place);
        let of_box = Geometry { output: extents, ..problem.geometry };
        while next < end {
            let first = Pixel::of(&of_box, next);
            let most = [planned.rows, planned.columns];
            let [rows, columns] = first.rectangle(extents, end - next, most);
            let Pixel { image, at } = first;
            let at = boxes.output(place, at);
            let piece = Piece { rows, columns };
            let on_copy = &piece.on_copy(problem, &strides);
            // SAFETY: the operands are as the caller vouches; the copy has room for any piece.
            unsafe {
                copy_seen(problem, operands.input, image, at, &piece, &strides, part, copy);
            }
            let offset = Pixel { image, at }.output_offset(&problem.output);
            let moved = operands.moved(0, offset);
            let outputs = Outputs::new(&on_copy.output, moved.output, moved.residual, activation);
            let of_piece = Part { pixels: 0..rows * columns, panels: part.panels.clone() };
            // SAFETY: as the caller vouches; the piece is a part of the output, and the copy has what
            // its windows see.
            unsafe {
                let call = Call::new(
                    on_copy,
                    isa,
                    copy.as_ptr(),
                    weights,
                    bias,
                    &outputs,
                    &of_piece,
                    scratch,
                );
                (layer.entry)(&call, &schedule);
            }
            next += rows * columns;
        }
    }
}

/// Copies what a piece at these coordinates of the output sees, in the channels that the part needs.
///
/// # Safety
/// The input has as many elements as the problem says; the copy has room for the piece.
#[allow(clippy::too_many_arguments)]
unsafe fn copy_seen(
    problem: &Problem,
    input: *const Element,
    image: usize,
    at: [usize; 3],
    piece: &Piece,
    to: &Strides,
    part: &Part,
    copy: &mut [Element],
) {
    let geometry = &problem.geometry;
    let from = &problem.input;
    let [depth, height, width] = piece.extents(geometry);
    let channels = panels::in_channels(geometry, &part.panels);
    // Where a place of the copy lies in the input.
    let source = |axis: usize, place: usize| {
        let padded = at[axis] * geometry.stride[axis] + place;
        geometry.padding_mode.source(padded, geometry.padding[axis], geometry.input[axis])
    };
    let input = input.wrapping_add(image.wrapping_mul(from.batch));
    // The columns that are neither before the input nor behind it.
    let first = at[2] * geometry.stride[2];
    let before = geometry.padding[2].saturating_sub(first).min(width);
    let behind = (geometry.input[2] + geometry.padding[2]).saturating_sub(first).min(width);
    let inside = before..behind.max(before);
    for d in 0..depth {
        let plane = source(0, d).wrapping_mul(from.depth);
        for h in 0..height {
            let row = plane.wrapping_add(source(1, h).wrapping_mul(from.row));
            let copy_row = d * to.depth + h * to.row;
            let mut place = 0;
            while place < width {
                // The columns inside at once.
                let count = if inside.contains(&place) { inside.end - place } else { 1 };
                let run = Run {
                    from: input
                        .wrapping_add(row.wrapping_add(source(2, place).wrapping_mul(from.pixel))),
                    steps: [from.pixel, from.channel],
                    to: copy_row + place * to.pixel,
                    steps_to: [to.pixel, to.channel],
                    pixels: count,
                    channels: channels.clone(),
                };
                // SAFETY: these pixels are the input's.
                unsafe { run.copy(copy) };
                place += count;
            }
        }
    }
}

/// Neighbouring pixels of a row, in some channels.
struct Run {
    /// The first pixel, at channel 0; from a pixel to the next, and from a channel to the next.
    from: *const Element,
    steps: [usize; 2],
    to: usize,
    steps_to: [usize; 2],
    pixels: usize,
    channels: Range<usize>,
}

impl Run {
    /// # Safety
    /// These elements can be read.
    unsafe fn copy(self, copy: &mut [Element]) {
        let Run { from, to, pixels, channels, .. } = self;
        let ([pixel, channel], [to_pixel, to_channel]) = (self.steps, self.steps_to);
        // What lies side by side is the inner loop.
        let (outer, inner) =
            if to_channel == 1 { (0..pixels, channels) } else { (channels, 0..pixels) };
        let ([outer_step, inner_step], [to_outer, to_inner]) = if to_channel == 1 {
            ([pixel, channel], [to_pixel, to_channel])
        } else {
            ([channel, pixel], [to_channel, to_pixel])
        };
        for outer in outer {
            let from = from
                .wrapping_add(outer.wrapping_mul(outer_step))
                .wrapping_add(inner.start.wrapping_mul(inner_step));
            // Of the copy, inner neighbours adjoin.
            let to = to + outer * to_outer + inner.start * to_inner;
            let row = copy.get_mut(to..).unwrap_or_default();
            for (at, to) in row.iter_mut().take(inner.len()).enumerate() {
                // SAFETY: as the caller vouches.
                *to = unsafe { *from.wrapping_add(at.wrapping_mul(inner_step)) };
            }
        }
    }
}
