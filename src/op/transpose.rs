//! What a transposed convolution is, by PyTorch's names, and every size that follows from it, checked.

use super::checks::{output_size, pack, packed_format, parameters, tells_of_conv};
use super::conv::Conv;
use crate::error::{Error, Expected, Field, Found};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::problem::arithmetic::{add, at_least_1, mul, smaller, tri};
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::strides::Layout;
use crate::run::weights::PackedWeights;

/// A transposed convolution in `D` dimensions (1, 2 or 3), described by PyTorch's names: the adjoint of
/// the [`Conv`] with these channels exchanged, by which inputs are spread over the outputs
/// of their windows. Nothing is checked before [`ConvTranspose::plan`].
///
/// Along each axis the output has `(size - 1) * stride - 2 * padding + dilation * (kernel - 1) +
/// output_padding + 1` elements. Weights have PyTorch's shape `[in_channels, out_channels / groups,
/// kernel...]` (<https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html>).
///
/// Nothing is filled up with zeros and nothing is added up in the output: outputs that the same taps
/// meet are an ordinary convolution.
///
/// ```
/// use tapwise::{ConvTranspose2d, Epilogue, Layout};
/// const UP: ConvTranspose2d = ConvTranspose2d::new(64, 32, [3, 3])
///     .stride([2, 2])
///     .padding([1, 1])
///     .output_padding([1, 1]);
/// assert_eq!(UP.output_size([56, 56]), Ok([112, 112]));
/// let plan = UP.plan(Layout::Nhwc, 1, [56, 56])?;
/// let (x, w) = (vec![1.0; plan.input_len()], vec![0.5; plan.weights_len()]);
/// let (mut packed, mut y) = (vec![0.0; plan.packed_len()], vec![0.0; plan.output_len()]);
/// let weights = plan.pack(&w, &mut packed)?;
/// plan.run(&x, &weights, Epilogue::new(), &mut vec![0.0; plan.scratch_len()], &mut y)?;
/// assert_eq!(y[0], 64.0 * 0.5); // the tap in the middle meets the first output
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose<const D: usize> {
    /// Of the same channels; its padding is what is left out.
    conv: Conv<D>,
    output: Output<D>,
}

/// Which of the sizes that a convolution maps to the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output<const D: usize> {
    /// The least, and so much more behind.
    Padding([usize; D]),
    Size([usize; D]),
}

/// `torch.nn.ConvTranspose1d`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// `torch.nn.ConvTranspose2d`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// `torch.nn.ConvTranspose3d`.
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const D: usize> ConvTranspose<D> {
    /// Stride 1, no padding, dilation 1, one group.
    pub const fn new(in_channels: usize, out_channels: usize, kernel: [usize; D]) -> Self {
        let conv = Conv::new(in_channels, out_channels, kernel);
        ConvTranspose { conv, output: Output::Padding([0; D]) }
    }

    /// From the outputs of an input to those of the next, per axis; at least 1.
    pub const fn stride(mut self, stride: [usize; D]) -> Self {
        self.conv = self.conv.stride(stride);
        self
    }

    /// The outputs that are left out on either side of each axis.
    pub const fn padding(self, padding: [usize; D]) -> Self {
        self.padding_sides(padding, padding)
    }

    /// The outputs that are left out before the first and after the last one of each axis.
    pub const fn padding_sides(mut self, before: [usize; D], after: [usize; D]) -> Self {
        self.conv = self.conv.padding_sides(before, after);
        self
    }

    /// Outputs that follow the last one of each axis, less than the stride or the dilation. Instead of
    /// [`ConvTranspose::to_output_size`].
    pub const fn output_padding(mut self, output_padding: [usize; D]) -> Self {
        self.output = Output::Padding(output_padding);
        self
    }

    /// The size of the output, PyTorch's `output_size`: as without
    /// [`output_padding`](ConvTranspose::output_padding), or up to `stride - 1` more.
    pub const fn to_output_size(mut self, size: [usize; D]) -> Self {
        self.output = Output::Size(size);
        self
    }

    /// The distance of the taps, per axis; at least 1, irrelevant where the kernel is 1.
    pub const fn dilation(mut self, dilation: [usize; D]) -> Self {
        self.conv = self.conv.dilation(dilation);
        self
    }

    /// The number of groups, which divides `in_channels` and `out_channels`.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.conv = self.conv.groups(groups);
        self
    }

    /// The kernel turned round along every axis. Weights that were packed for the one are not those of
    /// the other.
    pub const fn flipped(mut self) -> Self {
        self.conv = self.conv.flipped();
        self
    }

    /// The size of the output along each axis, for an input of that `size`. Errors as of
    /// [`ConvTranspose::plan`].
    pub const fn output_size(&self, size: [usize; D]) -> Result<[usize; D], Error> {
        let geometry = tri!(self.geometry(1, size, usize::MAX));
        Ok(output_size(&geometry))
    }

    /// The number of weights, `in_channels * out_channels / groups * kernel`, and, with `bias`, of the
    /// `out_channels` biases.
    pub const fn parameters(&self, bias: bool) -> Result<usize, Error> {
        let geometry = tri!(self.smallest_geometry(usize::MAX));
        parameters(&geometry, bias)
    }

    /// The elements of the layer's packed weights, header included.
    ///
    /// # Errors
    /// As of [`ConvTranspose::plan`], so far as they do not depend on an input.
    pub const fn packed_len(&self) -> Result<usize, Error> {
        let geometry = tri!(self.smallest_geometry(isize::MAX as usize));
        Ok(tri!(packed_format(&geometry)).len)
    }

    /// Packs weights as [`Plan::pack`] does, for every plan of the layer.
    ///
    /// # Errors
    /// As of [`ConvTranspose::packed_len`] and [`Plan::pack`].
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        pack(&self.smallest_geometry(isize::MAX as usize)?, weights, packed)
    }

    /// On one input, with nothing left out.
    const fn smallest_geometry(&self, limit: usize) -> Result<Geometry, Error> {
        let output = Output::Padding([0; D]);
        ConvTranspose { conv: self.conv.padding_valid(), output }.geometry(1, [1; D], limit)
    }

    tells_of_conv!(D);

    /// The layer on `batch` images of that `size`, with dense strides. Weights may be packed with any
    /// plan of the layer, whatever its batch, size and layout. A batch of 0 has an empty output.
    ///
    /// # Errors
    /// Naming the field: a channel count, group count, kernel, stride, dilation or size of 0; groups that
    /// do not divide the channels; on an axis an output padding that is as large as stride and dilation;
    /// a padding that leaves no output; a size that `to_output_size` cannot reach; sizes of tensors,
    /// weights or scratch memory that the target cannot address.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; D],
    ) -> Result<Plan, Error> {
        self.plan_within(layout, batch, size, isize::MAX as usize)
    }

    /// [`ConvTranspose::plan`] for a target whose objects have at most `limit` bytes.
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

    /// Everything in three dimensions, the missing ones being 1; checked so that twice an axis with all
    /// that its windows reach is within `limit`.
    const fn geometry(
        &self,
        batch: usize,
        size: [usize; D],
        limit: usize,
    ) -> Result<Geometry, Error> {
        let mut geometry = tri!(self.conv.channels(batch));
        geometry.operator = Operator::Transposed;
        let limit = limit / 2;
        let mut axis = 0;
        while axis < D {
            let at = 3 - D + axis;
            let [dilation, reach] = tri!(self.conv.taps(axis, size[axis], limit));
            let stride = self.conv.stride[axis];
            let steps = tri!(mul(size[axis] - 1, stride, limit, Field::Stride(axis)));
            if stride > limit {
                return Err(Error::overflow(Field::Stride(axis), limit)); // phases reckon with it
            }
            let spread = tri!(add(steps, reach, limit, Field::Kernel(axis)));
            let whole = tri!(add(spread, 1, limit, Field::Kernel(axis)));
            let (before, after) = tri!(self.conv.padding_of(axis, size[axis], whole));
            let padding = tri!(add(before, after, limit, Field::Padding(axis)));
            geometry.output[at] = tri!(self.output_of(axis, whole, padding, limit));
            tri!(add(geometry.output[at], padding, limit, Field::OutputPadding(axis)));
            geometry.input[at] = size[axis];
            geometry.window[at] = self.conv.kernel_size()[axis];
            geometry.stride[at] = stride;
            geometry.dilation[at] = dilation;
            geometry.padding[at] = before;
            axis += 1;
        }
        Ok(geometry)
    }

    /// The size of the output, of `whole` elements without padding.
    const fn output_of(
        &self,
        axis: usize,
        whole: usize,
        padding: usize,
        limit: usize,
    ) -> Result<usize, Error> {
        let stride = self.conv.stride[axis];
        let (field, more) = match self.output {
            Output::Padding(more) => {
                let dilation = self.conv.dilation[axis];
                let most = if stride > dilation { stride - 1 } else { dilation - 1 };
                if more[axis] > most {
                    let (expected, found) = (Expected::AtMost(most), Found::Count(more[axis]));
                    return Err(Error::new(Field::OutputPadding(axis), expected, found));
                }
                (Field::OutputPadding(axis), more[axis])
            }
            Output::Size(_) => (Field::Stride(axis), stride - 1),
        };
        // The largest that there may be.
        let largest = tri!(add(whole, more, limit, field));
        if padding >= largest {
            let (expected, found) = (Expected::AtMost(largest - 1), Found::Count(padding));
            return Err(Error::new(Field::Padding(axis), expected, found));
        }
        let most = largest - padding;
        match self.output {
            Output::Padding(_) => Ok(most),
            Output::Size(size) => {
                let (field, found) = (Field::OutputSize(axis), Found::Count(size[axis]));
                let least = at_least_1(whole.saturating_sub(padding));
                if size[axis] < least {
                    return Err(Error::new(field, Expected::AtLeast(least), found));
                }
                if size[axis] > most {
                    return Err(Error::new(field, Expected::AtMost(most), found));
                }
                Ok(size[axis])
            }
        }
    }
}
