//! Depthwise-separable layers that are refused, when they are planned and when they are called: by
//! which error, of which layer; the output of a call is then untouched.

mod support;

use std::mem::MaybeUninit;
use support::{POISON, fill};
use tapwise::{
    Conv2d, Epilogue, Error, Expected, Field, Found, Isa, Kernel, Layout, PackedWeights,
    Separable2d, SeparablePlan, Stage, StrideOf, Strides, Weights,
};

const DEPTHWISE: Conv2d = Conv2d::new(6, 12, [3, 2]).padding([1, 0]).stride([2, 1]).groups(6);
const POINTWISE: Conv2d = Conv2d::new(12, 20, [1, 1]);

fn parts(error: Error) -> (Option<Stage>, Field, Expected, Found) {
    (error.stage(), error.field(), error.expected(), error.found())
}

#[track_caller]
fn is_refused(
    depthwise: Conv2d,
    pointwise: Conv2d,
    stage: Stage,
    field: Field,
    expected: Expected,
    found: usize,
) {
    let block = Separable2d::new(depthwise, pointwise);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let error = block.plan(layout, 2, [7, 8]).unwrap_err();
        assert_eq!(parts(error), (Some(stage), field, expected, Found::Count(found)));
    }
}

#[test]
fn layers_that_are_not_separable() {
    use Expected::{AtLeast, AtMost, DivisorOf, Exactly};
    let first = |layer, field, expected, found| {
        is_refused(layer, POINTWISE, Stage::Depthwise, field, expected, found);
    };
    first(Conv2d::new(6, 12, [3, 2]), Field::Groups, Exactly(6), 1);
    first(Conv2d::new(6, 12, [3, 2]).groups(3), Field::Groups, Exactly(6), 3);
    // What is refused of any convolution.
    first(DEPTHWISE.groups(5), Field::Groups, DivisorOf(6), 5);
    first(DEPTHWISE.groups(0), Field::Groups, AtLeast(1), 0);
    first(DEPTHWISE.stride([1, 0]), Field::Stride(1), AtLeast(1), 0);
    first(DEPTHWISE.dilation([0, 1]), Field::Dilation(0), AtLeast(1), 0);
    first(DEPTHWISE.dilation([1, 8]), Field::Kernel(1), AtMost(8), 9);
    first(Conv2d::new(0, 12, [3, 2]).groups(6), Field::InChannels, AtLeast(1), 0);
    first(Conv2d::new(6, 6, [0, 2]).groups(6), Field::Kernel(0), AtLeast(1), 0);

    let second = |layer, field, expected, found| {
        is_refused(DEPTHWISE, layer, Stage::Pointwise, field, expected, found);
    };
    second(Conv2d::new(6, 20, [1, 1]), Field::InChannels, Exactly(12), 6);
    second(Conv2d::new(13, 20, [1, 1]), Field::InChannels, Exactly(12), 13);
    second(Conv2d::new(12, 20, [2, 1]), Field::Kernel(0), Exactly(1), 2);
    second(Conv2d::new(12, 20, [1, 3]), Field::Kernel(1), Exactly(1), 3);
    second(Conv2d::new(12, 20, [1, 0]), Field::Kernel(1), Exactly(1), 0);
    second(POINTWISE.stride([1, 2]), Field::Stride(1), Exactly(1), 2);
    second(POINTWISE.stride([0, 1]), Field::Stride(0), Exactly(1), 0);
    second(POINTWISE.groups(4), Field::Groups, Exactly(1), 4);
    second(POINTWISE.padding([1, 0]), Field::Padding(0), Exactly(0), 2);
    second(POINTWISE.padding_sides([0, 0], [0, 3]), Field::Padding(1), Exactly(0), 3);
    second(Conv2d::new(12, 0, [1, 1]), Field::OutChannels, AtLeast(1), 0);

    // Padding that comes to nothing, and a dilation that is never taken.
    for pointwise in [POINTWISE.padding_same(), POINTWISE.dilation([3, 3])] {
        assert!(Separable2d::new(DEPTHWISE, pointwise).plan(Layout::Nhwc, 2, [7, 8]).is_ok());
    }
    let error = Separable2d::new(DEPTHWISE, POINTWISE.groups(4)).plan(Layout::Nhwc, 1, [7, 8]);
    assert_eq!(error.unwrap_err().to_string(), "pointwise layer: groups: expected 1, found 4");
}

/// Nothing overflows, and what a small target cannot address is refused there.
#[test]
fn sizes_beyond_a_target() {
    let block = Separable2d::new(
        Conv2d::new(64, 64, [3, 3]).padding_same().groups(64),
        Conv2d::new(64, 8, [1, 1]),
    );
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for (size, refused) in [(1000, false), (3000, true)] {
            let plan = block.plan_within(layout, 1, [size, size], i32::MAX as usize);
            assert_eq!(plan.is_err(), refused);
            if let Err(error) = plan {
                assert_eq!(error.stage(), Some(Stage::Depthwise));
                assert_eq!((error.field(), error.found()), (Field::InputElements, Found::Overflow));
            }
        }
        for size in [1 << 20, 1 << 40, usize::MAX] {
            let _ = block.plan(layout, 1, [size, size]);
            let _ = block.plan(layout, usize::MAX, [1, size]);
        }
        // The buffer is what no longer fits: its planes have whole cache lines.
        let thin = Separable2d::new(Conv2d::new(9, 9, [1, 1]).groups(9), Conv2d::new(9, 1, [1, 1]));
        let limit = 4 * 9 * 17 * 5;
        let plan = thin.plan_within(layout, 1, [5, 17], limit);
        assert!(plan.is_ok_and(|plan| plan.scratch_len() <= limit / 4) || layout == Layout::Nchw);
        if layout == Layout::Nchw {
            let error = plan.unwrap_err();
            assert_eq!(parts(error).1, Field::Scratch);
            assert_eq!(error.found(), Found::Overflow);
        }
        // Any cache, from the smallest to the largest.
        let plan = block.plan(layout, 1, [30, 30]).unwrap();
        for l2 in [1, 2, 3, usize::MAX / 2, usize::MAX] {
            let plan = plan.assume_caches(1, l2).unwrap();
            assert!((1..=900).contains(&plan.pixels_in_buffer()));
        }
        let zero = |result: Result<SeparablePlan, Error>| result.unwrap_err().field();
        assert_eq!(zero(plan.assume_caches(0, 1)), Field::CacheL1);
        assert_eq!(zero(plan.assume_caches(1, 0)), Field::CacheL2);
        let huge = Strides::new([usize::MAX, 1, usize::MAX, usize::MAX]);
        assert_eq!(zero(plan.with_input_strides(huge)), Field::InputElements);
        assert_eq!(zero(plan.with_output_strides(huge)), Field::OutputElements);
        assert_eq!(zero(plan.with_residual_strides(huge)), Field::ResidualElements);
        let overlapping = Strides::new([0, 1, 1000, 7]);
        assert_eq!(
            zero(plan.with_output_strides(overlapping)),
            Field::OutputStride(StrideOf::Pixel)
        );
    }
}

/// The slices of a call, each just long enough.
#[derive(Clone)]
struct Call {
    plan: SeparablePlan,
    x: Vec<f32>,
    packed: [Vec<f32>; 2],
    biases: [Vec<f32>; 2],
    residual: Vec<f32>,
    scratch_len: usize,
    output_len: usize,
}

impl Call {
    fn new(layout: Layout) -> Call {
        let plan = Separable2d::new(DEPTHWISE, POINTWISE).plan(layout, 2, [7, 8]).unwrap();
        let plan = plan.assume_caches(1 << 10, 1 << 10).unwrap();
        let mut packed =
            [plan.depthwise_packed_len(), plan.pointwise_packed_len()].map(|len| vec![0.0; len]);
        plan.pack_depthwise(&fill(plan.depthwise_weights_len(), 1), &mut packed[0]).unwrap();
        plan.pack_pointwise(&fill(plan.pointwise_weights_len(), 2), &mut packed[1]).unwrap();
        Call {
            plan,
            x: fill(plan.input_len(), 0),
            packed,
            biases: [fill(12, 3), fill(20, 4)],
            residual: fill(plan.output_len(), 5),
            scratch_len: plan.scratch_len(),
            output_len: plan.output_len(),
        }
    }

    fn epilogues(&self) -> [Epilogue<'_>; 2] {
        let [first, second] = self.biases.each_ref().map(|bias| Epilogue::new().bias(bias));
        [first.relu6(), second.residual(&self.residual).relu()]
    }

    /// Of `run`, and of `job` or its tiles. Asserts that a refusal leaves the output as it was, and that
    /// otherwise all of it is written.
    fn errors(&self, weights: [Weights; 2], epilogues: [Epilogue; 2]) -> [Option<Error>; 2] {
        let [w, v] = weights;
        let [first, second] = epilogues;
        let mut scratch = vec![POISON; self.scratch_len];
        let is_poison = |value: &f32| value.to_bits() == POISON.to_bits();
        let mut y = vec![POISON; self.output_len];
        let of_run = self.plan.run(&self.x, w, first, v, second, &mut scratch, &mut y).err();
        assert_eq!(y.iter().all(is_poison), of_run.is_some());
        assert_eq!(y.iter().any(is_poison), of_run.is_some());
        let mut y = vec![POISON; self.output_len];
        let of_job = match self.plan.job(&self.x, w, first, v, second, &mut y) {
            Err(error) => Some(error),
            Ok(mut job) => {
                assert_eq!(job.scratch_len(), self.plan.scratch_len());
                let errors = job.tiles(3).map(|tile| tile.run(&mut scratch).err().map(Error::from));
                errors.collect::<Vec<_>>()[0]
            }
        };
        assert_eq!(y.iter().all(is_poison), of_job.is_some());
        [of_run, of_job]
    }

    fn weights(&self) -> [Weights<'_>; 2] {
        [
            self.plan.depthwise_weights(&self.packed[0]).unwrap().into(),
            self.plan.pointwise_weights(&self.packed[1]).unwrap().into(),
        ]
    }

    #[track_caller]
    fn is_refused(
        &self,
        weights: [Weights; 2],
        epilogues: [Epilogue; 2],
        expected: (Option<Stage>, Field, Expected, Found),
    ) {
        let errors = self.errors(weights, epilogues).map(|error| error.map(parts));
        assert_eq!(errors, [Some(expected); 2]);
    }
}

#[test]
fn calls() {
    let (first, second) = (Some(Stage::Depthwise), Some(Stage::Pointwise));
    let too_short =
        |stage, field, needed| (stage, field, Expected::AtLeast(needed), Found::Count(needed - 1));
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let call = Call::new(layout);
        let plan = &call.plan;
        assert_eq!(call.errors(call.weights(), call.epilogues()), [None; 2]);

        let mut broken = call.clone();
        broken.x.pop();
        let expected = too_short(None, Field::Input, plan.input_len());
        broken.is_refused(call.weights(), call.epilogues(), expected);
        let mut broken = call.clone();
        broken.output_len -= 1;
        let expected = too_short(None, Field::Output, plan.output_len());
        broken.is_refused(call.weights(), call.epilogues(), expected);
        let mut broken = call.clone();
        broken.scratch_len -= 1;
        let expected = too_short(None, Field::Scratch, plan.scratch_len());
        broken.is_refused(call.weights(), call.epilogues(), expected);
        for (at, stage, channels) in [(0, first, 12), (1, second, 20)] {
            let mut broken = call.clone();
            broken.biases[at].pop();
            let expected = too_short(stage, Field::Bias, channels);
            broken.is_refused(call.weights(), broken.epilogues(), expected);
        }
        let mut broken = call.clone();
        broken.residual.pop();
        let expected = too_short(second, Field::Residual, plan.residual_len());
        broken.is_refused(call.weights(), broken.epilogues(), expected);

        // A residual that would need what lies between.
        let [start, end] = call.epilogues();
        let no_residual = (first, Field::ResidualBetween, Expected::NoResidual, Found::Residual);
        for with_residual in [start.residual(&call.residual), start.residual_from_output()] {
            call.is_refused(call.weights(), [with_residual, end], no_residual);
        }
        let nan = |stage, bound: f32| {
            let (expected, found) = (Expected::AtMostNumber(bound), Found::Number(2.0));
            (stage, Field::ClampLower, expected, found)
        };
        call.is_refused(call.weights(), [start.clamp(2.0, 1.0), end], nan(first, 1.0));
        call.is_refused(call.weights(), [start, end.clamp(2.0, 1.5)], nan(second, 1.5));

        // Weights of the other layer, and weights that are not packed.
        let [w, v] = call.weights();
        let other = |stage| {
            let (expected, found) = (Expected::LayerOfThePlan, Found::AnotherLayer);
            (stage, Field::PackedSignature, expected, found)
        };
        call.is_refused([v, v], call.epilogues(), other(first));
        call.is_refused([w, w], call.epilogues(), other(second));
        let form = |stage| (stage, Field::WeightForm, Expected::Packed, Found::Unpacked);
        let unpacked = fill(12 * 20, 1);
        let unpacked = Weights::Unpacked(&unpacked);
        call.is_refused([unpacked, v], call.epilogues(), form(first));
        call.is_refused([w, unpacked], call.epilogues(), form(second));
        let blob: &[f32] = &call.packed[0];
        assert_eq!(plan.pointwise_weights(blob).map_err(parts).unwrap_err(), other(second));
        let blob: &[f32] = &call.packed[1];
        assert_eq!(plan.depthwise_weights(blob).map_err(parts).unwrap_err(), other(first));
        let mut packed = call.packed[0].clone();
        let error = plan.pack_depthwise(&[0.0; 71], &mut packed).map_err(parts).unwrap_err();
        assert_eq!(error, (first, Field::Weights, Expected::Exactly(72), Found::Count(71)));
        let error = plan.pack_pointwise(&[f32::INFINITY; 240], &mut packed).unwrap_err();
        assert_eq!((error.stage(), error.field()), (second, Field::Weight(0)));

        // What the output holds, before it holds anything.
        let mut y = vec![MaybeUninit::uninit(); plan.output_len()];
        let mut scratch = vec![0.0; plan.scratch_len()];
        let end = Epilogue::new().residual_from_output();
        let error = plan.run(&call.x, w, start, v, end, &mut scratch, &mut y).unwrap_err();
        let (expected, found) = (Expected::Initialised, Found::Uninitialised);
        assert_eq!(parts(error), (second, Field::ResidualFromOutput, expected, found));
    }
}

/// Blobs of either layer alone serve the plan, and those of the plan the layer.
#[test]
fn blobs() {
    let call = Call::new(Layout::Nhwc);
    let alone = DEPTHWISE.plan(Layout::Nchw, 1, [3, 3]).unwrap();
    assert!(PackedWeights::from_slice(&alone, &call.packed[0]).is_ok());
    let mut packed = vec![POISON; POINTWISE.packed_len().unwrap()];
    POINTWISE.pack(&fill(240, 2), &mut packed).unwrap();
    assert!(call.plan.pointwise_weights(&packed).is_ok());
    support::assert_same_bits(&packed, &call.packed[1], "a blob");
}

#[test]
fn paths_and_no_images() {
    let block = Separable2d::new(DEPTHWISE, POINTWISE);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let plan = block.plan(layout, 0, [7, 8]).unwrap();
        assert_eq!((plan.input_len(), plan.output_len()), (0, 0));
        let packed = Call::new(layout).packed;
        let w = plan.depthwise_weights(&packed[0]).unwrap();
        let v = plan.pointwise_weights(&packed[1]).unwrap();
        let (start, mut scratch) = (Epilogue::new(), vec![0.0; plan.scratch_len()]);
        let mut y: [f32; 0] = [];
        plan.run(&[], w, start, v, start, &mut scratch, &mut y).unwrap();
        assert_eq!(plan.job(&[], w, start, v, start, &mut y).unwrap().tiles(4).len(), 0);
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            assert_eq!(plan.with_isa(isa).unwrap_err().field(), Field::Isa);
        }
        let plan = block.plan(layout, 3, [7, 8]).unwrap();
        assert_eq!(
            (plan.in_channels(), plan.depthwise_channels(), plan.out_channels()),
            (6, 12, 20)
        );
        assert_eq!((plan.output_size(), plan.batch(), plan.layout()), ([1, 4, 7], 3, layout));
        assert_eq!(block.output_size([7, 8]), Ok([4, 7]));
        assert_eq!(plan.macs(), 3 * 28 * (12 * 6 + 12 * 20));
        assert_eq!(plan.input_shape().iter().product::<usize>(), plan.input_len());
        assert_eq!(plan.output_shape().iter().product::<usize>(), plan.output_len());
        assert_eq!(plan.residual_len(), plan.output_len());
        assert_eq!((block.depthwise(), block.pointwise()), (DEPTHWISE, POINTWISE));
    }
}

/// As a kernel that cannot run a plan's layer is.
#[test]
fn kernels_that_cannot_run_a_layer() {
    let plan = Separable2d::new(DEPTHWISE, POINTWISE).plan(Layout::Nhwc, 1, [7, 8]).unwrap();
    let alone = DEPTHWISE.plan(Layout::Nhwc, 1, [7, 8]).unwrap();
    let refused = alone.with_kernel(Kernel::Dense).unwrap_err();
    assert_eq!(plan.with_kernels(Kernel::Dense, Kernel::Dense).unwrap_err(), refused);
    // Whatever else is asked for afterwards, they stay.
    let forced = plan.with_kernels(Kernel::Pixels, Kernel::Planes).unwrap();
    for plan in [
        forced.assume_caches(512, 512),
        forced.with_input_strides(plan.input_strides()),
        forced.with_output_strides(plan.output_strides()),
    ] {
        assert_eq!(plan.unwrap().kernel_names(), ["pixels", "planes"]);
    }
}
