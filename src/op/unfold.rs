//! Unfolding: each window of an image as a column, so that a convolution is a matrix product.

use super::windows::{Elements, Operation, Units, Window, WindowTiles, Windows, copy};
use crate::error::{Error, Field};
use crate::kernel::walk::{Pixel, places_inside, taps_inside};
use crate::problem::arithmetic::{divide, tri};
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
            Layout::Nchw => (rows_of_columns, windows.count()),
            Layout::Nhwc => (columns_of_windows, windows.rows()),
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

fn rows_of_columns(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let plane_len = geometry.input[1] * geometry.input[2];
    let (mut plane, tap) = divide(first, geometry.taps());
    let (mut kh, mut kw) = divide(tap, geometry.window[2]);
    let mut rest = y;
    while let Some(row) = rest.split_off_mut(..windows.count()).filter(|row| !row.is_empty()) {
        let of_plane = x.get(plane * plane_len..).unwrap_or_default();
        row_of_columns(geometry, of_plane, [kh, kw], row);
        kw += 1;
        if kw == geometry.window[2] {
            kw = 0;
            kh += 1;
            if kh == geometry.window[1] {
                kh = 0;
                plane += 1;
            }
        }
    }
}

fn row_of_columns(geometry: &Geometry, plane: &[f32], tap: [usize; 2], row: &mut [f32]) {
    let rows = places(geometry, 1, tap[0]);
    let columns = places(geometry, 2, tap[1]);
    let [_, height, width] = geometry.output;
    let mut rest = row;
    for h in 0..height {
        let Some(to) = rest.split_off_mut(..width) else { return };
        if !rows.contains(&h) {
            to.fill(0.0);
            continue;
        }
        let at = |axis: usize, place: usize| {
            place * geometry.stride[axis] + tap[axis - 1] * geometry.dilation[axis]
                - geometry.padding[axis]
        };
        let Some((left, to)) = to.split_at_mut_checked(columns.start) else { return };
        let Some((to, right)) = to.split_at_mut_checked(columns.len()) else { return };
        left.fill(0.0);
        if !columns.is_empty() {
            let from = at(1, h) * geometry.input[2] + at(2, columns.start);
            let from = plane.get(from..).unwrap_or_default();
            if geometry.stride[2] == 1 {
                copy(from, to);
            } else {
                let from = from.iter().step_by(geometry.stride[2].max(1));
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
        right.fill(0.0);
    }
}

/// The windows along an axis whose tap lies inside the image.
fn places(geometry: &Geometry, axis: usize, tap: usize) -> Range<usize> {
    let first = (tap * geometry.dilation[axis]) as isize - geometry.padding[axis] as isize;
    let (size, stride) = (geometry.input[axis] as isize, geometry.stride[axis]);
    places_inside(first, size, stride, geometry.output[axis])
}

fn columns_of_windows(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let channels = geometry.in_channels;
    let [_, height, width] = geometry.input;
    let taps = geometry.taps();
    let whole = 0..geometry.output[2];
    let mut pixel = Pixel::of(geometry, first);
    let mut rest = y;
    while let Some(column) = rest.split_off_mut(..windows.rows()).filter(|c| !c.is_empty()) {
        let start = pixel.window_start(geometry);
        let rows = taps_inside(geometry, 1, start[1]);
        let columns = taps_inside(geometry, 2, start[2]);
        if rows.len() * columns.len() < taps {
            column.fill(0.0);
        }
        let place = |axis: usize, tap: usize| {
            start[axis].wrapping_add((tap * geometry.dilation[axis]) as isize) as usize
        };
        for kh in rows {
            let row = (pixel.image * height + place(1, kh)) * width;
            for kw in columns.clone() {
                let from = (row + place(2, kw)) * channels;
                let from = x.get(from..).unwrap_or_default();
                let to = column.iter_mut().skip(kh * geometry.window[2] + kw).step_by(taps.max(1));
                for (to, from) in to.zip(from) {
                    *to = *from;
                }
            }
        }
        pixel.next(geometry, &whole);
    }
}
