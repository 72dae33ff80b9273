//! Unfolding: each window of an image as a column, so that a convolution is a matrix product.

use super::windows::{Elements, Operation, Units, Window, WindowTiles, Windows, copy};
use crate::error::{Error, Field};
use crate::kernel::walk::{Pixel, places_inside, taps_inside};
use crate::problem::arithmetic::{at_least_1, divide, tri};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;
use core::ops::Range;

/// `torch.nn.Unfold`, also called im2col: each window of an image as a column.
///
/// A column has `channels * kernel` rows: the channels, in each of them the taps along the height,
/// in each of these the taps along the width. The columns of an image are its windows, row by row.
/// In [`Layout::Nchw`] an output is `[batch, rows, windows]`, as PyTorch's; in [`Layout::Nhwc`] a
/// window's column lies together, `[batch, windows, rows]`, its rows in the same order.
///
/// Values are copied as they are, bit by bit; padding is zeros. Nothing is checked before
/// [`Unfold2d::plan`].
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.Unfold.html>.
///
/// ```
/// use tapwise::{Layout, Unfold2d, UnfoldPlan};
/// const PLAN: UnfoldPlan = match Unfold2d::new([2, 2]).plan(Layout::Nchw, 1, 1, [2, 3]) {
///     Ok(plan) => plan,
///     Err(error) => error.panic(), // when it is compiled
/// };
/// assert_eq!(PLAN.output_shape(), [1, 4, 2]);
/// let mut y = [0.0; PLAN.output_len()];
/// PLAN.run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut y)?;
/// assert_eq!(y, [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfold2d {
    window: Window,
}

impl Unfold2d {
    /// Dilation 1, no padding, stride 1.
    pub const fn new(kernel: [usize; 2]) -> Self {
        Unfold2d { window: Window::new(kernel) }
    }

    /// The distance of the taps, per axis; at least 1, irrelevant where the kernel is 1.
    pub const fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// As many zeros on either side of each axis.
    pub const fn padding(mut self, padding: [usize; 2]) -> Self {
        self.window.padding = padding;
        self
    }

    /// The step of the window, per axis; at least 1.
    pub const fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// On `batch` images of that `size`. A batch of 0 has an empty output.
    ///
    /// # Errors
    /// Naming the field: channels, kernel, stride, dilation or size of 0; a window that exceeds the
    /// padded input; sizes of tensors that the target cannot address.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        channels: usize,
        size: [usize; 2],
    ) -> Result<UnfoldPlan, Error> {
        self.plan_within(layout, batch, channels, size, isize::MAX as usize)
    }

    /// [`Unfold2d::plan`] for a target whose objects have at most `limit` bytes.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        channels: usize,
        size: [usize; 2],
        limit: usize,
    ) -> Result<UnfoldPlan, Error> {
        let (image, columns) = (Field::InputElements, Field::OutputElements);
        let elements = Elements { image, columns, limit };
        let windows = tri!(self.window.on(layout, batch, channels, size, &elements));
        let (units, unit_len): (Units, usize) = match layout {
            Layout::Nchw => (each_block, windows.block_len()),
            Layout::Nhwc => (each_column, windows.rows()),
        };
        Ok(UnfoldPlan {
            operation: Operation {
                windows,
                units,
                unit_len,
                input_len: windows.image_len,
                output_len: windows.columns_len,
            },
        })
    }
}

/// An [`Unfold2d`] on images of one shape and layout: plain data, which can be a `const`.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct UnfoldPlan {
    operation: Operation,
}

impl UnfoldPlan {
    /// Writes the columns of `x` to `y`. Both may be longer than [`input_len`](Self::input_len) and
    /// [`output_len`](Self::output_len); what was written is given back.
    ///
    /// # Errors
    /// Slices that are too short. The output is then untouched.
    pub fn run<'y>(&self, x: &[f32], y: &'y mut [f32]) -> Result<&'y mut [f32], Error> {
        self.operation.run(x, y)
    }

    /// Cuts the output into at most `count` disjoint tiles (at least 1) of about equal work, for
    /// threads to share.
    ///
    /// ```
    /// use tapwise::{Layout, Unfold2d};
    /// let plan = Unfold2d::new([3, 3]).padding([1, 1]).plan(Layout::Nhwc, 1, 8, [6, 6])?;
    /// let (x, mut y) = (vec![1.0; plan.input_len()], vec![0.0; plan.output_len()]);
    /// std::thread::scope(|threads| {
    ///     for tile in plan.tiles(&x, &mut y, 2).unwrap() {
    ///         threads.spawn(move || tile.run());
    ///     }
    /// });
    /// assert_eq!(y.iter().sum::<f32>(), 16.0 * 16.0 * 8.0); // 16 rows and columns of taps inside
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`UnfoldPlan::run`].
    pub fn tiles<'a>(
        &'a self,
        x: &'a [f32],
        y: &'a mut [f32],
        count: usize,
    ) -> Result<WindowTiles<'a>, Error> {
        self.operation.tiles(x, y, count)
    }

    /// The elements of the input.
    pub const fn input_len(&self) -> usize {
        self.operation.input_len
    }

    /// The elements of the output.
    pub const fn output_len(&self) -> usize {
        self.operation.output_len
    }

    /// `[batch, channels, height, width]`, channels last `[batch, height, width, channels]`.
    pub const fn input_shape(&self) -> [usize; 4] {
        self.operation.windows.image_shape()
    }

    /// `[batch, rows, windows]`, channels last `[batch, windows, rows]`.
    pub const fn output_shape(&self) -> [usize; 3] {
        self.operation.windows.columns_shape()
    }

    pub(crate) const fn windows(&self) -> &Windows {
        &self.operation.windows
    }
}

/// In planes a unit is all rows of columns of a channel and a row of taps. Such a block is what the one
/// of an earlier row of taps holds, some windows' rows up, so most of it is a copy of that:
///
/// ```text
/// for each channel, kh
///   copy the block of kh - again, from `up` rows of windows on          (if there is one)
///   for each kw: the last `up` rows of windows from the image           (or all of them)
/// ```
fn each_block(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.output;
    let block_len = windows.block_len();
    let plane_len = geometry.input[1] * geometry.input[2];
    let (again, up) = repetition(geometry, 1);
    let (mut plane, mut kh) = divide(first, geometry.window[1]);
    let mut at = 0;
    while at < y.len() {
        let Some((done, rest)) = y.split_at_mut_checked(at) else { return };
        let Some(block) = rest.get_mut(..block_len) else { return };
        let of_plane = x.get(plane * plane_len..).unwrap_or_default();
        let mut fresh = 0;
        if kh >= again
            && up < height
            && let Some(earlier) = at.checked_sub(again * block_len)
        {
            let earlier = done.get(earlier..earlier + block_len).unwrap_or_default();
            copy(earlier.get(up * width..).unwrap_or_default(), block);
            fresh = height - up;
        }
        let inside = places(geometry, 1, kh);
        let start = inside.start.max(fresh).min(height);
        let inside = start..inside.end.max(start);
        let mut block = block;
        let mut kw = 0;
        while let Some(row) = block.split_off_mut(..windows.count()).filter(|row| !row.is_empty()) {
            row_of_columns(geometry, of_plane, [kh, kw], fresh, &inside, row);
            kw += 1;
        }
        at += block_len;
        kh += 1;
        if kh == geometry.window[1] {
            kh = 0;
            plane += 1;
        }
    }
}

/// After how many taps along an axis there are the same places of the image again, and for windows
/// that are how far apart.
fn repetition(geometry: &Geometry, axis: usize) -> (usize, usize) {
    let (stride, dilation) = (geometry.stride[axis], geometry.dilation[axis]);
    for taps in 1..geometry.window[axis] {
        let (windows, rest) = divide(taps * dilation, stride);
        if rest == 0 {
            return (taps, windows);
        }
    }
    (geometry.window[axis], 0)
}

/// The windows in the rows from `fresh` on, from the image: those `inside` with zeros left and right,
/// zeros above and below.
fn row_of_columns(
    geometry: &Geometry,
    plane: &[f32],
    tap: [usize; 2],
    fresh: usize,
    inside: &Range<usize>,
    row: &mut [f32],
) {
    let width = geometry.output[2];
    let Some((row, below)) = row.split_at_mut_checked(inside.end * width) else { return };
    let Some((above, row)) = row.split_at_mut_checked(inside.start * width) else { return };
    above.get_mut(fresh * width..).unwrap_or_default().fill(0.0);
    below.fill(0.0);
    if row.is_empty() {
        return;
    }
    let columns = places(geometry, 2, tap[1]);
    if columns.is_empty() {
        row.fill(0.0);
        return;
    }
    let place = |axis: usize, window: usize| {
        window * geometry.stride[axis] + tap[axis - 1] * geometry.dilation[axis]
            - geometry.padding[axis]
    };
    let from = place(1, inside.start) * geometry.input[2] + place(2, columns.start);
    let plane = plane.get(from..).unwrap_or_default();
    if geometry.stride == [1; 3] && geometry.input[2] == width {
        // Rows are as long as those of the image: what would be left and right of it lies in others.
        let end = row.len() - (width - columns.end);
        copy(plane, row.get_mut(columns.start..end).unwrap_or_default());
    } else {
        let step = geometry.stride[1] * geometry.input[2];
        for (number, row) in row.chunks_exact_mut(at_least_1(width)).enumerate() {
            let from = plane.get(number * step..).unwrap_or_default();
            let Some(to) = row.get_mut(columns.clone()) else { return };
            copy_strided(from, geometry.stride[2], to);
        }
    }
    clear_columns(row, width, 0..columns.start);
    clear_columns(row, width, columns.end..width);
}

/// Copies elements that are so far apart.
#[inline(always)]
fn copy_strided(from: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        1 => copy(from, to),
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            // Of the last pair there may be one element.
            if let (Some(to), Some(last)) = (to.get_mut(pairs.len()), rest.first()) {
                *to = *last;
            }
            for (to, [from, _]) in to.iter_mut().zip(pairs) {
                *to = *from;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(at_least_1(stride))) {
                *to = *from;
            }
        }
    }
}

/// Zeros in some columns of rows.
fn clear_columns(rows: &mut [f32], width: usize, columns: Range<usize>) {
    if columns.len() > 4 {
        for row in rows.chunks_exact_mut(at_least_1(width)) {
            if let Some(row) = row.get_mut(columns.clone()) {
                row.fill(0.0);
            }
        }
    } else {
        // Few in many rows: a call for each would take longer.
        for column in columns {
            let from_column = rows.get_mut(column..).unwrap_or_default();
            for row in from_column.chunks_mut(at_least_1(width)) {
                if let Some(value) = row.first_mut() {
                    *value = 0.0;
                }
            }
        }
    }
}

/// The windows along an axis whose tap lies inside the image.
fn places(geometry: &Geometry, axis: usize, tap: usize) -> Range<usize> {
    let first = (tap * geometry.dilation[axis]) as isize - geometry.padding[axis] as isize;
    let (size, stride) = (geometry.input[axis] as isize, geometry.stride[axis]);
    places_inside(first, size, stride, geometry.output[axis])
}

/// Channels last, a unit is the column of a window. In a row of windows a column is the one of an
/// earlier window, some taps on, so most of it is a copy of that:
///
/// ```text
/// for each window
///   copy the column of the window `back` before it, from `again` taps on       (if there is one)
///   for each kh, for the last `again` kw: the channels from the image          (or for all)
/// ```
fn each_column(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let column_len = windows.rows();
    let [_, _, kernel_width] = geometry.window;
    let (again, back) = repetition(geometry, 2);
    let whole_row = 0..geometry.output[2];
    let mut pixel = Pixel::of(geometry, first);
    let mut at = 0;
    while at < y.len() {
        let Some((done, rest)) = y.split_at_mut_checked(at) else { return };
        let Some(column) = rest.get_mut(..column_len) else { return };
        let mut fresh = 0..kernel_width;
        if again < kernel_width
            && pixel.at[2] >= back
            && let Some(earlier) = at.checked_sub(back * column_len)
        {
            let earlier = done.get(earlier..earlier + column_len).unwrap_or_default();
            copy(earlier.get(again..).unwrap_or_default(), column);
            fresh.start = kernel_width - again;
        }
        taps_of_column(windows, x, &pixel, fresh, column);
        at += column_len;
        pixel.next(geometry, &whole_row);
    }
}

/// The columns of taps `fresh` of a window, from the image, or zeros for padding.
fn taps_of_column(
    windows: &Windows,
    x: &[f32],
    pixel: &Pixel,
    fresh: Range<usize>,
    column: &mut [f32],
) {
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.input;
    let [_, kernel_height, kernel_width] = geometry.window;
    let start = pixel.window_start(geometry);
    let rows = taps_inside(geometry, 1, start[1]);
    let columns = taps_inside(geometry, 2, start[2]);
    let place = |axis: usize, tap: usize| {
        start[axis].wrapping_add((tap * geometry.dilation[axis]) as isize) as usize
    };
    for kh in 0..kernel_height {
        for kw in fresh.clone() {
            let tap = kh * kernel_width + kw;
            let channels = column.chunks_exact_mut(at_least_1(geometry.taps()));
            if rows.contains(&kh) && columns.contains(&kw) {
                let row = pixel.image * height + place(1, kh);
                let from = (row * width + place(2, kw)) * geometry.in_channels;
                let from = x.get(from..).unwrap_or_default();
                for (channel, from) in channels.zip(from) {
                    if let Some(to) = channel.get_mut(tap) {
                        *to = *from;
                    }
                }
            } else {
                channels.filter_map(|channel| channel.get_mut(tap)).for_each(|to| *to = 0.0);
            }
        }
    }
}
