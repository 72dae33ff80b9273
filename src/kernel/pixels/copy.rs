//! A block's input, copied to where its channels do not collide.
//!
//! Channels whose planes are a multiple of a few KiB apart share the sets of a first-level cache:
//! it then holds fewer of them than a step needs. For layers wide enough to repay it, the part of
//! the input that a block of pixels sees is copied to scratch memory, with an odd number of cache
//! lines to each channel. The copy has the values and the coordinates of the input, so the kernel
//! is none the wiser.

use super::schedule::Schedule;
use crate::kernel::call::{Call, Input};
use crate::kernel::walk::{Pixel, input_offset};
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use core::ops::Range;

/// Where a block that begins at pixel `first` ends: within its row, or with whole rows of one
/// plane. What it sees fits `copied_channel`.
pub(super) fn block_end(
    geometry: &Geometry,
    schedule: &Schedule,
    first: usize,
    end: usize,
) -> usize {
    let [_, height, width] = geometry.output;
    let (_, column) = divide(first, width);
    let (count, limit) = if column > 0 || schedule.pixel_block < width {
        (schedule.pixel_block, first - column + width)
    } else {
        let plane = height * width;
        (divide(schedule.pixel_block, width).0 * width, first - divide(first, plane).1 + plane)
    };
    end.min(first + count).min(limit)
}

/// Copies what `pixels`, a block as of [`block_end`], see of the input: where its first element would
/// lie, and the strides.
///
/// # Safety
/// The schedule is that of the call's problem.
pub(super) unsafe fn copy_input(
    call: &Call,
    schedule: &Schedule,
    pixels: Range<usize>,
) -> (*const f32, Strides) {
    let geometry = call.geometry();
    let Input { first: input, strides: from } = call.input();
    let scratch = call.scratch();
    let (first, last) = (Pixel::of(geometry, pixels.start), Pixel::of(geometry, pixels.end - 1));
    let several_rows = first.at[1] < last.at[1];
    let mut region = [0..0, 0..0, 0..0];
    for (axis, range) in region.iter_mut().enumerate() {
        let (mut first, mut last) = (first.at[axis], last.at[axis]);
        if axis == 2 && several_rows {
            (first, last) = (0, geometry.output[2] - 1);
        }
        // What the windows from the first to the last place see, without the padding.
        let padding = geometry.padding[axis];
        let reach = geometry.reach(axis);
        let size = geometry.input[axis];
        let start = (first * geometry.stride[axis]).saturating_sub(padding).min(size);
        let end = (last * geometry.stride[axis] + reach + 1).saturating_sub(padding).min(size);
        *range = start..end.max(start);
    }
    let [depth, height, width] = &region;
    let to = Strides {
        batch: 0,
        channel: schedule.copied_channel,
        depth: height.len() * width.len(),
        row: width.len(),
        pixel: 1,
    };
    let image = input.wrapping_add(first.image * from.batch);
    for channel in 0..geometry.in_channels {
        let source = image.wrapping_add(channel * from.channel);
        let mut target = scratch.wrapping_add(channel * to.channel);
        for d in depth.clone() {
            for h in height.clone() {
                let row = input_offset(from, [d as isize, h as isize, width.start as isize]);
                let row = source.wrapping_offset(row);
                // SAFETY: these coordinates lie inside the input; `copied_channel` has
                // room for the region of any block.
                unsafe {
                    if from.pixel == 1 {
                        core::ptr::copy_nonoverlapping(row, target, width.len());
                    } else {
                        for w in 0..width.len() {
                            *target.wrapping_add(w) = *row.wrapping_add(w * from.pixel);
                        }
                    }
                }
                target = target.wrapping_add(width.len());
            }
        }
    }
    let origin = [depth.start as isize, height.start as isize, width.start as isize];
    (scratch.cast_const().wrapping_offset(-input_offset(&to, origin)), to)
}
