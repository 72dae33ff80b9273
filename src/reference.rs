//! The definition, as plain loops: slow, short, and apart from the kernels.
//!
//! It shares with them the geometry and [`crate::numerics`] only. Every kernel returns its bits.

use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::numerics::{self, CHANNEL_BLOCK};
use crate::plan::Plan;
use crate::problem::strides::Strides;
use crate::run::weights::check_unpacked;

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
    Error::check_len(Field::Input, plan.input_len(), x.len())?;
    Error::check_len(Field::Output, plan.output_len(), y.len())?;
    check_unpacked(&plan.problem.geometry, weights)?;
    epilogue.check(plan.out_channels(), plan.residual_len())?;

    let geometry = &plan.problem.geometry;
    let from = plan.residual_strides();
    let [depth, height, width] = geometry.output;
    for image in 0..geometry.batch {
        for channel in 0..geometry.out_channels {
            for d in 0..depth {
                for h in 0..height {
                    for w in 0..width {
                        let bias = epilogue.bias.map_or(0.0, |bias| bias[channel]);
                        let acc = chain(plan, x, weights, bias, image, channel, [d, h, w]);
                        let at = offset(&plan.problem.output, image, channel, [d, h, w]);
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

/// One accumulator from the bias through every tap inside the input.
fn chain(
    plan: &Plan,
    x: &[f32],
    weights: &[f32],
    bias: f32,
    image: usize,
    out_channel: usize,
    output: [usize; 3],
) -> f32 {
    let geometry = &plan.problem.geometry;
    let in_per_group = geometry.in_channels / geometry.groups;
    let group = out_channel / (geometry.out_channels / geometry.groups);
    let [depth, height, width] = geometry.window;
    let mut acc = bias;
    for block in (0..in_per_group).step_by(CHANNEL_BLOCK) {
        for kd in 0..depth {
            for kh in 0..height {
                for kw in 0..width {
                    let Some(at) = input_place(plan, output, [kd, kh, kw]) else { continue };
                    for channel in block..in_per_group.min(block + CHANNEL_BLOCK) {
                        let value = x[offset(
                            &plan.problem.input,
                            image,
                            group * in_per_group + channel,
                            at,
                        )];
                        let filter = (out_channel * in_per_group + channel) * depth;
                        let weight = weights[((filter + kd) * height + kh) * width + kw];
                        acc = numerics::fma(value, weight, acc);
                    }
                }
            }
        }
    }
    acc
}

/// Where a tap reads the input, if inside.
fn input_place(plan: &Plan, output: [usize; 3], tap: [usize; 3]) -> Option<[usize; 3]> {
    let geometry = &plan.problem.geometry;
    let mut at = [0; 3];
    for axis in 0..3 {
        let padded = output[axis] * geometry.stride[axis] + tap[axis] * geometry.dilation[axis];
        at[axis] = padded.checked_sub(geometry.padding[axis])?;
        if at[axis] >= geometry.input[axis] {
            return None;
        }
    }
    Some(at)
}

fn offset(strides: &Strides, image: usize, channel: usize, [d, h, w]: [usize; 3]) -> usize {
    image * strides.batch
        + channel * strides.channel
        + d * strides.depth
        + h * strides.row
        + w * strides.pixel
}
