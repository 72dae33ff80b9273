//! Correlation with kernels given at run time, as plain loops.

use super::outputs;
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::op::correlation::CorrelationPlan;

/// Computes what [`CorrelationPlan::run`] computes.
///
/// ```
/// use tapwise::{Correlation1d, Epilogue, Layout, reference};
/// let plan = Correlation1d::dense(1, [2]).plan(Layout::NCL, 2, [3])?;
/// let (x, kernels) = ([1.0, 2.0, 4.0, 1.0, 2.0, 4.0], [1.0, 10.0, 10.0, 1.0]);
/// let mut y = [0.0; 4];
/// reference::correlation(&plan, &x, &kernels, Epilogue::new(), &mut y)?;
/// assert_eq!(y, [21.0, 42.0, 12.0, 24.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`CorrelationPlan::run`].
pub fn correlation(
    plan: &CorrelationPlan,
    x: &[f32],
    kernels: &[f32],
    epilogue: Epilogue,
    y: &mut [f32],
) -> Result<(), Error> {
    plan.plan.check_unpacked(kernels)?;
    let geometry = &plan.plan.layer.problem.geometry;
    let strides = plan.kernel_strides();
    outputs(&plan.plan, x, epilogue, y, &|image, out_channel, in_channel, tap| {
        let steps = [strides.depth, strides.row, strides.pixel];
        let channel = out_channel * geometry.in_per_group + in_channel;
        let first = image * strides.batch + channel * strides.channel;
        let place = (0..3).fold(first, |place, axis| {
            let taps = geometry.window[axis];
            let tap = if geometry.flipped { taps - 1 - tap[axis] } else { tap[axis] };
            place + tap * steps[axis]
        });
        kernels[place]
    })
}
