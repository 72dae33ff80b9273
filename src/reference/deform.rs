//! A deformable convolution, as plain loops.

use super::{offset, weight_place};
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::numerics::{self, CHANNEL_BLOCK};
use crate::plan::deform::DeformPlan;
use crate::problem::Problem;
use crate::problem::strides::Layout;

/// Computes what [`DeformPlan::run`] computes, from unpacked weights.
///
/// ```
/// use tapwise::{DeformConv2d, Epilogue, Layout, reference};
/// let plan = DeformConv2d::new(1, 1, [1, 1]).plan(Layout::Nchw, 1, [1, 3])?;
/// let (x, dy, dx) = ([1.0, 2.0, 4.0], [0.0, 0.0, 0.5], [0.5, -2.0, -0.5]);
/// let mut y = [0.0; 3];
/// let offsets = [dy, dx].concat();
/// reference::deform_conv2d(&plan, &x, &offsets, None, &[10.0], Epilogue::new(), &mut y)?;
/// assert_eq!(y, [15.0, 0.0, 15.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`DeformPlan::run`].
pub fn deform_conv2d(
    plan: &DeformPlan,
    x: &[f32],
    offsets: &[f32],
    mask: Option<&[f32]>,
    weights: &[f32],
    epilogue: Epilogue,
    y: &mut [f32],
) -> Result<(), Error> {
    let Problem { geometry, output, .. } = &plan.plan.layer.problem;
    plan.check_offsets(offsets, mask)?;
    Error::check_len(Field::Input, plan.input_len(), x.len())?;
    Error::check_len(Field::Output, plan.output_len(), y.len())?;
    plan.plan.check_unpacked(weights)?;
    epilogue.check(geometry.out_channels, plan.output_len())?;
    let tensors = Tensors { plan, x, offsets, mask, weights };
    for image in 0..geometry.batch {
        for channel in 0..geometry.out_channels {
            for h in 0..geometry.output[1] {
                for w in 0..geometry.output[2] {
                    let bias = epilogue.bias.map_or(0.0, |bias| bias[channel]);
                    let acc = tensors.chain(bias, image, channel, [h, w]);
                    let at = offset(output, image, channel, [0, h, w]);
                    let residual = match epilogue.residual {
                        Residual::None => None,
                        Residual::Slice(residual) => Some(residual[at]),
                        Residual::Output => Some(y[at]),
                    };
                    y[at] = numerics::finish(acc, residual, epilogue.function.of_channel(channel));
                }
            }
        }
    }
    Ok(())
}

struct Tensors<'a> {
    plan: &'a DeformPlan,
    x: &'a [f32],
    offsets: &'a [f32],
    mask: Option<&'a [f32]>,
    weights: &'a [f32],
}

impl Tensors<'_> {
    /// One accumulator from the bias through every tap.
    fn chain(&self, bias: f32, image: usize, out_channel: usize, output: [usize; 2]) -> f32 {
        let geometry = &self.plan.plan.layer.problem.geometry;
        let in_per_group = geometry.in_channels / geometry.groups;
        let group = out_channel / (geometry.out_channels / geometry.groups);
        let mut acc = bias;
        for block in (0..in_per_group).step_by(CHANNEL_BLOCK) {
            for kh in 0..geometry.window[1] {
                for kw in 0..geometry.window[2] {
                    for channel in block..in_per_group.min(block + CHANNEL_BLOCK) {
                        let in_channel = group * in_per_group + channel;
                        let sample = self.sample(image, in_channel, output, [kh, kw]);
                        let place = weight_place(geometry, out_channel, channel, [0, kh, kw]);
                        acc = numerics::fma(sample, self.weights[place], acc);
                    }
                }
            }
        }
        acc
    }

    /// What a tap reads.
    fn sample(&self, image: usize, channel: usize, output: [usize; 2], tap: [usize; 2]) -> f32 {
        let Problem { geometry, input, .. } = &self.plan.plan.layer.problem;
        let offset_group = channel / (geometry.in_channels / self.plan.offset_groups());
        let [_, height, width] = geometry.window;
        let set = (offset_group * height + tap[0]) * width + tap[1];
        let sets = self.plan.offset_groups() * height * width;
        let position = [0, 1].map(|axis| {
            let place =
                output[axis] * geometry.stride[1 + axis] + tap[axis] * geometry.dilation[1 + axis];
            let place = place as isize - geometry.padding[1 + axis] as isize;
            let offset = self.offsets[self.of_output(image, 2 * set + axis, 2 * sets, output)];
            numerics::deformed(place, offset)
        });
        let size = [geometry.input[1], geometry.input[2]];
        let read = |row, column| self.x[offset(input, image, channel, [0, row, column])];
        match (numerics::bilinear(size, position, read), self.mask) {
            (None, _) => 0.0,
            (Some(sample), None) => sample,
            (Some(sample), Some(mask)) => sample * mask[self.of_output(image, set, sets, output)],
        }
    }

    /// Where one of the values of an output lies.
    fn of_output(&self, image: usize, value: usize, values: usize, [h, w]: [usize; 2]) -> usize {
        let [_, height, width] = self.plan.plan.layer.problem.geometry.output;
        match self.plan.layout() {
            Layout::Nchw => ((image * values + value) * height + h) * width + w,
            Layout::Nhwc => ((image * height + h) * width + w) * values + value,
        }
    }
}
