//! The matrix of a layer: its product with the input is the convolution, that of its transpose the
//! transposed convolution.

mod support;

use support::{Layer, POISON, assert_same_bits, bits, hash};
use tapwise::{
    Conv1d, Conv2d, Epilogue, Error, Expected, Field, Found, Layout, Plan, Strides, reference,
};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// Small integers: sums and products of them are exact.
fn integers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|at| (hash(at, seed) % 15) as f32 - 7.0).collect()
}

fn layers() -> Vec<Layer> {
    let plane = Layer::new(2, [4, 6], [1, 5, 6], [1, 3, 2]);
    let ones = [1, 1, 1];
    vec![
        Layer::new(1, [1, 1], [1, 1, 5], [1, 1, 3]),
        Layer {
            dilation: [1, 1, 3],
            after: [0, 0, 4],
            ..Layer::new(1, [2, 3], [1, 1, 7], [1, 1, 3])
        },
        plane,
        Layer { groups: 2, before: [0, 1, 1], after: [0, 0, 2], ..plane },
        Layer { groups: 4, out_channels: 8, stride: [1, 2, 2], dilation: [1, 2, 1], ..plane },
        Layer { before: [0, 7, 7], after: [0, 7, 7], stride: [1, 3, 3], ..plane },
        Layer { kernel: [1, 5, 6], ..plane },
        Layer {
            groups: 2,
            stride: [1, 2, 1],
            before: ones,
            ..Layer::new(3, [2, 2], [3, 4, 3], [2, 2, 3])
        },
    ]
}

fn matrix_of(plan: &Plan, weights: &[f32]) -> Vec<f32> {
    let len = reference::kernel_matrix_len(plan).unwrap();
    let mut matrix = vec![POISON; len + 3];
    reference::kernel_matrix(plan, weights, &mut matrix).unwrap();
    assert_eq!(bits(&matrix[len..]), [POISON.to_bits(); 3], "written beyond the end");
    matrix.truncate(len);
    matrix
}

#[test]
fn its_product_is_the_convolution_and_that_of_its_transpose_the_transposed_one() {
    for (layer, layout) in layers().into_iter().flat_map(|layer| LAYOUTS.map(|l| (layer, l))) {
        let plan = layer.plan(layout).unwrap();
        let (inputs, outputs) = (plan.input_len(), plan.output_len());
        let (x, weights) = (integers(inputs, 1), integers(plan.weights_len(), 2));
        let matrix = matrix_of(&plan, &weights);
        assert_eq!(matrix.len(), inputs * outputs);

        let row = |row: &[f32]| row.iter().zip(&x).map(|(a, b)| a * b).sum::<f32>() + 0.0;
        let product: Vec<f32> = matrix.chunks(inputs).map(row).collect();
        let convolution = support::run(&plan, &x, &weights, Epilogue::new());
        assert_same_bits(&product, &convolution, (layer, layout));

        // The transposed convolution, from its definition: each y spreads over its window.
        let y = integers(outputs, 3);
        let mut spread = vec![0.0; inputs];
        let place_of = |at: usize, channels: usize, pixels: usize| match layout {
            Layout::Nchw => at,
            Layout::Nhwc => at % pixels * channels + at / pixels,
        };
        for at in 0..outputs {
            let (_, channel, place) = layer.output_place(at);
            let value = y[place_of(at, layer.out_channels, layer.pixels_out())];
            layer.visit_taps(0, channel, place, |input, weight| {
                spread[place_of(input, layer.in_channels, layer.pixels_in())] +=
                    value * weights[weight];
            });
        }
        let column = |column: usize| -> f32 {
            (0..outputs).map(|row| matrix[row * inputs + column] * y[row]).sum::<f32>() + 0.0
        };
        let product: Vec<f32> = (0..inputs).map(column).collect();
        let spread: Vec<f32> = spread.into_iter().map(|value| value + 0.0).collect();
        assert_same_bits(&product, &spread, (layer, layout));
    }
}

#[test]
fn the_strides_of_a_plan_do_not_matter() {
    let plan = Conv2d::new(2, 3, [2, 2]).plan(Layout::Nhwc, 1, [3, 4]).unwrap();
    let weights = integers(plan.weights_len(), 1);
    let apart = plan
        .with_input_strides(Strides::new([0, 1, 90, 11]))
        .and_then(|plan| plan.with_output_strides(Strides::new([0, 1, 90, 11])))
        .unwrap();
    assert_ne!(apart.input_len(), plan.input_len());
    assert_same_bits(&matrix_of(&apart, &weights), &matrix_of(&plan, &weights), "strides");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(
    result: Result<T, Error>,
    field: Field,
    expected: Expected,
    found: Found,
) {
    let error = result.unwrap_err();
    assert_eq!((error.field(), error.expected(), error.found()), (field, expected, found));
}

#[test]
fn calls_that_are_refused() {
    let conv = Conv2d::new(2, 3, [2, 2]);
    let mut matrix = vec![POISON; 18 * 24];
    let weights = integers(24, 1);
    let mut untouched = |plan: &Plan, weights: &[f32], short: usize| {
        let len = matrix.len() - short;
        let error = reference::kernel_matrix(plan, weights, &mut matrix[..len]);
        assert!(matrix.iter().all(|value| value.to_bits() == POISON.to_bits()));
        error
    };
    for batch in [0, 2] {
        let plan = conv.plan(Layout::Nchw, batch, [3, 4]).unwrap();
        let one = Expected::Exactly(1);
        refused(reference::kernel_matrix_len(&plan), Field::Batch, one, Found::Count(batch));
        refused(untouched(&plan, &weights, 0), Field::Batch, one, Found::Count(batch));
    }
    let plan = conv.plan(Layout::Nchw, 1, [3, 4]).unwrap();
    assert_eq!(reference::kernel_matrix_len(&plan), Ok(18 * 24));
    let (all, rows) = (Expected::Exactly(24), Expected::AtLeast(432));
    refused(untouched(&plan, &weights[1..], 0), Field::Weights, all, Found::Count(23));
    refused(untouched(&plan, &weights, 1), Field::Matrix, rows, Found::Count(431));

    // A layer that the target can address, a matrix that it cannot: the product would wrap to 0.
    let half = 1 << (usize::BITS / 2);
    let plan = Conv1d::new(1, 1, [1]).plan(Layout::NCL, 1, [half]).unwrap();
    let most = Expected::AtMost(isize::MAX as usize / 4);
    let len = reference::kernel_matrix_len(&plan);
    refused(len, Field::MatrixElements, most, Found::Overflow);
    refused(untouched(&plan, &[1.0], 0), Field::MatrixElements, most, Found::Overflow);
    let limit = i32::MAX as usize;
    let plan = Conv1d::new(1, 1, [1]).plan_within(Layout::NCL, 1, [1 << 15], limit).unwrap();
    let len = reference::kernel_matrix_len(&plan);
    refused(len, Field::MatrixElements, Expected::AtMost(limit / 4), Found::Overflow);
}

#[test]
fn its_length_is_a_constant() {
    const LEN: usize = match Conv1d::new(1, 1, [2]).plan(Layout::NCL, 1, [3]) {
        Ok(plan) => match reference::kernel_matrix_len(&plan) {
            Ok(len) => len,
            Err(error) => error.panic(),
        },
        Err(error) => error.panic(),
    };
    assert_eq!(LEN, 6);
}
