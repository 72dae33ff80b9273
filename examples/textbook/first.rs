//! The two ways to run a convolution, sizes of outputs, and errors.

use crate::layers::{counting, run};
use crate::print::{Block, beside, checked, equal, formula, prose, row, same_bits, space, table};
use tapwise::{Conv2d, ConvTranspose2d, Error, conv2d};

/// `conv2d` and `Conv2d` on the same image.
pub fn two_ways() -> Result<(), Error> {
    let x = counting(16);
    let w = [1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 1.0, 0.0, -1.0];
    prose(
        "The window slides over the input. At each place the numbers under it are multiplied \
         by the kernel's and added up. Here one channel, 4x4, and a 3x3 kernel that sees \
         vertical edges:",
    );
    let mut once = [0.0; 4];
    conv2d([1, 1, 4, 4], &x, [1, 1, 3, 3], &w, None, [1, 1], [0, 0], [1, 1], 1, &mut once)?;
    beside(&[
        Block::of("input", 4, &x),
        Block::of("kernel", 3, &w),
        Block::of("conv2d(..)", 2, &once),
    ]);
    prose(
        "conv2d takes PyTorch's arguments, each shape before its slice: images (batch, \
         channels, rows, pixels), weights (out_channels, in_channels / groups, rows, pixels), \
         then bias, stride, padding, dilation and groups.",
    );
    space();
    prose(
        "A layer that runs often is described, planned for a shape, and its weights are \
         packed once.",
    );
    let layer = Conv2d::new(1, 1, [3, 3]);
    let packed = run(&layer, [4, 4], &x, &w)?;
    same_bits("Conv2d::new(1, 1, [3, 3]) gives what conv2d gives", &packed, &once);
    let padded = run(&layer.padding([1, 1]), [4, 4], &x, &w)?;
    beside(&[Block::of("with .padding([1, 1]): as large as the input", 4, &padded)]);
    let inner: Vec<f32> = [5, 6, 9, 10].map(|at| padded[at]).into();
    same_bits("its middle is the output without padding", &inner, &once);
    Ok(())
}

/// Sizes by the formula of PyTorch's page, beside those that layers tell.
pub fn sizes() -> Result<(), Error> {
    prose("Along each axis:");
    formula("output = (input + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down");
    let mut rows = vec![row([&"input", &"kernel", &"stride", &"padding", &"dilation", &"output"])];
    for [size, kernel, stride, padding, dilation] in [
        [224, 7, 2, 3, 1],
        [56, 3, 1, 1, 1],
        [56, 3, 1, 0, 1],
        [56, 1, 1, 0, 1],
        [33, 3, 1, 18, 18],
        [227, 11, 4, 0, 1],
        [5, 2, 2, 0, 1],
    ] {
        let layer = Conv2d::new(1, 1, [kernel; 2])
            .stride([stride; 2])
            .padding([padding; 2])
            .dilation([dilation; 2]);
        let output = (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
        assert_eq!(layer.output_size([size; 2])?, [output; 2]);
        rows.push(row([&size, &kernel, &stride, &padding, &dilation, &output]));
    }
    table(&rows);
    checked("Conv2d::output_size gives each of these");
    let same = Conv2d::new(1, 1, [3, 3]).dilation([2, 2]).padding_same();
    equal("padding_same() keeps the size, whatever it is", same.output_size([31, 47])?, [31, 47]);
    space();
    prose("A transposed convolution goes the other way:");
    formula("output = (input - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1");
    let up = ConvTranspose2d::new(1, 1, [4, 4]).stride([2, 2]).padding([1, 1]);
    let output = (28 - 1) * 2 - 2 + 3 + 1;
    equal("kernel 4, stride 2, padding 1 doubles 28 to 56", up.output_size([28, 28])?, [output; 2]);
    assert_eq!(output, 56);
    Ok(())
}

/// Shapes that do not fit each other, and what they are told.
pub fn mismatches() {
    prose("An error names the field, what was expected and what was found:");
    let mut y = [7.0; 8];
    let (x, w) = ([1.0; 3 * 4 * 4], [1.0; 2 * 4 * 3 * 3]);
    let of_channels =
        conv2d([1, 3, 4, 4], &x, [2, 4, 3, 3], &w, None, [1, 1], [0, 0], [1, 1], 1, &mut y);
    let of_groups = Conv2d::new(6, 8, [3, 3]).groups(4).output_size([8, 8]);
    let of_kernel = Conv2d::new(1, 1, [5, 5]).output_size([4, 8]);
    let of_stride = Conv2d::new(1, 1, [3, 3]).stride([0, 1]).output_size([8, 8]);
    let rows = [
        (
            "an image of 3 channels, weights for 4",
            of_channels.err(),
            "in_channels: expected 4, found 3",
        ),
        (
            "6 input channels in 4 groups",
            of_groups.err(),
            "groups: expected a divisor of 6, found 4",
        ),
        ("a kernel of 5 rows on 4", of_kernel.err(), "kernel[0]: expected at most 4, found 5"),
        ("a stride of 0", of_stride.err(), "stride[0]: expected at least 1, found 0"),
    ];
    table(&rows.map(|(what, error, words)| {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error, words, "{what}");
        [what.to_owned(), format!("{words:<40}")]
    }));
    checked("these are the words");
    same_bits("the output of the call that was refused is untouched", &y, &[7.0; 8]);
}
