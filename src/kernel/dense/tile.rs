//! A tile of pixels: where each of them reads and writes.

use super::steps::Steps;
use crate::kernel::call::Input;
use crate::kernel::finish::{MOST_PIXELS, Outputs};
use crate::kernel::walk::{Pixel, input_offset, taps_inside};
use crate::problem::arithmetic::remainder;
use crate::problem::geometry::Geometry;
use core::ops::Range;

/// What the tiles of a segment have in common.
pub(super) struct Segment<'a> {
    pub geometry: &'a Geometry,
    /// From the first channel of the group.
    pub input: Input<'a>,
    /// From a pixel to the next among sums in scratch memory.
    pub sums_width: usize,
    /// At the first channel of the tile and the first step of the segment.
    pub weights: *const f32,
    pub panel_len: usize,
    pub full_blocks: &'a Steps,
    pub last_block: &'a Steps,
    /// The columns of taps that lie inside the input, for the columns of the output at hand.
    pub taps: Range<usize>,
    /// How many (channel block, tap) pairs the segment has, in the order of the chain.
    pub units: usize,
    /// The channel and the tap at which it begins.
    pub first_channel: usize,
    pub first_tap: usize,
    /// Whether the segment is whole windows, of which all columns lie inside the input, and the tables
    /// hold one each.
    pub whole_windows: bool,
    /// Whether the segment begins the chain, and whether it ends it.
    pub first: bool,
    pub last: bool,
    /// Whether these channels are the first to see an input that no cache may hold.
    pub prefetches: bool,
    /// Whether sums go to memory, for strips of pixels to be turned into rows of planes.
    pub in_strips: bool,
    /// At the first channel of the tile, or null.
    pub bias: *const f32,
    pub channels: usize,
    pub outputs: &'a Outputs<'a>,
}

/// A tile of pixels.
pub(super) struct DenseTile<'a> {
    pub segment: &'a Segment<'a>,
    /// The offset of the first tap of each pixel.
    pub window: [isize; MOST_PIXELS],
    /// The depth and the height at which each window starts, where they are not all the same.
    pub start: [[isize; MOST_PIXELS]; 2],
    /// The taps along depth and height that lie inside the input for some pixel, or between such
    /// taps, and those that do for all.
    pub some: [Range<usize>; 2],
    pub all: [Range<usize>; 2],
    /// Where each pixel lies in the output, at the first channel of the tile.
    pub offsets: [usize; MOST_PIXELS],
    /// `sums_width` for each pixel, where the chain has several segments or pixels are finished
    /// in strips.
    pub sums: *mut f32,
}

impl Segment<'_> {
    /// What [`whole_windows`](Segment::whole_windows) says, once all else is known.
    #[inline(always)]
    pub fn has_whole_windows(&self) -> bool {
        let [depth, height, width] = self.geometry.window;
        let taps = self.geometry.taps();
        let whole = |steps: &Steps| steps.rows == height && steps.taps == width;
        // One tap has no seams to begin with.
        depth == 1
            && taps > 1
            && self.taps.len() == width
            && self.first_tap == 0
            && remainder(self.units, taps) == 0
            && whole(self.full_blocks)
            && whole(self.last_block)
    }

    /// Whether each four steps of a block of so many channels read neighbours.
    #[inline(always)]
    pub fn in_fours(&self, channels: usize) -> bool {
        // Blocks of one tap have no seams.
        let whole = self.geometry.taps() == 1 || channels.is_multiple_of(4);
        self.input.strides.channel == 1 && whole
    }
}

impl<'a> DenseTile<'a> {
    #[inline(always)]
    pub fn of(segment: &'a Segment<'a>) -> DenseTile<'a> {
        let [depth, height, _] = segment.geometry.window;
        DenseTile {
            segment,
            window: [0; MOST_PIXELS],
            start: [[0; MOST_PIXELS]; 2],
            some: [0..depth, 0..height],
            all: [0..depth, 0..height],
            offsets: [0; MOST_PIXELS],
            sums: core::ptr::null_mut(),
        }
    }

    /// Moves to the next `count` pixels.
    #[inline(always)]
    pub fn place(
        &mut self,
        channel_offset: usize,
        next: &mut Pixel,
        count: usize,
        columns: &Range<usize>,
    ) {
        let Segment { geometry, input: Input { strides, .. }, outputs, .. } = self.segment;
        let to = outputs.strides();
        let to_window = geometry.stride[2].wrapping_mul(strides.pixel) as isize;
        let (mut least, mut most) = ([isize::MAX; 2], [isize::MIN; 2]);
        let mut pixel = 0;
        while pixel < count {
            // As many as are left in the row.
            let start = next.window_start(geometry);
            let image = next.image.wrapping_mul(strides.batch) as isize;
            let mut window = input_offset(strides, start).wrapping_add(image);
            let mut offset = next.output_offset(to) + channel_offset;
            let end = count.min(pixel + columns.end - next.at[2]);
            next.at[2] += end - pixel;
            if MOST_PIXELS > 1 && end - pixel < count {
                for same in pixel..end {
                    self.start[0][same] = start[0];
                    self.start[1][same] = start[1];
                }
            }
            while pixel < end {
                self.window[pixel] = window;
                self.offsets[pixel] = offset;
                window = window.wrapping_add(to_window);
                offset = offset.wrapping_add(to.pixel);
                pixel += 1;
            }
            if next.at[2] == columns.end {
                next.at[2] = columns.end - 1;
                next.next(geometry, columns);
            }
            let mut axis = 0;
            while axis < 2 {
                least[axis] = least[axis].min(start[axis]);
                most[axis] = most[axis].max(start[axis]);
                axis += 1;
            }
        }
        if !geometry.padded {
            return;
        }
        let mut axis = 0;
        while axis < 2 {
            // A window further on has its first taps inside no later, and its last ones earlier.
            let of_least = taps_inside(geometry, axis, least[axis]);
            let of_most = if MOST_PIXELS == 1 {
                of_least.clone()
            } else {
                taps_inside(geometry, axis, most[axis])
            };
            self.some[axis] = of_most.start.min(of_least.start)..of_least.end.max(of_most.end);
            self.all[axis] = of_least.start.max(of_most.start)..of_most.end.min(of_least.end);
            axis += 1;
        }
    }

    /// Whether all rows of taps lie inside the input, for all pixels.
    #[inline(always)]
    pub fn is_inside(&self) -> bool {
        let [depth, height, _] = self.segment.geometry.window;
        self.all[0].len() == depth && self.all[1].len() == height
    }

    /// For each pixel: all ones if the row of taps lies inside, else zero.
    #[inline(always)]
    pub fn masks<const PIXELS: usize>(&self, row: [usize; 2]) -> [isize; PIXELS] {
        let geometry = self.segment.geometry;
        let mut masks = [-1; PIXELS];
        let mut axis = 0;
        while axis < 2 {
            let size = geometry.input[axis];
            let distance = (row[axis] * geometry.dilation[axis]) as isize;
            let start = &self.start[axis];
            let mut pixel = 0;
            while pixel < PIXELS {
                // A negative coordinate is a huge one.
                let inside = ((start[pixel] + distance) as usize) < size;
                masks[pixel] &= -(inside as isize);
                pixel += 1;
            }
            axis += 1;
        }
        masks
    }
}
