//! A convolution as one matrix.

use super::{input_place, offset, weight_place};
use crate::error::{Error, Expected, Field, Found};
use crate::plan::Plan;
use crate::problem::arithmetic::mul;
use crate::problem::strides::Strides;

/// The elements of the [`kernel_matrix`] of a plan: outputs times inputs.
///
/// # Errors
/// A batch that is not 1; more elements than the target can address.
pub const fn kernel_matrix_len(plan: &Plan) -> Result<usize, Error> {
    let batch = plan.layer.problem.geometry.batch;
    if batch != 1 {
        return Err(Error::new(Field::Batch, Expected::Exactly(1), Found::Count(batch)));
    }
    let (outputs, inputs) = sides(plan);
    mul(outputs, inputs, plan.layer.problem.most_elements(), Field::MatrixElements)
}

/// Writes the matrix of a layer, row-major, of outputs times inputs: its product with the flattened
/// input is the convolution, without bias. The product of its transpose with a flattened output is the
/// transposed convolution with the same weights, `torch.nn.functional.conv_transpose2d`.
///
/// Rows are the outputs and columns the inputs, each in the order of the plan's layout and without
/// gaps, whatever the strides of the plan. The matrix has [`kernel_matrix_len`] elements, nearly all
/// of them zeros: it is for small layers, to see what they do.
///
/// Source: Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, section 4.1,
/// <https://arxiv.org/abs/1603.07285>.
///
/// ```
/// use tapwise::{Conv2d, Layout, conv2d, reference};
/// let (x, weights) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0]);
/// let plan = Conv2d::new(1, 1, [2, 2]).plan(Layout::Nchw, 1, [3, 3])?;
/// let mut matrix = [0.0; 4 * 9];
/// assert_eq!(reference::kernel_matrix_len(&plan)?, matrix.len());
/// reference::kernel_matrix(&plan, &weights, &mut matrix)?;
/// assert_eq!(matrix[..9], [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
///
/// // The matrix times x is the convolution.
/// let row = |row: usize| (0..9).map(|column| matrix[9 * row + column] * x[column]).sum::<f32>();
/// let mut y = [0.0; 4];
/// conv2d([1, 1, 3, 3], &x, [1, 1, 2, 2], &weights, None, [1; 2], [0; 2], [1; 2], 1, &mut y)?;
/// assert_eq!(y, [37.0, 47.0, 67.0, 77.0]);
/// assert_eq!(y, [row(0), row(1), row(2), row(3)]);
///
/// // The transpose times y is the transposed convolution: each y spreads y * weights over its window.
/// let column = |column: usize| (0..4).map(|row| matrix[9 * row + column] * y[row]).sum::<f32>();
/// let spread = [
///     [37.0 * 1.0, 37.0 * 2.0 + 47.0 * 1.0, 47.0 * 2.0],
///     [
///         37.0 * 3.0 + 67.0 * 1.0,
///         37.0 * 4.0 + 47.0 * 3.0 + 67.0 * 2.0 + 77.0 * 1.0,
///         47.0 * 4.0 + 77.0 * 2.0,
///     ],
///     [67.0 * 3.0, 67.0 * 4.0 + 77.0 * 3.0, 77.0 * 4.0],
/// ];
/// assert_eq!(spread.as_flattened(), std::array::from_fn::<f32, 9, _>(column));
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`kernel_matrix_len`]; weights that are not as many as the layer's, a matrix that is too
/// short. The matrix is then untouched.
pub fn kernel_matrix(plan: &Plan, weights: &[f32], matrix: &mut [f32]) -> Result<(), Error> {
    let len = kernel_matrix_len(plan)?;
    plan.check_unpacked(weights)?;
    Error::check_len(Field::Matrix, len, matrix.len())?;
    matrix[..len].fill(0.0);

    let geometry = &plan.layer.problem.geometry;
    let layout = plan.layer.problem.layout;
    let dense = |channels, size, field| {
        Strides::of_tensor(layout, channels, size, plan.layer.problem.most_elements(), field)
    };
    let from = dense(geometry.in_channels, geometry.input, Field::InputElements)?;
    let to = dense(geometry.out_channels, geometry.output, Field::OutputElements)?;
    let (_, inputs) = sides(plan);
    for out_channel in 0..geometry.out_channels {
        let group = out_channel / geometry.out_per_group;
        for output in places(geometry.output) {
            let row = offset(&to, 0, out_channel, output);
            for channel in 0..geometry.in_per_group {
                for tap in places(geometry.window) {
                    let Some(input) = input_place(geometry, output, tap) else { continue };
                    let in_channel = group * geometry.in_per_group + channel;
                    let column = offset(&from, 0, in_channel, input);
                    matrix[row * inputs + column] +=
                        weights[weight_place(geometry, out_channel, channel, tap)];
                }
            }
        }
    }
    Ok(())
}

/// The outputs and the inputs.
const fn sides(plan: &Plan) -> (usize, usize) {
    let geometry = &plan.layer.problem.geometry;
    let [depth, height, width] = geometry.input;
    // Of one image; a plan has checked both.
    (geometry.out_channels * geometry.pixels(), geometry.in_channels * depth * height * width)
}

/// The places of a box, row by row.
fn places([depth, height, width]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..depth * height * width)
        .map(move |at| [at / width / height, at / width % height, at % width])
}
