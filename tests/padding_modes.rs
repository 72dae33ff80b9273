//! Convolutions whose padding is not zeros: the bits of the plain loops on every path, and of a
//! convolution without padding on an input that was padded first.

#[path = "support/description.rs"]
mod description;
#[path = "support/padding_modes.rs"]
mod padded;
#[path = "support/random.rs"]
mod random;
mod support;

use padded::{MODES, check, describe, padded_case};
use random::random_by_all_kernels;
use support::{POISON, assert_same_bits, paths, share};
use tapwise::{
    Conv1d, Conv2d, Epilogue, Expected, Field, Found, Kernel, Layout, PaddingMode, Separable2d,
    reference,
};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// The most multiply-adds of an ordinary layer.
const MOST_MACS: usize = 12_000;

/// With input and output at any places, in tiles, by every kernel that can.
#[test]
fn random_layers() {
    let paths = paths();
    random_by_all_kernels(
        4_000,
        |choices| padded_case(choices, MOST_MACS),
        |case| case.plans().into_iter().map(|(_, kernel, _)| kernel).collect(),
        |case| check(&case, &paths),
    );
}

/// Whatever is asked for, there is a plan or an error.
#[test]
fn absurd_descriptions() {
    random::absurd_descriptions(220, |choices, tame| describe(choices, tame).check());
}

#[test]
fn limits_of_the_modes() {
    #[track_caller]
    fn refused(conv: Conv2d, axis: usize, most: usize, found: usize) {
        let error = conv.plan(Layout::Nchw, 1, [4, 5]).unwrap_err();
        assert_eq!(error.field(), Field::PaddingSide(axis));
        assert_eq!(
            (error.expected(), error.found()),
            (Expected::AtMost(most), Found::Count(found))
        );
    }
    let conv = Conv2d::new(2, 2, [3, 3]);
    let reflect = conv.padding_mode(PaddingMode::Reflect);
    refused(reflect.padding([4, 4]), 0, 3, 4);
    refused(reflect.padding([3, 5]), 1, 4, 5);
    refused(reflect.padding_sides([0, 0], [0, 5]), 1, 4, 5);
    assert!(reflect.padding([3, 4]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    let circular = conv.padding_mode(PaddingMode::Circular);
    refused(circular.padding([5, 0]), 0, 4, 5);
    refused(circular.padding_sides([0, 6], [0, 0]), 1, 5, 6);
    assert!(circular.padding([4, 5]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    // Replicate has no limit but that of the tensors.
    let replicate = conv.padding_mode(PaddingMode::Replicate);
    assert!(replicate.padding([40, 50]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    let far = Conv1d::new(1, 1, [1]).padding_mode(PaddingMode::Replicate).padding([1 << 61]);
    assert!(far.plan(Layout::NCL, 1, [4]).is_err());
    // One element reflects nothing.
    let one = Conv1d::new(1, 1, [1]).padding_mode(PaddingMode::Reflect);
    assert!(one.padding([1]).plan(Layout::NCL, 1, [1]).is_err());
    assert!(one.plan(Layout::NCL, 1, [1]).is_ok());
}

/// Windows that are wider than the input: no output is inside.
#[test]
fn wide_windows() {
    for mode in MODES {
        for layout in LAYOUTS {
            let conv = Conv1d::new(3, 2, [7]).padding([3]).padding_mode(mode);
            let plan = conv.plan(layout, 2, [4]).unwrap();
            let (x, w) = (support::fill(24, 1), support::fill(42, 2));
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, Default::default(), &mut expected).unwrap();
            assert_same_bits(&support::run(&plan, &x, &w, Default::default()), &expected, mode);
        }
    }
}

/// A separable layer whose depthwise one has a padding mode, by any kernel, and activations that are
/// passes of their own: the two layers one after the other.
#[test]
fn separable_layers() {
    let mut several_pieces = 0;
    for case in 0..share(300) {
        let of = |at: usize, most: usize| support::hash(at, case) as usize % most;
        let (channels, out_channels) = (1 + of(0, 40), 1 + of(1, 40));
        let size = [3 + of(2, 9), 3 + of(3, 30)];
        let mode = MODES[case % 3];
        let depthwise = Conv2d::new(channels, channels, [1 + of(4, 3), 1 + of(5, 3)])
            .groups(channels)
            .stride([1 + of(6, 2), 1 + of(7, 2)])
            .padding([of(8, 3), of(9, 3)])
            .padding_mode(mode);
        let pointwise = Conv2d::new(channels, out_channels, [1, 1]);
        let (start, end) = (Epilogue::new().silu(), Epilogue::new().relu6());
        for layout in LAYOUTS {
            let first = depthwise.plan(layout, 2, size).unwrap();
            let [_, height, width] = first.output_size();
            let second = pointwise.plan(layout, 2, [height, width]).unwrap();
            let (x, w) =
                (support::fill(first.input_len(), 1), support::fill(first.weights_len(), 2));
            let v = support::fill(second.weights_len(), 3);
            let mut between = vec![POISON; first.output_len()];
            reference::run(&first, &x, &w, start, &mut between).unwrap();
            let mut expected = vec![POISON; second.output_len()];
            reference::run(&second, &between, &v, end, &mut expected).unwrap();
            let plan = Separable2d::new(depthwise, pointwise).plan(layout, 2, size).unwrap();
            let plan = plan.assume_caches(512, [512, 8 << 10, 1 << 20][of(10, 3)]).unwrap();
            let plan = plan.with_kernels(Kernel::ALL[case / 3 % 4], Kernel::Pixels).unwrap_or(plan);
            several_pieces += usize::from(plan.pixels_in_buffer() < 2 * height * width);
            let mut packed = vec![POISON; plan.depthwise_packed_len()];
            let mut pointwise_packed = vec![POISON; plan.pointwise_packed_len()];
            let w = plan.pack_depthwise(&w, &mut packed).unwrap();
            let v = plan.pack_pointwise(&v, &mut pointwise_packed).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                let mut y = vec![POISON; plan.output_len()];
                plan.run(&x, w, start, v, end, &mut scratch, &mut y).unwrap();
                assert_same_bits(&y, &expected, (case, layout, isa, mode));
                let mut y = vec![POISON; plan.output_len()];
                for tile in plan.job(&x, w, start, v, end, &mut y).unwrap().tiles(3) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, (case, layout, isa, mode));
            }
        }
    }
    assert!(several_pieces > share(300) / 4, "{several_pieces}");
}
