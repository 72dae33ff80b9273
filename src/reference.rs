//! The definition, as plain loops: slow, short, and apart from the kernels.
//!
//! It shares with them the geometry and [`crate::numerics`] only. Every kernel returns its bits.

mod correlation;
mod deform;
mod fold;
mod kernel_matrix;
mod unfold;
mod windows;

pub use correlation::correlation;
pub use deform::deform_conv2d;
pub use fold::fold;
pub use kernel_matrix::{kernel_matrix, kernel_matrix_len};
pub use unfold::unfold;

use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::numerics::{self, CHANNEL_BLOCK};
use crate::plan::Plan;
use crate::problem::geometry::{Geometry, Operator, PaddingMode};
use crate::problem::strides::Strides;

/// Computes what [`Plan::run`] computes, from unpacked weights.
///
/// ```
/// use tapwise::{Conv1d, Epilogue, Layout, reference};
/// let plan = Conv1d::new(1, 1, [2]).plan(Layout::NCL, 1, [3])?;
/// let mut y = [0.0; 2];
/// reference::run(&plan, &[1.0, 2.0, 4.0], &[1.0, 10.0], Epilogue::new(), &mut y)?;
/// assert_eq!(y, [21.0, 42.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`Plan::run`].
pub fn run(
    plan: &Plan,
    x: &[f32],
    weights: &[f32],
    epilogue: Epilogue,
    y: &mut [f32],
) -> Result<(), Error> {
    plan.check_unpacked(weights)?;
    let geometry = &plan.layer.problem.geometry;
    outputs(plan, x, epilogue, y, &|_, out_channel, in_channel, tap| {
        weights[weight_place(geometry, out_channel, in_channel, tap)]
    })
}

/// The weight of a sample, an output channel, an input channel of its group, and a tap.
type Weight<'a> = &'a dyn Fn(usize, usize, usize, [usize; 3]) -> f32;

/// Every output of a plan.
fn outputs(
    plan: &Plan,
    x: &[f32],
    epilogue: Epilogue,
    y: &mut [f32],
    weight: Weight,
) -> Result<(), Error> {
    Error::check_len(Field::Input, plan.input_len(), x.len())?;
    Error::check_len(Field::Output, plan.output_len(), y.len())?;
    epilogue.check(plan.out_channels(), plan.residual_len())?;

    let geometry = &plan.layer.problem.geometry;
    let from = plan.residual_strides();
    let [depth, height, width] = geometry.output;
    for image in 0..geometry.batch {
        for channel in 0..geometry.out_channels {
            for d in 0..depth {
                for h in 0..height {
                    for w in 0..width {
                        let bias = epilogue.bias.map_or(0.0, |bias| bias[channel]);
                        let acc = chain(plan, x, weight, bias, image, channel, [d, h, w]);
                        let at = offset(&plan.layer.problem.output, image, channel, [d, h, w]);
                        let residual = match epilogue.residual {
                            Residual::None => None,
                            Residual::Slice(residual) => {
                                Some(residual[offset(&from, image, channel, [d, h, w])])
                            }
                            Residual::Output => Some(y[at]),
                        };
                        y[at] =
                            numerics::finish(acc, residual, epilogue.function.of_channel(channel));
                    }
                }
            }
        }
    }
    Ok(())
}

/// One accumulator from the bias through every tap inside the input, in the order of their inputs.
fn chain(
    plan: &Plan,
    x: &[f32],
    weight: Weight,
    bias: f32,
    image: usize,
    out_channel: usize,
    output: [usize; 3],
) -> f32 {
    let geometry = &plan.layer.problem.geometry;
    let in_per_group = geometry.in_channels / geometry.groups;
    let group = out_channel / (geometry.out_channels / geometry.groups);
    let [depth, height, width] = geometry.window;
    let mut acc = bias;
    for block in (0..in_per_group).step_by(CHANNEL_BLOCK) {
        for kd in ascending(geometry, depth) {
            for kh in ascending(geometry, height) {
                for kw in ascending(geometry, width) {
                    let tap = [kd, kh, kw];
                    let Some(at) = input_place(geometry, output, tap) else { continue };
                    for channel in block..in_per_group.min(block + CHANNEL_BLOCK) {
                        let in_channel = group * in_per_group + channel;
                        let value = x[offset(&plan.layer.problem.input, image, in_channel, at)];
                        let weight = weight(image, out_channel, channel, tap);
                        acc = numerics::fma(value, weight, acc);
                    }
                }
            }
        }
    }
    acc
}

/// The taps along an axis by the place of their input.
fn ascending(geometry: &Geometry, taps: usize) -> impl Iterator<Item = usize> {
    (0..taps).map(move |tap| match geometry.operator {
        Operator::Convolution | Operator::Correlation | Operator::Deformable { .. } => tap,
        Operator::Transposed => taps - 1 - tap,
    })
}

/// Where a tap reads the input, if inside.
fn input_place(geometry: &Geometry, output: [usize; 3], tap: [usize; 3]) -> Option<[usize; 3]> {
    let mut at = [0; 3];
    for axis in 0..3 {
        let (stride, padding) = (geometry.stride[axis], geometry.padding[axis]);
        let distance = tap[axis] * geometry.dilation[axis];
        at[axis] = match geometry.operator {
            Operator::Convolution | Operator::Correlation | Operator::Deformable { .. } => {
                let padded = output[axis] * stride + distance;
                if geometry.padding_mode == PaddingMode::Zeros {
                    padded.checked_sub(padding)?
                } else {
                    geometry.padding_mode.source(padded, padding, geometry.input[axis])
                }
            }
            // From there the input is spread to this output.
            Operator::Transposed => {
                let spread = (output[axis] + padding).checked_sub(distance)?;
                if spread % stride != 0 {
                    return None;
                }
                spread / stride
            }
        };
        if at[axis] >= geometry.input[axis] {
            return None;
        }
    }
    Some(at)
}

/// Where the weight of a tap lies, in PyTorch's order.
fn weight_place(
    geometry: &Geometry,
    out_channel: usize,
    in_channel: usize,
    tap: [usize; 3],
) -> usize {
    let in_per_group = geometry.in_channels / geometry.groups;
    let out_per_group = geometry.out_channels / geometry.groups;
    let filter = match geometry.operator {
        Operator::Convolution | Operator::Correlation | Operator::Deformable { .. } => {
            out_channel * in_per_group + in_channel
        }
        Operator::Transposed => {
            let first = out_channel / out_per_group * in_per_group;
            (first + in_channel) * out_per_group + out_channel % out_per_group
        }
    };
    (0..3).fold(filter, |place, axis| {
        let taps = geometry.window[axis];
        place * taps + if geometry.flipped { taps - 1 - tap[axis] } else { tap[axis] }
    })
}

fn offset(strides: &Strides, image: usize, channel: usize, [d, h, w]: [usize; 3]) -> usize {
    image * strides.batch
        + channel * strides.channel
        + d * strides.depth
        + h * strides.row
        + w * strides.pixel
}
