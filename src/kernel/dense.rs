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
//! table: as many rows in a run as it holds, or a row in several parts.

mod body;

use body::enter_tile;

use super::finish::{FinishStrip, MOST_PIXELS, Outputs};
use super::walk::{Pixel, columns_alike, count_in_columns, even_piece, input_offset, taps_inside};
use super::{Part, Task};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::LANES_PER_PANEL;
use crate::plan::{Plan, Strides, WIDEST_TILE};
use crate::shape::{Geometry, Layout, divide};
use crate::simd::{HAS_VECTORS, Kernel, Simd};
use core::ops::Range;

/// Where there is padding, rows of this many pixels are cut into tiles of their own, so that tiles
/// do not mix pixels of which some need a row of taps and others do not.
const OWN_TILES: usize = 5;

pub(super) struct Run<'a> {
    pub task: &'a Task<'a>,
    pub panels: &'a [f32],
    pub first_panel: usize,
    pub part: Part,
    /// `sums_width` sums for each pixel of a block, where the chain has several segments; for
    /// each of a strip, where the layout is planes of channels.
    pub scratch: *mut f32,
}

/// Output channels of one group that share tiles.
struct Channels {
    group: usize,
    /// Within the group.
    first: usize,
    count: usize,
    vectors: usize,
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = &self.task.plan;
        let geometry = &plan.geometry;
        let out_per_group = geometry.out_per_group();
        let panels_per_group = out_per_group.div_ceil(LANES_PER_PANEL);
        let in_per_group = geometry.in_per_group();
        let mut steps = [Steps::NONE; TABLES];
        steps[0].fill(geometry, &plan.input, CHANNEL_BLOCK.min(in_per_group));
        if TABLES > 1 {
            steps[TABLES - 1].fill(geometry, &plan.input, in_per_group % CHANNEL_BLOCK);
        }
        let mut first_pixel = self.part.pixels.start;
        while first_pixel < self.part.pixels.end {
            let end = self.part.pixels.end.min(first_pixel + plan.pixel_block);
            let mut panel = self.part.panels.start;
            while panel < self.part.panels.end {
                let (group, _) = divide(panel, panels_per_group);
                let end_of_group = (group + 1) * panels_per_group;
                let end_panel = end_of_group.min(self.part.panels.end);
                let first_of_group = group * panels_per_group;
                let mut channel = (panel - first_of_group) * LANES_PER_PANEL;
                let end_channel =
                    ((end_panel - first_of_group) * LANES_PER_PANEL).min(out_per_group);
                while channel < end_channel {
                    // A tile is whole panels, or it stays within one.
                    let within = if S::TILE_VECTORS * S::LANES > LANES_PER_PANEL {
                        end_channel - channel
                    } else {
                        (end_channel - channel).min(LANES_PER_PANEL - channel % LANES_PER_PANEL)
                    };
                    let vectors = even_piece(within.div_ceil(S::LANES), S::TILE_VECTORS);
                    let count = (vectors * S::LANES).min(within);
                    let channels = Channels { group, first: channel, count, vectors };
                    self.segments(simd, first_pixel..end, &channels, &steps);
                    channel += count;
                }
                panel = end_panel;
            }
            first_pixel = end;
        }
    }
}

impl Run<'_> {
    /// The whole chain of a block of pixels and a tile of channels.
    #[inline(always)]
    fn segments<S: Simd>(
        &self,
        simd: S,
        pixels: Range<usize>,
        channels: &Channels,
        steps: &[Steps; TABLES],
    ) {
        let task = self.task;
        let plan = &task.plan;
        let geometry = &plan.geometry;
        let in_per_group = geometry.in_per_group();
        let units = in_per_group.div_ceil(CHANNEL_BLOCK) * geometry.taps();
        let panel_len = geometry.chain() * LANES_PER_PANEL;
        let panels_per_group = geometry.out_per_group().div_ceil(LANES_PER_PANEL);
        let panel = channels.group * panels_per_group + channels.first / LANES_PER_PANEL;
        let mut layer = Layer {
            geometry,
            plan,
            input: task.input.wrapping_add(channels.group * in_per_group * plan.input.channel),
            weights: self
                .panels
                .as_ptr()
                .wrapping_add((panel - self.first_panel) * panel_len)
                .wrapping_add(channels.first % LANES_PER_PANEL),
            panel_len,
            full_blocks: &steps[0],
            last_block: &steps[TABLES - 1],
            taps: 0..0,
            units: 0,
            first_channel: 0,
            first_tap: 0,
            first: false,
            last: false,
            prefetches: false,
            in_strips: S::LANES > 1 && plan.layout == Layout::Nchw,
            bias: task.bias,
            channels: channels.count,
            outputs: &task.outputs,
        };
        let first_channel = channels.group * geometry.out_per_group() + channels.first;
        if !task.bias.is_null() {
            layer.bias = task.bias.wrapping_add(first_channel);
        }
        let channel_offset = first_channel * plan.output.channel;
        let sees_first = panel == self.part.panels.start;
        let taps = geometry.taps();
        // The weights of narrow tiles take less of the cache.
        let narrow = S::TILE_VECTORS * S::LANES <= WIDEST_TILE / 2;
        let segment = if narrow { 2 * plan.segment } else { plan.segment };
        let mut first = 0;
        while first < units {
            let end = units.min(first + segment);
            layer.units = end - first;
            let (block, tap) = divide(first, taps);
            layer.first_channel = block * CHANNEL_BLOCK;
            layer.first_tap = tap;
            layer.first = first == 0;
            layer.last = end == units;
            layer.prefetches = layer.first && layer.last && sees_first && plan.prefetches;
            self.tiles(simd, pixels.clone(), channels.vectors, &mut layer, channel_offset);
            // The next segment's weights lie behind this one's.
            let steps = steps_before(geometry, end) - steps_before(geometry, first);
            layer.weights = layer.weights.wrapping_add(steps * LANES_PER_PANEL);
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
        layer: &mut Layer,
        channel_offset: usize,
    ) {
        let geometry = layer.geometry;
        let most = S::TILE_PIXELS.get(vectors - 1).copied().unwrap_or(1);
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
            layer.taps = taps_inside(geometry, 2, first_column as isize);
            let layer = &*layer;
            let mut tile = Tile::of(layer);
            let by_rows = geometry.padded && columns.end - columns.start >= OWN_TILES;
            let mut next = Pixel::of(geometry, pixels.start);
            if next.at[2] >= columns.end {
                next.at[2] = columns.end - 1;
                next.next(geometry, &columns);
            }
            next.at[2] = next.at[2].max(columns.start);
            while left > 0 {
                let run = if by_rows { left.min(columns.end - next.at[2]) } else { left };
                let strip = if layer.in_strips {
                    let offset = next.output_offset(&self.task.plan.output);
                    strip_of(self.task.plan.strip, offset, run)
                } else {
                    run
                };
                let first = if layer.first && layer.last { 0 } else { done };
                let sums = self.scratch.wrapping_add(first * layer.plan.sums_width);
                let strip_start = next;
                let mut in_strip = 0;
                while in_strip < strip {
                    let count = even_piece(strip - in_strip, most);
                    tile.sums = sums.wrapping_add(in_strip * layer.plan.sums_width);
                    tile.place(self.task.plan, channel_offset, &mut next, count, &columns);
                    enter_tile(simd, &tile, vectors, count);
                    in_strip += count;
                }
                if S::LANES > 1 && layer.in_strips && layer.last {
                    simd.enter(FinishStrip {
                        outputs: layer.outputs,
                        plan: self.task.plan,
                        sums,
                        channels: layer.channels,
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
    let channel = (block * CHANNEL_BLOCK).min(geometry.in_per_group());
    let channels = CHANNEL_BLOCK.min(geometry.in_per_group() - channel);
    channel * geometry.taps() + tap * channels
}

/// What the tiles of a segment have in common.
struct Layer<'a> {
    geometry: &'a Geometry,
    plan: &'a Plan,
    /// At the first channel of the group.
    input: *const f32,
    /// At the first channel of the tile and the first step of the segment.
    weights: *const f32,
    panel_len: usize,
    full_blocks: &'a Steps,
    last_block: &'a Steps,
    /// The columns of taps that lie inside the input, for the columns of the output at hand.
    taps: Range<usize>,
    /// How many (channel block, tap) pairs the segment has, in the order of the chain.
    units: usize,
    /// The channel and the tap at which it begins.
    first_channel: usize,
    first_tap: usize,
    /// Whether the segment begins the chain, and whether it ends it.
    first: bool,
    last: bool,
    /// Whether these channels are the first to see an input that no cache may hold.
    prefetches: bool,
    /// Whether sums go to memory, for strips of pixels to be turned into rows of planes.
    in_strips: bool,
    /// At the first channel of the tile, or null.
    bias: *const f32,
    channels: usize,
    outputs: &'a Outputs,
}

/// A tile of pixels.
struct Tile<'a> {
    layer: &'a Layer<'a>,
    /// The offset of the first tap of each pixel.
    window: [isize; MOST_PIXELS],
    /// The depth and the height at which each window starts, where they are not all the same.
    start: [[isize; MOST_PIXELS]; 2],
    /// The taps along depth and height that lie inside the input for some pixel, or between such
    /// taps, and those that do for all.
    some: [Range<usize>; 2],
    all: [Range<usize>; 2],
    /// Where each pixel lies in the output, at the first channel of the tile.
    offsets: [usize; MOST_PIXELS],
    /// `sums_width` for each pixel, where the chain has several segments or pixels are finished
    /// in strips.
    sums: *mut f32,
}

/// Where the steps along rows of taps read the input, from the first one: for as many rows as
/// there is room for, or for some taps of one.
struct Steps {
    offsets: [isize; STEPS],
    /// The most taps along a row.
    taps: usize,
    rows: usize,
}

/// Three rows of three taps of a channel block, or one tap where the stack is small.
const STEPS: usize = if HAS_VECTORS { 9 * CHANNEL_BLOCK } else { CHANNEL_BLOCK };

/// One for full channel blocks, one for the last. With room for one tap, the last block's is the
/// beginning of the other.
const TABLES: usize = if HAS_VECTORS { 2 } else { 1 };

impl Steps {
    const NONE: Steps = Steps { offsets: [0; STEPS], taps: 0, rows: 0 };

    /// For a block of `channels`. Where there is one tap, blocks follow each other without a
    /// seam, and the table has as many channels as there is room for.
    #[inline(always)]
    fn fill(&mut self, geometry: &Geometry, strides: &Strides, channels: usize) {
        let to_channel = strides.channel as isize;
        let [_, to_row, to_tap] = tap_steps(geometry, strides);
        let channels = if geometry.taps() == 1 { STEPS } else { channels.max(1) };
        let taps = (STEPS / channels).min(geometry.kernel[2]);
        let whole_row = taps == geometry.kernel[2];
        let most_rows = if whole_row { divide(STEPS, taps * channels).0 } else { 1 };
        self.taps = taps;
        self.rows = most_rows.min(geometry.kernel[1]);
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
fn tap_steps(geometry: &Geometry, strides: &Strides) -> [isize; 3] {
    let [depth, row, pixel] = geometry.dilation;
    [
        (depth as isize).wrapping_mul(strides.depth as isize),
        (row as isize).wrapping_mul(strides.row as isize),
        (pixel as isize).wrapping_mul(strides.pixel as isize),
    ]
}

impl<'a> Tile<'a> {
    #[inline(always)]
    fn of(layer: &'a Layer<'a>) -> Tile<'a> {
        let [depth, height, _] = layer.geometry.kernel;
        Tile {
            layer,
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
    fn place(
        &mut self,
        plan: &Plan,
        channel_offset: usize,
        next: &mut Pixel,
        count: usize,
        columns: &Range<usize>,
    ) {
        let (geometry, strides) = (&plan.geometry, &plan.input);
        let to_window = geometry.stride[2].wrapping_mul(strides.pixel) as isize;
        let (mut least, mut most) = ([isize::MAX; 2], [isize::MIN; 2]);
        let mut pixel = 0;
        while pixel < count {
            // As many as are left in the row.
            let start = next.window_start(geometry);
            let image = next.image.wrapping_mul(strides.batch) as isize;
            let mut window = input_offset(strides, start).wrapping_add(image);
            let mut offset = next.output_offset(&plan.output) + channel_offset;
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
                offset = offset.wrapping_add(plan.output.pixel);
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

    /// For each pixel: all ones if the row of taps lies inside, else zero.
    #[inline(always)]
    fn masks<const PIXELS: usize>(&self, row: [usize; 2]) -> [isize; PIXELS] {
        let geometry = self.layer.geometry;
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
