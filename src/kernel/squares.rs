//! Unfolding channels last: the column of each window, by transposing.
//!
//! In a run of windows elements are numbered, the channels of a window side by side as in the image.
//! Then element `n` of `C` channels has its taps at
//!
//! ```text
//! y[n * taps + kh * KW + kw] = row kh of the image [n + kw * dilation * C]
//! ```
//!
//! with stride 1: `y` is the rows of the image, moved by each tap, as the columns of a matrix. It is
//! transposed in squares:
//!
//! ```text
//! for each run: a row of windows (with a stride, a window), for each piece of it
//!   for each LANES taps, for each LANES elements: a square
//!   one by one: taps that are left over
//! ```
//!
//! The last square of taps or elements begins earlier, if there are as many. Where there are fewer taps,
//! a square writes beyond those of an element, and the next element writes there again. Squares at the
//! borders of the image, and where nothing may be written beyond, are cut.

use super::walk::{Pixel, Rows, columns_alike, places_inside};
use crate::problem::arithmetic::{divide, quotient};
use crate::problem::geometry::Geometry;
use crate::simd::{Body, MOST_LANES, Simd};
use core::ops::Range;

/// The columns of some windows.
pub(crate) struct ChannelsLast<'a> {
    /// Of a depthwise layer with these windows.
    pub geometry: &'a Geometry,
    pub x: &'a [f32],
    /// The number of the first window of `y`.
    pub first: usize,
    /// Columns of windows.
    pub y: &'a mut [f32],
}

impl Body for ChannelsLast<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ChannelsLast { geometry, x, first, y } = self;
        let [_, height, width] = geometry.input;
        let column_len = geometry.in_channels * geometry.taps();
        let image_len = height * width * geometry.in_channels;
        let count = quotient(y.len(), column_len);
        let mut rows = Rows::of(geometry, first..first + count);
        let mut rest = y;
        while let Some(row) = rows.next(geometry) {
            let image = row.pixel.image * image_len;
            let Some(image) = x.get(image..image + image_len) else { return };
            let (mut pixel, mut left) = (row.pixel, row.count);
            while left > 0 {
                let windows = match geometry.stride[2] {
                    // Squares of windows that are partly outside have taps that are wholly outside.
                    1 if geometry.in_channels >= S::LANES => {
                        columns_alike(geometry, pixel.at[2]).len().min(left)
                    }
                    1 => left,
                    _ => 1,
                };
                Run { geometry, image, pixel, windows }.unfold(simd, rest);
                let Some((_, after)) = rest.split_at_mut_checked(windows * column_len) else {
                    return;
                };
                rest = after;
                pixel.at[2] += windows;
                left -= windows;
            }
        }
    }
}

/// Windows of a row that are an element apart, or one window.
struct Run<'a> {
    geometry: &'a Geometry,
    image: &'a [f32],
    /// The first of them.
    pixel: Pixel,
    windows: usize,
}

/// The elements of a run at a tap.
#[derive(Clone, Copy)]
struct AtTap {
    first: *const f32,
    /// All ones; 0 where all elements are outside, of which there is a vector of zeros.
    moves: usize,
    /// The first element inside, and the first one behind them that is not.
    start: usize,
    end: usize,
}

static ZEROS: [f32; MOST_LANES] = [0.0; MOST_LANES];

impl AtTap {
    /// From that element on.
    #[inline(always)]
    fn element(&self, element: usize) -> *const f32 {
        self.first.wrapping_add(element & self.moves)
    }

    /// Of `count` elements from that one on, those inside.
    #[inline(always)]
    fn inside(&self, element: usize, count: usize) -> (usize, usize) {
        let within = |end: usize| end.saturating_sub(element).min(count);
        (within(self.start), within(self.end))
    }
}

/// Elements that are written at all taps before the next ones, so that they stay in the first-level
/// cache.
const PIECE: usize = 128;

/// So many taps that are left over are not worth a square.
const ONE_BY_ONE: usize = 2;

impl Run<'_> {
    /// Writes the columns to the begin of `to`, and anything behind them.
    #[inline(always)]
    fn unfold<S: Simd>(&self, simd: S, to: &mut [f32]) {
        let taps = self.geometry.taps();
        let elements = self.windows * self.geometry.in_channels;
        if to.len() < elements * taps {
            return;
        }
        // Those with room for a vector behind their first tap.
        let roomy = match to.len().checked_sub(S::LANES) {
            Some(more) if taps < S::LANES => quotient(more, taps) + 1,
            _ => elements,
        };
        let most = if taps <= S::LANES { elements } else { PIECE };
        let to = to.as_mut_ptr();
        let mut start = 0;
        while start < elements {
            let mut end = start + most;
            if end + S::LANES > elements {
                end = elements;
            }
            self.piece(simd, start..end, roomy, to);
            start = end;
        }
    }

    /// All taps of some elements, at least a vector if the run has as many.
    #[inline(always)]
    fn piece<S: Simd>(&self, simd: S, elements: Range<usize>, roomy: usize, to: *mut f32) {
        let taps = self.geometry.taps();
        let mut tap = 0;
        while tap < taps {
            if taps - tap <= ONE_BY_ONE || S::LANES == 1 {
                self.one_by_one(tap, elements, to);
                return;
            }
            let first_tap = tap.min(taps.saturating_sub(S::LANES));
            let elements = elements.clone();
            // Windows of 3x3 are frequent: without loads of taps that there are not.
            if taps == 9 && S::LANES > 9 {
                self.squares::<S, 9>(simd, first_tap, elements, roomy, to);
            } else {
                self.squares::<S, MOST_LANES>(simd, first_tap, elements, roomy, to);
            }
            tap += S::LANES;
        }
    }

    /// A vector of taps, or all that there are, of some elements.
    #[inline(always)]
    fn squares<S: Simd, const TAPS: usize>(
        &self,
        simd: S,
        tap: usize,
        elements: Range<usize>,
        roomy: usize,
        to: *mut f32,
    ) {
        let taps = self.geometry.taps();
        let at_taps = self.at_taps(tap);
        let mut whole = 0..roomy;
        for at_tap in at_taps.iter().take(S::LANES) {
            whole = whole.start.max(at_tap.start)..whole.end.min(at_tap.end);
        }
        let last = elements.end.saturating_sub(S::LANES).max(elements.start);
        let mut element = elements.start;
        while element < elements.end {
            let first = element.min(last);
            let square = Square {
                at_taps: &at_taps,
                element: first,
                to: to.wrapping_add(first * taps + tap),
                taps,
            };
            if whole.start <= first && first + S::LANES <= whole.end {
                square.whole::<S, TAPS>(simd);
            } else {
                let size = [S::LANES.min(taps - tap), S::LANES.min(elements.end - first)];
                simd.enter(Cut { square, size });
            }
            element += S::LANES;
        }
    }

    /// The taps from that one on; in the place of those that there are not, the last one.
    #[inline(always)]
    fn at_taps(&self, first: usize) -> [AtTap; MOST_LANES] {
        let [_, kernel_height, kernel_width] = self.geometry.window;
        let (mut kh, mut kw) = divide(first, kernel_width);
        let mut at_tap = self.at_tap(kh, kw);
        core::array::from_fn(|_| {
            let this = at_tap;
            kw += 1;
            if kw == kernel_width {
                kw = 0;
                kh += 1;
            }
            if kh < kernel_height {
                at_tap = self.at_tap(kh, kw);
            }
            this
        })
    }

    #[inline(always)]
    fn at_tap(&self, kh: usize, kw: usize) -> AtTap {
        let geometry = self.geometry;
        let [_, height, width] = geometry.input;
        let [_, top, left] = self.pixel.window_start(geometry);
        let row = top.wrapping_add((kh * geometry.dilation[1]) as isize);
        let column = left.wrapping_add((kw * geometry.dilation[2]) as isize);
        let inside = places_inside(column, width as isize, 1, self.windows);
        if row < 0 || row >= height as isize || inside.is_empty() {
            return AtTap { first: ZEROS.as_ptr(), moves: 0, start: 0, end: usize::MAX };
        }
        let channels = geometry.in_channels;
        let first = (row as usize * width).wrapping_add(column as usize).wrapping_mul(channels);
        AtTap {
            first: self.image.as_ptr().wrapping_add(first),
            moves: usize::MAX,
            start: inside.start * channels,
            end: inside.end * channels,
        }
    }

    /// The taps from that one on of some elements.
    #[inline(always)]
    fn one_by_one(&self, first: usize, elements: Range<usize>, to: *mut f32) {
        let taps = self.geometry.taps();
        let kernel_width = self.geometry.window[2];
        let (mut kh, mut kw) = divide(first, kernel_width);
        for tap in first..taps {
            let at_tap = self.at_tap(kh, kw);
            let (start, end) = at_tap.inside(elements.start, elements.len());
            let from = at_tap.element(elements.start + start);
            let mut to = to.wrapping_add(elements.start * taps + tap);
            // SAFETY: all taps of all elements can be written, and what is inside can be read.
            unsafe {
                to = fill(to, taps, start);
                if at_tap.moves == 0 {
                    to = fill(to, taps, end - start);
                } else if taps == 1 {
                    to.copy_from_nonoverlapping(from, end - start);
                    to = to.wrapping_add(end - start);
                } else {
                    for element in 0..end - start {
                        *to = *from.wrapping_add(element);
                        to = to.wrapping_add(taps);
                    }
                }
                fill(to, taps, elements.len() - end);
            }
            kw += 1;
            if kw == kernel_width {
                kw = 0;
                kh += 1;
            }
        }
    }
}

/// Zeros at `count` places, so far apart; the place behind them.
///
/// # Safety
/// They can be written.
#[inline(always)]
unsafe fn fill(mut to: *mut f32, step: usize, count: usize) -> *mut f32 {
    for _ in 0..count {
        // SAFETY: as the caller's.
        unsafe { *to = 0.0 };
        to = to.wrapping_add(step);
    }
    to
}

/// A vector of taps of a vector of elements.
struct Square<'a> {
    at_taps: &'a [AtTap; MOST_LANES],
    element: usize,
    /// The first tap of the first element.
    to: *mut f32,
    /// From an element to the next.
    taps: usize,
}

impl Square<'_> {
    /// Inside, and with room for a vector at each element.
    #[inline(always)]
    fn whole<S: Simd, const TAPS: usize>(&self, simd: S) {
        let mut rows = [simd.splat(0.0); MOST_LANES];
        for (row, at_tap) in rows.iter_mut().zip(self.at_taps).take(S::LANES.min(TAPS)) {
            // SAFETY: all elements are inside, or these are zeros.
            *row = unsafe { simd.load(at_tap.element(self.element)) };
        }
        simd.transpose(&mut rows);
        for (lane, row) in rows.iter().enumerate().take(S::LANES) {
            // SAFETY: there is room.
            unsafe { simd.store(self.to.wrapping_add(lane * self.taps), *row) };
        }
    }
}

/// So many taps of so many elements, some of which may be outside.
struct Cut<'a> {
    square: Square<'a>,
    size: [usize; 2],
}

impl Body for Cut<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Cut { square: Square { at_taps, element, to, taps }, size: [tap_count, count] } = self;
        let mut rows = [simd.splat(0.0); MOST_LANES];
        for (row, at_tap) in rows.iter_mut().zip(at_taps).take(tap_count) {
            let (start, end) = at_tap.inside(element, count);
            // SAFETY: these elements are inside, or zeros.
            *row = unsafe { simd.load_range(at_tap.element(element), start, end) };
        }
        simd.transpose(&mut rows);
        for (lane, row) in rows.iter().enumerate().take(count) {
            // SAFETY: taps that there are.
            unsafe { simd.store_first(to.wrapping_add(lane * taps), *row, tap_count) };
        }
    }
}
