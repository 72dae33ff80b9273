//! Unfolding: each window of an image as a column, so that a convolution is a matrix product.

use super::windows::{Elements, Operation, Units, Window, WindowTiles, Windows};
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::unfold;
use crate::problem::arithmetic::tri;
use crate::problem::strides::Layout;

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
            Layout::Nchw => (planes, windows.count()),
            Layout::Nhwc => (channels_last, windows.rows()),
        };
        Ok(UnfoldPlan {
            operation: Operation {
                windows,
                units,
                unit_len,
                input_len: windows.image_len,
                output_len: windows.columns_len,
                isa: None,
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
    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<UnfoldPlan, Error> {
        Error::check_isa(isa)?;
        self.operation.isa = Some(isa);
        Ok(self)
    }

    /// The path that [`UnfoldPlan::run`] takes on this machine.
    pub fn isa(&self) -> Isa {
        self.operation.isa()
    }

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

/// In planes a unit is a row of columns.
fn planes(operation: &Operation, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &operation.windows.geometry;
    unfold::planes(operation.isa(), geometry, x, first, y);
}

/// Channels last, a unit is the column of a window.
fn channels_last(operation: &Operation, x: &[f32], first: usize, y: &mut [f32]) {
    let geometry = &operation.windows.geometry;
    unfold::channels_last(operation.isa(), geometry, x, first, y);
}
