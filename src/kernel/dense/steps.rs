//! Where the steps along rows of taps read the input, as a table.

use crate::numerics::CHANNEL_BLOCK;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::HAS_VECTORS;

/// Where the steps along rows of taps read the input, from the first one: for as many rows as
/// there is room for, or for some taps of one.
pub(super) struct Steps {
    pub offsets: [isize; STEPS],
    /// The most taps along a row.
    pub taps: usize,
    pub rows: usize,
}

/// Three rows of three taps of a channel block, or one tap where the stack is small.
pub(super) const STEPS: usize = if HAS_VECTORS { 9 * CHANNEL_BLOCK } else { CHANNEL_BLOCK };

/// One for full channel blocks, one for the last. With room for one tap, the last block's is the
/// beginning of the other.
pub(super) const TABLES: usize = if HAS_VECTORS { 2 } else { 1 };

impl Steps {
    pub const NONE: Steps = Steps { offsets: [0; STEPS], taps: 0, rows: 0 };

    /// For a block of `channels`. Where there is one tap, blocks follow each other without a
    /// seam, and the table has as many channels as there is room for.
    #[inline(always)]
    pub fn fill(&mut self, geometry: &Geometry, strides: &Strides, channels: usize) {
        let to_channel = strides.channel as isize;
        let [_, to_row, to_tap] = tap_steps(geometry, strides);
        let channels = if geometry.taps() == 1 { STEPS } else { channels.max(1) };
        let taps = (STEPS / channels).min(geometry.window[2]);
        let whole_row = taps == geometry.window[2];
        let most_rows = if whole_row { divide(STEPS, taps * channels).0 } else { 1 };
        self.taps = taps;
        self.rows = most_rows.min(geometry.window[1]);
        let mut places = self.offsets.iter_mut();
        for row in 0..self.rows as isize {
            for tap in 0..taps as isize {
                let offset = to_row.wrapping_mul(row).wrapping_add(to_tap.wrapping_mul(tap));
                for (channel, place) in places.by_ref().take(channels).enumerate() {
                    *place = offset.wrapping_add(to_channel.wrapping_mul(channel as isize));
                }
            }
        }
    }
}

/// From a tap to the next along each axis, in the input.
#[inline(always)]
pub(super) fn tap_steps(geometry: &Geometry, strides: &Strides) -> [isize; 3] {
    let [depth, row, pixel] = geometry.dilation;
    [
        (depth as isize).wrapping_mul(strides.depth as isize),
        (row as isize).wrapping_mul(strides.row as isize),
        (pixel as isize).wrapping_mul(strides.pixel as isize),
    ]
}
