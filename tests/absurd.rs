//! Absurd descriptions: whatever the numbers, nothing panics, and a plan that is accepted has
//! sizes that fit each other and the target.

mod support;

use proptest::prelude::*;
use proptest::test_runner::Config;
use support::{POISON, assert_same_bits, fill, paths, share};
use tapwise::{Conv, Epilogue, Layout, Plan, Strides, Weights, reference};

/// The most multiply-adds of a plan that is also run.
const MOST_MACS: u128 = 20_000;
/// The longest slice of a plan that is also run.
const MOST_ELEMENTS: usize = 1 << 14;

const LIMIT_32: usize = i32::MAX as usize;

fn any_number() -> impl Strategy<Value = usize> {
    let near = |center: usize| {
        (0..7_usize).prop_map(move |step| center.wrapping_add(step).wrapping_sub(3))
    };
    prop_oneof![
        6 => 0..5_usize,
        2 => (0..usize::BITS).prop_map(|bit| 1 << bit),
        1 => (0..usize::BITS).prop_flat_map(move |bit| near(1 << bit)),
        1 => near(usize::MAX),
        1 => near(isize::MAX as usize),
        1 => near(isize::MAX as usize / 4),
        1 => near(LIMIT_32),
        1 => near(LIMIT_32 / 4),
        1 => any::<usize>(),
    ]
}

fn small() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..5_usize, 1 => 5..20_usize]
}

#[derive(Clone, Debug)]
struct Description {
    rank: usize,
    layout: Layout,
    batch: usize,
    channels: [usize; 2],
    groups: usize,
    size: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    dilation: [usize; 3],
    padding: usize,
    before: [usize; 3],
    after: [usize; 3],
    caches: [usize; 2],
    input_strides: [usize; 5],
    output_strides: [usize; 5],
}

fn axes<S: Strategy<Value = usize>>(number: impl Fn() -> S) -> [S; 3] {
    std::array::from_fn(|_| number())
}

/// Everything absurd, or the tensors small and the rest absurd.
fn descriptions(tame: bool) -> impl Strategy<Value = Description> {
    let size = move || if tame { small().boxed() } else { any_number().boxed() };
    let layer = (1..=3_usize, any::<bool>(), size(), [size(), size()], size());
    let shape = (axes(size), axes(size), axes(any_number), axes(any_number), 0..4_usize);
    let five = || std::array::from_fn::<_, 5, _>(|_| any_number());
    let plan = (axes(any_number), axes(any_number), [any_number(), any_number()], five(), five());
    (layer, shape, plan).prop_map(move |(layer, shape, plan)| {
        let (rank, nchw, batch, mut channels, groups) = layer;
        let (size, mut kernel, stride, mut dilation, padding) = shape;
        let (before, after, caches, input_strides, output_strides) = plan;
        if tame {
            channels = channels.map(|per_group| per_group * groups);
            for axis in 0..3 {
                // Mostly windows that fit; padding and stride stay absurd.
                kernel[axis] = kernel[axis].min(size[axis]);
                if padding == 0 {
                    dilation[axis] = 1 + dilation[axis] % 3;
                }
            }
        }
        let layout = if nchw { Layout::Nchw } else { Layout::Nhwc };
        Description {
            rank,
            layout,
            batch,
            channels,
            groups,
            size,
            kernel,
            stride,
            dilation,
            padding,
            before,
            after,
            caches,
            input_strides,
            output_strides,
        }
    })
}

impl Description {
    fn check<const D: usize>(&self) -> usize {
        let axes = support::last_axes::<D>;
        let [in_channels, out_channels] = self.channels;
        let conv = Conv::<D>::new(in_channels, out_channels, axes(self.kernel))
            .stride(axes(self.stride))
            .dilation(axes(self.dilation))
            .groups(self.groups);
        let conv = match self.padding {
            0 => conv.padding_same(),
            1 => conv.padding_same_tensorflow(),
            _ => conv.padding_sides(axes(self.before), axes(self.after)),
        };
        let size = axes(self.size);
        let _ = conv.parameters(true);
        let output = conv.output_size(size);
        let plan = conv.plan(self.layout, self.batch, size);
        let narrow = conv.plan_within(self.layout, self.batch, size, LIMIT_32);
        // What a small machine accepts, a large one does.
        assert!(plan.is_ok() || narrow.is_err());
        assert!(output.is_ok() || plan.is_err());
        let mut runs = 0;
        for (plan, limit) in [(plan, isize::MAX as usize), (narrow, LIMIT_32)] {
            let Ok(plan) = plan else { continue };
            assert_eq!(support::last_axes(plan.output_size()), output.unwrap());
            self.consistent(&plan, limit);
            let [l1, l2] = self.caches;
            let other_caches = plan.assume_caches(l1, l2);
            if let Ok(plan) = other_caches {
                self.consistent(&plan, limit.max(l2));
            }
            let input = strides(self.input_strides);
            let output = strides(self.output_strides);
            let strided = [
                other_caches,
                plan.with_input_strides(input),
                plan.with_output_strides(output),
                plan.with_input_strides(input).and_then(|plan| plan.with_output_strides(output)),
            ];
            for plan in strided.into_iter().flatten() {
                self.consistent(&plan, limit.max(l2));
                runs += usize::from(self.runs(&plan));
            }
            runs += usize::from(self.runs(&plan));
        }
        runs
    }

    fn consistent(&self, plan: &Plan, limit: usize) {
        let elements = limit / 4;
        for len in [plan.input_len(), plan.output_len(), plan.weights_len(), plan.packed_len()] {
            assert!(0 < len && len <= elements);
        }
        assert!(plan.scratch_len() <= elements);
        assert!(plan.scratch_len_unpacked() <= elements);
        let wide = |factors: &[usize]| factors.iter().map(|n| *n as u128).product::<u128>();
        let [in_channels, out_channels] = self.channels;
        let axes = 3 - self.rank..3;
        let weights = wide(&[in_channels / self.groups, wide_kernel(self, axes.clone())]);
        assert_eq!(plan.weights_len() as u128, weights * out_channels as u128);
        assert!(plan.packed_len() > plan.weights_len());
        let outputs = wide(&plan.output_size()) * wide(&[self.batch, out_channels]);
        assert_eq!(plan.macs(), outputs * weights);
        assert!(plan.output_len() as u128 >= outputs);
        for axis in axes {
            assert!(plan.output_size()[axis] > 0);
        }
    }

    /// Runs what is small enough, against the plain loops.
    fn runs(&self, plan: &Plan) -> bool {
        let lens = [plan.input_len(), plan.output_len(), plan.packed_len(), plan.scratch_len()];
        let pixels = plan.output_size().iter().product::<usize>() as u128 * self.batch as u128;
        if lens.iter().any(|len| *len > MOST_ELEMENTS) || plan.macs() * 16 + pixels > MOST_MACS * 16
        {
            return false;
        }
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let bias = fill(self.channels[1], 3);
        let epilogue = Epilogue::new().bias(&bias);
        let mut expected = vec![POISON; plan.output_len()];
        reference::run(plan, &x, &w, epilogue, &mut expected).unwrap();
        let mut packed = vec![POISON; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            for weights in [Weights::Packed(packed), Weights::Unpacked(&w)] {
                let mut y = vec![POISON; plan.output_len()];
                let mut job = plan.job(&x, weights, epilogue, &mut y).unwrap();
                let mut scratch = vec![POISON; job.scratch_len()];
                for tile in job.tiles(self.caches[0]).take(MOST_ELEMENTS) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, isa);
            }
        }
        true
    }

    fn check_any_rank(&self) -> usize {
        match self.rank {
            1 => self.check::<1>(),
            2 => self.check::<2>(),
            _ => self.check::<3>(),
        }
    }
}

fn wide_kernel(description: &Description, mut axes: std::ops::Range<usize>) -> usize {
    axes.try_fold(1, |taps: usize, axis| taps.checked_mul(description.kernel[axis])).unwrap()
}

fn strides([batch, channel, depth, row, pixel]: [usize; 5]) -> Strides {
    Strides { batch, channel, depth, row, pixel }
}

/// Checks `cases` descriptions; of how many plans runs were compared.
fn check_all(tame: bool, cases: u32) -> usize {
    let runs = std::cell::Cell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&descriptions(tame), |description| {
        runs.set(runs.get() + description.check_any_rank());
        Ok(())
    });
    result.unwrap();
    runs.get()
}

#[test]
fn everything_absurd() {
    check_all(false, share(100_000) as u32);
}

#[test]
fn small_tensors_and_everything_else_absurd() {
    let runs = check_all(true, share(50_000) as u32);
    assert!(runs > share(10_000), "{runs}");
}

/// Windows whose distance, times the elements of a pixel, is more than a pointer can step.
#[test]
fn windows_far_apart() {
    let far = 1 << (usize::BITS - 4);
    let mut runs = 0;
    for (channels, groups) in [(1, 1), (8, 1), (40, 1), (8, 8), (40, 40), (12, 4), (40, 10)] {
        for (before, after, stride) in [
            (far, 0, far),
            (0, far, far),
            (far, far, far),
            (far, far, far / 2),
            (far, far, far / 5),
        ] {
            for (taps, dilation) in [(1, 1), (2, 1), (2, far - 1), (3, far)] {
                for (rank, layout) in
                    [(1, Layout::Nchw), (1, Layout::Nhwc), (2, Layout::Nchw), (2, Layout::Nhwc)]
                {
                    let axes = |in_all: usize, far: usize| match rank {
                        1 => [in_all, in_all, far],
                        _ => [in_all, far, in_all],
                    };
                    let description = Description {
                        rank,
                        layout,
                        batch: 1,
                        channels: [channels; 2],
                        groups,
                        size: [2; 3],
                        kernel: axes(1, taps),
                        stride: axes(1, stride),
                        dilation: axes(1, dilation),
                        padding: 2,
                        before: axes(0, before),
                        after: axes(0, after),
                        caches: [512, 512],
                        input_strides: [200, 1, 1, 5, 90],
                        output_strides: [0; 5],
                    };
                    runs += description.check_any_rank();
                }
            }
        }
    }
    assert!(runs > 100, "{runs}");
}
