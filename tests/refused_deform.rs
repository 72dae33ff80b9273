//! What a deformable convolution refuses, by which words, with the output untouched; and that sizes are
//! checked whatever the numbers.

#[path = "support/deform_description.rs"]
mod deform_description;
#[path = "support/description.rs"]
mod description;
mod support;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::mem::MaybeUninit;
use support::choices::Choices;
use support::{POISON, assert_same_bits, bits, fill, share};
use tapwise::{
    DeformConv2d, DeformPlan, Epilogue, Error, Expected, Field, Found, Layout, Weights,
    deform_conv2d, deform_conv2d_scratch_len, reference,
};

const LAYER: DeformConv2d = DeformConv2d::new(4, 6, [3, 2]).padding([1, 1]).offset_groups(2);
const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

#[track_caller]
fn refused<T>(result: Result<T, Error>, field: Field, expected: Expected, found: Found) {
    let error = result.err().expect("this has to be refused");
    assert_eq!((error.field(), error.expected(), error.found()), (field, expected, found));
}

fn plan(layer: DeformConv2d) -> Result<DeformPlan, Error> {
    layer.plan(Layout::Nhwc, 1, [5, 4])
}

#[test]
fn descriptions() {
    let count = Found::Count;
    for (layer, field, expected, found) in [
        (DeformConv2d::new(0, 6, [3, 2]), Field::InChannels, Expected::AtLeast(1), count(0)),
        (DeformConv2d::new(4, 0, [3, 2]), Field::OutChannels, Expected::AtLeast(1), count(0)),
        (DeformConv2d::new(4, 6, [0, 2]), Field::Kernel(0), Expected::AtLeast(1), count(0)),
        (DeformConv2d::new(4, 6, [3, 0]), Field::Kernel(1), Expected::AtLeast(1), count(0)),
        (LAYER.stride([0, 1]), Field::Stride(0), Expected::AtLeast(1), count(0)),
        (LAYER.stride([1, 0]), Field::Stride(1), Expected::AtLeast(1), count(0)),
        (LAYER.dilation([0, 1]), Field::Dilation(0), Expected::AtLeast(1), count(0)),
        (LAYER.dilation([1, 0]), Field::Dilation(1), Expected::AtLeast(1), count(0)),
        (LAYER.groups(0), Field::Groups, Expected::AtLeast(1), count(0)),
        (LAYER.groups(3), Field::Groups, Expected::DivisorOf(4), count(3)),
        (LAYER.groups(4), Field::Groups, Expected::DivisorOf(6), count(4)),
        (LAYER.offset_groups(0), Field::OffsetGroups, Expected::AtLeast(1), count(0)),
        (LAYER.offset_groups(3), Field::OffsetGroups, Expected::DivisorOf(4), count(3)),
        (LAYER.offset_groups(8), Field::OffsetGroups, Expected::DivisorOf(4), count(8)),
        (LAYER.dilation([4, 1]), Field::Kernel(0), Expected::AtMost(7), count(9)),
        (LAYER.dilation([1, 6]), Field::Kernel(1), Expected::AtMost(6), count(7)),
    ] {
        refused(plan(layer), field, expected, found);
        refused(layer.output_size([5, 4]), field, expected, found);
    }
    for (size, axis) in [([0, 4], 0), ([5, 0], 1)] {
        let result = LAYER.plan(Layout::Nchw, 1, size);
        refused(result, Field::InputSize(axis), Expected::AtLeast(1), Found::Count(0));
    }
    refused(
        plan(LAYER).unwrap().assume_caches(0, 1),
        Field::CacheL1,
        Expected::AtLeast(1),
        Found::Count(0),
    );
    let error = plan(LAYER.offset_groups(3)).unwrap_err();
    assert_eq!(error.to_string(), "offset_groups: expected a divisor of 4, found 3");
    // Groups and offset groups have nothing to do with each other.
    for (groups, offset_groups) in [(1, 4), (2, 4), (2, 1)] {
        assert!(plan(LAYER.groups(groups).offset_groups(offset_groups)).is_ok());
    }
}

/// Each tensor of an addressable layer may be too large.
#[test]
fn sizes() {
    let bytes = 1 << 20;
    let elements = bytes / 4;
    let too_large = |layer: DeformConv2d, batch, size, field| {
        for layout in LAYOUTS {
            let result = layer.plan_within(layout, batch, size, bytes);
            refused(result, field, Expected::AtMost(elements), Found::Overflow);
        }
    };
    // One pixel in, and as many out as there are paddings.
    let spread = DeformConv2d::new(1, 1, [3, 3]).padding([60, 60]);
    assert_eq!(spread.plan(Layout::Nhwc, 1, [1, 1]).unwrap().offsets_len(), 18 * 119 * 119);
    assert!(spread.plan_within(Layout::Nhwc, 1, [1, 1], bytes).is_ok());
    too_large(spread, 2, [1, 1], Field::OffsetElements);
    too_large(spread.padding([61, 61]), 1, [1, 1], Field::OffsetElements);
    too_large(spread, 1 << 17, [1, 1], Field::OutputElements);
    too_large(spread, 3, [1 << 9, 1 << 8], Field::InputElements);
    // Of one output and 24 pixels of samples, that each tap and channel has.
    let tall = DeformConv2d::new(1300, 1, [9, 1]).padding([4, 0]);
    assert!(tall.plan_within(Layout::Nhwc, 1, [22, 1], bytes).is_ok());
    too_large(tall, 1, [23, 1], Field::Scratch);
    too_large(DeformConv2d::new(1 << 9, 1 << 9, [1, 1]), 1, [1, 1], Field::WeightElements);
    // Room for packed weights besides.
    let packs = DeformConv2d::new(64, 1 << 8, [3, 4]);
    let plan = packs.plan_within(Layout::Nhwc, 1, [13, 11], bytes).unwrap();
    let field = Field::Scratch;
    refused(plan.unpacked(), field, Expected::AtMost(elements), Found::Overflow);
}

/// The slices of a sound call of [`LAYER`], modulated.
struct Slices {
    x: Vec<f32>,
    offsets: Vec<f32>,
    mask: Vec<f32>,
    weights: Vec<f32>,
    packed: Vec<f32>,
    bias: Vec<f32>,
    scratch: usize,
    y: usize,
}

/// What a run says, and a job, and the plain loops, if the scratch memory will do.
fn results(
    plan: &DeformPlan,
    slices: &Slices,
    mask: Option<&[f32]>,
    epilogue: Epilogue,
) -> Vec<Result<(), Error>> {
    let Slices { x, offsets, weights, packed, scratch, y, .. } = slices;
    let mut results = Vec::new();
    let packed = plan.packed_from_slice(packed).unwrap();
    let mut output = vec![POISON; *y];
    let mut scratch = vec![POISON; *scratch];
    let run = plan.run(x, offsets, mask, packed, epilogue, &mut scratch, &mut output);
    results.push(run.map(|_| ()));
    if scratch.len() >= plan.scratch_len() {
        let job = plan.job(x, offsets, mask, packed, epilogue, &mut output);
        results.push(job.map(|_| ()));
        results.push(reference::deform_conv2d(
            plan,
            x,
            offsets,
            mask,
            weights,
            epilogue,
            &mut output,
        ));
    }
    if results[0].is_err() {
        assert_same_bits(&output, &vec![POISON; *y], "untouched");
        assert!(scratch.iter().all(|word| word.to_bits() == POISON.to_bits()));
    }
    results
}

fn shorten(values: &mut Vec<f32>) {
    values.pop();
}

#[test]
fn calls() {
    for layout in LAYOUTS {
        let plan = LAYER.modulated().plan(layout, 2, [5, 4]).unwrap();
        let weights = fill(plan.weights_len(), 4);
        let mut packed = vec![POISON; plan.packed_len()];
        plan.pack(&weights, &mut packed).unwrap();
        let slices = || Slices {
            x: fill(plan.input_len(), 1),
            offsets: fill(plan.offsets_len(), 2),
            mask: fill(plan.mask_len(), 3),
            weights: weights.clone(),
            packed: packed.clone(),
            bias: fill(6, 5),
            scratch: plan.scratch_len(),
            y: plan.output_len(),
        };
        let [inputs, sets] = [2 * 4 * 5 * 4, 2 * 2 * 6 * 5 * 5];
        assert_eq!(
            (plan.input_len(), plan.offsets_len(), plan.mask_len()),
            (inputs, 2 * sets, sets)
        );
        let refuse = |change: fn(&mut Slices), field: Field, least: usize| {
            let mut slices = slices();
            change(&mut slices);
            let epilogue = Epilogue::new().bias(&slices.bias);
            for result in results(&plan, &slices, Some(&slices.mask), epilogue) {
                refused(result, field, Expected::AtLeast(least), Found::Count(least - 1));
            }
        };
        refuse(|slices| shorten(&mut slices.x), Field::Input, inputs);
        refuse(|slices| shorten(&mut slices.offsets), Field::Offsets, 2 * sets);
        refuse(|slices| shorten(&mut slices.mask), Field::Mask, sets);
        refuse(|slices| shorten(&mut slices.bias), Field::Bias, 6);
        refuse(|slices| slices.y -= 1, Field::Output, plan.output_len());
        refuse(|slices| slices.scratch -= 1, Field::Scratch, plan.scratch_len());

        // A sound call, with slices that are longer than they have to be.
        let mut long = slices();
        for slice in [&mut long.x, &mut long.offsets, &mut long.mask, &mut long.bias] {
            slice.push(POISON);
        }
        for result in results(&plan, &long, Some(&long.mask), Epilogue::new().bias(&long.bias)) {
            result.unwrap();
        }

        let whole = slices();
        for result in results(&plan, &whole, None, Epilogue::new()) {
            refused(result, Field::Modulation, Expected::Mask, Found::NoMask);
        }
        let plain = LAYER.plan(layout, 2, [5, 4]).unwrap();
        assert_eq!((plain.mask_len(), plain.offsets_len()), (0, plan.offsets_len()));
        let of_plain = Slices { scratch: plain.scratch_len(), ..slices() };
        for mask in [&whole.mask[..], &[]] {
            for result in results(&plain, &of_plain, Some(mask), Epilogue::new()) {
                refused(result, Field::Modulation, Expected::NoMask, Found::Mask);
            }
        }
        for result in results(&plan, &whole, Some(&whole.mask), Epilogue::new().clamp(1.0, 0.0)) {
            let found = Found::Number(1.0);
            refused(result, Field::ClampLower, Expected::AtMostNumber(0.0), found);
        }

        // The wrong form of weights, and those of another layer.
        let Slices { x, offsets, mask, .. } = &whole;
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        let epilogue = Epilogue::new();
        let unpacked = Weights::Unpacked(&weights);
        let result = plan.run(x, offsets, Some(mask), unpacked, epilogue, &mut scratch, &mut y);
        refused(result, Field::WeightForm, Expected::Packed, Found::Unpacked);
        let other = DeformConv2d::new(4, 6, [2, 3]);
        let mut blob = vec![POISON; other.packed_len().unwrap()];
        let packed = other.pack(&weights, &mut blob).unwrap();
        let result = plan.run(x, offsets, Some(mask), packed, epilogue, &mut scratch, &mut y);
        refused(result, Field::PackedSignature, Expected::LayerOfThePlan, Found::AnotherLayer);
        refused(
            plan.packed_from_slice(&blob),
            Field::PackedSignature,
            Expected::LayerOfThePlan,
            Found::AnotherLayer,
        );
        assert_same_bits(&y, &vec![POISON; plan.output_len()], "untouched");
        let mut y = vec![MaybeUninit::uninit(); plan.output_len()];
        let packed = plan.packed_from_slice(&whole.packed).unwrap();
        let residual = Epilogue::new().residual_from_output();
        let result = plan.run(x, offsets, Some(mask), packed, residual, &mut scratch, &mut y);
        let field = Field::ResidualFromOutput;
        refused(result, field, Expected::Initialised, Found::Uninitialised);
        let result = plan.run(x, offsets, Some(mask), packed, epilogue, &mut scratch, &mut y);
        assert_eq!(result.unwrap().map(|y| y.len()), Some(plan.output_len()));
        // A tile comes back.
        let mut y = vec![POISON; plan.output_len()];
        let mut job = plan.job(x, offsets, Some(mask), packed, epilogue, &mut y).unwrap();
        let tile = job.tiles(1).next().unwrap();
        let error = tile.run(&mut scratch[1..]).unwrap_err().error;
        assert_eq!(error.field(), Field::Scratch);
    }
    let plan = plan(LAYER).unwrap();
    let error = plan
        .run(
            &[0.0; 80],
            &fill(plan.offsets_len(), 1),
            Some(&[]),
            Weights::Unpacked(&[]),
            Epilogue::new(),
            &mut [],
            &mut [0.0; 0],
        )
        .unwrap_err();
    assert_eq!(error.to_string(), "modulation: expected no mask, found one");
}

const X: [usize; 4] = [2, 4, 5, 4];
const OFFSET: [usize; 4] = [2, 24, 5, 5];
const WEIGHT: [usize; 4] = [6, 2, 3, 2];
const MASK: [usize; 4] = [2, 12, 5, 5];

/// The function that plans for itself: torchvision's arguments.
#[test]
fn one_call() {
    let len = |shape: [usize; 4]| shape.iter().product::<usize>();
    let (x, offset, weight) = (fill(len(X), 1), fill(len(OFFSET), 2), fill(len(WEIGHT), 3));
    let (bias, mask) = (fill(6, 4), fill(len(MASK), 5));
    const ONES: [usize; 2] = [1, 1];
    const SCRATCH: usize = match deform_conv2d_scratch_len(X, OFFSET, WEIGHT, ONES, ONES, ONES) {
        Ok(len) => len,
        Err(error) => error.panic(),
    };
    let call = |shapes: [[usize; 4]; 3], mask: Option<([usize; 4], &[f32])>, scratch: usize| {
        let [x_shape, offset_shape, weight_shape] = shapes;
        let mut y = vec![POISON; 2 * 6 * 5 * 5];
        let result = deform_conv2d(
            x_shape,
            &x,
            offset_shape,
            &offset,
            weight_shape,
            &weight,
            Some(&bias),
            ONES,
            ONES,
            ONES,
            mask,
            &mut vec![POISON; scratch],
            &mut y,
        );
        if result.is_err() {
            assert_same_bits(&y, &vec![POISON; y.len()], "untouched");
        }
        result.map(|shape| (shape, y))
    };
    for mask in [None, Some((MASK, &mask[..]))] {
        let layer = LAYER.groups(2);
        let layer = if mask.is_some() { layer.modulated() } else { layer };
        let plan = layer.plan(Layout::Nchw, 2, [5, 4]).unwrap();
        let mut expected = vec![POISON; plan.output_len()];
        let values = mask.map(|(_, mask)| mask);
        let epilogue = Epilogue::new().bias(&bias);
        reference::deform_conv2d(&plan, &x, &offset, values, &weight, epilogue, &mut expected)
            .unwrap();
        let (shape, y) = call([X, OFFSET, WEIGHT], mask, SCRATCH).unwrap();
        assert_eq!(shape, [2, 6, 5, 5]);
        assert_eq!(bits(&y), bits(&expected));
        refused(
            call([X, OFFSET, WEIGHT], mask, SCRATCH - 1),
            Field::Scratch,
            Expected::AtLeast(SCRATCH),
            Found::Count(SCRATCH - 1),
        );
    }
    let with = |shape: [usize; 4], axis: usize, extent: usize| {
        let mut shape = shape;
        shape[axis] = extent;
        shape
    };
    for (axis, extent) in [(0, 1), (1, 23), (2, 4), (3, 6)] {
        let shapes = [X, with(OFFSET, axis, extent), WEIGHT];
        let expected = if axis == 1 { 12 } else { OFFSET[axis] };
        let field = Field::OffsetShape(axis);
        refused(
            call(shapes, None, SCRATCH),
            field,
            Expected::Exactly(expected),
            Found::Count(extent),
        );
        let shape = with(MASK, axis, extent);
        let field = Field::MaskShape(axis);
        refused(
            call([X, OFFSET, WEIGHT], Some((shape, &mask)), SCRATCH),
            field,
            Expected::Exactly(MASK[axis]),
            Found::Count(extent),
        );
    }
    let few = [X, with(OFFSET, 1, 11), WEIGHT];
    refused(call(few, None, SCRATCH), Field::OffsetGroups, Expected::AtLeast(1), Found::Count(0));
    let three = [X, with(OFFSET, 1, 36), WEIGHT];
    let divisor = Expected::DivisorOf(4);
    refused(call(three, None, SCRATCH), Field::OffsetGroups, divisor, Found::Count(3));
    let odd = [X, OFFSET, with(WEIGHT, 1, 3)];
    refused(call(odd, None, SCRATCH), Field::InChannels, Expected::Exactly(3), Found::Count(4));
    let none = [X, OFFSET, with(WEIGHT, 1, 0)];
    refused(call(none, None, SCRATCH), Field::InChannels, Expected::Exactly(0), Found::Count(4));
    let short = Some((MASK, &mask[1..]));
    let least = Expected::AtLeast(len(MASK));
    refused(
        call([X, OFFSET, WEIGHT], short, SCRATCH),
        Field::Mask,
        least,
        Found::Count(len(MASK) - 1),
    );
}

/// Whatever is asked for, there is a plan or an error.
#[test]
fn absurd_descriptions() {
    let runs = Cell::new(0);
    for tame in [false, true] {
        let config =
            Config { cases: share(40_000) as u32, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new(config).run(&vec(any::<u8>(), 200), |bytes| {
            let more = deform_description::check(&mut Choices::new(&bytes), tame);
            runs.set(runs.get() + more);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    }
    assert!(runs.get() > share(2_000), "{}", runs.get());
}
