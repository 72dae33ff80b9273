//! Correlation with kernels given at run time: every image has its own.
//!
//! ```text
//! for each image of the part
//!   its kernels, packed if the kernel of the plan reads panels
//!   a call on its pixels of the part
//! ```

use super::direct;
use super::layer::{Extra, Layer, Options};
use super::operands::Operands;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::part::Part;
use crate::problem::Problem;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Operator;

/// A correlation; weights are never packed beforehand.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    Layer::new(
        problem,
        of_image(problem).simplest(),
        Some(compute),
        Options { unpacked: true, ..options },
    )
}

/// The convolution of an image with its kernels.
const fn of_image(mut problem: Problem) -> Problem {
    problem.geometry.batch = 1;
    problem.geometry.operator = Operator::Convolution;
    problem
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    _extra: &Extra,
    part: &Part,
    scratch: &mut [Element],
) {
    let Problem { geometry, input, output, weights, .. } = &layer.problem;
    let [depth, height, width] = geometry.output;
    let pixels_of_image = depth * height * width;
    let mut pixel = part.pixels.start;
    while pixel < part.pixels.end {
        let (image, first) = divide(pixel, pixels_of_image);
        let end = pixels_of_image.min(first + part.pixels.end - pixel);
        let part = Part { pixels: first..end, panels: part.panels.clone() };
        let mut operands =
            operands.moved(image.wrapping_mul(input.batch), image.wrapping_mul(output.batch));
        let kernels = image.wrapping_mul(weights.sample);
        operands.weights = operands.weights.get(kernels..).unwrap_or(&[]);
        // SAFETY: as the caller vouches; these are pixels of the part, of one image.
        unsafe { direct::compute(layer, &operands, &part, scratch) };
        pixel += end - first;
    }
}
