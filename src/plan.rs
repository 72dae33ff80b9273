//! From a problem to the kernel that runs it, its schedule, and every size; nothing of the machine.

pub(crate) mod deform;
pub(crate) mod separable;

use crate::compute::layer::{Layer, Options};
use crate::compute::{self, borders, direct, phases, samples};
use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::isa::Isa;
use crate::kernel::residual::ResidualApart;
use crate::kernel::{Caches, Kernel};
use crate::panels::PackedFormat;
use crate::problem::Problem;
use crate::problem::arithmetic::tri;
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::shape::Shape;
use crate::problem::strides::{Layout, Strides};
use crate::problem::weights::WeightStrides;

/// A layer on inputs of one shape and layout, ready to pack weights and to run.
///
/// A plan is made by [`Conv::plan`](crate::Conv::plan), is plain data, and can be a `const`. Each
/// of its sizes depends on shape, layout and strides alone, never on the machine. Making one takes
/// less than a microsecond, so there is no need to keep plans in a cache.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub(crate) layer: Layer,
    pub(crate) format: PackedFormat,
    /// Of the layer: 1, 2 or 3.
    dimensions: usize,
    /// If they are not those of the output.
    pub(crate) residual_apart: Option<ResidualApart>,
    /// `None`: the fastest there is.
    isa: Option<Isa>,
    input_len: usize,
    output_len: usize,
    residual_len: usize,
    weights_len: usize,
    /// Whether weights that are not packed may be more.
    weights_may_be_more: bool,
}

impl Plan {
    pub(crate) const fn new(problem: Problem, dimensions: usize) -> Result<Plan, Error> {
        let elements = problem.most_elements();
        let input_len = tri!(problem.input_len());
        let output_len = tri!(problem.output_len(&problem.output, Field::OutputElements));
        let weights_len = tri!(problem.geometry.weights_len(elements));
        let format = tri!(PackedFormat::of(&problem.geometry, elements));
        // Of a shape that is known to be possible: taps can be counted.
        Ok(Plan {
            layer: tri!(layer(problem, Options::USUAL, &format)),
            format,
            dimensions,
            residual_apart: None,
            isa: None,
            input_len,
            output_len,
            residual_len: output_len,
            weights_len,
            weights_may_be_more: false,
        })
    }

    /// For another problem, or with other options.
    const fn planned_again(mut self, problem: Problem, options: Options) -> Result<Plan, Error> {
        self.layer = tri!(layer(problem, options, &self.format));
        Ok(self)
    }

    /// Whether calls bring weights in PyTorch's order.
    pub(crate) const fn takes_unpacked(&self) -> bool {
        self.layer.options.unpacked
    }

    /// The same plan for weights that are not packed: [`Plan::run`] then takes a slice in PyTorch's
    /// order, for weights that are known only at run time. Channels last, each part of the output
    /// packs the panels that it needs into scratch memory first, so each [`Tile`](crate::Tile) does;
    /// that pays for itself after a few dozen pixels. In planes they are read as they lie.
    ///
    /// # Errors
    /// Scratch memory that the target cannot address.
    pub const fn unpacked(self) -> Result<Plan, Error> {
        self.planned_again(self.layer.problem, Options { unpacked: true, ..self.layer.options })
    }

    /// The same plan for a single call: it reads weights as they lie, and needs no scratch memory.
    pub(crate) const fn at_once(self) -> Result<Plan, Error> {
        let forced = Some(Kernel::Pixels);
        let options = Options { forced, unpacked: true, weaves: false, ..self.layer.options };
        self.planned_again(self.layer.problem, options)
    }

    /// The same plan with its loops cut for caches of these sizes, in bytes. Bits do not depend
    /// on them; [`Plan::scratch_len`] does. Without this call a plan assumes 32 KiB and 1 MiB.
    ///
    /// # Errors
    /// A size of 0; scratch memory that the target cannot address.
    pub const fn assume_caches(self, l1: usize, l2: usize) -> Result<Plan, Error> {
        let caches = tri!(Caches::assumed(l1, l2));
        self.planned_again(self.layer.problem, Options { caches, ..self.layer.options })
    }

    /// The same plan for an input with these strides, in elements; its slice needs to reach only
    /// to the last element. Any strides will do, 0 included.
    ///
    /// # Errors
    /// An input that spans more than the target can address; scratch memory that does.
    pub const fn with_input_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        let problem = Problem { input: strides, ..self.layer.problem };
        self.input_len = tri!(problem.input_len());
        self.planned_again(problem, self.layer.options)
    }

    /// The same plan for an output with these strides, in elements, and for a residual, unless it has
    /// [strides of its own](Plan::with_residual_strides); its slice needs to reach only to the last
    /// element. What lies between the elements is not written.
    ///
    /// # Errors
    /// Strides of which one, from the smallest up, does not step over everything that the smaller
    /// ones reach, naming it and the least that does (a few interleavings without overlap are
    /// refused as well); an output that spans more than the target can address; scratch memory that
    /// does.
    pub const fn with_output_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        let problem = Problem { output: strides, ..self.layer.problem };
        let Geometry { batch, out_channels, output, .. } = problem.geometry;
        self.output_len = tri!(problem.output_len(&strides, Field::OutputElements));
        tri!(strides.check_disjoint(batch, out_channels, output));
        if self.residual_apart.is_none() {
            self.residual_len = self.output_len;
        }
        self.planned_again(problem, self.layer.options)
    }

    /// The same plan for a residual with strides of its own, in elements. Any strides will do, 0
    /// included: it may be one value for each channel. It is copied to the output, part by part,
    /// before that is computed.
    ///
    /// # Errors
    /// A residual that spans more than the target can address.
    pub const fn with_residual_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        self.residual_len = tri!(self.layer.problem.output_len(&strides, Field::ResidualElements));
        self.residual_apart = Some(ResidualApart::new(strides));
        Ok(self)
    }

    /// The same plan for kernels of each sample with these strides, of a correlation.
    pub(crate) const fn with_sample_strides(
        mut self,
        strides: Strides,
        dense: bool,
    ) -> Result<Plan, Error> {
        let Problem { geometry, .. } = &self.layer.problem;
        let channels = geometry.out_channels * geometry.in_per_group;
        let (elements, field) = (self.layer.problem.most_elements(), Field::WeightElements);
        self.weights_len =
            tri!(strides.reach(geometry.batch, channels, geometry.window, elements, field));
        self.weights_may_be_more = !dense;
        let weights = WeightStrides::of_samples(geometry, &strides);
        self.planned_again(Problem { weights, ..self.layer.problem }, self.layer.options)
    }

    /// The extents of the kernels of a correlation.
    pub(crate) const fn kernels_shape(&self) -> Shape {
        let Geometry { batch, out_channels, in_per_group, window, .. } =
            self.layer.problem.geometry;
        let channels = out_channels * in_per_group;
        Shape::new(batch, channels, window, self.dimensions, self.channels_last())
    }

    /// Whether weights that are not packed are as many as the layer has.
    pub(crate) fn check_unpacked(&self, weights: &[Element]) -> Result<(), Error> {
        if self.weights_may_be_more {
            return Error::check_len(Field::Weights, self.weights_len, weights.len());
        }
        if weights.len() == self.weights_len {
            return Ok(());
        }
        let (expected, found) = (Expected::Exactly(self.weights_len), Found::Count(weights.len()));
        Err(Error::new(Field::Weights, expected, found))
    }

    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<Plan, Error> {
        Error::check_isa(isa)?;
        self.isa = Some(isa);
        Ok(self)
    }

    /// The same plan with this kernel, chosen or not, for tests.
    ///
    /// # Errors
    /// A kernel that reads another packed format or layout.
    #[doc(hidden)]
    pub const fn with_kernel(self, kernel: Kernel) -> Result<Plan, Error> {
        let options = Options { forced: Some(kernel), ..self.layer.options };
        self.planned_again(self.layer.problem, options)
    }

    /// The path that [`Plan::run`] takes on this machine.
    pub fn isa(&self) -> Isa {
        match self.isa {
            Some(isa) => isa,
            None => Isa::detect(),
        }
    }

    /// The layout for which the layer was planned.
    pub const fn layout(&self) -> Layout {
        self.layer.problem.layout
    }

    /// The number of images.
    pub const fn batch(&self) -> usize {
        self.layer.problem.geometry.batch
    }

    /// The channels of the input.
    pub const fn in_channels(&self) -> usize {
        self.layer.problem.geometry.in_channels
    }

    /// The channels of the output.
    pub const fn out_channels(&self) -> usize {
        self.layer.problem.geometry.out_channels
    }

    /// The groups.
    pub const fn groups(&self) -> usize {
        self.layer.problem.geometry.groups
    }

    /// The strides of the input, in elements, as they were asked for.
    pub const fn input_strides(&self) -> Strides {
        self.layer.problem.input
    }

    /// The strides of the output, in elements, as they were asked for.
    pub const fn output_strides(&self) -> Strides {
        self.layer.problem.output
    }

    /// The strides of the residual, in elements: those of the output, if no others were asked for.
    pub const fn residual_strides(&self) -> Strides {
        match &self.residual_apart {
            Some(apart) => apart.strides,
            None => self.layer.problem.output,
        }
    }

    /// The extents of the input.
    pub const fn input_shape(&self) -> Shape {
        let Geometry { batch, in_channels, input, .. } = self.layer.problem.geometry;
        Shape::new(batch, in_channels, input, self.dimensions, self.channels_last())
    }

    /// The extents of the output.
    pub const fn output_shape(&self) -> Shape {
        let Geometry { batch, out_channels, output, .. } = self.layer.problem.geometry;
        Shape::new(batch, out_channels, output, self.dimensions, self.channels_last())
    }

    pub(crate) const fn channels_last(&self) -> bool {
        matches!(self.layer.problem.layout, Layout::Nhwc)
    }

    /// The size of the output as depth, height, width; ones for the dimensions that a layer lacks.
    pub const fn output_size(&self) -> [usize; 3] {
        self.layer.problem.geometry.output
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.input_len
    }

    /// The elements that a slice of the output holds at least.
    pub const fn output_len(&self) -> usize {
        self.output_len
    }

    /// The elements that a slice of the residual holds at least.
    pub const fn residual_len(&self) -> usize {
        self.residual_len
    }

    /// The elements of the weights in PyTorch's order, the bias not counted.
    pub const fn weights_len(&self) -> usize {
        self.weights_len
    }

    /// The elements of the packed weights, header included. The same for every plan of a layer.
    pub const fn packed_len(&self) -> usize {
        self.format.len
    }

    /// The elements of scratch memory that a run needs, per thread.
    pub const fn scratch_len(&self) -> usize {
        self.layer.scratch_len
    }

    /// Whether every element of a slice of [`output_len`](Plan::output_len) is one of the output.
    pub(crate) const fn output_has_no_gaps(&self) -> bool {
        let Geometry { out_channels, .. } = self.layer.problem.geometry;
        self.layer.problem.geometry.pixels() * out_channels == self.output_len
    }

    /// The nominal multiply-adds of a run: taps on padding are counted, as is usual.
    pub const fn macs(&self) -> u128 {
        self.layer.problem.geometry.macs()
    }

    /// The way of using the lanes that runs: `dense`, `channels`, `planes` or `pixels`.
    pub const fn kernel_name(&self) -> &'static str {
        self.layer.schedule.kernel().name()
    }
}

/// A problem with what computes its operator.
const fn layer(problem: Problem, options: Options, format: &PackedFormat) -> Result<Layer, Error> {
    let layer = tri!(match problem.geometry.operator {
        Operator::Convolution if borders::leaves_zeros(&problem.geometry) => {
            borders::plan(problem, options)
        }
        Operator::Convolution => direct::plan(problem, options),
        Operator::Transposed => phases::plan(problem, options),
        Operator::Correlation => samples::plan(problem, options),
        Operator::Deformable { .. } => compute::deform::plan(problem, options),
    });
    layer.with_room_to_pack(format)
}
