//! Correlation with kernels given at run time: the bits of the plain loops, and of the convolutions
//! that users write instead, on every path.

#[path = "support/correlation.rs"]
mod correlating;
#[path = "support/description.rs"]
mod description;
#[path = "support/random.rs"]
mod random;
mod support;

use correlating::CorrelationCase;
use random::random_by_all_kernels;
use support::{POISON, assert_same_bits, paths};
use tapwise::{
    Correlation2d, CorrelationPlan, Epilogue, Error, Expected, Field, Found, Layout, Strides,
    Weights, reference,
};

/// The most multiply-adds of an ordinary layer.
const MOST_MACS: usize = 8_000;

/// With kernels, input and output at any places, in tiles, by every kernel that can.
#[test]
fn random_layers() {
    let paths = paths();
    random_by_all_kernels(
        4_000,
        |choices| CorrelationCase::of(choices, MOST_MACS),
        |case| case.plans().into_iter().map(|(_, kernel, _)| kernel).collect(),
        |case| case.check(&paths),
    );
}

/// Whatever is asked for, there is a plan or an error.
#[test]
fn absurd_descriptions() {
    random::absurd_descriptions(260, correlating::describe);
}

/// Sample by sample it is an ordinary convolution; in planes all samples are one, of more groups.
#[test]
fn the_groups_trick() {
    for (in_channels, out_channels, groups) in [(6, 1, 1), (6, 6, 6), (8, 12, 4), (40, 2, 2)] {
        let (batch, size, kernel) = (3, [9, 8], [3, 4]);
        let described = Correlation2d::new(in_channels, out_channels, kernel)
            .groups(groups)
            .stride([2, 1])
            .padding([1, 2])
            .dilation([2, 1]);
        let plan = described.plan(Layout::Nchw, batch, size).unwrap();
        let x = support::fill(plan.input_len(), 1);
        let kernels = support::fill(plan.kernels_len(), 2);
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        plan.run(&x, &kernels, Epilogue::new().relu6(), &mut scratch, &mut y).unwrap();

        let trick = tapwise::Conv2d::new(batch * in_channels, batch * out_channels, kernel)
            .groups(batch * groups)
            .stride([2, 1])
            .padding([1, 2])
            .dilation([2, 1])
            .plan(Layout::Nchw, 1, size)
            .and_then(|plan| plan.unpacked())
            .unwrap();
        let mut expected = vec![POISON; trick.output_len()];
        let mut scratch = vec![POISON; trick.scratch_len()];
        let epilogue = Epilogue::new().relu6();
        trick.run(&x, Weights::Unpacked(&kernels), epilogue, &mut scratch, &mut expected).unwrap();
        assert_same_bits(&y, &expected, (in_channels, out_channels, groups));
    }
}

#[test]
fn what_a_description_tells() {
    let layer = Correlation2d::new(6, 12, [3, 2]).groups(3);
    assert_eq!((layer.in_channels(), layer.out_channels()), (6, 12));
    assert_eq!((layer.group_count(), layer.kernel_size()), (3, [3, 2]));
}

#[test]
fn kernels_of_all_samples_may_be_the_same() {
    let plan = Correlation2d::dense(5, [2, 2]).plan(Layout::Nhwc, 2, [4, 4]).unwrap();
    let own = plan.kernel_strides();
    let shared = plan.with_kernel_strides(Strides { batch: 0, ..own }).unwrap();
    assert_eq!((plan.kernels_len(), shared.kernels_len()), (40, 20));
    assert_eq!(*plan.kernels_shape(), [2, 2, 2, 5]);
    let (x, kernels) = (support::fill(plan.input_len(), 1), support::fill(20, 2));
    let run = |plan: &CorrelationPlan, kernels: &[f32]| {
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        plan.run(&x, kernels, Epilogue::new(), &mut scratch, &mut y).unwrap();
        y
    };
    assert_same_bits(&run(&shared, &kernels), &run(&plan, &kernels.repeat(2)), "shared");
}

/// Kernels may repeat elements along any of their dimensions: of channels that share theirs, or all of
/// whose weights are the same.
#[test]
fn kernels_may_repeat_elements() {
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for described in [Correlation2d::dense(20, [2, 3]), Correlation2d::depthwise(20, [2, 3])] {
            let plan = described.plan(layout, 2, [4, 6]).unwrap();
            let own = plan.kernel_strides();
            for strides in [
                Strides { channel: 0, ..own },
                Strides { row: 0, pixel: 0, ..own },
                Strides { batch: 0, channel: 0, depth: 0, row: 0, pixel: 0 },
            ] {
                let plan = plan.with_kernel_strides(strides).unwrap();
                let x = support::fill(plan.input_len(), 1);
                let kernels = support::fill(plan.kernels_len(), 2);
                let mut expected = vec![POISON; plan.output_len()];
                let epilogue = Epilogue::new();
                reference::correlation(&plan, &x, &kernels, epilogue, &mut expected).unwrap();
                for isa in paths() {
                    let plan = plan.with_isa(isa).unwrap();
                    let mut y = vec![POISON; plan.output_len()];
                    let mut scratch = vec![POISON; plan.scratch_len()];
                    plan.run(&x, &kernels, epilogue, &mut scratch, &mut y).unwrap();
                    assert_same_bits(&y, &expected, (strides, isa));
                }
            }
        }
    }
}

#[test]
fn refusals() {
    #[track_caller]
    fn refused(
        plan: Result<CorrelationPlan, Error>,
        field: Field,
        expected: Expected,
        found: Found,
    ) {
        let error = plan.unwrap_err();
        assert_eq!((error.field(), error.expected(), error.found()), (field, expected, found));
    }
    let dense = Correlation2d::dense(4, [3, 3]);
    let at = |described: Correlation2d, size| described.plan(Layout::Nchw, 2, size);
    // A kernel larger than its input.
    refused(at(dense, [2, 5]), Field::Kernel(0), Expected::AtMost(2), Found::Count(3));
    refused(
        at(dense.dilation([1, 1 << 61]), [9, 9]),
        Field::Kernel(1),
        Expected::AtMost(isize::MAX as usize / 2),
        Found::Overflow,
    );
    refused(
        at(dense.stride([0, 1]), [9, 9]),
        Field::Stride(0),
        Expected::AtLeast(1),
        Found::Count(0),
    );
    refused(
        at(dense.dilation([0, 1]), [9, 9]),
        Field::Dilation(0),
        Expected::AtLeast(1),
        Found::Count(0),
    );
    refused(at(dense.groups(3), [9, 9]), Field::Groups, Expected::DivisorOf(4), Found::Count(3));
    refused(
        at(Correlation2d::depthwise(0, [3, 3]), [9, 9]),
        Field::InChannels,
        Expected::AtLeast(1),
        Found::Count(0),
    );
    refused(at(dense, [9, 0]), Field::InputSize(1), Expected::AtLeast(1), Found::Count(0));
    let most = isize::MAX as usize / 4;
    refused(
        Correlation2d::new(1 << 31, 1 << 31, [1, 1]).plan(Layout::Nhwc, 1, [1, 1]),
        Field::WeightElements,
        Expected::AtMost(most),
        Found::Overflow,
    );
    // The kernels of all samples together.
    refused(
        Correlation2d::new(1 << 14, 1 << 14, [1, 1]).plan_within(Layout::Nhwc, 2, [1, 1], 1 << 30),
        Field::WeightElements,
        Expected::AtMost((1 << 30) / 4),
        Found::Overflow,
    );

    let plan = at(dense, [5, 5]).unwrap();
    let (x, mut y) = (vec![1.0; plan.input_len()], vec![POISON; plan.output_len()]);
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut run = |plan: &CorrelationPlan, x: &[f32], kernels: usize| {
        let kernels = vec![1.0; kernels];
        plan.run(x, &kernels, Epilogue::new(), &mut scratch, &mut y).map(|_| ()).unwrap_err()
    };
    // Kernels of a batch of 1 and of 3.
    for kernels in [36, 108] {
        let error = run(&plan, &x, kernels);
        assert_eq!(error.field(), Field::Weights);
        assert_eq!(
            (error.expected(), error.found()),
            (Expected::Exactly(72), Found::Count(kernels))
        );
    }
    let error = run(&plan, &x[1..], 72);
    assert_eq!((error.field(), error.expected()), (Field::Input, Expected::AtLeast(200)));
    let gaps = plan.with_kernel_strides(Strides { batch: 50, ..plan.kernel_strides() }).unwrap();
    let error = run(&gaps, &x, 85);
    assert_eq!((error.field(), error.expected()), (Field::Weights, Expected::AtLeast(86)));
    assert!(y.iter().all(|y| y.to_bits() == POISON.to_bits()));
    let far = Strides { batch: usize::MAX / 2, ..plan.kernel_strides() };
    refused(
        plan.with_kernel_strides(far),
        Field::WeightElements,
        Expected::AtMost(most),
        Found::Overflow,
    );
}

#[test]
fn no_samples() {
    let plan = Correlation2d::depthwise(3, [2, 2]).plan(Layout::Nchw, 0, [4, 4]).unwrap();
    assert_eq!((plan.input_len(), plan.kernels_len(), plan.output_len()), (0, 0, 0));
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut y = [0.0_f32; 0];
    plan.run(&[], &[], Epilogue::new(), &mut scratch, &mut y).unwrap();
}
