//! Parameters, multiply-adds and receptive fields: the textbook's cases, and fields found by trying.

mod support;

use proptest::prelude::*;
use support::choices::Choices;
use support::share;
use tapwise::{
    Conv, Conv1d, Conv2d, Conv3d, Epilogue, Error, Expected, Field, Found, Layout, ReceptiveField,
    reference,
};

fn parameters<const D: usize>(layers: &[Conv<D>]) -> usize {
    layers.iter().map(|layer| layer.parameters(false).unwrap()).sum()
}

fn field<const D: usize>(layers: &[Conv<D>]) -> ReceptiveField<D> {
    let then = |field: ReceptiveField<D>, layer: &Conv<D>| field.then(layer);
    layers.iter().try_fold(ReceptiveField::INPUT, then).unwrap()
}

#[test]
fn a_bottleneck_has_an_eighth_of_the_parameters() {
    let bottleneck = [
        Conv2d::new(256, 64, [1, 1]),
        Conv2d::new(64, 64, [3, 3]).padding_same(),
        Conv2d::new(64, 256, [1, 1]),
    ];
    let plain = Conv2d::new(256, 256, [3, 3]).padding_same();
    assert_eq!(parameters(&bottleneck), 69_632);
    assert_eq!(parameters(&[plain]), 589_824);
    // On any image, the multiply-adds are as many times the pixels.
    let macs = |layer: &Conv2d| layer.macs(1, [14, 14]).unwrap();
    assert_eq!(bottleneck.iter().map(macs).sum::<u128>(), 69_632 * 196);
    assert_eq!(macs(&plain), 589_824 * 196);
    assert_eq!(field(&bottleneck), field(&[plain]));
}

#[test]
fn groups_divide_the_parameters() {
    let layer = Conv2d::new(128, 256, [3, 3]).padding_same();
    let dense = parameters(&[layer]);
    assert_eq!(dense, 128 * 256 * 9);
    for groups in [1, 2, 32, 128] {
        let grouped = layer.groups(groups);
        assert_eq!(parameters(&[grouped]), dense / groups);
        assert_eq!(grouped.parameters(true), Ok(dense / groups + 256));
        assert_eq!(grouped.macs(2, [5, 6]), Ok((dense / groups * 2 * 30) as u128));
    }
}

/// 1 / out_channels + 1 / taps of the dense layer: Howard et al., MobileNets, 2017.
#[test]
fn depthwise_separable_against_dense() {
    let dense = Conv2d::new(512, 512, [3, 3]).padding_same();
    let separable = [dense.groups(512), Conv2d::new(512, 512, [1, 1])];
    assert_eq!(parameters(&[dense]), 2_359_296);
    assert_eq!(parameters(&separable), 4_608 + 262_144);
    let macs = |layer: &Conv2d| layer.macs(1, [14, 14]).unwrap();
    let shares = [1.0 / 512.0, 1.0 / 9.0].iter().sum::<f64>();
    let ratio = separable.iter().map(macs).sum::<u128>() as f64 / macs(&dense) as f64;
    assert!((ratio - shares).abs() < 1e-12, "{ratio}, expected {shares}");
}

#[test]
fn multiply_adds_are_those_of_the_plan() {
    let strided = Conv2d::new(3, 8, [3, 3]).stride([2, 2]).padding([1, 1]);
    assert_eq!(strided.macs(1, [224, 224]), Ok(112 * 112 * 8 * 27));
    for conv in [strided, strided.padding([0, 2]), strided.dilation([3, 1]), strided.stride([9, 1])]
    {
        for batch in 0..3 {
            let plan = conv.plan(Layout::Nhwc, batch, [13, 17]).unwrap();
            assert_eq!(conv.macs(batch, [13, 17]), Ok(plan.macs()));
        }
    }
    let volume = Conv3d::new(2, 4, [1, 2, 3]).groups(2);
    assert_eq!(volume.macs(1, [2, 2, 4]), Ok(4 * 4 * 6));
    const MACS: u128 = match Conv1d::new(2, 2, [2]).macs(1, [3]) {
        Ok(macs) => macs,
        Err(error) => error.panic(),
    };
    assert_eq!(MACS, 2 * 2 * 2 * 2);
}

#[test]
fn fields_of_the_textbook() {
    let three = Conv2d::new(8, 8, [3, 3]).padding_same();
    let of = |size: usize, stride: usize, start: isize| ReceptiveField {
        size: [size; 2],
        stride: [stride; 2],
        start: [start; 2],
    };
    assert_eq!(field::<2>(&[]), of(1, 1, 0));
    assert_eq!(field(&[three; 2]), of(5, 1, -2));
    assert_eq!(field(&[three; 3]), of(7, 1, -3));
    assert_eq!(field(&[three.padding_valid(); 3]), of(7, 1, 0));
    assert_eq!(field(&[three.dilation([2, 2])]), of(5, 1, -2));
    assert_eq!(field(&[three, three.dilation([2, 2]), three.dilation([4, 4])]), of(15, 1, -7));
    assert_eq!(field(&[three.groups(8), Conv2d::new(8, 8, [1, 1])]), of(3, 1, -1));
    let halving = three.padding([1, 1]).stride([2, 2]);
    assert_eq!(field(&[halving; 2]), of(7, 4, -3));
    assert_eq!(field(&[halving; 5]), of(63, 32, -31));

    // The first layers of AlexNet, and of VGG-16: the table of Araujo et al. and of the papers.
    let pool = |kernel, stride| Conv2d::new(8, 8, [kernel; 2]).groups(8).stride([stride; 2]);
    let alexnet = [
        Conv2d::new(8, 8, [11, 11]).stride([4, 4]),
        pool(3, 2),
        Conv2d::new(8, 8, [5, 5]).padding([2, 2]),
        pool(3, 2),
        three,
        three,
        three,
        pool(3, 2),
    ];
    assert_eq!((field(&alexnet).size, field(&alexnet).stride), ([195; 2], [32; 2]));
    let vgg: Vec<Conv2d> = [2, 2, 3, 3, 3]
        .into_iter()
        .flat_map(|count| std::iter::repeat_n(three, count).chain([pool(2, 2)]))
        .collect();
    assert_eq!((field(&vgg).size, field(&vgg).stride), ([212; 2], [32; 2]));
}

#[test]
fn axes_are_apart() {
    let layer = Conv3d::new(1, 1, [1, 2, 3])
        .stride([3, 2, 1])
        .dilation([7, 4, 2])
        .padding_sides([0, 5, 1], [9, 0, 0]);
    let found = field(&[layer, layer]);
    let expected = ReceptiveField { size: [1, 13, 9], stride: [9, 4, 1], start: [0, -15, -2] };
    assert_eq!(found, expected);
}

/// Layers of one channel in a chain, and an input that every one of them accepts.
fn chain(choices: &mut Choices) -> (Vec<Conv1d>, usize) {
    let layers = (0..choices.small_in(4)).map(|_| {
        let (kernel, before, after) =
            (choices.small_in(4), choices.small_in(4) - 1, choices.small_in(4) - 1);
        Conv1d::new(1, 1, [kernel])
            .stride([choices.small_in(3)])
            .dilation([choices.small_in(3)])
            .padding_sides([before], [after])
    });
    let layers: Vec<Conv1d> = layers.collect();
    let ReceptiveField { size, stride, start } = field(&layers);
    // With a few outputs that see no padding.
    let least = size[0] + start[0].unsigned_abs() + 3 * stride[0];
    (layers, least + choices.number_in(0..=3))
}

/// Positive weights and inputs: nothing cancels, and each output changes that sees the change.
fn outputs(layers: &[Conv1d], mut x: Vec<f32>) -> Vec<f32> {
    for layer in layers {
        let plan = layer.plan(Layout::NCL, 1, [x.len()]).unwrap();
        let mut y = vec![0.0; plan.output_len()];
        let weights = vec![1.0; plan.weights_len()];
        reference::run(&plan, &x, &weights, Epilogue::new(), &mut y).unwrap();
        x = y;
    }
    x
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: share(600) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Outputs change if the first or the last element of their field does, and not by any outside.
    #[test]
    fn fields_are_what_outputs_depend_on(
        bytes in proptest::collection::vec(any::<u8>(), 0..=32),
    ) {
        let (layers, len) = chain(&mut Choices::new(&bytes));
        let field = field(&layers);
        let before = outputs(&layers, vec![1.0; len]);
        let mut whole = 0;
        let mut seen = vec![Vec::new(); before.len()];
        for place in 0..len {
            let mut x = vec![1.0; len];
            x[place] = 2.0;
            for (seen, (a, b)) in seen.iter_mut().zip(before.iter().zip(outputs(&layers, x))) {
                if *a != b {
                    seen.push(place as isize);
                }
            }
        }
        for (output, seen) in seen.iter().enumerate() {
            let first = field.start[0] + (output * field.stride[0]) as isize;
            let last = first + field.size[0] as isize - 1;
            prop_assert!(seen.iter().all(|place| (first..=last).contains(place)), "{layers:?}");
            if first >= 0 && last < len as isize {
                whole += 1;
                prop_assert_eq!(seen.first(), Some(&first), "{:?} {}", &layers, output);
                prop_assert_eq!(seen.last(), Some(&last), "{:?} {}", &layers, output);
            }
        }
        prop_assert!(whole > 1, "{layers:?}: {whole} outputs without padding");
    }
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
fn layers_that_are_refused() {
    const MOST: usize = isize::MAX as usize;
    let (input, line) = (ReceptiveField::<1>::INPUT, Conv1d::new(1, 1, [3]));
    let (one, zero) = (Expected::AtLeast(1), Found::Count(0));
    refused(input.then(&line.stride([0])), Field::Stride(0), one, zero);
    refused(input.then(&line.dilation([0])), Field::Dilation(0), one, zero);
    refused(input.then(&Conv1d::new(1, 1, [0])), Field::Kernel(0), one, zero);
    refused(input.then(&Conv1d::new(0, 1, [1])), Field::InChannels, one, zero);
    refused(line.stride([0]).macs(1, [8]), Field::Stride(0), one, zero);
    refused(line.macs(1, [2]), Field::Kernel(0), Expected::AtMost(2), Found::Count(3));
    // The padding would depend on the input.
    let two = (Expected::Exactly(1), Found::Count(2));
    let strided = line.stride([2]);
    refused(input.then(&strided.padding_same()), Field::Stride(0), two.0, two.1);
    refused(input.then(&strided.padding_same_tensorflow()), Field::Stride(0), two.0, two.1);
    assert_eq!(input.then(&line.padding_same_tensorflow()), input.then(&line.padding([1])));

    let most = (Expected::AtMost(MOST), Found::Overflow);
    let overflows = |field: ReceptiveField<1>, layer: &Conv1d| {
        refused(field.then(layer), Field::Reach(0), most.0, most.1);
    };
    let largest = ReceptiveField { size: [MOST - 2], stride: [1], start: [0] };
    assert_eq!(largest.then(&line).map(|field| field.size), Ok([MOST]));
    overflows(ReceptiveField { size: [MOST - 1], ..largest }, &line);
    let far = ReceptiveField { stride: [MOST / 2 + 1], ..input };
    overflows(far, &line); // the size
    overflows(far, &Conv1d::new(1, 1, [1]).stride([2]));
    overflows(far, &Conv1d::new(1, 1, [1]).padding([2]));
    let low = ReceptiveField { start: [isize::MIN + 1], ..input };
    assert_eq!(low.then(&line.padding([1])).map(|field| field.start), Ok([isize::MIN]));
    overflows(low, &line.padding([2]));
    // A huge stride wraps around if it is not checked.
    let huge = line.stride([1 << (usize::BITS - 3)]);
    overflows(input.then(&huge).unwrap(), &huge);

    let elements = (Expected::AtMost(MOST / 4), Found::Overflow);
    let wide = Conv2d::new(1 << (usize::BITS / 2), 1 << (usize::BITS / 2), [1, 1]);
    refused(wide.macs(1, [1, 1]), Field::WeightElements, elements.0, elements.1);
    let macs = line.padding([1]).macs(usize::MAX, [1]);
    refused(macs, Field::InputElements, elements.0, elements.1);
    let macs = Conv1d::new(1, 8, [1]).macs(1, [MOST / 8]);
    refused(macs, Field::OutputElements, elements.0, elements.1);
    // As many as no word holds, of tensors that a target can have.
    let half = usize::BITS / 2 - 2;
    let large = Conv1d::new(1 << half, 1 << half, [1]).macs(1, [1 << (half - 2)]);
    assert_eq!(large, Ok(1 << (3 * half - 2)));
}
