//! The pieces of an output in which two layers are computed one after the other, and the memory for
//! what lies between them.

use crate::element::Element;
use crate::kernel::Caches;
use crate::problem::Problem;
use crate::problem::arithmetic::{at_least_1, divide, smaller};
use crate::problem::geometry::Geometry;
use crate::problem::strides::{Layout, Strides};
use core::ops::Range;

/// Consecutive pixels that are computed at a time: whole rows, or a part of a long one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces {
    /// The most pixels of a piece.
    pub pixels: usize,
    /// Of a row of the output.
    width: usize,
    /// In the buffer, from a pixel to the next.
    pub pixel_step: usize,
    /// In the buffer, from a channel to the next.
    pub channel_step: usize,
    /// The elements of the buffer.
    pub buffer_len: usize,
}

impl Pieces {
    /// Of the outputs of a layer whose kernel takes so many rows together.
    pub const fn of(problem: &Problem, caches: &Caches, rows_together: usize) -> Pieces {
        let Geometry { out_channels: channels, output: [_, _, width], .. } = problem.geometry;
        let pixels = pixels(problem, caches, rows_together);
        let (pixel_step, channel_step, buffer_len) = match problem.layout {
            Layout::Nhwc => (channels, 1, pixels.saturating_mul(channels)),
            Layout::Nchw => (1, plane_len(pixels), channels.saturating_mul(plane_len(pixels))),
        };
        Pieces { pixels, width, pixel_step, channel_step, buffer_len }
    }

    /// Where a tensor lies whose pixels are those of a piece, counted from its first one.
    pub const fn strides(&self, [depth, height, width]: [usize; 3]) -> Strides {
        let row = self.pixel_step.wrapping_mul(width);
        let plane = row.wrapping_mul(height);
        Strides {
            batch: plane.wrapping_mul(depth),
            channel: self.channel_step,
            depth: plane,
            row,
            pixel: self.pixel_step,
        }
    }

    /// The piece that begins at the first of these pixels.
    pub fn first(&self, pixels: &Range<usize>) -> Range<usize> {
        let (_, column) = divide(pixels.start, self.width);
        // To the end of the row where pieces are parts of one, or where a part begins within.
        let most = if column > 0 || self.pixels < self.width {
            self.pixels.min(self.width - column)
        } else {
            self.pixels
        };
        pixels.start..pixels.end.min(pixels.start + most)
    }
}

/// From a channel to the next, of planes of so many pixels: an odd number of cache lines, so that
/// channels do not share the sets of a cache.
const fn plane_len(pixels: usize) -> usize {
    const LINE: usize = 64 / size_of::<Element>();
    if pixels <= LINE { pixels } else { (pixels.div_ceil(LINE) | 1) * LINE }
}

/// As many rows as a share of the second-level cache holds, alike; or parts of a row that is longer.
const fn pixels(problem: &Problem, caches: &Caches, rows_together: usize) -> usize {
    let Geometry { out_channels, output: [_, _, width], .. } = problem.geometry;
    let all = at_least_1(problem.geometry.pixels());
    let quarter = caches.second / 4 / size_of::<Element>() / out_channels;
    let fitting = match problem.layout {
        Layout::Nhwc => quarter,
        // Planes are copied with the rows around a piece: rather a larger one than several.
        Layout::Nchw if all / 3 <= quarter => all,
        Layout::Nchw => quarter.saturating_mul(2),
    };
    let (rows, fitting_rows) = (all.div_ceil(width), fitting / width);
    if fitting_rows == 0 {
        return width.div_ceil(width.div_ceil(at_least_1(fitting)));
    }
    if rows_together > 1 && rows_together <= quarter.saturating_mul(7) / 2 / width {
        let several = at_least_1(fitting_rows / rows_together) * rows_together;
        return smaller(several, rows) * width;
    }
    rows.div_ceil(rows.div_ceil(fitting_rows)) * width
}
