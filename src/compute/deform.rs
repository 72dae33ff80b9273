//! A deformable convolution, block by block: samples become columns, on which a convolution runs.
//!
//! ```text
//! for each block of pixels of an image           (whose columns half of the second-level cache holds)
//!   in planes: hold the rows that most of its taps read, channels last
//!   columns = the samples of each pixel, tap, channel
//!   a call of the kernel: a window of all taps, which lie side by side
//! ```
//!
//! The chain of an output is that of a convolution with the taps in a row, so panels are those of the
//! convolution with the same channels, groups and kernel. The samples of a tap have all channels side
//! by side in either layout, in which kernels read their input.

use super::direct;
use super::layer::{Extra, Layer, Options};
use super::operands::Operands;
use crate::element::Element;
use crate::error::{Error, Field};
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::held::{CopyRows, Rows, held_len, held_rows};
use crate::kernel::part::{Cut, Part, Wanted};
use crate::kernel::sample::{PerPixel, Sample};
use crate::kernel::{Caches, Kernel};
use crate::panels;
use crate::problem::Problem;
use crate::problem::arithmetic::{divide, mul, smaller, tri};
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::strides::{Layout, Strides};
use crate::simd::enter::enter;
use core::ops::Range;

/// The pixels of a block are a multiple of this: whole tiles of 4, 6 and 8.
const TILES: usize = 24;

/// The elements of a cache line, at which columns begin: vectors that straddle two are stored slowly.
const LINE: usize = 64 / size_of::<Element>();

/// A deformable convolution.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    let elements = problem.most_elements();
    let pixels = block_pixels(&problem.geometry, &options.caches);
    // As many as the weights are, or fewer.
    let per_pixel = problem.geometry.taps() * problem.geometry.in_channels;
    let columns_len = tri!(mul(per_pixel, pixels, elements, Field::Scratch));
    let held = held_len(&problem.geometry, rows_to_hold(&problem, pixels));
    // Planes of outputs are made by the dense kernel, which reads columns as they lie, in strips; of
    // narrow groups by the one that has channels in its lanes.
    let narrow = panels::is_narrow(&problem.geometry);
    let in_strips = matches!(problem.layout, Layout::Nchw) && !narrow;
    let forced = match options.forced {
        None if in_strips => Some(Kernel::Dense),
        forced => forced,
    };
    let mut block = columns(&problem, pixels);
    if narrow {
        block.layout = Layout::Nhwc;
    }
    let mut layer = tri!(Layer::new(problem, block, Some(compute), Options { forced, ..options }));
    layer.options = options;
    layer.cutter = Some(cut);
    let samples_len = columns_len.saturating_add(held).saturating_add(LINE - 1);
    layer.scratch_len = layer.scratch_len.saturating_add(samples_len);
    Ok(layer)
}

/// The pixels of an image.
const fn image_pixels(geometry: &Geometry) -> usize {
    geometry.output[1] * geometry.output[2]
}

/// How many pixels have their samples in scratch memory at a time: about as many as half of the
/// second-level cache holds, in blocks alike.
const fn block_pixels(geometry: &Geometry, caches: &Caches) -> usize {
    let pixel_bytes = geometry.taps() * geometry.in_channels * size_of::<Element>();
    let fitting = caches.second / 2 / pixel_bytes;
    let fitting = if fitting < TILES { TILES } else { fitting };
    let pixels = image_pixels(geometry);
    let alike = pixels.div_ceil(pixels.div_ceil(fitting));
    smaller(alike.next_multiple_of(TILES), pixels)
}

/// Of an image in planes.
const fn rows_to_hold(problem: &Problem, block: usize) -> usize {
    match problem.layout {
        Layout::Nchw => held_rows(&problem.geometry, block),
        Layout::Nhwc => 0,
    }
}

/// The convolution on the columns of a block of pixels.
const fn columns(problem: &Problem, pixels: usize) -> Problem {
    let mut columns = *problem;
    let taps = problem.geometry.taps();
    let geometry = &mut columns.geometry;
    geometry.batch = 1;
    geometry.input = [1, 1, pixels * taps];
    geometry.output = [1, 1, pixels];
    geometry.window = [1, 1, taps];
    geometry.stride = [1, 1, taps];
    geometry.dilation = [1; 3];
    geometry.padding = [0; 3];
    geometry.padded = false;
    geometry.operator = Operator::Convolution;
    let pixel = geometry.in_channels;
    columns.input = Strides { batch: 1, channel: 1, depth: 1, row: 1, pixel };
    columns.output = Strides { batch: 1, depth: 1, row: 1, ..columns.output };
    columns
}

/// Between pixels, then between panels: parts that share pixels would all sample them.
fn cut(layer: &Layer, whole: &Part, wanted: Wanted) -> Cut {
    const PANELS: usize = 4;
    const PIXELS: usize = 4 * TILES;
    let pixels = smaller(layer.simplest.geometry.pixels(), PIXELS);
    Cut::pixels_first(whole, wanted, PANELS, pixels)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart); there are offsets for each output, and masks if the
/// layer has any.
unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    extra: &Extra,
    part: &Part,
    scratch: &mut [Element],
) {
    let Layer { problem, .. } = layer;
    let geometry = &problem.geometry;
    let (weights, scratch) = direct::weights(layer, operands, part, scratch);
    let image_pixels = image_pixels(geometry);
    let mut done = part.pixels.start;
    while done < part.pixels.end {
        let (image, first) = divide(done, image_pixels);
        let pixels = first..image_pixels.min(first + part.pixels.end - done);
        done += pixels.len();
        let of_image = operands.moved(image * problem.input.batch, image * problem.output.batch);
        let mut extra = *extra;
        let masks = offset_sets(geometry) * image_pixels;
        extra.offsets = extra.offsets.wrapping_add(image * 2 * masks);
        if !extra.mask.is_null() {
            extra.mask = extra.mask.wrapping_add(image * masks);
        }
        // SAFETY: as the caller vouches.
        unsafe {
            compute_image(layer, &of_image, &extra, weights, pixels, &part.panels, scratch);
        }
    }
}

/// A part of an image, of which the operands are.
///
/// # Safety
/// As of [`compute`].
unsafe fn compute_image(
    layer: &Layer,
    operands: &Operands,
    extra: &Extra,
    weights: WeightSlice,
    pixels: Range<usize>,
    panels: &Range<usize>,
    scratch: &mut [Element],
) {
    let Layer { problem, simplest: block, .. } = layer;
    let geometry = &problem.geometry;
    let Operands { isa, input, bias, activation, .. } = *operands;
    let Extra { offsets, mask, .. } = *extra;
    let most = block.geometry.pixels();
    let per_pixel = geometry.taps() * geometry.in_channels;
    let skipped = scratch.as_ptr().align_offset(LINE * size_of::<Element>());
    let (_, scratch) = scratch.split_at_mut_checked(skipped).unwrap_or_default();
    let (columns, scratch) = scratch.split_at_mut_checked(most * per_pixel).unwrap_or_default();
    let room = rows_to_hold(problem, most);
    let (memory, scratch) =
        scratch.split_at_mut_checked(held_len(geometry, room)).unwrap_or_default();

    let lens = [columns.len(), memory.len()];
    debug_assert!(
        lens == [most * per_pixel, held_len(geometry, room)],
        "too little scratch memory"
    );

    let image = Rows::of_image(geometry, input, &problem.input);
    let mut held =
        if room == 0 { image.clone() } else { Rows::none(geometry, memory.as_mut_ptr(), room) };
    let channels = panels::in_channels(geometry, panels);
    let sets = offset_sets(geometry);
    let per_output = |first, values| PerPixel::new(problem.layout, first, values, geometry);
    let (offsets, mask) = (per_output(offsets, 2 * sets), per_output(mask, sets));
    let columns = columns.as_mut_ptr();
    let mut first = pixels.start;
    while first < pixels.end {
        // The last block is as long as the others, and done in part.
        let start = first.min(image_pixels(geometry) - most);
        let pixels = first..pixels.end.min(start + most);
        if room > 0 {
            let rows = held.move_to(geometry, &pixels);
            let (from, to, width) = (&image, &held, geometry.input[2]);
            let copy = CopyRows { from, to, rows, width, channels: channels.clone() };
            // SAFETY: the operands have the instruction set.
            unsafe { enter(isa, copy) };
        }
        let in_block = first - start..pixels.end - start;
        first = pixels.end;
        let sample = Sample {
            geometry,
            per_offset_group: per_offset_group(geometry),
            image: &image,
            held: &held,
            offsets,
            mask,
            pixels,
            channels: channels.clone(),
            columns: columns.wrapping_add(in_block.start * per_pixel),
        };
        let moved = operands.moved(0, start * problem.output.pixel);
        let outputs = Outputs::new(&block.output, moved.output, moved.residual, activation);
        let part = &Part { pixels: in_block, panels: panels.clone() };
        let input = columns.cast_const();
        // SAFETY: operands, weights and part are as the caller vouches, and the outputs of the block lie
        // in those of the image; the columns have room for all of the block, and those of the part's
        // pixels and channels are written before the kernel reads them; scratch memory suffices for
        // the schedule, which is that of a block.
        unsafe {
            enter(isa, sample);
            let call = Call::new(block, isa, input, weights, bias, &outputs, part, scratch);
            (layer.entry)(&call, &layer.schedule);
        }
    }
}

/// The samples of a pixel that have offsets of their own: of each offset group and tap.
fn offset_sets(geometry: &Geometry) -> usize {
    match geometry.operator {
        Operator::Deformable { offset_groups, .. } => offset_groups * geometry.taps(),
        _ => 0,
    }
}

/// The input channels of an offset group.
fn per_offset_group(geometry: &Geometry) -> usize {
    match geometry.operator {
        Operator::Deformable { offset_groups, .. } => divide(geometry.in_channels, offset_groups).0,
        _ => geometry.in_channels,
    }
}
