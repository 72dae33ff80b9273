//! A depthwise layer and a pointwise one behind it.

use super::conv::Conv2d;
use crate::error::{Error, Expected, Field, Found, Stage};
use crate::plan::Plan;
use crate::plan::separable::SeparablePlan;
use crate::problem::arithmetic::tri;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

/// A depthwise-separable convolution: a depthwise layer, an activation, a pointwise layer on its
/// outputs, an activation, in one pass. What lies between the layers never exists as a whole: a few rows
/// of it at a time are in scratch memory. The bits are those of the two layers one after the other.
///
/// It is MobileNet's block (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for
/// Mobile Vision Applications", <https://arxiv.org/abs/1704.04861>, section 3.1), in PyTorch two
/// `torch.nn.Conv2d`, the first with `groups=in_channels`.
///
/// ```
/// use tapwise::{Conv2d, Epilogue, Layout, Separable2d, SeparablePlan};
///
/// const BLOCK: Separable2d = Separable2d::new(
///     Conv2d::new(32, 32, [3, 3]).padding_same().groups(32),
///     Conv2d::new(32, 64, [1, 1]),
/// );
/// const PLAN: SeparablePlan = match BLOCK.plan(Layout::Nhwc, 1, [112, 112]) {
///     Ok(plan) => plan,
///     Err(error) => error.panic(), // when it is compiled
/// };
/// // Less than the outputs of the depthwise layer.
/// assert!(PLAN.scratch_len() < 112 * 112 * 32);
///
/// let x = vec![1.0; PLAN.input_len()];
/// let [w, v] = [vec![0.5; PLAN.depthwise_weights_len()], vec![0.25; PLAN.pointwise_weights_len()]];
/// let mut packed_w = vec![0.0; PLAN.depthwise_packed_len()];
/// let mut packed_v = vec![0.0; PLAN.pointwise_packed_len()];
/// let w = PLAN.pack_depthwise(&w, &mut packed_w)?;
/// let v = PLAN.pack_pointwise(&v, &mut packed_v)?;
///
/// let bias = [1.0; 32];
/// let mut scratch = vec![0.0; PLAN.scratch_len()];
/// let mut y = vec![0.0; PLAN.output_len()];
/// let relu6 = Epilogue::new().relu6();
/// PLAN.run(&x, &w, relu6.bias(&bias), &v, relu6.clamp(0.0, 100.0), &mut scratch, &mut y)?;
/// // A corner sees four pixels: 32 channels of 4 * 0.5 + 1.
/// assert_eq!(y[0], 32.0 * 3.0 * 0.25);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a description does nothing until it is planned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separable2d {
    depthwise: Conv2d,
    pointwise: Conv2d,
}

impl Separable2d {
    /// The depthwise layer has `in_channels` groups, any multiple of them as outputs, and any kernel,
    /// stride, padding and dilation. The pointwise layer has its outputs as inputs, kernel 1, stride 1,
    /// no padding, and one group. Nothing is checked before [`Separable2d::plan`].
    pub const fn new(depthwise: Conv2d, pointwise: Conv2d) -> Self {
        Separable2d { depthwise, pointwise }
    }

    /// The first layer.
    pub const fn depthwise(&self) -> Conv2d {
        self.depthwise
    }

    /// The second layer.
    pub const fn pointwise(&self) -> Conv2d {
        self.pointwise
    }

    /// The size of the output, for an input of that `size`. Errors as of [`Separable2d::plan`].
    pub const fn output_size(&self, size: [usize; 2]) -> Result<[usize; 2], Error> {
        of(self.depthwise.output_size(size), Stage::Depthwise)
    }

    /// The layers on `batch` images of that `size`, with dense strides. Weights may be packed by this
    /// plan, or by either layer alone.
    ///
    /// # Errors
    /// As of [`Conv2d::plan`](crate::Conv::plan) for either layer, with its [`Stage`]. Groups of the
    /// depthwise layer that are not as many as its inputs; inputs of the pointwise layer that are not
    /// the outputs of the other, its groups, kernel or stride where they are not 1, or a padding.
    pub const fn plan(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; 2],
    ) -> Result<SeparablePlan, Error> {
        self.plan_within(layout, batch, size, isize::MAX as usize)
    }

    /// [`Separable2d::plan`] for a target whose objects have at most `limit` bytes.
    #[doc(hidden)]
    pub const fn plan_within(
        &self,
        layout: Layout,
        batch: usize,
        size: [usize; 2],
        limit: usize,
    ) -> Result<SeparablePlan, Error> {
        let Separable2d { depthwise, pointwise } = self;
        let first = tri!(of(depthwise.plan_within(layout, batch, size, limit), Stage::Depthwise));
        tri!(of(
            exactly(Field::Groups, depthwise.in_channels(), depthwise.group_count()),
            Stage::Depthwise
        ));
        let [_, height, width] = first.output_size();
        let second = tri!(of(
            pointwise_plan(
                pointwise,
                depthwise.out_channels(),
                layout,
                batch,
                [height, width],
                limit
            ),
            Stage::Pointwise
        ));
        SeparablePlan::new(first, second)
    }
}

/// A plan of a layer that computes each output from one pixel.
const fn pointwise_plan(
    layer: &Conv2d,
    in_channels: usize,
    layout: Layout,
    batch: usize,
    size: [usize; 2],
    limit: usize,
) -> Result<Plan, Error> {
    tri!(exactly(Field::InChannels, in_channels, layer.in_channels()));
    tri!(exactly(Field::Groups, 1, layer.group_count()));
    let mut axis = 0;
    while axis < 2 {
        tri!(exactly(Field::Kernel(axis), 1, layer.kernel_size()[axis]));
        tri!(exactly(Field::Stride(axis), 1, layer.stride[axis]));
        axis += 1;
    }
    let plan = tri!(layer.plan_within(layout, batch, size, limit));
    let Geometry { input, output, .. } = plan.layer.problem.geometry;
    let mut axis = 0;
    while axis < 2 {
        tri!(exactly(Field::Padding(axis), 0, output[axis + 1] - input[axis + 1]));
        axis += 1;
    }
    Ok(plan)
}

const fn exactly(field: Field, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::new(field, Expected::Exactly(expected), Found::Count(found)))
}

/// With the layer that an error is about.
const fn of<T: Copy>(result: Result<T, Error>, stage: Stage) -> Result<T, Error> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.of(stage)),
    }
}
