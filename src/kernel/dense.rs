//! Output channels in the lanes, the input broadcast: every layer whose groups fill a panel.
//!
//! A tile is a few pixels times a few vectors of output channels, held in registers. For each
//! step of the chain it loads the weights of its channels, which lie side by side in the panels,
//! and multiplies them by one input value per pixel, which is broadcast. That value is found by
//! an offset from the pixel's window, so strides, dilation, groups, dimensions and layouts are
//! all the same loop:
//!
//! ```text
//! for each block of pixels                     (as many as the second-level cache holds)
//!   for each tile of output channels           (1 to 4 vectors)
//!     for each segment of the chain            (weights that the second-level cache holds)
//!       for each tile of pixels                (as many as the registers hold)
//!         sums = bias, or the partial sums of the segment before
//!         for each channel block, kd, kh of the segment
//!           if some pixel has this row of taps inside the input
//!             for each kw inside, channel of the block: sums += x[pixel] * w   (outer product)
//!         store the partial sums, or finish the outputs; planes of channels strip by strip
//! ```
//!
//! Tiles are cut from columns whose windows have the same columns of taps inside the input, so
//! which kw to visit is known before the tile. A row of taps is tested for the whole tile at
//! once; where it lies inside for some of its pixels only, the others multiply by zero, which
//! leaves their sums as they are. The steps along rows of taps read the input at offsets from a
//! table: as many rows in a run as it holds, or a row in several parts. Where it holds a window, a
//! tile inside the input goes from table to table.

mod body;
mod outer_product;
pub(super) mod schedule;
mod steps;
mod sums;
mod tile;
pub(super) mod tiling;

pub(super) use schedule::Schedule;

use super::call::{Call, Input};
use super::finish::FinishStrip;
use super::walk::{Pixel, columns_alike, count_in_columns, even_piece, taps_inside};
use crate::numerics::CHANNEL_BLOCK;
use crate::panels::LANES_PER_PANEL;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::simd::{Body, HAS_VECTORS, Simd};
use body::enter_tile;
use core::ops::Range;
use schedule::WIDEST_TILE;
use steps::{Steps, TABLES};
use tile::{DenseTile, Segment};
use tiling::{most_pixels, most_vectors};

/// Where there is padding, rows of this many pixels are cut into tiles of their own, so that tiles
/// do not mix pixels of which some need a row of taps and others do not.
const OWN_TILES: usize = 5;

/// Over the part of a call. Scratch memory holds `sums_width` sums for each pixel of a block, where
/// the chain has several segments; for each of a strip, where outputs lie in planes.
pub(super) struct Walk<'a> {
    pub call: &'a Call<'a>,
    pub schedule: &'a Schedule,
}

/// Output channels of one group that share tiles.
struct TileChannels {
    group: usize,
    /// Within the group.
    first: usize,
    count: usize,
    vectors: usize,
}

impl Body for Walk<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let geometry = self.call.geometry();
        let strides = self.call.input().strides;
        let part = self.call.part();
        let Geometry { in_per_group, out_per_group, .. } = *geometry;
        let panels_per_group = out_per_group.div_ceil(LANES_PER_PANEL);
        let mut steps = [Steps::NONE; TABLES];
        steps[0].fill(geometry, strides, CHANNEL_BLOCK.min(in_per_group));
        if TABLES > 1 {
            steps[TABLES - 1].fill(geometry, strides, in_per_group % CHANNEL_BLOCK);
        }
        let mut first_pixel = part.pixels.start;
        while first_pixel < part.pixels.end {
            let end = part.pixels.end.min(first_pixel + self.schedule.pixel_block);
            let mut panel = part.panels.start;
            while panel < part.panels.end {
                let (group, _) = divide(panel, panels_per_group);
                let end_of_group = (group + 1) * panels_per_group;
                let end_panel = end_of_group.min(part.panels.end);
                let first_of_group = group * panels_per_group;
                let mut channel = (panel - first_of_group) * LANES_PER_PANEL;
                let end_channel =
                    ((end_panel - first_of_group) * LANES_PER_PANEL).min(out_per_group);
                while channel < end_channel {
                    // A tile is whole panels, or it stays within one.
                    let within = if most_vectors(S::FACTS) * S::LANES > LANES_PER_PANEL {
                        end_channel - channel
                    } else {
                        (end_channel - channel).min(LANES_PER_PANEL - channel % LANES_PER_PANEL)
                    };
                    let vectors = even_piece(within.div_ceil(S::LANES), most_vectors(S::FACTS));
                    let count = (vectors * S::LANES).min(within);
                    let channels = TileChannels { group, first: channel, count, vectors };
                    self.segments(simd, first_pixel..end, &channels, &steps);
                    channel += count;
                }
                panel = end_panel;
            }
            first_pixel = end;
        }
    }
}

impl Walk<'_> {
    /// The whole chain of a block of pixels and a tile of channels.
    #[inline(always)]
    fn segments<S: Simd>(
        &self,
        simd: S,
        pixels: Range<usize>,
        channels: &TileChannels,
        steps: &[Steps; TABLES],
    ) {
        let (call, schedule) = (self.call, self.schedule);
        let geometry = call.geometry();
        let Input { first, strides } = call.input();
        let Geometry { in_per_group, out_per_group, .. } = *geometry;
        let units = in_per_group.div_ceil(CHANNEL_BLOCK) * geometry.taps();
        let panels_per_group = out_per_group.div_ceil(LANES_PER_PANEL);
        let panel = channels.group * panels_per_group + channels.first / LANES_PER_PANEL;
        let group = channels.group * in_per_group * strides.channel;
        let mut segment = Segment {
            geometry,
            input: Input { first: first.wrapping_add(group), strides },
            sums_width: schedule.sums_width,
            weights: call.panel(panel).wrapping_add(channels.first % LANES_PER_PANEL),
            panel_len: geometry.chain() * LANES_PER_PANEL,
            full_blocks: &steps[0],
            last_block: &steps[TABLES - 1],
            taps: 0..0,
            units: 0,
            first_channel: 0,
            first_tap: 0,
            whole_windows: false,
            first: false,
            last: false,
            prefetches: false,
            in_strips: S::LANES > 1 && schedule.in_planes,
            bias: call.bias(),
            channels: channels.count,
            outputs: call.outputs(),
        };
        let first_channel = channels.group * out_per_group + channels.first;
        if !segment.bias.is_null() {
            segment.bias = segment.bias.wrapping_add(first_channel);
        }
        let channel_offset = first_channel * call.outputs().strides().channel;
        let sees_first = panel == call.part().panels.start;
        let taps = geometry.taps();
        // The weights of narrow tiles take less of the cache.
        let narrow = most_vectors(S::FACTS) * S::LANES <= WIDEST_TILE / 2;
        let most = if narrow { 2 * schedule.segment } else { schedule.segment };
        let mut first = 0;
        while first < units {
            let end = units.min(first + most);
            segment.units = end - first;
            let (block, tap) = divide(first, taps);
            segment.first_channel = block * CHANNEL_BLOCK;
            segment.first_tap = tap;
            segment.first = first == 0;
            segment.last = end == units;
            segment.prefetches = segment.first && segment.last && sees_first && schedule.prefetches;
            self.tiles(simd, pixels.clone(), channels.vectors, &mut segment, channel_offset);
            // The next segment's weights lie behind this one's.
            let steps = steps_before(geometry, end) - steps_before(geometry, first);
            segment.weights = segment.weights.wrapping_add(steps * LANES_PER_PANEL);
            first = end;
        }
    }

    /// A segment of the chain, for a block of pixels: columns whose windows are alike, then tiles.
    #[inline(always)]
    fn tiles<S: Simd>(
        &self,
        simd: S,
        pixels: Range<usize>,
        vectors: usize,
        segment: &mut Segment,
        channel_offset: usize,
    ) {
        let geometry = segment.geometry;
        let most = most_pixels(S::FACTS, vectors);
        let mut done = 0;
        let mut columns = 0..0;
        while columns.end < geometry.output[2] {
            columns = columns_alike(geometry, columns.end);
            let before = count_in_columns(geometry, &columns, pixels.start);
            let mut left = count_in_columns(geometry, &columns, pixels.end) - before;
            if left == 0 {
                continue;
            }
            let first_column =
                (columns.start * geometry.stride[2]).wrapping_sub(geometry.padding[2]);
            segment.taps = taps_inside(geometry, 2, first_column as isize);
            segment.whole_windows = HAS_VECTORS && segment.has_whole_windows();
            let segment = &*segment;
            let mut tile = DenseTile::of(segment);
            let by_rows = geometry.padded && columns.end - columns.start >= OWN_TILES;
            let mut next = Pixel::of(geometry, pixels.start);
            if next.at[2] >= columns.end {
                next.at[2] = columns.end - 1;
                next.next(geometry, &columns);
            }
            next.at[2] = next.at[2].max(columns.start);
            while left > 0 {
                let run = if by_rows { left.min(columns.end - next.at[2]) } else { left };
                let strip = if segment.in_strips {
                    let offset = next.output_offset(segment.outputs.strides());
                    strip_of(self.schedule.strip, offset, run)
                } else {
                    run
                };
                let first = if segment.first && segment.last { 0 } else { done };
                let sums = self.call.scratch().wrapping_add(first * segment.sums_width);
                let strip_start = next;
                let mut in_strip = 0;
                while in_strip < strip {
                    let count = even_piece(strip - in_strip, most);
                    tile.sums = sums.wrapping_add(in_strip * segment.sums_width);
                    tile.place(channel_offset, &mut next, count, &columns);
                    enter_tile(simd, &tile, vectors, count);
                    in_strip += count;
                }
                if const { S::LANES > 1 } && segment.in_strips && segment.last {
                    simd.enter(FinishStrip {
                        outputs: segment.outputs,
                        geometry,
                        sums,
                        sums_width: segment.sums_width,
                        channels: segment.channels,
                        channel_offset,
                        pixel: strip_start,
                        columns: &columns,
                        count: strip,
                    });
                }
                done += strip;
                left -= strip;
            }
        }
    }
}

/// The pixels of the next strip, of `run` pixels that begin `offset` elements into the output: to
/// the last place where a cache line may end, unless only a few would be left.
#[inline(always)]
fn strip_of(most: usize, offset: usize, run: usize) -> usize {
    const LINE: usize = 64 / size_of::<f32>();
    let long = run.min(most - offset % LINE);
    if long == run || run - long >= LINE { long } else { even_piece(run, most) }
}

/// The steps of the chain before a (channel block, tap) pair.
#[inline(always)]
fn steps_before(geometry: &Geometry, unit: usize) -> usize {
    let (block, tap) = divide(unit, geometry.taps());
    let channel = (block * CHANNEL_BLOCK).min(geometry.in_per_group);
    let channels = CHANNEL_BLOCK.min(geometry.in_per_group - channel);
    channel * geometry.taps() + tap * channels
}
