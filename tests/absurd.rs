//! Absurd descriptions: whatever the numbers, nothing panics, and a plan that is accepted has
//! sizes that fit each other and the target.

#[path = "support/description.rs"]
mod description;
mod support;

use description::Description;
use proptest::prelude::*;
use proptest::test_runner::Config;
use support::share;
use tapwise::Layout;

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
            limit: LIMIT_32,
        }
    })
}

/// Checks `cases` descriptions; of how many plans runs were compared.
fn check_all(tame: bool, cases: u32) -> usize {
    let runs = std::cell::Cell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&descriptions(tame), |description| {
        runs.set(runs.get() + description.check());
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
                        limit: LIMIT_32,
                    };
                    runs += description.check();
                }
            }
        }
    }
    assert!(runs > 100, "{runs}");
}
