//! Absurd descriptions: whatever the numbers, nothing panics, and a plan that is accepted has
//! sizes that fit each other and the target.

#[path = "support/description.rs"]
mod description;
mod support;

use description::{Description, LARGEST_32, Operator};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use support::choices::Choices;
use support::share;
use tapwise::{Layout, PaddingMode};

/// As many as the choices of a description take, unless most are long.
const BYTES: usize = 220;

/// Checks `cases` descriptions; of how many plans runs were compared: of convolutions, of transposed
/// layers with an output padding, and of those to a size.
fn check_all(tame: bool, cases: u32) -> [usize; 3] {
    let runs = Cell::new([0; 3]);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let descriptions =
        vec(any::<u8>(), BYTES).prop_map(|bytes| Description::of(&mut Choices::new(&bytes), tame));
    let result = TestRunner::new(config).run(&descriptions, |description| {
        let mut counts = runs.get();
        counts[match description.operator {
            Operator::Convolution => 0,
            Operator::Transposed(_) => 1,
            Operator::TransposedTo(_) => 2,
        }] += description.check();
        runs.set(counts);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    runs.get()
}

#[test]
fn everything_absurd() {
    check_all(false, share(100_000) as u32);
}

#[test]
fn small_tensors_and_everything_else_absurd() {
    let runs = check_all(true, share(50_000) as u32);
    let [plain, transposed, sized] = runs;
    assert!(plain > share(10_000) && transposed.min(sized) > share(1_000), "{runs:?}");
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
                        limit: LARGEST_32,
                        operator: Operator::Convolution,
                        flipped: false,
                        padding_mode: PaddingMode::Zeros,
                    };
                    runs += description.check();
                }
            }
        }
    }
    assert!(runs > 100, "{runs}");
}

/// The same of transposed layers: outputs around each tap of the one input, and strides that only
/// decide which taps an output has.
#[test]
fn transposed_windows_far_apart() {
    let far = 1 << (usize::BITS - 4);
    let mut runs = 0;
    for (channels, groups) in [(1, 1), (8, 1), (40, 1), (8, 8), (40, 40), (12, 4), (40, 10)] {
        for (stride, dilation) in [
            (far, far),
            (far, far / 2),
            (far / 2, far),
            (far / 3, far / 2),
            (far - 1, far),
            (2 * far, 1),
            (1, far),
            (3, far),
        ] {
            for (tap, skipped) in [(0_usize, 0), (1, 0), (1, 2), (2, 1), (3, 5)] {
                for (rank, layout) in
                    [(1, Layout::Nchw), (1, Layout::Nhwc), (2, Layout::Nchw), (2, Layout::Nhwc)]
                {
                    let axes = |in_all: usize, far: usize| match rank {
                        1 => [in_all, in_all, far],
                        _ => [in_all, far, in_all],
                    };
                    let taps = 4;
                    let before = (tap * dilation).saturating_sub(skipped);
                    let whole = (taps - 1) * dilation + 1;
                    let after = (whole - before).saturating_sub(7);
                    let mut description = Description {
                        rank,
                        layout,
                        batch: 2,
                        channels: [channels; 2],
                        groups,
                        size: axes(2, 1),
                        kernel: axes(2, taps),
                        stride: axes(2, stride),
                        dilation: axes(1, dilation),
                        padding: 2,
                        before: axes(0, before),
                        after: axes(0, after),
                        caches: [512, 512],
                        input_strides: [200, 1, 1, 5, 90],
                        output_strides: [0; 5],
                        limit: LARGEST_32,
                        operator: Operator::Transposed([0; 3]),
                        flipped: tap == 1,
                        padding_mode: PaddingMode::Zeros,
                    };
                    runs += description.check();
                    description.operator = Operator::Transposed(axes(0, 2.min(stride - 1)));
                    runs += description.check();
                }
            }
        }
    }
    assert!(runs > 1000, "{runs}");
}
