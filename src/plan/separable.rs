//! A depthwise layer and a pointwise one in one pass: both plans, and the pieces between them.

use super::Plan;
use crate::compute::layer::{Before, Options};
use crate::compute::pieces::Pieces;
use crate::compute::separable;
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Stage};
use crate::isa::Isa;
use crate::kernel::{Caches, Kernel};
use crate::problem::arithmetic::tri;
use crate::problem::shape::Shape;
use crate::problem::strides::{Layout, Strides};
use crate::run::weights::PackedWeights;

/// A [`Separable2d`](crate::Separable2d) on inputs of one shape and layout, ready to pack weights and
/// to run.
///
/// It is plain data, can be a `const`, and each of its sizes depends on shape, layout, strides and
/// assumed caches alone, never on the machine: as of [`Plan`].
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct SeparablePlan {
    /// Its outputs lie where those of a piece do.
    pub(crate) depthwise: Plan,
    /// It computes both layers, and has the length of the other one's input and all scratch memory.
    pub(crate) pointwise: Plan,
    pub(crate) pieces: Pieces,
}

impl SeparablePlan {
    /// Of a layer, and one on its outputs that computes each of its own from one pixel.
    pub(crate) const fn new(depthwise: Plan, pointwise: Plan) -> Result<SeparablePlan, Error> {
        let caches = Caches::USUAL;
        let pieces = Pieces::of(&depthwise.layer.problem, &caches, 1);
        SeparablePlan { depthwise, pointwise, pieces }.planned_for(caches)
    }

    const fn planned_for(mut self, caches: Caches) -> Result<SeparablePlan, Error> {
        let (depthwise, pointwise) = (&self.depthwise.layer, &self.pointwise.layer);
        let first = Options { caches, ..depthwise.options };
        let second = Options { caches, ..pointwise.options };
        let planned = tri!(separable::plan(depthwise.problem, pointwise.problem, [first, second]));
        ([self.depthwise.layer, self.pointwise.layer], self.pieces) = planned;
        self.pointwise.input_len = self.depthwise.input_len;
        Ok(self)
    }

    const fn caches(&self) -> Caches {
        self.pointwise.layer.options.caches
    }

    /// The same plan with its pieces and its loops cut for caches of these sizes, in bytes. Bits do not
    /// depend on them; [`SeparablePlan::scratch_len`] does. Without this call a plan assumes 32 KiB and
    /// 1 MiB.
    ///
    /// # Errors
    /// A size of 0; scratch memory that the target cannot address.
    pub const fn assume_caches(self, l1: usize, l2: usize) -> Result<SeparablePlan, Error> {
        let caches = tri!(Caches::assumed(l1, l2));
        self.planned_for(caches)
    }

    /// The same plan for an input with these strides: as [`Plan::with_input_strides`].
    ///
    /// # Errors
    /// As of [`Plan::with_input_strides`].
    pub const fn with_input_strides(mut self, strides: Strides) -> Result<SeparablePlan, Error> {
        self.depthwise = tri!(self.depthwise.with_input_strides(strides));
        self.planned_for(self.caches())
    }

    /// The same plan for an output with these strides, and for a residual: as
    /// [`Plan::with_output_strides`].
    ///
    /// # Errors
    /// As of [`Plan::with_output_strides`].
    pub const fn with_output_strides(mut self, strides: Strides) -> Result<SeparablePlan, Error> {
        let caches = self.caches();
        self.pointwise = tri!(self.pointwise.with_output_strides(strides));
        self.planned_for(caches)
    }

    /// The same plan for a residual with strides of its own: as [`Plan::with_residual_strides`].
    ///
    /// # Errors
    /// As of [`Plan::with_residual_strides`].
    pub const fn with_residual_strides(mut self, strides: Strides) -> Result<SeparablePlan, Error> {
        self.pointwise = tri!(self.pointwise.with_residual_strides(strides));
        Ok(self)
    }

    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<SeparablePlan, Error> {
        self.pointwise = self.pointwise.with_isa(isa)?;
        Ok(self)
    }

    /// The same plan with these kernels, chosen or not, for tests: as [`Plan::with_kernel`].
    ///
    /// # Errors
    /// As of [`Plan::with_kernel`], for either layer.
    #[doc(hidden)]
    pub const fn with_kernels(
        mut self,
        depthwise: Kernel,
        pointwise: Kernel,
    ) -> Result<SeparablePlan, Error> {
        self.depthwise.layer.options.forced = Some(depthwise);
        self.pointwise.layer.options.forced = Some(pointwise);
        self.planned_for(self.caches())
    }

    /// The path that [`SeparablePlan::run`] takes on this machine.
    pub fn isa(&self) -> Isa {
        self.pointwise.isa()
    }

    /// The layout for which the layers were planned.
    pub const fn layout(&self) -> Layout {
        self.pointwise.layout()
    }

    /// The number of images.
    pub const fn batch(&self) -> usize {
        self.pointwise.batch()
    }

    /// The channels of the input.
    pub const fn in_channels(&self) -> usize {
        self.depthwise.in_channels()
    }

    /// The channels between the layers.
    pub const fn depthwise_channels(&self) -> usize {
        self.depthwise.out_channels()
    }

    /// The channels of the output.
    pub const fn out_channels(&self) -> usize {
        self.pointwise.out_channels()
    }

    /// The strides of the input, in elements, as they were asked for.
    pub const fn input_strides(&self) -> Strides {
        self.depthwise.input_strides()
    }

    /// The strides of the output, in elements, as they were asked for.
    pub const fn output_strides(&self) -> Strides {
        self.pointwise.output_strides()
    }

    /// The strides of the residual, in elements: those of the output, if no others were asked for.
    pub const fn residual_strides(&self) -> Strides {
        self.pointwise.residual_strides()
    }

    /// The extents of the input.
    pub const fn input_shape(&self) -> Shape {
        self.depthwise.input_shape()
    }

    /// The extents of the output.
    pub const fn output_shape(&self) -> Shape {
        self.pointwise.output_shape()
    }

    /// The size of the output as depth, which is 1, height, width: also of what lies between.
    pub const fn output_size(&self) -> [usize; 3] {
        self.pointwise.output_size()
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.depthwise.input_len()
    }

    /// The elements that a slice of the output holds at least.
    pub const fn output_len(&self) -> usize {
        self.pointwise.output_len()
    }

    /// The elements that a slice of the residual holds at least.
    pub const fn residual_len(&self) -> usize {
        self.pointwise.residual_len()
    }

    /// The elements of the depthwise weights in PyTorch's order, the bias not counted.
    pub const fn depthwise_weights_len(&self) -> usize {
        self.depthwise.weights_len()
    }

    /// The elements of the pointwise weights in PyTorch's order, the bias not counted.
    pub const fn pointwise_weights_len(&self) -> usize {
        self.pointwise.weights_len()
    }

    /// The elements of the packed depthwise weights, header included.
    pub const fn depthwise_packed_len(&self) -> usize {
        self.depthwise.packed_len()
    }

    /// The elements of the packed pointwise weights, header included.
    pub const fn pointwise_packed_len(&self) -> usize {
        self.pointwise.packed_len()
    }

    /// The elements of scratch memory that a run needs, per thread: the buffer for the pixels between
    /// the layers, [`depthwise_channels`](SeparablePlan::depthwise_channels) of each, and what either
    /// layer needs.
    pub const fn scratch_len(&self) -> usize {
        self.pointwise.scratch_len()
    }

    /// The pixels that are in the buffer between the layers at a time, at most.
    pub const fn pixels_in_buffer(&self) -> usize {
        self.pieces.pixels
    }

    /// The nominal multiply-adds of a run, of both layers.
    pub const fn macs(&self) -> u128 {
        self.depthwise.macs() + self.pointwise.macs()
    }

    /// The ways of using the lanes that run, of the depthwise layer and of the pointwise one: as
    /// [`Plan::kernel_name`].
    pub const fn kernel_names(&self) -> [&'static str; 2] {
        [self.depthwise.kernel_name(), self.pointwise.kernel_name()]
    }

    /// Packs depthwise weights as [`Plan::pack`] does: the blob is that of the layer alone.
    ///
    /// # Errors
    /// As of [`Plan::pack`].
    pub fn pack_depthwise<'a>(
        &self,
        weights: &[Element],
        packed: &'a mut [Element],
    ) -> Result<PackedWeights<'a>, Error> {
        self.depthwise.pack(weights, packed).map_err(|error| error.of(Stage::Depthwise))
    }

    /// Packs pointwise weights as [`Plan::pack`] does: the blob is that of the layer alone.
    ///
    /// # Errors
    /// As of [`Plan::pack`].
    pub fn pack_pointwise<'a>(
        &self,
        weights: &[Element],
        packed: &'a mut [Element],
    ) -> Result<PackedWeights<'a>, Error> {
        self.pointwise.pack(weights, packed).map_err(|error| error.of(Stage::Pointwise))
    }

    /// A blob of the depthwise layer: as [`PackedWeights::from_slice`].
    ///
    /// # Errors
    /// As of [`PackedWeights::from_slice`].
    pub const fn depthwise_weights<'a>(
        &self,
        blob: &'a [Element],
    ) -> Result<PackedWeights<'a>, Error> {
        match PackedWeights::from_slice(&self.depthwise, blob) {
            Ok(weights) => Ok(weights),
            Err(error) => Err(error.of(Stage::Depthwise)),
        }
    }

    /// A blob of the pointwise layer: as [`PackedWeights::from_slice`].
    ///
    /// # Errors
    /// As of [`PackedWeights::from_slice`].
    pub const fn pointwise_weights<'a>(
        &self,
        blob: &'a [Element],
    ) -> Result<PackedWeights<'a>, Error> {
        match PackedWeights::from_slice(&self.pointwise, blob) {
            Ok(weights) => Ok(weights),
            Err(error) => Err(error.of(Stage::Pointwise)),
        }
    }

    /// The depthwise layer as what the pointwise one computes its inputs by.
    #[inline(always)]
    pub(crate) fn before<'a>(
        &'a self,
        weights: &'a [Element],
        epilogue: &Epilogue<'a>,
    ) -> Before<'a> {
        let Epilogue { bias, function, .. } = epilogue;
        Before {
            layer: &self.depthwise.layer,
            pieces: &self.pieces,
            weights,
            bias: bias.map_or(core::ptr::null(), <[Element]>::as_ptr),
            activation: function.fused(),
            pass: epilogue.pass_with_parameter(),
        }
    }
}
