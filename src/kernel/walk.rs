//! From the number of an output pixel to places in memory.

use crate::problem::arithmetic::{div_ceil, divide};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use core::ops::Range;

/// An output pixel: its image and its coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Pixel {
    pub image: usize,
    pub at: [usize; 3],
}

impl Pixel {
    /// The pixel of that number, counted row by row through all images.
    #[inline(always)]
    pub fn of(geometry: &Geometry, number: usize) -> Pixel {
        let (image, at) = geometry.pixel(number);
        Pixel { image, at }
    }

    /// The rows and columns of the next piece from this pixel on, of so many that are left in an output
    /// of that size: at most so many whole rows of its plane, or a part of a row.
    #[inline(always)]
    pub fn rectangle(
        &self,
        [_, height, width]: [usize; 3],
        left: usize,
        [rows, columns]: [usize; 2],
    ) -> [usize; 2] {
        let [_, row, column] = self.at;
        if column > 0 || left < width || columns < width {
            [1, columns.min(width - column).min(left)]
        } else {
            [rows.min(height - row).min(divide(left, width).0), width]
        }
    }

    /// The one after it, among those in `columns`.
    #[inline(always)]
    pub fn next(&mut self, geometry: &Geometry, columns: &Range<usize>) {
        self.at[2] += 1;
        if self.at[2] == columns.end {
            self.at[2] = columns.start;
            self.at[1] += 1;
            if self.at[1] == geometry.output[1] {
                self.at[1] = 0;
                self.at[0] += 1;
                if self.at[0] == geometry.output[0] {
                    self.at[0] = 0;
                    self.image += 1;
                }
            }
        }
    }

    /// Where it lies in the output, at channel 0.
    #[inline(always)]
    pub fn output_offset(&self, strides: &Strides) -> usize {
        let [d, h, w] = self.at;
        self.image * strides.batch + d * strides.depth + h * strides.row + w * strides.pixel
    }

    /// The input coordinates of its first tap; negative in the padding.
    #[inline(always)]
    pub fn window_start(&self, geometry: &Geometry) -> [isize; 3] {
        let mut start = [0; 3];
        let mut axis = 0;
        while axis < 3 {
            let place = self.at[axis] * geometry.stride[axis];
            start[axis] = place.wrapping_sub(geometry.padding[axis]) as isize;
            axis += 1;
        }
        start
    }
}

/// Where coordinates lie in the input, at image 0 and channel 0. Wraps: an offset from the
/// padding leads back into the input once a tap inside has been added.
#[inline(always)]
pub(crate) fn input_offset(strides: &Strides, at: [isize; 3]) -> isize {
    let of = |at: isize, stride: usize| at.wrapping_mul(stride as isize);
    of(at[0], strides.depth)
        .wrapping_add(of(at[1], strides.row))
        .wrapping_add(of(at[2], strides.pixel))
}

/// The taps along an axis that lie inside the input, for a window that starts at `start`.
#[inline(always)]
pub(crate) fn taps_inside(geometry: &Geometry, axis: usize, start: isize) -> Range<usize> {
    let (taps, dilation) = (geometry.window[axis], geometry.dilation[axis]);
    let size = geometry.input[axis] as isize;
    let reach = ((taps - 1) * dilation) as isize;
    if start >= 0 && start <= size - 1 - reach {
        return 0..taps;
    }
    places_inside(start, size, dilation, taps)
}

/// Of `count` places from `first` on, `step` apart, those in `0..size`.
#[inline(always)]
pub(crate) fn places_inside(first: isize, size: isize, step: usize, count: usize) -> Range<usize> {
    let before = |end: isize| {
        let distance = if first < end { (end - first) as usize } else { 0 };
        div_ceil(distance, step).min(count)
    };
    before(0)..before(size)
}

/// The output places along an axis whose every tap lies inside the input, within `within`.
#[inline(always)]
pub(crate) fn interior(geometry: &Geometry, axis: usize, within: Range<usize>) -> Range<usize> {
    let reach = geometry.reach(axis);
    let (stride, padding) = (geometry.stride[axis], geometry.padding[axis]);
    let first = div_ceil(padding, stride);
    // The last place p has p * stride - padding + reach <= size - 1.
    let end = match (geometry.input[axis] + padding).checked_sub(reach + 1) {
        Some(last) => divide(last, stride).0 + 1,
        None => 0,
    };
    let end = end.min(within.end).max(within.start);
    first.max(within.start).min(end)..end
}

/// The most columns from `first` on whose windows have the same columns of taps inside the input.
#[inline(always)]
pub(crate) fn columns_alike(geometry: &Geometry, first: usize) -> Range<usize> {
    let width = geometry.output[2];
    let whole = interior(geometry, 2, 0..width);
    if whole.contains(&first) {
        return first..whole.end;
    }
    let taps = |column: usize| {
        let place = column * geometry.stride[2];
        taps_inside(geometry, 2, place.wrapping_sub(geometry.padding[2]) as isize)
    };
    let mut end = first + 1;
    while end < width && taps(end) == taps(first) {
        end += 1;
    }
    first..end
}

/// How many of the first `pixels` of the output are in `columns`.
#[inline(always)]
pub(crate) fn count_in_columns(
    geometry: &Geometry,
    columns: &Range<usize>,
    pixels: usize,
) -> usize {
    let width = geometry.output[2];
    let (rows, in_last_row) = divide(pixels, width);
    let in_last_row = in_last_row.min(columns.end).max(columns.start) - columns.start;
    rows * (columns.end - columns.start) + in_last_row
}

/// A run of pixels in one row of the output.
pub(crate) struct Row {
    /// The first one.
    pub pixel: Pixel,
    pub count: usize,
}

/// The rows, or parts of rows, of a range of pixels.
pub(crate) struct Rows {
    next: Pixel,
    left: usize,
}

impl Rows {
    #[inline(always)]
    pub fn of(geometry: &Geometry, pixels: Range<usize>) -> Rows {
        Rows { next: Pixel::of(geometry, pixels.start), left: pixels.end - pixels.start }
    }

    #[inline(always)]
    pub fn next(&mut self, geometry: &Geometry) -> Option<Row> {
        if self.left == 0 {
            return None;
        }
        let width = geometry.output[2];
        let pixel = self.next;
        let count = self.left.min(width - pixel.at[2]);
        self.left -= count;
        self.next.at[2] = width - 1;
        self.next.next(geometry, &(0..width));
        Some(Row { pixel, count })
    }

    /// How many whole rows are left.
    #[inline(always)]
    pub fn whole_rows(&self, geometry: &Geometry) -> usize {
        divide(self.left, geometry.output[2]).0
    }

    /// Passes over `count` whole rows.
    #[inline(always)]
    pub fn skip(&mut self, geometry: &Geometry, count: usize) {
        for _ in 0..count {
            self.next(geometry);
        }
    }
}

/// Cuts `count` things into the fewest pieces of at most `most`, as equal as can be; the size of
/// the next piece.
#[inline(always)]
pub(crate) fn even_piece(count: usize, most: usize) -> usize {
    div_ceil(count, div_ceil(count, most))
}

/// Where a walk has cut a tile of a size for which there is no body. It would be left out.
#[inline(always)]
pub(crate) fn no_body() {
    debug_assert!(false, "a tile of a size for which there is no body");
}
