//! Convolutions as matrix products, and the transposed one.

use crate::layers::{counting, mixed, product, run, run_plan};
use crate::print::{Block, beside, equal, prose, same_bits, space};
use tapwise::{Conv2d, ConvTranspose2d, Epilogue, Error, Layout, fold, reference, unfold};

/// Columns of windows, and their product with the weights.
pub fn unfolded() -> Result<(), Error> {
    prose(
        "unfold (im2col) writes each window of an image as a column. For one channel, 3x3, \
         with a 2x2 kernel there are four windows of four numbers; a row of weights times \
         them is the convolution:",
    );
    let (x, w) = (counting(9), [1.0, 2.0, 3.0, 4.0]);
    let mut columns = [0.0; 16];
    unfold([1, 1, 3, 3], &x, [2, 2], [1, 1], [0, 0], [1, 1], &mut columns)?;
    let y = product(&w, &columns, 4);
    beside(&[
        Block::of("input", 3, &x),
        Block::of("columns", 4, &columns),
        Block::of("weights as a row", 4, &w),
        Block::of("weights x columns", 4, &y),
    ]);
    same_bits("it is the convolution", &y, &run(&Conv2d::new(1, 1, [2, 2]), [3, 3], &x, &w)?);
    space();
    prose(
        "A batch of 2 images of 5 channels, 3x4, with a 2x3 kernel: columns of 5 * 2 * 3 = 30 \
         numbers, and 2 * 2 = 4 windows in each image.",
    );
    let (x, w) = (mixed(2 * 5 * 12, 1), mixed(3 * 30, 2));
    let mut columns = [0.0; 2 * 30 * 4];
    let shape = unfold([2, 5, 3, 4], &x, [2, 3], [1, 1], [0, 0], [1, 1], &mut columns)?;
    equal("unfold takes (2, 5, 3, 4) to (2, 30, 4)", shape, [2, 30, 4]);
    let products: Vec<f32> =
        columns.chunks(30 * 4).flat_map(|image| product(&w, image, 30)).collect();
    let plan = Conv2d::new(5, 3, [2, 3]).plan(Layout::Nchw, 2, [3, 4])?;
    let direct = run_plan(&plan, &x, &w)?;
    same_bits("3 x 30 weights times both matrices are a layer with 3 outputs", &products, &direct);
    space();
    prose(
        "fold (col2im) adds columns up again. Of columns of ones it counts the windows over \
         each pixel:",
    );
    let mut windows = [0.0; 9];
    fold([1, 4, 4], &[1.0; 16], [3, 3], [2, 2], [1, 1], [0, 0], [1, 1], &mut windows)?;
    beside(&[Block::of("fold(ones)", 3, &windows)]);
    let expected = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0];
    same_bits("once in the corners, four times in the middle", &windows, &expected);
    Ok(())
}

/// The inputs and outputs of the small layer of these chapters: 4x4, a 3x3 kernel, 2x2.
const INPUTS: usize = 16;
const OUTPUTS: usize = 4;

/// A small layer, its matrix and its weights.
pub struct Small {
    weights: Vec<f32>,
    matrix: Vec<f32>,
}

/// The matrix whose product with the input is the convolution.
pub fn kernel_matrix() -> Result<Small, Error> {
    prose(
        "A layer is linear, so it is a matrix: a row for each output, a column for each \
         input, the kernel's weights where an output sees an input. For 4x4 and a 3x3 kernel \
         (zeros are dots):",
    );
    let weights = counting(9);
    let plan = Conv2d::new(1, 1, [3, 3]).plan(Layout::Nchw, 1, [4, 4])?;
    let mut matrix = vec![0.0; reference::kernel_matrix_len(&plan)?];
    reference::kernel_matrix(&plan, &weights, &mut matrix)?;
    beside(&[Block::of("kernel", 3, &weights), Block::sparse("matrix, 4 x 16", INPUTS, &matrix)]);
    let x = mixed(INPUTS, 1);
    let y = product(&matrix, &x, INPUTS);
    prose("Its product with an input, row by row in one column, is the output, row by row:");
    beside(&[Block::of("input", 4, &x), Block::of("matrix x input", 2, &y)]);
    same_bits("the product is the convolution", &y, &run_plan(&plan, &x, &weights)?);
    Ok(Small { weights, matrix })
}

/// The transpose of that matrix, and the layer that is it.
pub fn transposed(small: &Small) -> Result<(), Error> {
    prose(
        "The transpose of the matrix leads from 2x2 back to 4x4: not the inverse, but the way \
         that gradients take, and a way to enlarge images. Each input spreads the kernel over \
         the outputs:",
    );
    let Small { weights, matrix } = small;
    let transpose: Vec<f32> =
        (0..INPUTS * OUTPUTS).map(|at| matrix[at % OUTPUTS * INPUTS + at / OUTPUTS]).collect();
    let spread = |x: &[f32]| product(&transpose, x, OUTPUTS);
    let (one, all) = ([0.0, 0.0, 0.0, 1.0], [1.0, 2.0, -1.0, 3.0]);
    beside(&[
        Block::of("input", 2, &one),
        Block::sparse("transpose x input", 4, &spread(&one)),
        Block::of("input", 2, &all),
        Block::of("transpose x input", 4, &spread(&all)),
    ]);
    let layer = ConvTranspose2d::new(1, 1, [3, 3]);
    let run_transposed = |layer: &ConvTranspose2d, x: &[f32]| {
        run_plan(&layer.plan(Layout::Nchw, 1, [2, 2])?, x, weights)
    };
    same_bits("ConvTranspose2d gives the first", &run_transposed(&layer, &one)?, &spread(&one));
    same_bits("and the second", &run_transposed(&layer, &all)?, &spread(&all));
    space();
    prose("With a stride of 2 kernels are put down two pixels apart, and 2x2 becomes 5x5:");
    let strided = run_transposed(&layer.stride([2, 2]), &all)?;
    beside(&[Block::of("stride 2", 5, &strided)]);
    let plan = Conv2d::new(1, 1, [3, 3]).stride([2, 2]).plan(Layout::Nchw, 1, [5, 5])?;
    let mut matrix = vec![0.0; reference::kernel_matrix_len(&plan)?];
    reference::kernel_matrix(&plan, weights, &mut matrix)?;
    // A row times the matrix is the transpose times a column.
    let expected = product(&all, &matrix, OUTPUTS);
    same_bits("it is the transpose of the convolution with stride 2", &strided, &expected);
    space();
    prose(
        "Transposed means: for all x and y, the sum of y * conv(x) is that of transposed(y) * \
         x.",
    );
    let (x, y) = (mixed(25, 3), mixed(4, 5));
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut packed = vec![0.0; plan.packed_len()];
    let mut of_x = [0.0; 4];
    plan.run(&x, plan.pack(weights, &mut packed)?, Epilogue::new(), &mut scratch, &mut of_x)?;
    let of_y = run_transposed(&layer.stride([2, 2]), &y)?;
    let (left, right) = (product(&y, &of_x, 4), product(&of_y, &x, 25));
    let claim = format!("both are {} for two tensors of mixed numbers", left[0]);
    same_bits(&claim, &left, &right);
    Ok(())
}
