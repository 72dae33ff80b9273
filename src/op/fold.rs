//! Folding: the columns of windows added up to an image, the adjoint of [unfolding](super::unfold).

use super::windows::{Elements, Operation, Units, Window, WindowTiles, Windows};
use crate::error::{Error, Field};
use crate::kernel::walk::places_inside;
use crate::numerics::canonical;
use crate::problem::arithmetic::{at_least_1, divide};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

/// `torch.nn.Fold`, also called col2im: columns of windows added up to an image. It is the adjoint of
/// [`Unfold2d`](crate::Unfold2d), whose output has the shape of its input.
///
/// Each element of the image is the sum of the columns' elements that [`Unfold2d`](crate::Unfold2d)
/// would have copied from it, in the order of their rows; [`crate::numerics`] has it to the bit. Sums
/// that belong to the padding are dropped. Nothing is checked before [`Fold2d::plan`].
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.Fold.html>.
///
/// ```
/// use tapwise::{Fold2d, FoldPlan, Layout};
/// const PLAN: FoldPlan = match Fold2d::new([2, 2]).plan(Layout::Nchw, 1, 1, [2, 3]) {
///     Ok(plan) => plan,
///     Err(error) => error.panic(), // when it is compiled
/// };
/// assert_eq!(PLAN.input_shape(), [1, 4, 2]);
/// let mut y = [0.0; PLAN.output_len()];
/// PLAN.run(&[1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0], &mut y)?;
/// assert_eq!(y, [1.0, 4.0, 3.0, 4.0, 10.0, 6.0]); // the middle is in both windows
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold2d {
    window: Window,
}

impl Fold2d {
    /// Dilation 1, no padding, stride 1. PyTorch's `output_size` is the `size` of [`Fold2d::plan`].
    pub const fn new(kernel: [usize; 2]) -> Self {
        Fold2d { window: Window::new(kernel) }
    }

    /// The distance of the taps, per axis; at least 1, irrelevant where the kernel is 1.
    pub const fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// As much padding on either side of each axis, which is not part of the output.
    pub const fn padding(mut self, padding: [usize; 2]) -> Self {
        self.window.padding = padding;
        self
    }

    /// The step of the window, per axis; at least 1.
    pub const fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// To `batch` images of that `size`, the output's. A batch of 0 has an empty output.
    ///
    /// # Errors
    /// Naming the field: channels, kernel, stride, dilation or size of 0; a window that exceeds the
    /// padded output; sizes of tensors that the target cannot address.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        channels: usize,
        size: [usize; 2],
    ) -> Result<FoldPlan, Error> {
        self.plan_within(layout, batch, channels, size, isize::MAX as usize)
    }

    /// [`Fold2d::plan`] for a target whose objects have at most `limit` bytes.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        channels: usize,
        size: [usize; 2],
        limit: usize,
    ) -> Result<FoldPlan, Error> {
        let (image, columns) = (Field::OutputElements, Field::InputElements);
        let elements = Elements { image, columns, limit };
        let windows = match self.window.on(layout, batch, channels, size, &elements) {
            Ok(windows) => windows,
            Err(error) => return Err(of_output(error)),
        };
        let (units, unit_len): (Units, usize) = match layout {
            Layout::Nchw => (each_run, windows.geometry.input[2]),
            Layout::Nhwc => (each_pixel, windows.geometry.in_channels),
        };
        Ok(FoldPlan {
            operation: Operation {
                windows,
                units,
                unit_len,
                input_len: windows.columns_len,
                output_len: windows.image_len,
                isa: None,
            },
        })
    }
}

/// The image is the output.
const fn of_output(error: Error) -> Error {
    match error.field() {
        Field::InputSize(axis) => {
            Error::new(Field::OutputSize(axis), error.expected(), error.found())
        }
        _ => error,
    }
}

/// A [`Fold2d`] to images of one shape and layout: plain data, which can be a `const`.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct FoldPlan {
    operation: Operation,
}

impl FoldPlan {
    /// Adds up the columns `x` to images `y`. Both may be longer than [`input_len`](Self::input_len)
    /// and [`output_len`](Self::output_len); what was written is given back. What `y` held does not
    /// matter.
    ///
    /// # Errors
    /// Slices that are too short. The output is then untouched.
    pub fn run<'y>(&self, x: &[f32], y: &'y mut [f32]) -> Result<&'y mut [f32], Error> {
        self.operation.run(x, y)
    }

    /// Cuts the output into at most `count` disjoint tiles (at least 1) of about equal work, for
    /// threads to share. The cut does not change a bit.
    ///
    /// ```
    /// use tapwise::{Fold2d, Layout};
    /// let plan = Fold2d::new([3, 3]).padding([1, 1]).plan(Layout::Nhwc, 1, 8, [6, 6])?;
    /// let (x, mut y) = (vec![1.0; plan.input_len()], vec![0.0; plan.output_len()]);
    /// std::thread::scope(|threads| {
    ///     for tile in plan.tiles(&x, &mut y, 2).unwrap() {
    ///         threads.spawn(move || tile.run());
    ///     }
    /// });
    /// assert_eq!((y[0], y[7 * 8]), (4.0, 9.0)); // windows that contain a corner, and an inner pixel
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`FoldPlan::run`].
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

    /// `[batch, rows, windows]`, channels last `[batch, windows, rows]`.
    pub const fn input_shape(&self) -> [usize; 3] {
        self.operation.windows.columns_shape()
    }

    /// `[batch, channels, height, width]`, channels last `[batch, height, width, channels]`.
    pub const fn output_shape(&self) -> [usize; 4] {
        self.operation.windows.image_shape()
    }

    pub(crate) const fn windows(&self) -> &Windows {
        &self.operation.windows
    }
}

/// Elements of the image that are added up at once: so many stay in the first-level cache.
const AT_ONCE: usize = 4096;

/// In planes a unit is a row of pixels. Runs of rows are added up tap by tap:
///
/// ```text
/// for each run of rows of a plane
///   y = +0.0
///   for each kh, kw, for each row of windows with the tap in the run:
///     y += x                                            (a row of both, without what is in padding)
///   y = canonical(y)
/// ```
fn each_run(operation: &Operation, x: &[f32], first: usize, y: &mut [f32]) {
    let windows = &operation.windows;
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.input;
    let most = divide(AT_ONCE, width).0.max(1);
    let (mut plane, mut h) = divide(first, height);
    let (mut left, _) = divide(y.len(), width);
    let mut rest = y;
    while left > 0 {
        let rows = (height - h).min(most).min(left);
        let Some(run) = rest.split_off_mut(..rows * width) else { return };
        let columns = x.get(plane * geometry.taps() * windows.count()..).unwrap_or_default();
        run.fill(0.0);
        add_taps(windows, columns, h, rows, run);
        run.iter_mut().for_each(|value| *value = canonical(*value));
        left -= rows;
        h += rows;
        if h == height {
            h = 0;
            plane += 1;
        }
    }
}

/// Adds what lies in the rows from `h` on, from the columns of a channel.
fn add_taps(windows: &Windows, x: &[f32], h: usize, rows: usize, run: &mut [f32]) {
    let geometry = &windows.geometry;
    let [_, _, width] = geometry.input;
    let [_, down, across] = geometry.output;
    let [_, row_stride, stride] = geometry.stride;
    let offset = |axis: usize, tap: usize| {
        (tap * geometry.dilation[axis]) as isize - geometry.padding[axis] as isize
    };
    for kh in 0..geometry.window[1] {
        let top = offset(1, kh) - h as isize;
        let inside = places_inside(top, rows as isize, row_stride, down);
        for kw in 0..geometry.window[2] {
            let before = offset(2, kw);
            let columns = places_inside(before, width as isize, stride, across);
            if columns.is_empty() {
                continue;
            }
            let first = (columns.start * stride).wrapping_add(before as usize);
            let of_tap = (kh * geometry.window[2] + kw) * windows.count();
            for window in inside.clone() {
                let from = of_tap + window * across;
                let from = x.get(from + columns.start..from + columns.end).unwrap_or_default();
                let row = (window * row_stride).wrapping_add(top as usize);
                let to = run.get_mut(row * width + first..).unwrap_or_default();
                if stride == 1 {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                } else {
                    let to = to.iter_mut().step_by(at_least_1(stride));
                    to.zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}

/// Channels last, a unit is a pixel: all its channels are added up tap by tap.
fn each_pixel(operation: &Operation, x: &[f32], first: usize, y: &mut [f32]) {
    let windows = &operation.windows;
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.input;
    let (rows, mut w) = divide(first, width);
    let (mut image, mut h) = divide(rows, height);
    let mut rest = y;
    while let Some(pixel) = rest.split_off_mut(..geometry.in_channels).filter(|p| !p.is_empty()) {
        pixel.fill(0.0);
        add_taps_of_pixel(windows, x, [image, h, w], pixel);
        pixel.iter_mut().for_each(|value| *value = canonical(*value));
        w += 1;
        if w == width {
            w = 0;
            h += 1;
            if h == height {
                h = 0;
                image += 1;
            }
        }
    }
}

fn add_taps_of_pixel(windows: &Windows, x: &[f32], at: [usize; 3], pixel: &mut [f32]) {
    let geometry = &windows.geometry;
    let [_, down, across] = geometry.output;
    for kh in 0..geometry.window[1] {
        let Some(above) = window_with(geometry, 1, at[1], kh) else { continue };
        for kw in 0..geometry.window[2] {
            let Some(before) = window_with(geometry, 2, at[2], kw) else { continue };
            let tap = kh * geometry.window[2] + kw;
            let column = ((at[0] * down + above) * across + before) * windows.rows();
            let column = x.get(column..column + windows.rows()).unwrap_or_default();
            let channels = column.chunks_exact(at_least_1(geometry.taps()));
            for (to, taps) in pixel.iter_mut().zip(channels) {
                if let Some(from) = taps.get(tap) {
                    *to += from;
                }
            }
        }
    }
}

/// The window along an axis that has that tap at that place of the image, if there is one.
fn window_with(geometry: &Geometry, axis: usize, place: usize, tap: usize) -> Option<usize> {
    let padded = place + geometry.padding[axis];
    let start = padded.checked_sub(tap * geometry.dilation[axis])?;
    let (window, rest) = match geometry.stride[axis] {
        1 => (start, 0),
        stride => divide(start, stride),
    };
    (rest == 0 && window < geometry.output[axis]).then_some(window)
}
