//! What a convolution layer is, by PyTorch's names, and every size that follows from it, checked.

use super::checks::{at_least_one, divides, output_size, pack, packed_format, parameters};
use crate::error::{Error, Expected, Field, Found};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::problem::arithmetic::{add, mul, smaller, tri};
use crate::problem::geometry::{Geometry, Operator, PaddingMode};
use crate::problem::strides::Layout;
use crate::run::weights::PackedWeights;

/// How many zeros surround the input, per axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding<const D: usize> {
    Sides { before: [usize; D], after: [usize; D] },
    Same,
    SameTensorflow,
}

/// A convolution layer in `D` dimensions (1, 2 or 3), described by PyTorch's names in PyTorch's
/// order. Nothing is checked before [`Conv::plan`].
///
/// Weights have PyTorch's shape `[out_channels, in_channels / groups, kernel...]`, and the
/// operation is PyTorch's: a cross-correlation
/// (<https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html>).
///
/// ```
/// use tapwise::{Conv2d, Layout};
/// const CONV: Conv2d = Conv2d::new(3, 32, [3, 3]).stride([2, 2]).padding([1, 1]);
/// assert_eq!(CONV.output_size([96, 96]), Ok([48, 48]));
/// let plan = CONV.plan(Layout::Nhwc, 1, [96, 96])?;
/// assert_eq!(plan.output_len(), 48 * 48 * 32);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv<const D: usize> {
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; D],
    pub(super) stride: [usize; D],
    padding: Padding<D>,
    pub(super) dilation: [usize; D],
    padding_mode: PaddingMode,
    groups: usize,
    flipped: bool,
}

/// `torch.nn.Conv1d`.
pub type Conv1d = Conv<1>;
/// `torch.nn.Conv2d`.
pub type Conv2d = Conv<2>;
/// `torch.nn.Conv3d`.
pub type Conv3d = Conv<3>;

impl<const D: usize> Conv<D> {
    /// Stride 1, no padding, dilation 1, one group.
    pub const fn new(in_channels: usize, out_channels: usize, kernel: [usize; D]) -> Self {
        const { assert!(D >= 1 && D <= 3, "convolutions have 1, 2 or 3 dimensions") };
        Conv {
            in_channels,
            out_channels,
            kernel,
            stride: [1; D],
            padding: Padding::Sides { before: [0; D], after: [0; D] },
            dilation: [1; D],
            padding_mode: PaddingMode::Zeros,
            groups: 1,
            flipped: false,
        }
    }

    /// The step of the window, per axis; at least 1.
    pub const fn stride(mut self, stride: [usize; D]) -> Self {
        self.stride = stride;
        self
    }

    /// As many zeros on either side of each axis.
    pub const fn padding(self, padding: [usize; D]) -> Self {
        self.padding_sides(padding, padding)
    }

    /// Zeros before the first and after the last element of each axis. They may exceed the window: an
    /// output whose window holds only padding is the bias.
    pub const fn padding_sides(mut self, before: [usize; D], after: [usize; D]) -> Self {
        self.padding = Padding::Sides { before, after };
        self
    }

    /// No padding, as by default.
    pub const fn padding_valid(self) -> Self {
        self.padding([0; D])
    }

    /// PyTorch's `padding="same"`: the output has the size of the input. The stride has to be 1; an
    /// odd total puts the extra zero behind. [`Conv::plan`], which knows the size, resolves it.
    pub const fn padding_same(mut self) -> Self {
        self.padding = Padding::Same;
        self
    }

    /// TensorFlow's `SAME`: the output has the size `ceil(input / stride)`; an odd total puts the
    /// extra zero behind. [`Conv::plan`], which knows the size, resolves it.
    pub const fn padding_same_tensorflow(mut self) -> Self {
        self.padding = Padding::SameTensorflow;
        self
    }

    /// What stands in the padding: PyTorch's `padding_mode`, zeros if nothing is said. There is no
    /// padded copy of the input: only what outputs at its borders see is copied, piece by piece.
    ///
    /// ```
    /// use tapwise::{Conv1d, Epilogue, Layout, PaddingMode};
    /// let conv = Conv1d::new(1, 1, [3]).padding([1]).padding_mode(PaddingMode::Circular);
    /// let plan = conv.plan(Layout::NCL, 1, [4])?;
    /// let mut packed = vec![0.0; plan.packed_len()];
    /// let weights = plan.pack(&[1.0, 0.0, 10.0], &mut packed)?;
    /// let (mut scratch, mut y) = (vec![0.0; plan.scratch_len()], [0.0; 4]);
    /// plan.run(&[1.0, 2.0, 3.0, 4.0], &weights, Epilogue::new(), &mut scratch, &mut y)?;
    /// assert_eq!(y, [24.0, 31.0, 42.0, 13.0]);
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    pub const fn padding_mode(mut self, mode: PaddingMode) -> Self {
        self.padding_mode = mode;
        self
    }

    /// The distance of the taps, per axis; at least 1, irrelevant where the kernel is 1.
    pub const fn dilation(mut self, dilation: [usize; D]) -> Self {
        self.dilation = dilation;
        self
    }

    /// The number of groups, which divides `in_channels` and `out_channels`; `in_channels` of
    /// them make the layer depthwise.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// The kernel turned round along every axis: a convolution in the sense of mathematics, such as
    /// `scipy.signal.convolve` computes
    /// (<https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.convolve.html>), where
    /// PyTorch's is a cross-correlation. Weights stay in PyTorch's order; those that were packed for
    /// the one are not those of the other.
    ///
    /// ```
    /// use tapwise::{Conv1d, Epilogue, Layout};
    /// // scipy.signal.convolve([1, 2, 4], [1, 10], mode="full")
    /// let plan = Conv1d::new(1, 1, [2]).padding([1]).flipped().plan(Layout::NCL, 1, [3])?;
    /// let mut packed = vec![0.0; plan.packed_len()];
    /// let weights = plan.pack(&[1.0, 10.0], &mut packed)?;
    /// let mut y = [0.0; 4];
    /// let mut scratch = vec![0.0; plan.scratch_len()];
    /// plan.run(&[1.0, 2.0, 4.0], &weights, Epilogue::new(), &mut scratch, &mut y)?;
    /// assert_eq!(y, [1.0, 12.0, 24.0, 40.0]);
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    pub const fn flipped(mut self) -> Self {
        self.flipped = true;
        self
    }

    /// The size of the output along each axis, for an input of that `size`. Errors as of
    /// [`Conv::plan`].
    pub const fn output_size(&self, size: [usize; D]) -> Result<[usize; D], Error> {
        let geometry = tri!(self.geometry(1, size, usize::MAX));
        Ok(output_size(&geometry))
    }

    /// The number of weights, `out_channels * in_channels / groups * kernel`, and, with `bias`,
    /// of the `out_channels` biases.
    pub const fn parameters(&self, bias: bool) -> Result<usize, Error> {
        let geometry = tri!(self.smallest_geometry(usize::MAX));
        parameters(&geometry, bias)
    }

    /// The elements of the layer's packed weights, header included.
    ///
    /// # Errors
    /// As of [`Conv::plan`], so far as they do not depend on an input.
    pub const fn packed_len(&self) -> Result<usize, Error> {
        let geometry = tri!(self.smallest_geometry(isize::MAX as usize));
        Ok(tri!(packed_format(&geometry)).len)
    }

    /// Packs weights as [`Plan::pack`] does, for every plan of the layer.
    ///
    /// ```
    /// use tapwise::{Conv2d, Epilogue, Layout};
    /// let conv = Conv2d::new(8, 16, [3, 3]).padding_same();
    /// let w = vec![0.5; conv.parameters(false)?];
    /// let mut packed = vec![0.0; conv.packed_len()?];
    /// let weights = conv.pack(&w, &mut packed)?;
    /// let plan = conv.plan(Layout::Nchw, 1, [12, 12])?;
    /// let (x, mut y) = (vec![1.0; plan.input_len()], vec![0.0; plan.output_len()]);
    /// plan.run(&x, weights, Epilogue::new(), &mut vec![0.0; plan.scratch_len()], &mut y)?;
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Conv::packed_len`] and [`Plan::pack`].
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        pack(&self.smallest_geometry(isize::MAX as usize)?, weights, packed)
    }

    /// On an input that is just large enough.
    const fn smallest_geometry(&self, limit: usize) -> Result<Geometry, Error> {
        self.padding_valid().geometry(1, self.smallest_input(), limit)
    }

    /// The channels of the input.
    pub const fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// The channels of the output.
    pub const fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The groups.
    pub const fn group_count(&self) -> usize {
        self.groups
    }

    /// The size of the kernel, in taps.
    pub const fn kernel_size(&self) -> [usize; D] {
        self.kernel
    }

    /// The layer on `batch` images of that `size`, with dense strides: all sizes, and the kernel
    /// that will run. Weights may be packed with any plan of the layer, whatever its batch, size
    /// and layout. A batch of 0 has an empty output.
    ///
    /// # Errors
    /// Naming the field: a channel count, group count, kernel, stride, dilation or size of
    /// 0; groups that do not divide the channels; a window that exceeds the padded input; a
    /// stride with [`Conv::padding_same`]; sizes of tensors, weights or scratch memory that the target
    /// cannot address.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; D],
    ) -> Result<Plan, Error> {
        self.plan_within(layout, batch, size, isize::MAX as usize)
    }

    /// [`Conv::plan`] for a target whose objects have at most `limit` bytes: what a 32-bit
    /// machine answers can so be tested on any.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; D],
        limit: usize,
    ) -> Result<Plan, Error> {
        let limit = smaller(limit, isize::MAX as usize);
        let geometry = tri!(self.geometry(batch, size, limit));
        let problem = tri!(Problem::dense(geometry, layout, limit));
        Plan::new(problem, D)
    }

    /// An input that every layer without padding accepts: it holds the window.
    const fn smallest_input(&self) -> [usize; D] {
        let mut size = [1; D];
        let mut axis = 0;
        while axis < D {
            if self.kernel[axis] > 1 {
                size[axis] =
                    self.dilation[axis].saturating_mul(self.kernel[axis] - 1).saturating_add(1);
            }
            axis += 1;
        }
        size
    }

    /// Along an axis, whatever the input: the extent of the window, the padding before the first
    /// element, the step.
    pub(crate) const fn window(&self, axis: usize) -> Result<[usize; 3], Error> {
        let geometry = tri!(self.geometry(1, self.smallest_input(), usize::MAX));
        let (at, stride) = (3 - D + axis, self.stride[axis]);
        if matches!(self.padding, Padding::SameTensorflow) && stride != 1 {
            let expected = Expected::Exactly(1);
            return Err(Error::new(Field::Stride(axis), expected, Found::Count(stride)));
        }
        Ok([geometry.reach(at) + 1, geometry.padding[at], stride])
    }

    /// A convolution of one tap on one pixel: channels and groups, to which the rest is added.
    pub(super) const fn channels(&self, batch: usize) -> Result<Geometry, Error> {
        let Conv { in_channels, out_channels, groups, flipped, .. } = *self;
        tri!(at_least_one(Field::InChannels, in_channels));
        tri!(at_least_one(Field::OutChannels, out_channels));
        tri!(at_least_one(Field::Groups, groups));
        tri!(divides(Field::Groups, groups, in_channels));
        tri!(divides(Field::Groups, groups, out_channels));
        Ok(Geometry {
            batch,
            in_channels,
            out_channels,
            groups,
            in_per_group: in_channels / groups,
            out_per_group: out_channels / groups,
            input: [1; 3],
            output: [1; 3],
            window: [1; 3],
            stride: [1; 3],
            dilation: [1; 3],
            padding: [0; 3],
            padding_mode: self.padding_mode,
            padded: false,
            operator: Operator::Convolution,
            flipped,
        })
    }

    /// The checks of a window along an axis: how far its taps are apart, and from the first to the last.
    pub(super) const fn taps(
        &self,
        axis: usize,
        size: usize,
        limit: usize,
    ) -> Result<[usize; 2], Error> {
        let (kernel, dilation) = (self.kernel[axis], self.dilation[axis]);
        tri!(at_least_one(Field::InputSize(axis), size));
        tri!(at_least_one(Field::Kernel(axis), kernel));
        tri!(at_least_one(Field::Stride(axis), self.stride[axis]));
        tri!(at_least_one(Field::Dilation(axis), dilation));
        let dilation = if kernel == 1 { 1 } else { dilation };
        let reach = tri!(mul(kernel - 1, dilation, limit, Field::Kernel(axis)));
        Ok([dilation, reach])
    }

    /// Everything in three dimensions, the missing ones being 1; checked so that twice a padded axis
    /// is within `limit`, which leaves room to step past its end.
    pub(crate) const fn geometry(
        &self,
        batch: usize,
        size: [usize; D],
        limit: usize,
    ) -> Result<Geometry, Error> {
        let mut geometry = tri!(self.channels(batch));
        let limit = limit / 2;
        let mut axis = 0;
        while axis < D {
            let at = 3 - D + axis;
            let stride = self.stride[axis];
            let [dilation, reach] = tri!(self.taps(axis, size[axis], limit));
            let window = tri!(add(reach, 1, limit, Field::Kernel(axis)));
            let (before, after) = tri!(self.padding_of(axis, size[axis], window));
            let padding = tri!(add(before, after, limit, Field::Padding(axis)));
            let padded = tri!(add(size[axis], padding, limit, Field::Padding(axis)));
            if window > padded {
                let expected = Expected::AtMost(padded);
                return Err(Error::new(Field::Kernel(axis), expected, Found::Count(window)));
            }
            geometry.input[at] = size[axis];
            geometry.output[at] = (padded - window) / stride + 1;
            geometry.window[at] = self.kernel[axis];
            // The step is never taken where there is one output; so it cannot overflow either.
            geometry.stride[at] = if geometry.output[at] == 1 { 1 } else { stride };
            geometry.dilation[at] = dilation;
            let most = self.padding_mode.most(size[axis]);
            let side = if before > after { before } else { after };
            if side > most {
                let (expected, found) = (Expected::AtMost(most), Found::Count(side));
                return Err(Error::new(Field::PaddingSide(axis), expected, found));
            }
            geometry.padding[at] = before;
            geometry.padded |= geometry.is_padded(at);
            axis += 1;
        }
        Ok(geometry)
    }

    pub(super) const fn padding_of(
        &self,
        axis: usize,
        size: usize,
        window: usize,
    ) -> Result<(usize, usize), Error> {
        let stride = self.stride[axis];
        let total = match self.padding {
            Padding::Sides { before, after } => return Ok((before[axis], after[axis])),
            Padding::Same => {
                if stride != 1 {
                    let expected = Expected::Exactly(1);
                    return Err(Error::new(Field::Stride(axis), expected, Found::Count(stride)));
                }
                window - 1
            }
            Padding::SameTensorflow => {
                let last_start = (size - 1) / stride * stride;
                window.saturating_sub(size - last_start)
            }
        };
        Ok((total / 2, total - total / 2))
    }
}
