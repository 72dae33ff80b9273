//! What a client meets of transposed and flipped layers: weights that are packed without a plan and
//! serve every size, blobs of other layers, empty batches, residuals with strides of their own, and
//! calls at once that are refused.

mod support;

use support::{POISON, assert_same_bits, bits, fill, paths, run};
use tapwise::{
    Conv, Conv1d, Conv2d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    Epilogue, Error, Expected, Field, Found, Kernel, Layout, PackedWeights, Plan, Strides, Weights,
    conv_transpose1d, conv_transpose2d, conv_transpose3d, reference,
};

const UP: ConvTranspose2d =
    ConvTranspose2d::new(8, 16, [3, 3]).stride([2, 2]).padding([1, 1]).output_padding([1, 1]);
const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

fn parts(error: Error) -> (Field, Expected, Found) {
    (error.field(), error.expected(), error.found())
}

fn is_untouched(y: &[f32]) -> bool {
    y.iter().all(|value| value.to_bits() == POISON.to_bits())
}

#[test]
fn a_layer_packs_without_a_plan() {
    const LEN: usize = match UP.packed_len() {
        Ok(len) => len,
        Err(error) => error.panic(),
    };
    let w = fill(UP.parameters(false).unwrap(), 2);
    let mut of_layer = [POISON; LEN];
    let weights = UP.pack(&w, &mut of_layer).unwrap();
    for layout in LAYOUTS {
        for (batch, size) in [(1, [5, 6]), (2, [1, 9])] {
            let plan = UP.plan(layout, batch, size).unwrap();
            assert_eq!(plan.packed_len(), LEN);
            let mut of_plan = vec![POISON; LEN];
            plan.pack(&w, &mut of_plan).unwrap();
            assert_same_bits(weights.as_slice(), &of_plan, layout);
            let x = fill(plan.input_len(), 1);
            let mut y = vec![POISON; plan.output_len()];
            let mut scratch = vec![0.0; plan.scratch_len()];
            plan.run(&x, weights, Epilogue::new(), &mut scratch, &mut y).unwrap();
            assert_same_bits(&y, &run(&plan, &x, &w, Epilogue::new()), layout);
        }
    }
    let error = UP.pack(&w, &mut vec![0.0; LEN - 1]).unwrap_err();
    assert_eq!(parts(error), (Field::Packed, Expected::AtLeast(LEN), Found::Count(LEN - 1)));
    let error = UP.pack(&w[1..], &mut vec![0.0; LEN]).unwrap_err();
    assert_eq!(parts(error).0, Field::Weights);
    // A padding that only a large input has room for.
    let far = UP.padding([70, 90]);
    assert_eq!(far.packed_len(), far.plan(Layout::Nchw, 1, [99, 99]).map(|plan| plan.packed_len()));
    assert!(far.plan(Layout::Nchw, 1, [2, 2]).is_err());
}

#[test]
fn weights_have_to_be_finite() {
    for (place, value) in [(0, f32::NAN), (7, f32::INFINITY), (1151, f32::NEG_INFINITY)] {
        let mut w = fill(UP.parameters(false).unwrap(), 2);
        w[place] = value;
        let mut packed = vec![POISON; UP.packed_len().unwrap()];
        let error = UP.pack(&w, &mut packed).unwrap_err();
        assert_eq!((error.field(), error.expected()), (Field::Weight(place), Expected::Finite));
        assert!(is_untouched(&packed));
    }
}

/// Whether a plan takes the weights that another has packed; what it refuses leaves the output.
fn takes(plan: &Plan, other: &Plan) -> bool {
    let mut blob = vec![0.0; other.packed_len()];
    let packed = other.pack(&fill(other.weights_len(), 2), &mut blob).unwrap();
    let read = PackedWeights::from_slice(plan, packed.as_slice()).err();
    let x = fill(plan.input_len(), 1);
    let mut scratch = vec![POISON; plan.scratch_len()];
    let mut y = vec![POISON; plan.output_len()];
    let run = plan.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).err();
    assert_eq!(is_untouched(&y), run.is_some());
    let expected = (Field::PackedSignature, Expected::LayerOfThePlan, Found::AnotherLayer);
    for error in [read, run].into_iter().flatten() {
        assert_eq!(parts(error), expected);
    }
    assert_eq!(read.is_some(), run.is_some());
    run.is_none()
}

/// Weights serve a layer whatever its batch, size, padding and layout, and another stride or dilation
/// as long as taps fall into the same classes; not another kind of layer.
#[test]
fn packed_weights_of_another_layer() {
    fn plan<const D: usize>(layer: ConvTranspose<D>) -> Plan {
        layer.plan(Layout::Nhwc, 1, [9; D]).unwrap()
    }
    fn conv(layer: Conv2d) -> Plan {
        layer.plan(Layout::Nhwc, 1, [9, 9]).unwrap()
    }
    let base = ConvTranspose2d::new(16, 16, [3, 4]).stride([2, 3]);
    let same = [
        base.plan(Layout::Nchw, 2, [4, 3]),
        base.plan(Layout::Nhwc, 3, [1, 1]),
        base.padding([1, 2]).plan(Layout::Nhwc, 1, [7, 8]),
        base.output_padding([1, 0]).plan(Layout::Nhwc, 1, [7, 8]),
        base.to_output_size([17, 26]).plan(Layout::Nhwc, 1, [8, 8]),
        // Taps that meet an output are as many apart.
        base.dilation([3, 2]).plan(Layout::Nhwc, 1, [7, 8]),
        base.stride([4, 3]).dilation([2, 1]).plan(Layout::Nhwc, 1, [7, 8]),
        base.stride([6, 15]).dilation([3, 5]).plan(Layout::Nchw, 1, [2, 2]),
    ];
    for same in same {
        let same = same.unwrap();
        assert!(takes(&same, &plan(base)) && takes(&plan(base), &same));
    }
    for other in [
        plan(base.flipped()),
        plan(base.stride([3, 3])),
        plan(base.stride([2, 1])),
        plan(base.stride([1, 3])),
        plan(base.stride([3, 2])),
        plan(base.stride([4, 3])),
        plan(base.dilation([2, 1])),
        plan(base.dilation([1, 3])),
        plan(base.groups(2)),
        plan(base.groups(16)),
        plan(ConvTranspose2d::new(16, 16, [4, 3]).stride([2, 3])),
        plan(ConvTranspose2d::new(16, 16, [2, 6]).stride([2, 3])),
        plan(ConvTranspose3d::new(16, 16, [3, 2, 2]).stride([2, 3, 3])),
        conv(Conv2d::new(16, 16, [3, 4])),
        conv(Conv2d::new(16, 16, [3, 4]).stride([2, 3])),
        conv(Conv2d::new(16, 16, [3, 4]).flipped()),
    ] {
        assert!(!takes(&other, &plan(base)), "{other:?}");
        assert!(!takes(&plan(base), &other), "{other:?}");
    }
    // Not even where the order is the same: turned once, and turned twice.
    let once = plan(ConvTranspose2d::new(16, 16, [3, 4]));
    let twice = plan(ConvTranspose2d::new(16, 16, [3, 4]).flipped());
    let plain = conv(Conv2d::new(16, 16, [3, 4]));
    let flipped = conv(Conv2d::new(16, 16, [3, 4]).flipped());
    let all = [once, twice, plain, flipped];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            assert_eq!(takes(a, b), i == j, "{i} {j}");
        }
    }
}

/// A flip turns the weights, of all ranks and along every axis.
#[test]
fn flipped_is_turned_weights() {
    fn check<const D: usize>(layers: [Plan; 2], kernel: [usize; D]) {
        let [layer, flipped] = layers;
        let (x, w) = (fill(layer.input_len(), 1), fill(layer.weights_len(), 2));
        let taps = kernel.iter().product();
        let mut turned = w.clone();
        turned.chunks_mut(taps).for_each(<[f32]>::reverse);
        // Sums that are exact, for the orders of the chains are not the same.
        let integers =
            |values: &[f32]| values.iter().map(|v| (v * 8.0).round()).collect::<Vec<_>>();
        let (x, w, turned) = (integers(&x), integers(&w), integers(&turned));
        for isa in paths() {
            let [layer, flipped] = [layer, flipped].map(|plan| plan.with_isa(isa).unwrap());
            let expected = run(&layer, &x, &turned, Epilogue::new());
            assert_same_bits(&run(&flipped, &x, &w, Epilogue::new()), &expected, isa);
            assert_ne!(bits(&run(&layer, &x, &w, Epilogue::new())), bits(&expected));
        }
    }
    fn both<const D: usize>(kernel: [usize; D], size: [usize; D], stride: [usize; D]) {
        for layout in LAYOUTS {
            for groups in [1, 3] {
                let conv = Conv::new(6, 18, kernel).stride(stride).groups(groups);
                let up = ConvTranspose::new(6, 18, kernel).stride(stride).groups(groups);
                let of_conv = |conv: Conv<D>| conv.plan(layout, 1, size).unwrap();
                let of_up = |up: ConvTranspose<D>| up.plan(layout, 1, size).unwrap();
                check([of_conv(conv), of_conv(conv.flipped())], kernel);
                check([of_up(up), of_up(up.flipped())], kernel);
            }
        }
    }
    both([4], [9], [2]);
    both([2, 3], [5, 7], [1, 1]);
    both([3, 2], [5, 4], [2, 3]);
    both([2, 1, 3], [3, 2, 4], [1, 2, 2]);
}

const EMPTY: Plan = match UP.plan(Layout::Nchw, 0, [5, 6]) {
    Ok(plan) => plan,
    Err(error) => error.panic(),
};

#[test]
fn a_batch_of_nothing() {
    let w = fill(EMPTY.weights_len(), 2);
    let mut packed = [0.0; EMPTY.packed_len()];
    let packed = EMPTY.pack(&w, &mut packed).unwrap();
    for plan in [EMPTY, UP.plan(Layout::Nhwc, 0, [5, 6]).unwrap()] {
        assert_eq!((plan.input_len(), plan.output_len(), plan.macs()), (0, 0, 0));
        assert_eq!(plan.output_size(), [1, 10, 12]);
        for kernel in Kernel::ALL {
            let Ok(plan) = plan.with_kernel(kernel) else { continue };
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![0.0; plan.scratch_len()];
                plan.run(&[], packed, Epilogue::new(), &mut scratch, &mut [0.0_f32; 0]).unwrap();
                let mut job = plan.job(&[], packed, Epilogue::new(), &mut [0.0_f32; 0]).unwrap();
                assert_eq!(job.tiles(4).len(), 0);
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![0.0; plan.scratch_len()];
                let w = Weights::Unpacked(&w);
                plan.run(&[], w, Epilogue::new(), &mut scratch, &mut [0.0_f32; 0]).unwrap();
            }
        }
        reference::run(&plan, &[], &w, Epilogue::new(), &mut []).unwrap();
    }
    // A batch of nothing of an output that no memory would hold.
    let huge =
        ConvTranspose1d::new(1, 1, [1]).stride([1 << 20]).plan(Layout::NCL, 0, [200]).unwrap();
    let mut scratch = vec![0.0; huge.scratch_len()];
    let packed = fill(1, 2);
    let mut blob = vec![0.0; huge.packed_len()];
    let packed = huge.pack(&packed, &mut blob).unwrap();
    huge.run(&[], packed, Epilogue::new(), &mut scratch, &mut [0.0_f32; 0]).unwrap();
}

#[test]
fn residuals_with_strides_of_their_own() {
    let bias = fill(16, 3);
    for layout in LAYOUTS {
        let plan = UP.plan(layout, 2, [5, 6]).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let other = if layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        let elsewhere = Strides { batch: 16 * 120, ..Strides::dense(other, 16, [10, 12]).unwrap() };
        for strides in [elsewhere, Strides::new([0, 1, 0, 0]), Strides::new([0; 4])] {
            let apart = plan.with_residual_strides(strides).unwrap();
            let residual = fill(apart.residual_len(), 4);
            let epilogue = Epilogue::new().bias(&bias).relu().residual(&residual);
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&apart, &x, &w, epilogue, &mut expected).unwrap();
            for isa in paths() {
                let apart = apart.with_isa(isa).unwrap();
                assert_same_bits(&run(&apart, &x, &w, epilogue), &expected, (isa, strides));
                let mut packed = vec![0.0; apart.packed_len()];
                let packed = apart.pack(&w, &mut packed).unwrap();
                let mut y = vec![POISON; apart.output_len()];
                let mut job = apart.job(&x, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![0.0; job.scratch_len()];
                for tile in job.tiles(7) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, (isa, strides, "tiles"));
            }
        }
    }
}

#[test]
fn what_a_layer_and_a_plan_tell() {
    let layer = ConvTranspose2d::new(6, 12, [3, 2]).groups(3).stride([2, 1]);
    assert_eq!((layer.in_channels(), layer.out_channels(), layer.kernel_size()), (6, 12, [3, 2]));
    assert_eq!((layer.group_count(), layer.parameters(true)), (3, Ok(6 * 4 * 6 + 12)));
    let plan = layer.plan(Layout::Nhwc, 4, [9, 8]).unwrap();
    assert_eq!((plan.batch(), plan.in_channels(), plan.out_channels()), (4, 6, 12));
    assert_eq!(*plan.input_shape(), [4, 9, 8, 6]);
    assert_eq!(*plan.output_shape(), [4, 19, 9, 12]);
    // In planes weights are read as they lie, and rows of two phases wait to be woven.
    let planes = UP.plan(Layout::Nchw, 1, [5, 6]).unwrap().unpacked().unwrap();
    assert_eq!(planes.kernel_name(), "pixels");
    assert!(planes.scratch_len() > 0);
}

#[test]
fn shapes_that_do_not_fit_each_other() {
    let (x, w) = (fill(4 * 27, 1), fill(6 * 6 * 27, 2));
    let mut y = vec![POISON; 6 * 27];
    let mut of = |filters: usize, per_group: usize, groups: usize| {
        let weight = &w[..filters * per_group.min(6)];
        let (x_shape, w_shape) = ([1, 4, 3], [filters, per_group, 1]);
        let line = conv_transpose1d(
            x_shape,
            &x,
            w_shape,
            weight,
            None,
            [1],
            [0],
            [0],
            groups,
            [1],
            &mut y,
        );
        let (x_shape, w_shape) = ([1, 4, 3, 3], [filters, per_group, 1, 1]);
        let (ones, zeros) = ([1; 2], [0; 2]);
        let plane = conv_transpose2d(
            x_shape, &x, w_shape, weight, None, ones, zeros, zeros, groups, ones, &mut y,
        );
        let (x_shape, w_shape) = ([1, 4, 3, 3, 3], [filters, per_group, 1, 1, 1]);
        let (ones, zeros) = ([1; 3], [0; 3]);
        let volume = conv_transpose3d(
            x_shape, &x, w_shape, weight, None, ones, zeros, zeros, groups, ones, &mut y,
        );
        let errors = [line.unwrap_err(), plane.unwrap_err(), volume.unwrap_err()];
        assert!(errors.iter().all(|error| *error == errors[0]));
        assert!(is_untouched(&y));
        parts(errors[0])
    };
    let wrong =
        |expected, found| (Field::InChannels, Expected::Exactly(expected), Found::Count(found));
    assert_eq!(of(3, 6, 1), wrong(3, 4));
    assert_eq!(of(6, 3, 2), wrong(6, 4));
    assert_eq!(of(0, 6, 1), wrong(0, 4));
    let zero = (Expected::AtLeast(1), Found::Count(0));
    assert_eq!(of(4, 6, 0), (Field::Groups, zero.0, zero.1));
    assert_eq!(of(4, 0, 2), (Field::OutChannels, zero.0, zero.1));
    assert_eq!(of(4, 2, 3), (Field::Groups, Expected::DivisorOf(4), Found::Count(3)));
    let overflow = (Field::OutChannels, Expected::AtMost(usize::MAX), Found::Overflow);
    assert_eq!(of(4, usize::MAX / 2 + 1, 2), overflow);
}

#[test]
fn one_call_with_short_slices() {
    let (x, w, bias) = (fill(4 * 9, 1), fill(4 * 6 * 4, 2), fill(6, 3));
    let mut y = vec![POISON; 6 * 36];
    let mut call = |x: &[f32], w: &[f32], bias: &[f32], y_len: usize, more: usize| {
        let (x_shape, w_shape) = ([1, 4, 3, 3], [4, 6, 2, 2]);
        let (bias, zeros, y) = (Some(bias), [0; 2], &mut y[..y_len]);
        let error =
            conv_transpose2d(x_shape, x, w_shape, w, bias, [2; 2], zeros, [more, 0], 1, [1; 2], y);
        assert_eq!(is_untouched(y), error.is_err());
        error.err().map(parts)
    };
    let too_short =
        |field, needed| Some((field, Expected::AtLeast(needed), Found::Count(needed - 1)));
    assert_eq!(call(&x[1..], &w, &bias, 216, 0), too_short(Field::Input, 36));
    assert_eq!(call(&x, &w, &bias[1..], 216, 0), too_short(Field::Bias, 6));
    assert_eq!(call(&x, &w, &bias, 215, 0), too_short(Field::Output, 216));
    let exactly = (Field::Weights, Expected::Exactly(96), Found::Count(95));
    assert_eq!(call(&x, &w[1..], &bias, 216, 0), Some(exactly));
    let most = (Field::OutputPadding(0), Expected::AtMost(1), Found::Count(2));
    assert_eq!(call(&x, &w, &bias, 216, 2), Some(most));
    assert_eq!(call(&x, &w, &bias, 216, 0), None);
    // One channel wide, the layers are the same: of one tap they are ordinary.
    let mut once = [POISON; 9];
    let shape = conv_transpose2d(
        [1, 4, 3, 3],
        &x,
        [4, 1, 1, 1],
        &w[..4],
        None,
        [1; 2],
        [0; 2],
        [0; 2],
        1,
        [1; 2],
        &mut once,
    );
    assert_eq!(shape, Ok([1, 1, 3, 3]));
    let conv = Conv1d::new(4, 1, [1]).plan(Layout::NCL, 1, [9]).unwrap();
    assert_same_bits(&once, &run(&conv, &x, &w[..4], Epilogue::new()), "one tap");
}
