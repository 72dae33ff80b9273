//! The plan of a deformable convolution: that of a layer, and the sizes of what moves its taps.

use super::Plan;
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::problem::Problem;
use crate::problem::arithmetic::{mul, tri};
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::shape::Shape;
use crate::problem::strides::{Layout, Strides};
use crate::run::weights::PackedWeights;

/// A deformable convolution on inputs of one shape and layout, ready to pack weights and to run.
///
/// A plan is made by [`DeformConv2d::plan`](crate::DeformConv2d::plan), is plain data, and can be a
/// `const`. All tensors are without gaps, in the plan's layout: offsets and mask as well.
///
/// | tensor | `Nchw` | `Nhwc` |
/// |---|---|---|
/// | input | `[batch, in_channels, height, width]` | `[batch, height, width, in_channels]` |
/// | offsets | `[batch, 2 * sets, H, W]` | `[batch, H, W, 2 * sets]` |
/// | mask | `[batch, sets, H, W]` | `[batch, H, W, sets]` |
/// | output | `[batch, out_channels, H, W]` | `[batch, H, W, out_channels]` |
///
/// There are `offset_groups * kernel height * kernel width` sets, by offset group, then by row and
/// column of the tap; of each set the offset along rows (downwards) comes before that along columns.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct DeformPlan {
    pub(crate) plan: Plan,
    offsets_len: usize,
}

impl DeformPlan {
    /// Of a deformable plan.
    pub(crate) const fn new(plan: Plan) -> Result<DeformPlan, Error> {
        let Problem { geometry, layout, .. } = plan.layer.problem;
        let (elements, field) = (plan.layer.problem.most_elements(), Field::OffsetElements);
        let Operator::Deformable { offset_groups, .. } = geometry.operator else {
            return Err(Error::too_small(Field::OffsetGroups, 1, 0));
        };
        // No more taps than weights.
        let values = tri!(mul(2 * geometry.taps(), offset_groups, elements, field));
        let strides = tri!(Strides::of_tensor(layout, values, geometry.output, elements, field));
        let Geometry { batch, output, .. } = geometry;
        let offsets_len = tri!(strides.reach(batch, values, output, elements, field));
        Ok(DeformPlan { plan, offsets_len })
    }

    /// As of [`Plan::unpacked`]. Each part of the output packs the panels that it needs, in either layout.
    ///
    /// # Errors
    /// Scratch memory that the target cannot address.
    pub const fn unpacked(mut self) -> Result<DeformPlan, Error> {
        self.plan = tri!(self.plan.unpacked());
        Ok(self)
    }

    /// As of [`Plan::assume_caches`]: samples that wait in scratch memory take about half of the second
    /// one.
    ///
    /// # Errors
    /// A size of 0; scratch memory that the target cannot address.
    pub const fn assume_caches(mut self, l1: usize, l2: usize) -> Result<DeformPlan, Error> {
        self.plan = tri!(self.plan.assume_caches(l1, l2));
        Ok(self)
    }

    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<DeformPlan, Error> {
        self.plan = self.plan.with_isa(isa)?;
        Ok(self)
    }

    /// The same plan with this kernel, chosen or not, for tests.
    ///
    /// # Errors
    /// A kernel that reads another packed format or layout.
    #[doc(hidden)]
    pub const fn with_kernel(mut self, kernel: Kernel) -> Result<DeformPlan, Error> {
        self.plan = tri!(self.plan.with_kernel(kernel));
        Ok(self)
    }

    /// Packs weights in PyTorch's order, `[out_channels, in_channels / groups, height, width]`, into the
    /// first [`packed_len`](DeformPlan::packed_len) elements of `packed`.
    ///
    /// # Errors
    /// As of [`Plan::pack`].
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        self.plan.pack(weights, packed)
    }

    /// A blob that was packed before, here or elsewhere, as of [`PackedWeights::from_slice`].
    ///
    /// # Errors
    /// As there.
    pub fn packed_from_slice<'a>(&self, blob: &'a [f32]) -> Result<PackedWeights<'a>, Error> {
        PackedWeights::from_slice(&self.plan, blob)
    }

    /// The same on bytes, as of [`PackedWeights::from_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn packed_from_bytes<'a>(&self, bytes: &'a [u8]) -> Result<PackedWeights<'a>, Error> {
        PackedWeights::from_bytes(&self.plan, bytes)
    }

    /// The path that [`DeformPlan::run`] takes on this machine.
    pub fn isa(&self) -> Isa {
        self.plan.isa()
    }

    /// The layout for which the layer was planned.
    pub const fn layout(&self) -> Layout {
        self.plan.layout()
    }

    /// Whether calls bring a mask.
    pub const fn is_modulated(&self) -> bool {
        matches!(
            self.plan.layer.problem.geometry.operator,
            Operator::Deformable { modulated: true, .. }
        )
    }

    /// The offset groups.
    pub const fn offset_groups(&self) -> usize {
        match self.plan.layer.problem.geometry.operator {
            Operator::Deformable { offset_groups, .. } => offset_groups,
            _ => 1,
        }
    }

    /// The extents of the input.
    pub const fn input_shape(&self) -> Shape {
        self.plan.input_shape()
    }

    /// The extents of the output.
    pub const fn output_shape(&self) -> Shape {
        self.plan.output_shape()
    }

    /// The extents of the offsets.
    pub const fn offsets_shape(&self) -> Shape {
        self.shape_of(2)
    }

    /// The extents of the mask, if there is one.
    pub const fn mask_shape(&self) -> Shape {
        self.shape_of(1)
    }

    /// Of a tensor that has so many values for each set.
    const fn shape_of(&self, values: usize) -> Shape {
        let Geometry { batch, output, .. } = self.plan.layer.problem.geometry;
        let sets = self.offset_groups() * self.plan.layer.problem.geometry.taps();
        Shape::new(batch, values * sets, output, 2, self.plan.channels_last())
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// The elements that a slice of the offsets holds at least.
    pub const fn offsets_len(&self) -> usize {
        self.offsets_len
    }

    /// The elements that a slice of the mask holds at least; 0 where there is none.
    pub const fn mask_len(&self) -> usize {
        if self.is_modulated() { self.offsets_len / 2 } else { 0 }
    }

    /// The elements that a slice of the output, or of a residual, holds at least.
    pub const fn output_len(&self) -> usize {
        self.plan.output_len()
    }

    /// The elements of the weights in PyTorch's order, the bias not counted.
    pub const fn weights_len(&self) -> usize {
        self.plan.weights_len()
    }

    /// The elements of the packed weights, header included.
    pub const fn packed_len(&self) -> usize {
        self.plan.packed_len()
    }

    /// The elements of scratch memory that a run needs, per thread.
    pub const fn scratch_len(&self) -> usize {
        self.plan.scratch_len()
    }

    /// The nominal multiply-adds of a run: those with weights, of all taps.
    pub const fn macs(&self) -> u128 {
        self.plan.macs()
    }

    /// The way of using the lanes by which weights are multiplied.
    pub const fn kernel_name(&self) -> &'static str {
        self.plan.kernel_name()
    }
}
