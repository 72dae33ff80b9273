//! An image with its channels side by side, where a sampler finds the four corners of a sample. Of an
//! image in planes some rows are copied so to scratch memory, and held there while pixels near them
//! are computed.
//!
//! ```text
//! rows of the image       ... 5 | 6  7  8  9 10 11 12 | 13 ...     held
//! scratch memory                7  8  9 10 11 12  6                row r at r modulo 7
//! ```
//!
//! As blocks of pixels go down the image, each row that comes in takes the place of one that is left
//! behind: it is copied once.

use super::walk::Pixel;
use crate::element::Element;
use crate::problem::arithmetic::{divide, quotient};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::{Body, MOST_LANES, Simd};
use core::ops::Range;

/// Beyond what the taps see that are not moved, so many rows on either side are held.
const MARGIN: usize = 4;

/// Rows of an image.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    first: *const Element,
    row: usize,
    pixel: usize,
    /// From a channel to the next.
    pub channel: usize,
    /// Those that are here.
    held: Range<usize>,
    /// As many as there is room for.
    room: usize,
    /// The number of the row that is in the first place, or would be.
    origin: usize,
}

impl Rows {
    /// All of an image that begins at `first`.
    pub fn of_image(geometry: &Geometry, first: *const Element, strides: &Strides) -> Rows {
        let Strides { channel, row, pixel, .. } = *strides;
        let height = geometry.input[1];
        Rows { first, row, pixel, channel, held: 0..height, room: height, origin: 0 }
    }

    /// None as yet, in memory for [`held_len`] elements.
    pub fn none(geometry: &Geometry, memory: *const Element, room: usize) -> Rows {
        let pixel = geometry.in_channels;
        let row = geometry.input[2] * pixel;
        Rows { first: memory, row, pixel, channel: 1, held: 0..0, room, origin: 0 }
    }

    /// Where a pixel has its first channel, if the row is held.
    #[inline(always)]
    pub fn pixel(&self, row: usize, column: usize) -> Option<*const Element> {
        if !self.held.contains(&row) {
            return None;
        }
        let place = row - self.origin;
        let place = if place < self.room { place } else { place - self.room };
        Some(self.first.wrapping_add(place * self.row + column * self.pixel))
    }

    /// Moves on to the rows near which these pixels of the image are sampled: those that it now has to
    /// be given.
    pub fn move_to(&mut self, geometry: &Geometry, pixels: &Range<usize>) -> Range<usize> {
        let top = Pixel::of(geometry, pixels.start).window_start(geometry)[1];
        let above = usize::try_from(top).unwrap_or(0).saturating_sub(MARGIN);
        let start = above.min(geometry.input[1] - self.room);
        let held = start..start + self.room;
        let new = if self.held.contains(&start) { self.held.end } else { start };
        self.origin = start - divide(start, self.room).1;
        self.held = held;
        new..self.held.end
    }
}

/// How many rows are held for blocks of so many pixels: what their windows see, one more because
/// samples are between rows, and the margins.
pub(crate) const fn held_rows(geometry: &Geometry, pixels: usize) -> usize {
    let [_, height, width] = geometry.output;
    // The first pixel may be the last of its row.
    let rows = 1 + quotient(pixels + width - 2, width);
    let rows = if rows < height { rows } else { height };
    let seen = (rows - 1).saturating_mul(geometry.stride[1]).saturating_add(geometry.reach(1) + 2);
    let wanted = seen.saturating_add(2 * MARGIN);
    if wanted < geometry.input[1] { wanted } else { geometry.input[1] }
}

/// The elements that so many rows take, of a layer whose input is addressable.
pub(crate) const fn held_len(geometry: &Geometry, rows: usize) -> usize {
    rows * geometry.input[2] * geometry.in_channels
}

/// Copies rows of planes to where their pixels are held.
pub(crate) struct CopyRows<'a> {
    pub from: &'a Rows,
    pub to: &'a Rows,
    pub rows: Range<usize>,
    pub width: usize,
    pub channels: Range<usize>,
}

impl Body for CopyRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows.clone() {
            let (Some(from), Some(to)) = (self.from.pixel(row, 0), self.to.pixel(row, 0)) else {
                debug_assert!(false, "a row that is not held");
                return;
            };
            let mut channel = self.channels.start;
            while channel < self.channels.end {
                let channels = S::LANES.min(self.channels.end - channel);
                let from = from.wrapping_add(channel * self.from.channel);
                let to = to.wrapping_add(channel);
                self.channels(simd, from, to.cast_mut(), channels);
                channel += channels;
            }
        }
    }
}

impl CopyRows<'_> {
    /// A row of a vector of channels.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, from: *const Element, to: *mut Element, channels: usize) {
        let mut column = 0;
        while column < self.width {
            let columns = S::LANES.min(self.width - column);
            let mut square = [simd.splat(0.0); MOST_LANES];
            for (channel, line) in square.iter_mut().enumerate().take(channels) {
                let from = from.wrapping_add(channel * self.from.channel + column);
                // SAFETY: `from` holds the row, of which these are columns.
                *line = unsafe {
                    if columns == S::LANES {
                        simd.load(from)
                    } else {
                        simd.load_first(from, columns)
                    }
                };
            }
            simd.transpose(&mut square);
            for (at, pixel) in square.iter().enumerate().take(columns) {
                let to = to.wrapping_add((column + at) * self.to.pixel);
                // SAFETY: `to` holds the row, with all channels of each pixel.
                unsafe {
                    if channels == S::LANES {
                        simd.store(to, *pixel);
                    } else {
                        simd.store_first(to, *pixel, channels);
                    }
                }
            }
            column += columns;
        }
    }
}
