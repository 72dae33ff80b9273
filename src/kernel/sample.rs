//! The samples of a deformable convolution, as columns: for each pixel and tap the channels side by
//! side, so that the layer is an ordinary convolution on them.
//!
//! ```text
//! for each pixel of the block
//!   for each offset group, tap
//!     four corners, their weights and the mask, once for all channels of the group
//!     outside: zeros
//!     channels side by side: sums of vectors         (rows that are held: held.rs)
//!     in planes: channel by channel                  (the others)
//! ```
//!
//! A corner that the input lacks is a zero and is not read.

use super::held::Rows;
use super::walk::Pixel;
use crate::element::Element;
use crate::numerics::{self, Between};
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;
use crate::simd::{Body, Simd};
use core::ops::Range;

/// A tensor that has values for each pixel of the output: offsets, or a mask.
#[derive(Clone, Copy)]
pub(crate) struct PerPixel {
    /// Of an image, or null.
    first: *const Element,
    /// From a value of a pixel to its next, and from a pixel to the next.
    value: usize,
    pixel: usize,
}

impl PerPixel {
    /// Of a tensor without gaps that has so many values.
    pub fn new(layout: Layout, first: *const Element, values: usize, geometry: &Geometry) -> Self {
        let [_, height, width] = geometry.output;
        let (value, pixel) = match layout {
            Layout::Nchw => (height * width, 1),
            Layout::Nhwc => (1, values),
        };
        PerPixel { first, value, pixel }
    }

    #[inline(always)]
    fn place(&self, pixel: usize, value: usize) -> *const Element {
        self.first.wrapping_add(pixel * self.pixel + value * self.value)
    }
}

/// Samples the inputs of some pixels of an image.
pub(crate) struct Sample<'a> {
    pub geometry: &'a Geometry,
    /// The channels of an offset group.
    pub per_offset_group: usize,
    /// All rows of the image; some of them, with channels side by side.
    pub image: &'a Rows,
    pub held: &'a Rows,
    pub offsets: PerPixel,
    pub mask: PerPixel,
    pub pixels: Range<usize>,
    pub channels: Range<usize>,
    /// The first pixel's first tap, at channel 0.
    pub columns: *mut Element,
}

/// The four corners of a sample, row by row: where the first channel lies, or null.
#[derive(Clone, Copy)]
struct Corners([*const Element; 4]);

/// How they become a sample.
#[derive(Clone, Copy)]
struct Blend {
    weights: [f32; 4],
    mask: f32,
}

impl Body for Sample<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Sample { geometry, per_offset_group, .. } = self;
        let columns = 0..geometry.output[2];
        let mut pixel = Pixel::of(geometry, self.pixels.start);
        let mut column = self.columns;
        for number in self.pixels.clone() {
            let start = pixel.window_start(geometry);
            let mut channel = self.channels.start;
            while channel < self.channels.end {
                let (group, _) = divide(channel, per_offset_group);
                let end = self.channels.end.min((group + 1) * per_offset_group);
                self.taps(simd, number, [start[1], start[2]], group, channel..end, column);
                channel = end;
            }
            pixel.next(geometry, &columns);
            column = column.wrapping_add(geometry.taps() * geometry.in_channels);
        }
    }
}

impl Sample<'_> {
    /// The taps of a pixel, in channels of one offset group.
    #[inline(always)]
    fn taps<S: Simd>(
        &self,
        simd: S,
        pixel: usize,
        [top, left]: [isize; 2],
        offset_group: usize,
        channels: Range<usize>,
        column: *mut Element,
    ) {
        let Geometry { in_channels, window, dilation, .. } = *self.geometry;
        let mut tap = offset_group * self.geometry.taps();
        let mut column = column.wrapping_add(channels.start);
        for kh in 0..window[1] {
            for kw in 0..window[2] {
                let place = [
                    top.wrapping_add((kh * dilation[1]) as isize),
                    left.wrapping_add((kw * dilation[2]) as isize),
                ];
                self.tap(simd, pixel, tap, place, &channels, column);
                tap += 1;
                column = column.wrapping_add(in_channels);
            }
        }
    }

    /// A tap of an offset group, counted through all groups, that is at `place` where it is not moved.
    #[inline(always)]
    fn tap<S: Simd>(
        &self,
        simd: S,
        pixel: usize,
        tap: usize,
        [y, x]: [isize; 2],
        channels: &Range<usize>,
        column: *mut Element,
    ) {
        let [_, height, width] = self.geometry.input;
        // SAFETY: there are two offsets for each pixel, tap and offset group.
        let (y, x) = unsafe {
            let [dy, dx] = [2 * tap, 2 * tap + 1].map(|value| *self.offsets.place(pixel, value));
            (numerics::deformed(y, dy), numerics::deformed(x, dx))
        };
        let count = channels.len();
        let (Some(rows), Some(columns)) = (Between::of(y, height), Between::of(x, width)) else {
            // SAFETY: the column of the tap has all channels.
            return unsafe { zeros(simd, column, count) };
        };
        let mask = if self.mask.first.is_null() {
            1.0
        } else {
            // SAFETY: there is a mask for each pixel, tap and offset group.
            unsafe { *self.mask.place(pixel, tap) }
        };
        let blend = Blend { weights: Between::weights(&rows, &columns), mask };
        if let Some(corners) = Corners::of(self.held, &rows, &columns, channels.start) {
            // SAFETY: corners that are not null have all channels, the column too.
            unsafe {
                if corners.are_inside() {
                    blend.vectors::<S, true>(simd, &corners, column, count);
                } else {
                    blend.vectors::<S, false>(simd, &corners, column, count);
                }
            }
        } else if let Some(corners) = Corners::of(self.image, &rows, &columns, channels.start) {
            // SAFETY: as above.
            unsafe { blend.one_by_one(&corners, self.image.channel, column, count) }
        } else {
            debug_assert!(false, "a row that the image lacks");
        }
    }
}

/// # Safety
/// So many elements can be written.
#[inline(always)]
unsafe fn zeros<S: Simd>(simd: S, column: *mut Element, count: usize) {
    let mut done = 0;
    while done < count {
        // SAFETY: as the caller vouches.
        unsafe { store(simd, column.wrapping_add(done), simd.splat(0.0), count - done) };
        done += S::LANES;
    }
}

/// Stores a vector, or as much of it as is left.
///
/// # Safety
/// So many elements can be written.
#[inline(always)]
unsafe fn store<S: Simd>(simd: S, to: *mut Element, v: S::V, left: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        if left >= S::LANES {
            simd.store(to, v);
        } else {
            simd.store_first(to, v, left);
        }
    }
}

impl Corners {
    /// `None` where the rows lack one that the input has.
    #[inline(always)]
    fn of(rows: &Rows, y: &Between, x: &Between, channel: usize) -> Option<Corners> {
        let ([top, bottom], [left, right]) = (y.places, x.places);
        let channel = channel * rows.channel;
        let corner = |row: Option<usize>, column: Option<usize>| match (row, column) {
            (Some(row), Some(column)) => Some(rows.pixel(row, column)?.wrapping_add(channel)),
            _ => Some(core::ptr::null()),
        };
        Some(Corners([
            corner(top, left)?,
            corner(top, right)?,
            corner(bottom, left)?,
            corner(bottom, right)?,
        ]))
    }

    #[inline(always)]
    fn are_inside(&self) -> bool {
        let [a, b, c, d] = self.0;
        !(a.is_null() || b.is_null() || c.is_null() || d.is_null())
    }
}

impl Blend {
    /// In the order of [`numerics::bilinear`], then times the mask.
    ///
    /// # Safety
    /// Corners, all of which are there if `INSIDE`, have `count` channels side by side; as many can be
    /// written to the column.
    #[inline(always)]
    unsafe fn vectors<S: Simd, const INSIDE: bool>(
        &self,
        simd: S,
        corners: &Corners,
        column: *mut Element,
        count: usize,
    ) {
        let [w1, w2, w3, w4] = self.weights.map(|weight| simd.splat(weight));
        let mask = simd.splat(self.mask);
        let [p1, p2, p3, p4] = corners.0;
        let mut done = 0;
        while done < count {
            let left = count - done;
            // SAFETY: as the caller vouches.
            unsafe {
                let v1 = corner::<S, INSIDE>(simd, p1, done, left);
                let v2 = corner::<S, INSIDE>(simd, p2, done, left);
                let v3 = corner::<S, INSIDE>(simd, p3, done, left);
                let v4 = corner::<S, INSIDE>(simd, p4, done, left);
                let upper = simd.add(simd.mul(w1, v1), simd.mul(w2, v2));
                let three = simd.add(upper, simd.mul(w3, v3));
                let sample = simd.add(three, simd.mul(w4, v4));
                store(simd, column.wrapping_add(done), simd.mul(sample, mask), left);
            }
            done += S::LANES;
        }
    }

    /// The same where channels are `stride` apart.
    ///
    /// # Safety
    /// Corners have `count` channels; as many can be written to the column.
    #[inline(always)]
    unsafe fn one_by_one(
        &self,
        corners: &Corners,
        stride: usize,
        column: *mut Element,
        count: usize,
    ) {
        let [w1, w2, w3, w4] = self.weights;
        let [p1, p2, p3, p4] = corners.0;
        for channel in 0..count {
            let read = |corner: *const Element| {
                if corner.is_null() {
                    return 0.0;
                }
                // SAFETY: as the caller vouches.
                unsafe { *corner.wrapping_add(channel * stride) }
            };
            let upper = w1 * read(p1) + w2 * read(p2);
            let sample = (upper + w3 * read(p3)) + w4 * read(p4);
            // SAFETY: as the caller vouches.
            unsafe { *column.wrapping_add(channel) = sample * self.mask };
        }
    }
}

/// The next channels of a corner, or zeros.
///
/// # Safety
/// A corner that is not null has the first `left` of them.
#[inline(always)]
unsafe fn corner<S: Simd, const INSIDE: bool>(
    simd: S,
    corner: *const Element,
    done: usize,
    left: usize,
) -> S::V {
    if !INSIDE && corner.is_null() {
        return simd.splat(0.0);
    }
    let from = corner.wrapping_add(done);
    // SAFETY: as the caller vouches.
    unsafe { if left >= S::LANES { simd.load(from) } else { simd.load_first(from, left) } }
}
