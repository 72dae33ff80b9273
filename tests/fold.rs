//! Unfolding and folding: against the plain loops, each other, the convolution, and what PyTorch says.

#[path = "support/description.rs"]
mod description;
mod support;
#[path = "fold/windows.rs"]
mod windows;

use proptest::prelude::*;
use support::choices::Choices;
use support::values::Values;
use support::{POISON, assert_same_bits, from_layout, hash, share, to_layout};
use tapwise::{Layout, conv2d, fold, numerics, unfold};
use windows::{LAYOUTS, SPARE, Windows, WindowsCase, describe, folded, split, unfolded};

/// The most elements of random columns.
const MOST_ELEMENTS: usize = 1 << 18;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: share(4_000) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_windows_give_the_bits_of_the_plain_loops(
        bytes in proptest::collection::vec(any::<u8>(), 0..=80),
    ) {
        WindowsCase::of(&mut Choices::new(&bytes), MOST_ELEMENTS).check();
    }
}

/// Whatever is asked for, there is a plan or an error.
#[test]
fn absurd_descriptions() {
    let mut runs = 0;
    for case in 0..share(40_000) {
        let bytes: Vec<u8> = (0..120).map(|at| (hash(at, case) >> 9) as u8).collect();
        runs += usize::from(describe(&mut Choices::new(&bytes), case % 2 == 0));
    }
    assert!(runs > share(2_000), "{runs}");
}

#[test]
fn examples_give_the_bits_of_the_plain_loops() {
    for windows in Windows::examples() {
        for seed in 0..12_u8 {
            // Without special values, then with ever more of them.
            let values = Values::of(&mut Choices::new(&[seed, 0, seed]));
            for tiles in [0, 1, 2, 3, 7, usize::MAX] {
                let (order, values) = (seed.into(), values.clone());
                WindowsCase { windows, tiles, order, values }.check();
            }
        }
    }
}

/// Vectors reach beyond rows of every width, and are cut at the end; borders are of every kind.
#[test]
fn every_width_with_every_padding() {
    for (width, padding) in (1..=40).flat_map(|width| (0..=3).map(move |p| (width, p))) {
        for (kernel, stride, channels) in [
            ([2, 3], 1, 1 + width % 3),
            ([3, 3], 1, 17),
            ([1, 1], 1, 2),
            ([3, 5], 1, 5),
            ([2, 3], 2, 9),
            ([2, 2], 3, 1),
        ] {
            if width + 2 * padding < kernel[1] {
                continue;
            }
            let windows = Windows {
                padding: [padding.min(2), padding],
                stride: [1, stride],
                ..Windows::new(1, channels, [3, width], kernel)
            };
            let values = Values::of(&mut Choices::new(&[7, 0, 7]));
            WindowsCase { windows, tiles: 3, order: width, values }.check();
        }
    }
}

#[test]
fn the_shapes_of_pytorch_s_documentation() {
    let plan = Windows::new(2, 5, [3, 4], [2, 3]);
    assert_eq!(plan.unfold(Layout::Nchw).output_shape(), [2, 30, 4]);
    assert_eq!(plan.unfold(Layout::Nchw).input_shape(), [2, 5, 3, 4]);
    assert_eq!(plan.unfold(Layout::Nhwc).output_shape(), [2, 4, 30]);
    assert_eq!(plan.unfold(Layout::Nhwc).input_shape(), [2, 3, 4, 5]);
    assert_eq!(plan.fold(Layout::Nchw).input_shape(), [2, 30, 4]);
    assert_eq!(plan.fold(Layout::Nchw).output_shape(), [2, 5, 3, 4]);
    assert_eq!(plan.fold(Layout::Nhwc).input_shape(), [2, 4, 30]);
    assert_eq!(plan.fold(Layout::Nhwc).output_shape(), [2, 3, 4, 5]);

    let mut y = [POISON; 2 * 30 * 4];
    let x: Vec<f32> = (0..2 * 5 * 3 * 4).map(|value| value as f32).collect();
    let shape = unfold([2, 5, 3, 4], &x, [2, 3], [1, 1], [0, 0], [1, 1], &mut y).unwrap();
    assert_eq!(shape, [2, 30, 4]);
    // Image 1, channel 2, tap (1, 2), of the window at (1, 0): row 2 * 6 + 1 * 3 + 2, column 2.
    assert_eq!(y[(30 + 17) * 4 + 2], x[((5 + 2) * 3 + 2) * 4 + 2]);

    let x = vec![1.0; 3 * 4 * 12];
    let mut y = [POISON; 3 * 4 * 5];
    let shape = fold([1, 12, 12], &x, [4, 5], [2, 2], [1, 1], [0, 0], [1, 1], &mut y).unwrap();
    assert_eq!((shape, y[0], y[6]), ([1, 3, 4, 5], 1.0, 4.0));
}

#[test]
fn the_order_of_arguments_is_pytorch_s() {
    let windows = Windows {
        dilation: [2, 1],
        padding: [1, 2],
        stride: [1, 3],
        ..Windows::new(2, 3, [6, 7], [2, 4])
    };
    let Windows { batch, channels, size: [height, width], kernel, .. } = windows;
    let Windows { dilation, padding, stride, .. } = windows;
    let values = Values::of(&mut Choices::new(&[]));
    let shape = [batch, channels, height, width];
    let columns_shape = [batch, windows.rows(), windows.count()];

    let plan = windows.unfold(Layout::Nchw);
    let x = values.tensor(plan.input_len(), 1);
    let mut y = vec![POISON; plan.output_len() + SPARE];
    assert_eq!(unfold(shape, &x, kernel, dilation, padding, stride, &mut y), Ok(columns_shape));
    assert_same_bits(&split(y, plan.output_len()), &unfolded(&plan, &x), windows);

    let plan = windows.fold(Layout::Nchw);
    let x = values.tensor(plan.input_len(), 1);
    let mut y = vec![POISON; plan.output_len() + SPARE];
    let result = fold(columns_shape, &x, windows.size, kernel, dilation, padding, stride, &mut y);
    assert_eq!(result, Ok(shape));
    assert_same_bits(&split(y, plan.output_len()), &folded(&plan, &x), windows);
}

/// Small integers: sums and products of them are exact.
fn integers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|at| (hash(at, seed) % 15) as f32 - 7.0).collect()
}

#[test]
fn folding_what_was_unfolded_counts_the_windows_of_each_pixel() {
    for (windows, layout) in Windows::examples().into_iter().flat_map(|w| LAYOUTS.map(|l| (w, l))) {
        let (unfold, fold) = (windows.unfold(layout), windows.fold(layout));
        let x = integers(unfold.input_len(), 1);
        let ones = vec![1.0; unfold.input_len()];
        let counts = folded(&fold, &unfolded(&unfold, &ones));
        let total: f32 = counts.iter().sum();
        let taps_inside = unfolded(&unfold, &ones).iter().filter(|value| **value == 1.0).count();
        assert_eq!(total, taps_inside as f32);
        let expected: Vec<f32> = x.iter().zip(&counts).map(|(x, count)| x * count + 0.0).collect();
        assert_same_bits(&folded(&fold, &unfolded(&unfold, &x)), &expected, (windows, layout));
    }
}

#[test]
fn folding_is_the_adjoint_of_unfolding() {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    for (windows, layout) in Windows::examples().into_iter().flat_map(|w| LAYOUTS.map(|l| (w, l))) {
        let (unfold, fold) = (windows.unfold(layout), windows.fold(layout));
        let (x, y) = (integers(unfold.input_len(), 1), integers(fold.input_len(), 2));
        let (of_columns, of_images) =
            (dot(&unfolded(&unfold, &x), &y), dot(&x, &folded(&fold, &y)));
        assert_eq!(of_columns, of_images, "{windows:?} {layout:?}");
    }
}

#[test]
fn a_matrix_product_with_columns_is_the_convolution() {
    const OUT_CHANNELS: usize = 4;
    for windows in Windows::examples() {
        let Windows { batch, channels, size: [height, width], .. } = windows;
        let Windows { kernel: [kh, kw], dilation, padding, stride, .. } = windows;
        let (rows, count) = (windows.rows(), windows.count());
        let x = integers(batch * channels * windows.pixels(), 1);
        let weights = integers(OUT_CHANNELS * rows, 2);
        let mut expected = vec![POISON; batch * OUT_CHANNELS * count];
        let (shape, weight_shape) =
            ([batch, channels, height, width], [OUT_CHANNELS, channels, kh, kw]);
        conv2d(
            shape,
            &x,
            weight_shape,
            &weights,
            None,
            stride,
            padding,
            dilation,
            1,
            &mut expected,
        )
        .unwrap();
        for layout in LAYOUTS {
            let x = to_layout(layout, &x, channels, windows.pixels());
            let columns = unfolded(&windows.unfold(layout), &x);
            let columns = from_layout(layout, &columns, rows, count);
            let product = |at: usize| -> f32 {
                let (of_image, column) = (at / count, at % count);
                let (image, channel) = (of_image / OUT_CHANNELS, of_image % OUT_CHANNELS);
                let term = |row: usize| {
                    weights[channel * rows + row] * columns[(image * rows + row) * count + column]
                };
                (0..rows).map(term).sum()
            };
            let product: Vec<f32> = (0..expected.len()).map(|at| product(at) + 0.0).collect();
            assert_same_bits(&product, &expected, (windows, layout));
        }
    }
}

#[test]
fn unfolding_keeps_every_bit() {
    let special =
        [0xffc1_2345, 0x7f80_0001, 0x8000_0000, 0x0000_0001, 0xff80_0000, 0x7fc0_0000, 0x8040_0000]
            .map(f32::from_bits);
    for layout in LAYOUTS {
        let plan = Windows { padding: [1, 1], ..Windows::new(1, 7, [1, 1], [3, 3]) }.unfold(layout);
        let columns = unfolded(&plan, &special);
        let columns = from_layout(layout, &columns, 63, 1);
        let mut expected = vec![0.0; 63];
        for (channel, value) in special.into_iter().enumerate() {
            expected[9 * channel + 4] = value;
        }
        assert_same_bits(&columns, &expected, layout);
    }
}

#[test]
fn folding_adds_in_the_order_of_rows_and_ends_in_canonical_form() {
    // A pixel in each of nine windows, whose sum depends on the order.
    let terms = [1e8, 3.0, -1e8, 0.25, 1e-3, 7e7, -7e7, 1.0, 0.1];
    let expected = terms.iter().fold(0.0, |sum: f32, term| sum + term);
    assert_ne!(expected, terms.iter().rev().fold(0.0, |sum: f32, term| sum + term));
    let windows = Windows { padding: [2, 2], ..Windows::new(1, 1, [1, 1], [3, 3]) };
    for layout in LAYOUTS {
        // Window 8 - t has tap t on the pixel.
        let mut columns = vec![POISON; 81];
        for (tap, term) in terms.into_iter().enumerate() {
            columns[tap * 9 + (8 - tap)] = term;
        }
        let columns = to_layout(layout, &columns, 9, 9);
        assert_same_bits(&folded(&windows.fold(layout), &columns), &[expected], layout);
    }
    let nan = f32::from_bits(0xffc1_2345);
    for (terms, expected) in [
        ([-0.0, -0.0], 0.0),
        ([nan, 1.0], numerics::CANONICAL_NAN),
        ([f32::INFINITY, f32::NEG_INFINITY], numerics::CANONICAL_NAN),
        ([f32::MAX, f32::MAX], f32::INFINITY),
        ([f32::from_bits(1), f32::from_bits(1)], f32::from_bits(2)),
    ] {
        let windows = Windows { padding: [0, 1], ..Windows::new(1, 1, [1, 1], [1, 2]) };
        for layout in LAYOUTS {
            let columns = to_layout(layout, &[POISON, terms[0], terms[1], POISON], 2, 2);
            assert_same_bits(&folded(&windows.fold(layout), &columns), &[expected], terms);
        }
    }
}

#[test]
fn a_pixel_in_no_window_is_zero() {
    let windows = Windows { stride: [3, 3], ..Windows::new(1, 1, [5, 6], [2, 2]) };
    for layout in LAYOUTS {
        let y = folded(&windows.fold(layout), &vec![1.0; windows.rows() * windows.count()]);
        let ones = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0];
        assert_eq!(y, [ones, ones, [0.0; 6], ones, ones].concat());
    }
}

#[test]
fn threads_share_the_tiles() {
    let windows = Windows { padding: [1, 1], ..Windows::new(2, 5, [9, 11], [3, 3]) };
    for layout in LAYOUTS {
        let (unfold, fold) = (windows.unfold(layout), windows.fold(layout));
        let x = integers(unfold.input_len(), 1);
        let columns = unfolded(&unfold, &x);
        let image = folded(&fold, &columns);
        let (mut y, mut z) = (vec![POISON; columns.len()], vec![POISON; image.len()]);
        std::thread::scope(|threads| {
            for tile in unfold.tiles(&x, &mut y, 4).unwrap() {
                threads.spawn(move || tile.run());
            }
            for tile in fold.tiles(&columns, &mut z, 4).unwrap() {
                threads.spawn(move || tile.run());
            }
        });
        assert_same_bits(&y, &columns, layout);
        assert_same_bits(&z, &image, layout);
    }
}
