//! Folding: the columns of windows added up to an image, the adjoint of [unfolding](super::unfold).

use super::windows::{Elements, Operation, Units, Window, WindowTiles, Windows};
use crate::error::{Error, Field};
use crate::kernel::walk::places_inside;
use crate::numerics::canonical;
use crate::problem::arithmetic::divide;
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
            Layout::Nchw => (rows_of_pixels, windows.geometry.input[2]),
            Layout::Nhwc => (pixels, windows.geometry.in_channels),
        };
        Ok(FoldPlan {
            operation: Operation {
                windows,
                units,
                unit_len,
                input_len: windows.columns_len,
                output_len: windows.image_len,
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

fn rows_of_pixels(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.input;
    let [_, window_rows, window_columns] = geometry.output;
    let (mut plane, mut h) = divide(first, height);
    let mut rest = y;
    while let Some(row) = rest.split_off_mut(..width).filter(|row| !row.is_empty()) {
        row.fill(0.0);
        for kh in 0..geometry.window[1] {
            let Some(above) = window_of(geometry, 1, h, kh) else { continue };
            for kw in 0..geometry.window[2] {
                let (stride, padding) = (geometry.stride[2], geometry.padding[2]);
                let offset = kw * geometry.dilation[2];
                let start = offset as isize - padding as isize;
                let columns = places_inside(start, width as isize, stride, window_columns);
                if columns.is_empty() {
                    continue;
                }
                let tap = (plane * geometry.window[1] + kh) * geometry.window[2] + kw;
                let from = (tap * window_rows + above) * window_columns;
                let from = x.get(from + columns.start..from + columns.end).unwrap_or_default();
                let to = row.get_mut(columns.start * stride + offset - padding..);
                let to = to.unwrap_or_default();
                if stride == 1 {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += from;
                    }
                } else {
                    for (to, from) in to.iter_mut().step_by(stride.max(1)).zip(from) {
                        *to += from;
                    }
                }
            }
        }
        for value in row.iter_mut() {
            *value = canonical(*value);
        }
        h += 1;
        if h == height {
            h = 0;
            plane += 1;
        }
    }
}

fn pixels(windows: &Windows, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &windows.geometry;
    let [_, height, width] = geometry.input;
    let [_, window_rows, window_columns] = geometry.output;
    let taps = geometry.taps();
    let (rows, mut w) = divide(first, width);
    let (mut image, mut h) = divide(rows, height);
    let mut rest = y;
    while let Some(pixel) = rest.split_off_mut(..geometry.in_channels).filter(|p| !p.is_empty()) {
        pixel.fill(0.0);
        for kh in 0..geometry.window[1] {
            let Some(above) = window_of(geometry, 1, h, kh) else { continue };
            for kw in 0..geometry.window[2] {
                let Some(before) = window_of(geometry, 2, w, kw) else { continue };
                let window = (image * window_rows + above) * window_columns + before;
                let from = window * windows.rows() + kh * geometry.window[2] + kw;
                let from = x.get(from..).unwrap_or_default().iter().step_by(taps.max(1));
                for (to, from) in pixel.iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
        for value in pixel.iter_mut() {
            *value = canonical(*value);
        }
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

/// The window along an axis that has that tap at that place of the image, if there is one.
fn window_of(geometry: &Geometry, axis: usize, place: usize, tap: usize) -> Option<usize> {
    let from_first = place + geometry.padding[axis];
    let start = from_first.checked_sub(tap * geometry.dilation[axis])?;
    let (window, rest) = divide(start, geometry.stride[axis]);
    (rest == 0 && window < geometry.output[axis]).then_some(window)
}
