//! Sizes, counts and paddings that are known from elsewhere.

mod support;

use support::{assert_same_bits, bits, fill, run};
use tapwise::{
    Conv, Conv1d, Conv2d, Conv3d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    Epilogue, Layout, conv_transpose1d, conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d,
};

/// The shape of the output and the number of multiply-adds, of the plan in both layouts.
fn shape(conv: Conv2d, batch: usize, size: [usize; 2]) -> ([usize; 2], u128) {
    let output = conv.output_size(size).unwrap();
    let [nchw, nhwc] = [Layout::Nchw, Layout::Nhwc].map(|layout| {
        let plan = conv.plan(layout, batch, size).unwrap();
        assert_eq!(plan.output_size()[1..], output);
        assert_eq!(plan.output_size()[0], 1);
        assert_eq!(plan.layout(), layout);
        plan
    });
    assert_eq!(nchw.macs(), nhwc.macs());
    assert_eq!(nchw.output_len(), nhwc.output_len());
    (output, nchw.macs())
}

#[test]
fn layers_of_textbooks() {
    let conv = Conv2d::new(3, 6, [3, 3]);
    assert_eq!(shape(conv, 1, [4, 4]), ([2, 2], 6 * 4 * 27));
    let (x, w) = (fill(48, 1), fill(162, 2));
    let mut y = vec![0.0; 24];
    let ones = [1; 2];
    let returned = conv2d([1, 3, 4, 4], &x, [6, 3, 3, 3], &w, None, ones, [0; 2], ones, 1, &mut y);
    assert_eq!(returned, Ok([1, 6, 2, 2]));
    assert_same_bits(
        &run(&conv.plan(Layout::Nchw, 1, [4, 4]).unwrap(), &x, &w, Epilogue::new()),
        &y,
        "conv2d",
    );

    let many = Conv2d::new(1024, 22, [6, 3]).padding([1, 0]);
    assert_eq!(shape(many, 22, [18, 19]), ([15, 17], 22 * 22 * 15 * 17 * 1024 * 18));
    assert_eq!(many.parameters(false), Ok(22 * 1024 * 6 * 3));
    let grouped = Conv2d::new(1024, 64, [6, 3]).padding([1, 0]).groups(64);
    assert_eq!(shape(grouped, 22, [18, 19]), ([15, 17], 22 * 64 * 15 * 17 * 16 * 18));
    assert_eq!(grouped.parameters(false), Ok(64 * 16 * 6 * 3));
    assert_eq!(grouped.plan(Layout::Nchw, 22, [18, 19]).unwrap().weights_len(), 64 * 16 * 6 * 3);

    let wide = Conv2d::new(256, 1, [127, 127]);
    assert_eq!(shape(wide, 1, [255, 255]), ([129, 129], 129 * 129 * 256 * 127 * 127));
    let depthwise = Conv2d::new(64, 64, [5, 5]).stride([2, 2]).padding([2, 2]).groups(64);
    assert_eq!(shape(depthwise, 1, [7, 7]), ([4, 4], 64 * 16 * 25));
    let dilated = Conv2d::new(3, 4, [3, 3]).dilation([3, 3]);
    assert_eq!(shape(dilated, 1, [7, 7]), ([1, 1], 4 * 27));
}

#[test]
fn layers_of_networks() {
    let resnet = Conv2d::new(3, 64, [7, 7]).stride([2, 2]).padding([3, 3]);
    assert_eq!(shape(resnet, 1, [224, 224]), ([112, 112], 118_013_952));
    assert_eq!((resnet.parameters(false), resnet.parameters(true)), (Ok(9408), Ok(9472)));
    let vgg = Conv2d::new(64, 128, [3, 3]).padding([1, 1]);
    assert_eq!(shape(vgg, 1, [112, 112]), ([112, 112], 924_844_032));
    assert_eq!(vgg.parameters(true), Ok(73_856));
    let depthwise = Conv2d::new(32, 32, [3, 3]).padding([1, 1]).groups(32);
    assert_eq!(shape(depthwise, 1, [112, 112]), ([112, 112], 3_612_672));
    assert_eq!(depthwise.parameters(false), Ok(288));
    let alexnet = Conv2d::new(3, 96, [11, 11]).stride([4, 4]);
    assert_eq!(shape(alexnet, 1, [227, 227]).0, [55, 55]);
    assert_eq!(alexnet.parameters(true), Ok(34_944));
    let lenet = Conv2d::new(1, 6, [5, 5]).padding([2, 2]);
    assert_eq!((shape(lenet, 1, [28, 28]).0, lenet.parameters(true)), ([28, 28], Ok(156)));
    let wav2vec = Conv1d::new(1, 512, [10]).stride([5]);
    assert_eq!((wav2vec.output_size([16_000]), wav2vec.parameters(false)), (Ok([3199]), Ok(5120)));
    let c3d = Conv3d::new(3, 64, [3, 3, 3]).padding([1, 1, 1]);
    assert_eq!(c3d.output_size([16, 112, 112]), Ok([16, 112, 112]));
    assert_eq!(c3d.parameters(true), Ok(5248));
    let far = Conv2d::new(3, 8, [3, 3]).padding([usize::MAX, 0]);
    assert_eq!(far.parameters(false), Ok(216)); // whatever the padding
}

/// Asserts the size of the output, and returns the weights and the multiply-adds.
fn transposed<const D: usize>(
    layer: ConvTranspose<D>,
    size: [usize; D],
    output: [usize; D],
) -> (usize, u128) {
    assert_eq!(layer.output_size(size), Ok(output), "{layer:?}");
    assert_eq!(layer.flipped().output_size(size), Ok(output));
    let counts = [Layout::Nchw, Layout::Nhwc].map(|layout| {
        let plan = layer.plan(layout, 1, size).unwrap();
        assert_eq!(plan.output_size()[3 - D..], output);
        assert_eq!(plan.output_len(), output.iter().product::<usize>() * plan.out_channels());
        assert_eq!(Ok(plan.packed_len()), layer.packed_len());
        (plan.weights_len(), plan.macs())
    });
    assert_eq!(counts[0], counts[1]);
    assert_eq!(layer.parameters(false), Ok(counts[0].0));
    counts[0]
}

/// The examples of PyTorch's documentation, and layers by which networks grow images and sounds.
#[test]
fn transposed_layers_of_networks() {
    let docs = ConvTranspose2d::new(16, 33, [3, 5]).stride([2, 1]).padding([4, 2]);
    let counts = transposed(docs, [50, 100], [93, 100]);
    assert_eq!(counts, (16 * 33 * 15, 5000 * 16 * 33 * 15));
    assert_eq!(docs.parameters(true), Ok(16 * 33 * 15 + 33));
    let docs = ConvTranspose2d::new(16, 33, [3, 3]).stride([2, 2]);
    transposed(docs, [50, 100], [101, 201]);
    let docs = ConvTranspose3d::new(16, 33, [3, 5, 2]).stride([2, 1, 1]).padding([0, 4, 2]);
    transposed(docs, [10, 50, 100], [21, 46, 97]);
    let upsample = ConvTranspose2d::new(16, 16, [3, 3]).stride([2, 2]).padding([1, 1]);
    transposed(upsample, [6, 6], [11, 11]);
    transposed(upsample.to_output_size([12, 12]), [6, 6], [12, 12]);
    transposed(upsample.output_padding([1, 1]), [6, 6], [12, 12]);

    let unet = ConvTranspose2d::new(1024, 512, [2, 2]).stride([2, 2]);
    assert_eq!(transposed(unet, [28, 28], [56, 56]), (2_097_152, 1_644_167_168));
    let dcgan = ConvTranspose2d::new(100, 512, [4, 4]);
    transposed(dcgan, [1, 1], [4, 4]);
    let dcgan = ConvTranspose2d::new(512, 256, [4, 4]).stride([2, 2]).padding([1, 1]);
    transposed(dcgan, [4, 4], [8, 8]);
    let fcn = ConvTranspose2d::new(21, 21, [64, 64]).stride([32, 32]).groups(21);
    assert_eq!(transposed(fcn, [7, 7], [256, 256]).0, 21 * 64 * 64);
    let waveglow = ConvTranspose1d::new(80, 80, [1024]).stride([256]);
    transposed(waveglow, [63], [62 * 256 + 1024]);
    let hifigan = ConvTranspose1d::new(512, 256, [16]).stride([8]).padding([4]);
    transposed(hifigan, [32], [256]);
    let dilated = ConvTranspose1d::new(2, 2, [3]).stride([3]).dilation([5]).output_padding([4]);
    transposed(dilated, [4], [3 * 3 + 5 * 2 + 4 + 1]);
    let sides = ConvTranspose2d::new(2, 2, [4, 3]).padding_sides([1, 0], [2, 3]);
    transposed(sides, [5, 6], [5, 5]);
}

/// A convolution of what it gives is back at the size: `output_padding` picks one of several.
#[test]
fn transposed_sizes_are_those_before_a_convolution() {
    for kernel in 1..=4 {
        for (stride, dilation, padding) in
            (1..=4).flat_map(|s| (1..=3).flat_map(move |d| (0..=2).map(move |p| (s, d, p))))
        {
            let conv = Conv1d::new(1, 1, [kernel]).stride([stride]).padding([padding]);
            let conv = conv.dilation([dilation]);
            let layer = ConvTranspose1d::new(1, 1, [kernel]).stride([stride]).padding([padding]);
            let layer = layer.dilation([dilation]);
            for size in 1..=12 {
                let Ok([smaller]) = conv.output_size([size]) else { continue };
                let least = layer.output_size([smaller]).map_or(0, |[least]| least);
                assert!(least <= size && size < least + stride, "{layer:?} {smaller} {size}");
                let sized = layer.to_output_size([size]);
                assert_eq!(sized.output_size([smaller]), Ok([size]));
                if least > 0 {
                    let padded = layer.output_padding([size - least]);
                    assert_eq!(padded.output_size([smaller]), Ok([size]));
                }
            }
        }
    }
}

#[test]
fn one_call_returns_the_shape() {
    let mut y = [f32::NAN; 4 * 5 * 2 * 3 * 4];
    let (x, w) = (fill(2 * 4 * 4 * 5 * 6, 1), fill(6 * 2 * 27, 2));
    let (x_line, w_line) = (&x[..2 * 4 * 9], &w[..6 * 2 * 3]);
    let line = conv1d([2, 4, 9], x_line, [6, 2, 3], w_line, None, [2], [1], [1], 2, &mut y);
    assert_eq!(line, Ok([2, 6, 5]));
    assert!(y[..60].iter().all(|y| y.is_finite()) && y[60..].iter().all(|y| y.is_nan()));
    let volume = conv3d(
        [2, 4, 4, 5, 6],
        &x,
        [6, 2, 3, 3, 3],
        &w,
        None,
        [2, 1, 3],
        [0, 1, 1],
        [1, 2, 1],
        2,
        &mut y,
    );
    assert_eq!(volume, Ok([2, 6, 1, 3, 2]));
    assert!(y[..72].iter().all(|y| y.is_finite()) && y[72..].iter().all(|y| y.is_nan()));
}

#[test]
fn one_transposed_call_returns_the_shape() {
    let mut y = vec![f32::NAN; 2 * 6 * 9 * 11 * 13];
    let (x, w) = (fill(2 * 4 * 4 * 5 * 6, 1), fill(4 * 3 * 27, 2));
    let bias = fill(6, 3);
    // Those of a plan, whose rows are woven.
    fn check<const D: usize>(layer: ConvTranspose<D>, size: [usize; D], tensors: [&[f32]; 4]) {
        let [x, w, bias, y] = tensors;
        let plan = layer.plan(Layout::Nchw, 2, size).unwrap();
        let expected = run(&plan, &x[..plan.input_len()], w, Epilogue::new().bias(bias));
        assert_same_bits(&y[..expected.len()], &expected, layer);
        assert!(y[expected.len()..].iter().all(|y| y.is_nan()));
    }

    let (x_line, w_line) = (&x[..2 * 4 * 9], &w[..4 * 3 * 4]);
    let (x_shape, w_shape) = ([2, 4, 9], [4, 3, 4]);
    let bias_of = Some(&bias[..]);
    let shape =
        conv_transpose1d(x_shape, x_line, w_shape, w_line, bias_of, [3], [1], [2], 2, [1], &mut y);
    assert_eq!(shape, Ok([2, 6, 28]));
    let line = ConvTranspose1d::new(4, 6, [4]).stride([3]).padding([1]).output_padding([2]);
    check(line.groups(2), [9], [&x, w_line, &bias, &y]);

    y.fill(f32::NAN);
    let (x_plane, w_plane) = (&x[..2 * 4 * 30], &w[..4 * 3 * 6]);
    let shape = conv_transpose2d(
        [2, 4, 5, 6],
        x_plane,
        [4, 3, 3, 2],
        w_plane,
        bias_of,
        [2, 1],
        [1, 0],
        [0, 2],
        2,
        [1, 3],
        &mut y,
    );
    assert_eq!(shape, Ok([2, 6, 9, 11]));
    let plane = ConvTranspose2d::new(4, 6, [3, 2]).stride([2, 1]).padding([1, 0]);
    let plane = plane.output_padding([0, 2]).groups(2).dilation([1, 3]);
    check(plane, [5, 6], [&x, w_plane, &bias, &y]);

    y.fill(f32::NAN);
    let shape = conv_transpose3d(
        [2, 4, 4, 5, 6],
        &x,
        [4, 3, 3, 3, 3],
        &w,
        bias_of,
        [2, 2, 2],
        [1, 1, 1],
        [0, 0, 0],
        2,
        [1, 1, 1],
        &mut y,
    );
    assert_eq!(shape, Ok([2, 6, 7, 9, 11]));
    let volume = ConvTranspose3d::new(4, 6, [3; 3]).stride([2; 3]).padding([1; 3]).groups(2);
    check(volume, [4, 5, 6], [&x, &w, &bias, &y]);

    // Without images, and depthwise.
    let (twos, zeros) = ([2; 2], [0; 2]);
    let (x_shape, w_shape) = ([0, 4, 5, 6], [4, 3, 3, 2]);
    let shape = conv_transpose2d(
        x_shape,
        &[],
        w_shape,
        w_plane,
        None,
        twos,
        zeros,
        zeros,
        2,
        [1; 2],
        &mut [],
    );
    assert_eq!(shape, Ok([0, 6, 11, 12]));
    y.fill(f32::NAN);
    let (x_shape, w_shape) = ([2, 4, 5, 6], [4, 1, 3, 2]);
    let w_deep = &w[..24];
    let shape = conv_transpose2d(
        x_shape, x_plane, w_shape, w_deep, None, twos, zeros, zeros, 4, [1; 2], &mut y,
    );
    assert_eq!(shape, Ok([2, 4, 11, 12]));
    let deep = ConvTranspose2d::new(4, 4, [3, 2]).stride([2, 2]).groups(4);
    check(deep, [5, 6], [&x, w_deep, &[0.0; 4], &y]);
}

#[test]
fn one_call_of_a_depthwise_layer() {
    for multiplier in [1, 2] {
        let out_channels = 3 * multiplier;
        let (x, w) = (fill(3 * 7 * 6, 1), fill(out_channels * 9, 2));
        let (x_shape, w_shape) = ([1, 3, 7, 6], [out_channels, 1, 3, 3]);
        let mut y = vec![f32::NAN; out_channels * 7 * 6];
        let shape = conv2d(x_shape, &x, w_shape, &w, None, [1, 1], [1, 1], [1, 1], 3, &mut y);
        assert_eq!(shape, Ok([1, out_channels, 7, 6]));
        let conv = Conv2d::new(3, out_channels, [3, 3]).padding([1, 1]).groups(3);
        let plan = conv.plan(Layout::Nchw, 1, [7, 6]).unwrap();
        assert_same_bits(&y, &run(&plan, &x, &w, Epilogue::new()), multiplier);
    }
}

/// Asserts that a layer with automatic padding has the bits of one with this padding, and that
/// one zero further back would change them.
fn pads<const D: usize>(
    conv: Conv<D>,
    automatic: Conv<D>,
    size: [usize; D],
    output: [usize; D],
    sides: [(usize, usize); D],
) {
    assert_eq!(automatic.output_size(size), Ok(output), "{automatic:?}");
    let (before, after) = (sides.map(|(before, _)| before), sides.map(|(_, after)| after));
    let result = |conv: Conv<D>, layout| {
        let plan = conv.plan(layout, 2, size).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        run(&plan, &x, &w, Epilogue::new())
    };
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let found = result(automatic, layout);
        let explicit = conv.padding_sides(before, after);
        assert_same_bits(&found, &result(explicit, layout), (automatic, layout));
        for axis in 0..D {
            if after[axis] > 0 {
                let (mut before, mut after) = (before, after);
                (before[axis], after[axis]) = (before[axis] + 1, after[axis] - 1);
                let moved = result(conv.padding_sides(before, after), layout);
                assert_ne!(bits(&found), bits(&moved), "{automatic:?} {layout:?}");
            }
        }
    }
}

/// `padding="same"` of PyTorch: the size stays, and the odd zero comes last.
#[test]
fn same_as_in_pytorch() {
    for (kernel, dilation, sides) in [
        (1, 1, (0, 0)),
        (2, 1, (0, 1)),
        (3, 1, (1, 1)),
        (4, 1, (1, 2)),
        (5, 1, (2, 2)),
        (6, 1, (2, 3)),
        (7, 1, (3, 3)),
        (2, 2, (1, 1)),
        (2, 3, (1, 2)),
        (3, 2, (2, 2)),
        (3, 3, (3, 3)),
        (4, 2, (3, 3)),
        (4, 3, (4, 5)),
        (5, 3, (6, 6)),
    ] {
        let conv = Conv1d::new(3, 4, [kernel]).dilation([dilation]);
        for size in [7, 10] {
            pads(conv, conv.padding_same(), [size], [size], [sides]);
        }
        assert_eq!(conv.padding_same().output_size([1]), Ok([1]));
        let conv = Conv2d::new(2, 18, [kernel, 2]).dilation([dilation, 3]);
        pads(conv, conv.padding_same(), [6, 7], [6, 7], [sides, (1, 2)]);
        let conv = Conv3d::new(4, 4, [2, kernel, 3]).dilation([1, dilation, 1]).groups(4);
        pads(conv, conv.padding_same(), [2, 6, 4], [2, 6, 4], [(0, 1), sides, (1, 1)]);
    }
}

/// `padding="SAME"` of TensorFlow: `ceil(size / stride)`, and the odd zero comes last.
#[test]
fn same_as_in_tensorflow() {
    for (size, kernel, stride, dilation, output, sides) in [
        (224, 3, 2, 1, 112, (0, 1)),
        (225, 3, 2, 1, 113, (1, 1)),
        (224, 7, 2, 1, 112, (2, 3)),
        (299, 3, 2, 1, 150, (1, 1)),
        (49, 10, 2, 1, 25, (4, 5)),
        (10, 4, 2, 1, 5, (1, 1)),
        (96, 3, 1, 1, 96, (1, 1)),
        (96, 4, 1, 1, 96, (1, 2)),
        (5, 1, 2, 1, 3, (0, 0)),
        (6, 2, 3, 1, 2, (0, 0)),
        (7, 2, 3, 1, 3, (0, 1)),
        (7, 5, 3, 1, 3, (2, 2)),
        (9, 3, 3, 1, 3, (0, 0)),
        (10, 3, 1, 2, 10, (2, 2)),
        (10, 2, 1, 3, 10, (1, 2)),
        (11, 3, 2, 2, 6, (2, 2)),
        (1, 3, 2, 1, 1, (1, 1)),
        (1, 2, 5, 1, 1, (0, 1)),
        (2, 9, 4, 1, 1, (3, 4)),
    ] {
        let conv = Conv1d::new(2, 3, [kernel]).stride([stride]).dilation([dilation]);
        pads(conv, conv.padding_same_tensorflow(), [size], [output], [sides]);
    }
    // Speech commands: 49 frames of 10 coefficients.
    let conv = Conv2d::new(1, 64, [10, 4]).stride([2, 2]);
    pads(conv, conv.padding_same_tensorflow(), [49, 10], [25, 5], [(4, 5), (1, 1)]);
    // The first layers of MobileNet.
    let conv = Conv2d::new(3, 32, [3, 3]).stride([2, 2]);
    pads(conv, conv.padding_same_tensorflow(), [96, 96], [48, 48], [(0, 1), (0, 1)]);
    let conv = Conv2d::new(16, 16, [3, 3]).stride([2, 2]).groups(16);
    pads(conv, conv.padding_same_tensorflow(), [48, 47], [24, 24], [(0, 1), (1, 1)]);
    let conv = Conv3d::new(2, 4, [3, 2, 3]).stride([2, 2, 1]);
    let output = [3, 2, 5];
    pads(conv, conv.padding_same_tensorflow(), [6, 3, 5], output, [(0, 1), (0, 1), (1, 1)]);
}

/// With a stride of 1 they are the same; `valid` is no padding.
#[test]
fn other_names_of_paddings() {
    let conv = Conv2d::new(3, 8, [4, 3]).dilation([1, 2]);
    let result = |conv: Conv2d| {
        let plan = conv.plan(Layout::Nhwc, 1, [9, 8]).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        (plan.output_size(), bits(&run(&plan, &x, &w, Epilogue::new())))
    };
    assert_eq!(result(conv.padding_same()), result(conv.padding_same_tensorflow()));
    assert_eq!(result(conv.padding([1, 2]).padding_valid()), result(conv));
    assert_eq!(result(conv).0, [1, 6, 4]);
    assert_eq!(result(conv.padding([1, 2])), result(conv.padding_sides([1, 2], [1, 2])));
}
