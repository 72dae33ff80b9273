//! Unfolding in planes: of each channel and tap the row of columns. It is the plane of that channel,
//! moved by the tap, with zeros around it.
//!
//! ```text
//! for each channel, kh, kw
//!   zeros for the windows whose tap is above the image
//!   if its rows adjoin in both: one long copy, and zeros in the columns left and right
//!   else, where some lanes of a vector cannot be loaded alone: row by row
//!   else for each strip of at most MOST_VECTORS vectors of columns, the last one first
//!     for each row of windows whose tap is inside: the strip of the row
//!   zeros for those whose tap is below
//! ```
//!
//! Whole vectors are written where there is room, beyond the end of a row as well: what follows is
//! written later. The last strip reaches beyond its rows, into what the first one writes.

use super::walk::places_inside;
use crate::isa::Isa;
use crate::problem::arithmetic::{at_least_1, div_ceil, divide, quotient};
use crate::problem::geometry::Geometry;
use crate::simd::{Body, Simd};
use core::ops::Range;

/// The vectors of a row that are copied together.
const MOST_VECTORS: usize = 4;

/// Some rows of columns.
pub(crate) struct Planes<'a> {
    /// Of a depthwise layer with these windows.
    pub geometry: &'a Geometry,
    pub x: &'a [f32],
    /// The number of the first row of `y`.
    pub first: usize,
    /// Whole rows.
    pub y: &'a mut [f32],
}

impl Body for Planes<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Planes { geometry, x, first, y } = self;
        let plane_len = geometry.input[1] * geometry.input[2];
        let row_len = geometry.output[1] * geometry.output[2];
        let (mut plane, tap) = divide(first, geometry.taps());
        let (mut kh, mut kw) = divide(tap, geometry.window[2]);
        let mut rest = y;
        while !rest.is_empty() {
            let from = plane * plane_len;
            let Some(from) = x.get(from..from + plane_len) else { return };
            row_of_columns(simd, geometry, from, [kh, kw], rest);
            let Some((_, after)) = rest.split_at_mut_checked(row_len) else { return };
            rest = after;
            kw += 1;
            if kw == geometry.window[2] {
                kw = 0;
                kh += 1;
                if kh == geometry.window[1] {
                    kh = 0;
                    plane += 1;
                }
            }
        }
    }
}

/// Writes the first row of columns of `to`, and anything behind it.
#[inline(always)]
fn row_of_columns<S: Simd>(
    simd: S,
    geometry: &Geometry,
    plane: &[f32],
    tap: [usize; 2],
    to: &mut [f32],
) {
    let [_, height, width] = geometry.output;
    if plane.len() < geometry.input[1] * geometry.input[2] || to.len() < height * width {
        return;
    }
    let (mut rows, columns) = (places(geometry, 1, tap[0]), places(geometry, 2, tap[1]));
    if rows.is_empty() || columns.is_empty() {
        rows = height..height;
    }
    zeros(simd, to, 0..rows.start * width);
    if !rows.is_empty() {
        let place = |axis: usize, window: usize| {
            (window * geometry.stride[axis] + tap[axis - 1] * geometry.dilation[axis])
                .wrapping_sub(geometry.padding[axis])
        };
        let first_row = place(1, rows.start) * geometry.input[2];
        let inside = Inside { geometry, rows: rows.clone(), columns };
        if geometry.stride == [1; 3] && geometry.input[2] == width {
            inside.at_once(plane, first_row + place(2, inside.columns.start), to);
        } else if S::LANES == 1 || matches!(S::ISA, Isa::Portable) {
            // Some lanes alone would be loaded one by one.
            inside.row_by_row(plane, first_row + place(2, inside.columns.start), to);
        } else {
            let first_column = place(2, 0);
            inside.strips(
                simd,
                plane.as_ptr().wrapping_add(first_row).wrapping_add(first_column),
                to,
            );
        }
    }
    zeros(simd, to, rows.end * width..height * width);
}

/// The windows along an axis whose tap lies inside the image.
#[inline(always)]
fn places(geometry: &Geometry, axis: usize, tap: usize) -> Range<usize> {
    let first = (tap * geometry.dilation[axis]) as isize - geometry.padding[axis] as isize;
    let (size, stride) = (geometry.input[axis] as isize, geometry.stride[axis]);
    places_inside(first, size, stride, geometry.output[axis])
}

/// Of `rows` rows, `row` apart, how many end within `room`, of which the first one ends at `end`.
#[inline(always)]
fn whole_rows(room: usize, end: usize, row: usize, rows: usize) -> usize {
    match room.checked_sub(end) {
        Some(more) if more >= (rows - 1) * row => rows,
        Some(more) => quotient(more, row) + 1,
        None => 0,
    }
}

/// Zeros at these places, and perhaps at some behind them.
#[inline(always)]
fn zeros<S: Simd>(simd: S, to: &mut [f32], places: Range<usize>) {
    let mut at = places.start;
    while at < places.end {
        let room = to.get_mut(at..).unwrap_or_default();
        let count = room.len().min(places.end - at);
        // SAFETY: there is room.
        unsafe {
            if room.len() >= S::LANES {
                simd.store(room.as_mut_ptr(), simd.splat(0.0));
            } else {
                simd.store_first(room.as_mut_ptr(), simd.splat(0.0), count);
            }
        }
        at += S::LANES;
    }
}

/// The windows of a row of columns whose tap lies inside the image.
struct Inside<'a> {
    geometry: &'a Geometry,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Inside<'_> {
    /// Rows that are as long as those of the image, from `from` on: what would be left and right of it
    /// lies in others.
    #[inline(always)]
    fn at_once(&self, plane: &[f32], from: usize, to: &mut [f32]) {
        let Inside { rows, columns, .. } = self;
        let width = self.geometry.output[2];
        let start = rows.start * width + columns.start;
        let end = (rows.end - 1) * width + columns.end;
        if let Some(from) = plane.get(from..from + (end - start))
            && let Some(to) = to.get_mut(start..end)
        {
            to.copy_from_slice(from);
        }
        for column in (0..columns.start).chain(columns.end..width) {
            let mut to = to.as_mut_ptr().wrapping_add(rows.start * width + column);
            for _ in rows.clone() {
                // SAFETY: a column of these rows, which `to` has.
                unsafe { *to = 0.0 };
                to = to.wrapping_add(width);
            }
        }
    }

    /// Row by row, without vectors of its own.
    #[inline(always)]
    fn row_by_row(&self, plane: &[f32], from: usize, to: &mut [f32]) {
        let Inside { geometry, rows, columns } = self;
        let [_, row_step, step] = geometry.stride;
        let width = at_least_1(geometry.output[2]);
        let to = to.get_mut(rows.start * width..rows.end * width).unwrap_or_default();
        let mut from = plane.get(from..).unwrap_or_default();
        for row in to.chunks_exact_mut(width) {
            let Some((row, right)) = row.split_at_mut_checked(columns.end) else { return };
            let Some((left, row)) = row.split_at_mut_checked(columns.start) else { return };
            left.fill(0.0);
            right.fill(0.0);
            copy_strided(from, step, row);
            from = from.get(row_step.wrapping_mul(geometry.input[2])..).unwrap_or_default();
        }
    }

    /// Strip by strip. `from` is where column 0 of the first row has its tap, perhaps outside.
    #[inline(always)]
    fn strips<S: Simd>(&self, simd: S, from: *const f32, to: &mut [f32]) {
        let Inside { geometry, rows, columns } = self;
        let (width, step) = (geometry.output[2], geometry.stride[2]);
        let mut vectors = div_ceil(width, S::LANES);
        while vectors > 0 {
            let count = vectors.min(if step == 1 { MOST_VECTORS } else { 1 });
            vectors -= count;
            let column = vectors * S::LANES;
            let lanes_of = |vector: usize| {
                let start = column + vector * S::LANES;
                let within = |end: usize| end.saturating_sub(start).min(S::LANES);
                (within(columns.start), within(columns.end))
            };
            let first = rows.start * width + column;
            let strip = Strip {
                from: from.wrapping_add(column * step),
                from_row: geometry.stride[1].wrapping_mul(geometry.input[2]),
                step,
                to: to.as_mut_ptr().wrapping_add(first),
                to_row: width,
                lanes: core::array::from_fn(lanes_of),
                rows: rows.len(),
                whole: whole_rows(to.len(), first + count * S::LANES, width, rows.len()),
                last: (width - column).min(count * S::LANES) - (count - 1) * S::LANES,
            };
            // Lanes between those bounds are columns whose tap lies in the image, in rows of which it
            // does as well; `to` has these rows, and so many have room for whole vectors.
            match (step, count) {
                (1, 1) => simd.enter(Copy::<1, 1> { strip: &strip }),
                (1, 2) => simd.enter(Copy::<2, 1> { strip: &strip }),
                (1, 3) => simd.enter(Copy::<3, 1> { strip: &strip }),
                (1, _) => simd.enter(Copy::<MOST_VECTORS, 1> { strip: &strip }),
                (2, _) => simd.enter(Copy::<1, 2> { strip: &strip }),
                _ => simd.enter(Copy::<1, ANY> { strip: &strip }),
            }
        }
    }
}

/// Copies elements that are so far apart.
#[inline(always)]
fn copy_strided(from: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        1 => {
            if let Some(from) = from.get(..to.len()) {
                to.copy_from_slice(from);
            }
        }
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            // Of the last pair there may be one element.
            if let (Some(to), Some(last)) = (to.get_mut(pairs.len()), rest.first()) {
                *to = *last;
            }
            for (to, [from, _]) in to.iter_mut().zip(pairs) {
                *to = *from;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(at_least_1(stride))) {
                *to = *from;
            }
        }
    }
}

/// Some vectors of each of some rows.
struct Strip {
    /// Where the first lane comes from; it may lie outside of the image.
    from: *const f32,
    from_row: usize,
    /// From a lane to the next.
    step: usize,
    to: *mut f32,
    to_row: usize,
    /// Of each vector, the lanes that are inside and can be read; others are zeros.
    lanes: [(usize, usize); MOST_VECTORS],
    /// The rows, which can be written.
    rows: usize,
    /// Of which so many can be written beyond their end.
    whole: usize,
    /// The lanes of the last vector that belong to its row.
    last: usize,
}

/// A strip is copied, whose lanes are `STEP` elements apart, or [`ANY`].
struct Copy<'a, const VECTORS: usize, const STEP: usize> {
    strip: &'a Strip,
}

const ANY: usize = 0;

impl<const VECTORS: usize, const STEP: usize> Body for Copy<'_, VECTORS, STEP> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let whole = self.strip.whole.min(self.strip.rows);
        for row in 0..whole {
            self.row(simd, row, S::LANES);
        }
        for row in whole..self.strip.rows {
            self.row(simd, row, self.strip.last);
        }
    }
}

impl<const VECTORS: usize, const STEP: usize> Copy<'_, VECTORS, STEP> {
    /// One row, with so many lanes of the last vector.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, last: usize) {
        let Strip { from_row, step, to_row, lanes, .. } = *self.strip;
        let from = self.strip.from.wrapping_add(from_row.wrapping_mul(row));
        let to = self.strip.to.wrapping_add(to_row * row);
        for (vector, (start, end)) in lanes.into_iter().enumerate().take(VECTORS) {
            let from = from.wrapping_add(vector * S::LANES * step);
            let to = to.wrapping_add(vector * S::LANES);
            // SAFETY: lanes inside are read, and of the row all is written, of the last vector as much
            // as there is room for.
            unsafe {
                let value = match STEP {
                    1 => simd.load_range(from, start, end),
                    2 => simd.load_alternate(from, start, end),
                    _ => simd.load_strided(from, step as isize, start, end),
                };
                if vector + 1 < VECTORS || last == S::LANES {
                    simd.store(to, value);
                } else {
                    simd.store_first(to, value, last);
                }
            }
        }
    }
}
