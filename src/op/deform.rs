//! What a deformable convolution is, by torchvision's names, and every size that follows from it,
//! checked.

use super::checks::{at_least_one, divides, tells_of_conv};
use super::conv::Conv2d;
use crate::error::{Error, Field};
use crate::plan::Plan;
use crate::plan::deform::DeformPlan;
use crate::problem::Problem;
use crate::problem::arithmetic::{smaller, tri};
use crate::problem::geometry::Operator;
use crate::problem::strides::Layout;
use crate::run::weights::PackedWeights;

/// A deformable convolution in two dimensions: a [`Conv2d`] of which each tap of each output reads where
/// an offset moves it, between inputs. With [`DeformConv2d::modulated`] it is the second version, in
/// which a mask multiplies what is read. Nothing is checked before [`DeformConv2d::plan`].
///
/// The operation is `torchvision.ops.deform_conv2d`
/// (<https://docs.pytorch.org/vision/stable/generated/torchvision.ops.deform_conv2d.html>; Dai et al.,
/// "Deformable Convolutional Networks", 2017; Zhu et al., "Deformable ConvNets v2", 2018). Weights have
/// PyTorch's shape `[out_channels, in_channels / groups, height, width]`, and those that were packed for
/// the `Conv2d` with these channels, groups and kernel serve as they are. Input channel `c` belongs to
/// offset group `c / (in_channels / offset_groups)`.
///
/// Offsets may be any numbers: [`numerics::bilinear`](crate::numerics::bilinear) says what is read. Where
/// an offset is NaN or infinite, or leads to the outside, that is zero, and the mask is not looked at
/// (torchvision multiplies that zero by it, and reads anywhere if the offset is NaN).
///
/// ```
/// use tapwise::{DeformConv2d, Epilogue, Layout};
/// const DEFORM: DeformConv2d = DeformConv2d::new(4, 8, [3, 3]).padding([1, 1]).modulated();
/// let plan = DEFORM.plan(Layout::Nhwc, 1, [6, 7])?;
/// let (x, w) = (vec![1.0; plan.input_len()], vec![0.5; plan.weights_len()]);
/// // For each output and tap: how far down, how far to the right.
/// let offsets: Vec<f32> = (0..plan.offsets_len()).map(|at| (at % 2) as f32 / 4.0).collect();
/// let mask = vec![0.5; plan.mask_len()];
/// let (mut packed, mut y) = (vec![0.0; plan.packed_len()], vec![0.0; plan.output_len()]);
/// let weights = plan.pack(&w, &mut packed)?;
/// let mut scratch = vec![0.0; plan.scratch_len()];
/// plan.run(&x, &offsets, Some(&mask), &weights, Epilogue::new(), &mut scratch, &mut y)?;
/// // Of the first output two rows of taps are inside, and of these two taps and a quarter.
/// assert_eq!(y[0], 2.0 * 2.25 * 4.0 * 0.5 * 0.5);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeformConv2d {
    conv: Conv2d,
    offset_groups: usize,
    modulated: bool,
}

impl DeformConv2d {
    /// Stride 1, no padding, dilation 1, one group, one offset group, no mask.
    pub const fn new(in_channels: usize, out_channels: usize, kernel: [usize; 2]) -> Self {
        let conv = Conv2d::new(in_channels, out_channels, kernel);
        DeformConv2d { conv, offset_groups: 1, modulated: false }
    }

    /// The step of the window, per axis; at least 1.
    pub const fn stride(mut self, stride: [usize; 2]) -> Self {
        self.conv = self.conv.stride(stride);
        self
    }

    /// As many zeros on either side of each axis.
    pub const fn padding(mut self, padding: [usize; 2]) -> Self {
        self.conv = self.conv.padding(padding);
        self
    }

    /// The distance of the taps that are not moved, per axis; at least 1.
    pub const fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.conv = self.conv.dilation(dilation);
        self
    }

    /// The number of groups, which divides `in_channels` and `out_channels`.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.conv = self.conv.groups(groups);
        self
    }

    /// The number of offset groups, which divides `in_channels`: so many sets of offsets, and of masks,
    /// there are for each output and tap. They need not have to do with the groups.
    pub const fn offset_groups(mut self, offset_groups: usize) -> Self {
        self.offset_groups = offset_groups;
        self
    }

    /// The second version: each call brings a mask, which multiplies the samples.
    pub const fn modulated(mut self) -> Self {
        self.modulated = true;
        self
    }

    /// The size of the output along each axis, for an input of that `size`: that of the convolution.
    /// Errors as of [`DeformConv2d::plan`].
    pub const fn output_size(&self, size: [usize; 2]) -> Result<[usize; 2], Error> {
        tri!(self.check());
        self.conv.output_size(size)
    }

    /// The number of weights, `out_channels * in_channels / groups * kernel`, and, with `bias`, of the
    /// `out_channels` biases.
    pub const fn parameters(&self, bias: bool) -> Result<usize, Error> {
        self.conv.parameters(bias)
    }

    /// The elements of the layer's packed weights, header included.
    ///
    /// # Errors
    /// As of [`DeformConv2d::plan`], so far as they do not depend on an input.
    pub const fn packed_len(&self) -> Result<usize, Error> {
        self.conv.packed_len()
    }

    /// Packs weights as [`DeformPlan::pack`] does, for every plan of the layer.
    ///
    /// # Errors
    /// As of [`DeformConv2d::packed_len`] and [`DeformPlan::pack`].
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        self.conv.pack(weights, packed)
    }

    tells_of_conv!(2);

    /// The offset groups.
    pub const fn offset_group_count(&self) -> usize {
        self.offset_groups
    }

    /// Whether calls bring a mask.
    pub const fn is_modulated(&self) -> bool {
        self.modulated
    }

    /// The layer on `batch` images of that `size`, with dense strides. Weights may be packed with any
    /// plan of the layer, whatever its batch, size and layout. A batch of 0 has an empty output.
    ///
    /// # Errors
    /// Naming the field: all that [`Conv2d::plan`](crate::Conv::plan) refuses; offset groups that are 0
    /// or do not divide the input channels; offsets that the target cannot address.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; 2],
    ) -> Result<DeformPlan, Error> {
        self.plan_within(layout, batch, size, isize::MAX as usize)
    }

    /// [`DeformConv2d::plan`] for a target whose objects have at most `limit` bytes.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; 2],
        limit: usize,
    ) -> Result<DeformPlan, Error> {
        let limit = smaller(limit, isize::MAX as usize);
        let mut geometry = tri!(self.conv.geometry(batch, size, limit));
        tri!(self.check());
        let DeformConv2d { offset_groups, modulated, .. } = *self;
        geometry.operator = Operator::Deformable { offset_groups, modulated };
        let problem = tri!(Problem::dense(geometry, layout, limit));
        DeformPlan::new(tri!(Plan::new(problem, 2)))
    }

    const fn check(&self) -> Result<(), Error> {
        tri!(at_least_one(Field::OffsetGroups, self.offset_groups));
        divides(Field::OffsetGroups, self.offset_groups, self.conv.in_channels())
    }
}
