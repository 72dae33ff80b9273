//! The copy of a band, with its padding.

use super::piece::Piece;
use crate::kernel::walk::{input_offset, places_inside};
use crate::simd::{Body, MOST_LANES, Simd};
use core::ops::Range;

/// Copies what a piece sees of the planes of a group, from its first one on.
#[inline(always)]
pub(super) fn copy_group<S: Simd>(simd: S, piece: &Piece, plane: *const f32) {
    let Piece { call, band, .. } = *piece;
    let geometry = call.geometry();
    let channels = geometry.in_per_group;
    let strides = call.input().strides;
    if const { S::LANES > 1 } && channels > 1 && strides.channel == 1 {
        return simd.enter(TurnBand { piece, plane });
    }
    let channel_len = band.channel_len(geometry);
    for channel in 0..channels {
        let plane = plane.wrapping_add(channel.wrapping_mul(strides.channel));
        let target = call.scratch().wrapping_add(channel * channel_len);
        simd.enter(CopyBand { piece, plane, target });
    }
}

/// Copies what a piece sees of a plane of the input.
struct CopyBand<'a> {
    piece: &'a Piece<'a>,
    plane: *const f32,
    target: *mut f32,
}

/// Copies what a piece sees of planes whose channels lie side by side.
struct TurnBand<'a> {
    piece: &'a Piece<'a>,
    plane: *const f32,
}

impl Body for CopyBand<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        copy_band::<S, false>(simd, self.piece, self.plane, self.target);
    }
}

impl Body for TurnBand<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        copy_band::<S, true>(simd, self.piece, self.plane, self.piece.call.scratch());
    }
}

/// A plane; `TURN`: all of a group, whose channels lie side by side.
#[inline(always)]
fn copy_band<S: Simd, const TURN: bool>(
    simd: S,
    piece: &Piece,
    plane: *const f32,
    mut target: *mut f32,
) {
    let Piece { call, band, .. } = *piece;
    let geometry = call.geometry();
    let strides = call.input().strides;
    let [_, stride_rows, stride_columns] = geometry.stride;
    let start = piece.pixel.window_start(geometry);
    let size = geometry.input.map(|size| size as isize);
    let rows = piece.rows + (band.copied_rows - band.rows);
    let columns = piece.columns + (band.row_len - band.columns);
    for kd in 0..geometry.window[0] {
        let d = start[0] + (kd * geometry.dilation[0]) as isize;
        for row_phase in 0..band.phases[0] {
            let h = start[1] + row_phase as isize;
            let mut rows_inside = places_inside(h, size[1], stride_rows, rows);
            if !(0..size[0]).contains(&d) {
                rows_inside = 0..0;
            }
            for column_phase in 0..band.phases[1] {
                let w = start[2] + column_phase as isize;
                let source = plane.wrapping_offset(input_offset(strides, [d, h, w]));
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
                // SAFETY: what is inside, the input holds; scratch memory has room for all rows of each
                // channel, and for a vector behind the last one.
                unsafe {
                    if TURN {
                        copy.turn(simd, geometry.in_per_group, band.channel_len(geometry));
                    } else {
                        match copy.step {
                            1 => copy.copy::<S, 1>(simd),
                            2 => copy.copy::<S, 2>(simd),
                            _ => copy.copy::<S, 0>(simd),
                        }
                    }
                }
                target = target.wrapping_add(band.copied_rows * band.row_len);
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
    /// The rows of planes whose channels lie side by side: squares of pixels and channels are
    /// transposed. From the last column to the first, as in [`copy`](CopyRows::copy).
    ///
    /// # Safety
    /// As of [`copy`](CopyRows::copy), of each plane.
    #[inline(always)]
    unsafe fn turn<S: Simd>(self, simd: S, channels: usize, channel_len: usize) {
        let mut column = self.columns.next_multiple_of(S::LANES);
        while column > 0 {
            column -= S::LANES;
            let mut channel = 0;
            while channel < channels {
                let count = S::LANES.min(channels - channel);
                let mut to = self.target.wrapping_add(column).wrapping_add(channel * channel_len);
                for row in 0..self.rows {
                    let mut square = [simd.splat(0.0); MOST_LANES];
                    if self.rows_inside.contains(&row) {
                        let mut at = self
                            .source
                            .wrapping_add(row.wrapping_mul(self.row_step))
                            .wrapping_add(column.wrapping_mul(self.step))
                            .wrapping_add(channel);
                        let mut lane = 0;
                        while lane < S::LANES {
                            if self.columns_inside.contains(&(column + lane)) {
                                // SAFETY: this pixel lies inside the input.
                                square[lane] = unsafe { simd.load_first(at, count) };
                            }
                            at = at.wrapping_add(self.step);
                            lane += 1;
                        }
                        simd.transpose(&mut square);
                    }
                    let mut plane = to;
                    let mut lane = 0;
                    while lane < S::LANES {
                        if lane < count {
                            // SAFETY: the caller vouches for the room.
                            unsafe { simd.store(plane, square[lane]) };
                        }
                        plane = plane.wrapping_add(channel_len);
                        lane += 1;
                    }
                    to = to.wrapping_add(self.row_len);
                }
                channel += count;
            }
        }
    }

    /// Vector by vector, from the last column to the first: a vector that reaches over the end of
    /// its row spoils what is still to be written.
    ///
    /// # Safety
    /// The input has the places that are inside; the target has room for all rows, and for a vector
    /// behind the last one.
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
                        2 => simd.load_alternate(at, from, until),
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
