//! What a correlation with kernels given at run time is, and every size that follows from it, checked.

use super::checks::tells_of_conv;
use super::conv::Conv;
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::plan::Plan;
use crate::problem::Problem;
use crate::problem::arithmetic::{smaller, tri};
use crate::problem::geometry::Operator;
use crate::problem::shape::Shape;
use crate::problem::strides::{Layout, Strides};
use crate::run::output::OutputElement;
use crate::run::tiles::Job;
use crate::run::weights::Weights;

/// A correlation in `D` dimensions whose kernels are another layer's output, different for each sample
/// of a batch, as trackers compare a template with a search region. Nothing is checked before
/// [`Correlation::plan`].
///
/// It is the convolution that PyTorch users write by reshaping the batch into groups, bit for bit:
/// sample `n` of the output is `conv2d(x[n:n+1], kernels[n], stride, padding, dilation, groups)`
/// (<https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html>).
///
/// - [`Correlation::dense`]: all channels into one (SiamFC, <https://arxiv.org/abs/1606.09549>):
///   `(B, C, H, W)` with `(B, C, h, w)` to `(B, 1, H', W')`.
/// - [`Correlation::depthwise`]: channel by channel (SiamRPN++, <https://arxiv.org/abs/1812.11703>):
///   `(B, C, H, W)` with `(B, C, h, w)` to `(B, C, H', W')`.
/// - [`Correlation::new`] with [`groups`](Correlation::groups): kernels are
///   `(B, out_channels, in_channels / groups, h, w)`.
///
/// Kernels lie in the layout of the plan, as the activations that they are: their two kinds of channels
/// are one axis, so channels last they are `(B, h, w, out_channels * in_channels / groups)`.
///
/// ```
/// use tapwise::{Correlation2d, Epilogue, Layout};
/// let plan = Correlation2d::depthwise(2, [2, 2]).plan(Layout::Nchw, 1, [3, 3])?;
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0].repeat(2);
/// let kernels = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; // of two channels
/// let (mut scratch, mut y) = (vec![0.0; plan.scratch_len()], [0.0; 8]);
/// plan.run(&x, &kernels, Epilogue::new(), &mut scratch, &mut y)?;
/// assert_eq!(y, [1.0, 2.0, 4.0, 5.0, 5.0, 6.0, 8.0, 9.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correlation<const D: usize> {
    /// Of a sample.
    conv: Conv<D>,
}

/// [`Correlation`] of series.
pub type Correlation1d = Correlation<1>;
/// [`Correlation`] of images.
pub type Correlation2d = Correlation<2>;
/// [`Correlation`] of volumes.
pub type Correlation3d = Correlation<3>;

impl<const D: usize> Correlation<D> {
    /// Stride 1, no padding, dilation 1, one group.
    pub const fn new(in_channels: usize, out_channels: usize, kernel: [usize; D]) -> Self {
        Correlation { conv: Conv::new(in_channels, out_channels, kernel) }
    }

    /// All channels of the input into one of the output.
    pub const fn dense(channels: usize, kernel: [usize; D]) -> Self {
        Correlation::new(channels, 1, kernel)
    }

    /// Each channel of the input with a kernel of its own.
    pub const fn depthwise(channels: usize, kernel: [usize; D]) -> Self {
        Correlation::new(channels, channels, kernel).groups(channels)
    }

    /// The step of the window, per axis; at least 1.
    pub const fn stride(self, stride: [usize; D]) -> Self {
        Correlation { conv: self.conv.stride(stride) }
    }

    /// As many zeros on either side of each axis.
    pub const fn padding(self, padding: [usize; D]) -> Self {
        Correlation { conv: self.conv.padding(padding) }
    }

    /// Zeros before the first and after the last element of each axis.
    pub const fn padding_sides(self, before: [usize; D], after: [usize; D]) -> Self {
        Correlation { conv: self.conv.padding_sides(before, after) }
    }

    /// The distance of the taps, per axis; at least 1, irrelevant where the kernel is 1.
    pub const fn dilation(self, dilation: [usize; D]) -> Self {
        Correlation { conv: self.conv.dilation(dilation) }
    }

    /// The number of groups, which divides `in_channels` and `out_channels`.
    pub const fn groups(self, groups: usize) -> Self {
        Correlation { conv: self.conv.groups(groups) }
    }

    /// Kernels turned round along every axis: a convolution in the sense of mathematics.
    pub const fn flipped(self) -> Self {
        Correlation { conv: self.conv.flipped() }
    }

    /// The size of the output along each axis, for an input of that `size`. Errors as of
    /// [`Correlation::plan`].
    pub const fn output_size(&self, size: [usize; D]) -> Result<[usize; D], Error> {
        self.conv.output_size(size)
    }

    tells_of_conv!(D);

    /// The layer on `batch` samples of that `size`, and as many sets of kernels, with dense strides.
    ///
    /// # Errors
    /// As of [`Conv::plan`]: a kernel larger than the padded input is one of them.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; D],
    ) -> Result<CorrelationPlan, Error> {
        self.plan_within(layout, batch, size, isize::MAX as usize)
    }

    /// [`Correlation::plan`] for a target whose objects have at most `limit` bytes.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; D],
        limit: usize,
    ) -> Result<CorrelationPlan, Error> {
        let limit = smaller(limit, isize::MAX as usize);
        let mut geometry = tri!(self.conv.geometry(batch, size, limit));
        geometry.operator = Operator::Correlation;
        let problem = tri!(Problem::dense(geometry, layout, limit));
        let elements = problem.most_elements();
        // Before channels are multiplied.
        tri!(geometry.weights_len(elements));
        let channels = geometry.out_channels * geometry.in_per_group;
        let field = Field::WeightElements;
        let strides = tri!(Strides::of_tensor(layout, channels, geometry.window, elements, field));
        let plan = tri!(Plan::new(problem, D));
        CorrelationPlan { plan, strides }.with(strides, true)
    }
}

/// A [`Correlation`] on inputs of one shape and layout, ready to run: a [`Plan`] whose weights come with
/// each call.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct CorrelationPlan {
    pub(crate) plan: Plan,
    /// Of the kernels.
    strides: Strides,
}

impl CorrelationPlan {
    const fn with(self, strides: Strides, dense: bool) -> Result<CorrelationPlan, Error> {
        let plan = tri!(self.plan.with_sample_strides(strides, dense));
        Ok(CorrelationPlan { plan, strides })
    }

    const fn replanned(self, plan: Result<Plan, Error>) -> Result<CorrelationPlan, Error> {
        Ok(CorrelationPlan { plan: tri!(plan), ..self })
    }

    /// The same plan for kernels with these strides, in elements, of a tensor of `out_channels *
    /// in_channels / groups` channels; their slice needs to reach only to the last element. Any strides
    /// will do, 0 included: with a batch stride of 0 all samples share their kernels.
    ///
    /// # Errors
    /// Kernels that span more than the target can address.
    pub const fn with_kernel_strides(self, strides: Strides) -> Result<Self, Error> {
        self.with(strides, false)
    }

    /// As [`Plan::with_input_strides`].
    ///
    /// # Errors
    /// As there.
    pub const fn with_input_strides(self, strides: Strides) -> Result<Self, Error> {
        self.replanned(self.plan.with_input_strides(strides))
    }

    /// As [`Plan::with_output_strides`].
    ///
    /// # Errors
    /// As there.
    pub const fn with_output_strides(self, strides: Strides) -> Result<Self, Error> {
        self.replanned(self.plan.with_output_strides(strides))
    }

    /// As [`Plan::with_residual_strides`].
    ///
    /// # Errors
    /// As there.
    pub const fn with_residual_strides(self, strides: Strides) -> Result<Self, Error> {
        self.replanned(self.plan.with_residual_strides(strides))
    }

    /// As [`Plan::assume_caches`].
    ///
    /// # Errors
    /// As there.
    pub const fn assume_caches(self, l1: usize, l2: usize) -> Result<Self, Error> {
        self.replanned(self.plan.assume_caches(l1, l2))
    }

    /// As [`Plan::with_isa`].
    ///
    /// # Errors
    /// As there.
    pub fn with_isa(self, isa: Isa) -> Result<Self, Error> {
        self.replanned(self.plan.with_isa(isa))
    }

    /// The same plan with this kernel, chosen or not, for tests.
    ///
    /// # Errors
    /// A kernel that reads another packed format or layout.
    #[doc(hidden)]
    pub const fn with_kernel(self, kernel: Kernel) -> Result<Self, Error> {
        self.replanned(self.plan.with_kernel(kernel))
    }

    /// Layout, shapes, lengths and strides of input, output and residual, the path, the scratch memory:
    /// all but the way in which it is run.
    pub const fn sizes(&self) -> &Plan {
        &self.plan
    }

    /// The elements of scratch memory that a run needs, per thread.
    pub const fn scratch_len(&self) -> usize {
        self.plan.scratch_len()
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// The elements of the kernels of all samples; with strides of their own, the least of their slice.
    pub const fn kernels_len(&self) -> usize {
        self.plan.weights_len()
    }

    /// The elements that a slice of the output holds at least.
    pub const fn output_len(&self) -> usize {
        self.plan.output_len()
    }

    /// The extents of the kernels, as a tensor of the plan's layout.
    pub const fn kernels_shape(&self) -> Shape {
        self.plan.kernels_shape()
    }

    /// The strides of the kernels, in elements.
    pub const fn kernel_strides(&self) -> Strides {
        self.strides
    }

    /// Computes the whole output: `activation(correlation(x, kernels) + bias + residual)`. All else as
    /// of [`Plan::run`]. Kernels are not looked at before they are used: for those that are infinite or
    /// NaN the [promise](crate::numerics) does not hold.
    ///
    /// # Errors
    /// As of [`Plan::run`]; kernels that are not as many as [`kernels_len`](CorrelationPlan::kernels_len),
    /// as those of another batch, or, with strides of their own, are fewer.
    pub fn run<'a, 'y, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        kernels: &'a [Element],
        epilogue: Epilogue<'a>,
        scratch: &mut [Element],
        y: &'y mut [T],
    ) -> Result<T::Written<'y>, Error> {
        self.plan.run(x, Weights::Unpacked(kernels), epilogue, scratch, y)
    }

    /// The same call as disjoint tiles for the caller's threads, as [`Plan::job`].
    ///
    /// # Errors
    /// As of [`CorrelationPlan::run`].
    pub fn job<'a, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        kernels: &'a [Element],
        epilogue: Epilogue<'a>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        self.plan.job(x, Weights::Unpacked(kernels), epilogue, y)
    }
}
