//! Unfolding and folding: against the plain loops, each other, the convolution, and what PyTorch says.

mod support;

use proptest::prelude::*;
use support::choices::Choices;
use support::values::Values;
use support::{POISON, assert_same_bits, bits, from_layout, hash, share, to_layout};
use tapwise::{
    Error, Expected, Field, Fold2d, FoldPlan, Found, Layout, Unfold2d, UnfoldPlan, conv2d, fold,
    numerics, reference, unfold,
};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// Elements behind an output, which are left alone.
const SPARE: usize = 5;

/// Windows over images.
#[derive(Clone, Copy, Debug)]
struct Windows {
    batch: usize,
    channels: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
}

impl Windows {
    const fn new(batch: usize, channels: usize, size: [usize; 2], kernel: [usize; 2]) -> Windows {
        let ones = [1; 2];
        Windows { batch, channels, size, kernel, dilation: ones, padding: [0; 2], stride: ones }
    }

    fn of(choices: &mut Choices) -> Windows {
        let few = |choices: &mut Choices, most: usize, rarely: usize| {
            let most = if choices.one_in(8) { rarely } else { most };
            choices.small_in(most)
        };
        let batch = if choices.one_in(16) { 0 } else { choices.small_in(3) };
        let mut windows = Windows::new(batch, few(choices, 6, 40), [1; 2], [1; 2]);
        let same = choices.one_in(3);
        for axis in 0..2 {
            windows.kernel[axis] = few(choices, 4, 9);
            windows.dilation[axis] = choices.small_in(4);
            windows.stride[axis] = if same { 1 } else { choices.small_in(5) };
            let reach = (windows.kernel[axis] - 1) * windows.dilation[axis];
            windows.padding[axis] = if same { reach / 2 } else { choices.small_in(reach + 3) - 1 };
            let least = (reach + 1).saturating_sub(2 * windows.padding[axis]).max(1);
            windows.size[axis] = least + few(choices, 12, 40) - 1;
            if choices.one_in(64) {
                windows.stride[axis] = choices.number().max(1);
            }
        }
        windows
    }

    fn unfold(&self, layout: Layout) -> UnfoldPlan {
        let unfold = Unfold2d::new(self.kernel).dilation(self.dilation);
        let unfold = unfold.padding(self.padding).stride(self.stride);
        unfold.plan(layout, self.batch, self.channels, self.size).unwrap()
    }

    fn fold(&self, layout: Layout) -> FoldPlan {
        let fold = Fold2d::new(self.kernel).dilation(self.dilation);
        let fold = fold.padding(self.padding).stride(self.stride);
        fold.plan(layout, self.batch, self.channels, self.size).unwrap()
    }

    fn rows(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// By the formula of PyTorch's documentation.
    fn count(&self) -> usize {
        let along = |axis: usize| {
            let padded = self.size[axis] + 2 * self.padding[axis];
            (padded - self.dilation[axis] * (self.kernel[axis] - 1) - 1) / self.stride[axis] + 1
        };
        along(0) * along(1)
    }

    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Windows that are typical, or at an edge of some loop.
    fn examples() -> Vec<Windows> {
        let image = Windows::new(2, 3, [7, 9], [3, 3]);
        let long = Windows::new(1, 2, [3, 70], [1, 3]);
        vec![
            image,
            Windows { padding: [1, 1], ..image },
            Windows { padding: [1, 1], channels: 33, ..image },
            Windows { padding: [2, 2], dilation: [2, 2], ..image },
            Windows { stride: [2, 2], padding: [1, 1], ..image },
            Windows { stride: [3, 3], ..image },
            Windows { stride: [2, 1], dilation: [1, 2], kernel: [2, 4], ..image },
            Windows { stride: [1, 2], dilation: [2, 1], kernel: [2, 4], ..image },
            Windows { kernel: [1, 1], ..image },
            Windows { kernel: [7, 9], ..image },
            Windows { kernel: [1, 1], padding: [4, 5], ..image },
            Windows { size: [1, 1], padding: [1, 1], ..image },
            Windows { batch: 0, ..image },
            // Of more rows, and of a longer one, than are added up at once.
            Windows { batch: 1, channels: 1, size: [70, 75], ..image },
            Windows { batch: 1, channels: 1, size: [2, 4099], kernel: [2, 1], ..image },
            long,
            Windows { padding: [0, 1], ..long },
            Windows { padding: [0, 1], stride: [1, 2], ..long },
            Windows { padding: [0, 64], dilation: [1, 64], ..long },
        ]
    }
}

/// Behind the output lies what lay there before.
#[track_caller]
fn split(y: Vec<f32>, len: usize) -> Vec<f32> {
    assert_eq!(y.len(), len + SPARE);
    let poison = [POISON.to_bits(); SPARE];
    assert_eq!(bits(&y[len..]), poison, "written beyond the end");
    y[..len].to_vec()
}

fn unfolded(plan: &UnfoldPlan, x: &[f32]) -> Vec<f32> {
    let mut y = vec![POISON; plan.output_len() + SPARE];
    assert_eq!(plan.run(x, &mut y).unwrap().len(), plan.output_len());
    split(y, plan.output_len())
}

fn folded(plan: &FoldPlan, x: &[f32]) -> Vec<f32> {
    let mut y = vec![POISON; plan.output_len() + SPARE];
    assert_eq!(plan.run(x, &mut y).unwrap().len(), plan.output_len());
    split(y, plan.output_len())
}

/// Runs tiles in another order.
fn shuffled<T>(
    tiles: impl ExactSizeIterator<Item = T>,
    most: usize,
    order: usize,
    run: impl Fn(T),
) {
    let count = tiles.len();
    assert!(count <= most.max(1));
    let mut tiles: Vec<T> = tiles.collect();
    assert_eq!(tiles.len(), count);
    for at in 1..tiles.len() {
        tiles.swap(at, hash(at, order) as usize % (at + 1));
    }
    tiles.into_iter().for_each(run);
}

/// Both operations, at once and tile by tile, against the plain loops.
fn check(windows: &Windows, values: &Values, tiles: usize, order: usize) {
    let (pixels, columns) = (windows.pixels(), windows.count());
    let image_len = windows.batch * windows.channels * pixels;
    let columns_len = windows.batch * windows.rows() * columns;
    let mut of_layouts: Vec<[Vec<f32>; 2]> = Vec::new();
    for layout in LAYOUTS {
        let what = (windows, layout, tiles, order);
        let x = to_layout(layout, &values.tensor(image_len, 1), windows.channels, pixels);
        let plan = windows.unfold(layout);
        assert_eq!((plan.input_len(), plan.output_len()), (image_len, columns_len), "{what:?}");
        let mut expected = vec![POISON; columns_len];
        reference::unfold(&plan, &x, &mut expected).unwrap();
        assert_same_bits(&unfolded(&plan, &x), &expected, what);
        let mut y = vec![POISON; columns_len + SPARE];
        shuffled(plan.tiles(&x, &mut y, tiles).unwrap(), tiles, order, |tile| tile.run());
        assert_same_bits(&split(y, columns_len), &expected, what);
        let unfolded = from_layout(layout, &expected, windows.rows(), columns);

        let x = to_layout(layout, &values.tensor(columns_len, 2), windows.rows(), columns);
        let plan = windows.fold(layout);
        assert_eq!((plan.input_len(), plan.output_len()), (columns_len, image_len), "{what:?}");
        let mut expected = vec![POISON; image_len];
        reference::fold(&plan, &x, &mut expected).unwrap();
        assert_same_bits(&folded(&plan, &x), &expected, what);
        let mut y = vec![POISON; image_len + SPARE];
        shuffled(plan.tiles(&x, &mut y, tiles).unwrap(), tiles, order, |tile| tile.run());
        assert_same_bits(&split(y, image_len), &expected, what);
        of_layouts.push([unfolded, from_layout(layout, &expected, windows.channels, pixels)]);
    }
    for (nchw, nhwc) in of_layouts[0].iter().zip(&of_layouts[1]) {
        assert_same_bits(nhwc, nchw, windows);
    }
}

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
        let mut choices = Choices::new(&bytes);
        let windows = Windows::of(&mut choices);
        let tiles = if choices.one_in(16) { choices.number() } else { choices.small_in(12) };
        let order = choices.number_in(0..=0xff);
        check(&windows, &Values::of(&mut choices), tiles, order);
    }
}

#[test]
fn examples_give_the_bits_of_the_plain_loops() {
    for windows in Windows::examples() {
        for seed in 0..12_u8 {
            // Without special values, then with ever more of them.
            let values = Values::of(&mut Choices::new(&[seed, 0, seed]));
            for tiles in [0, 1, 2, 3, 7, usize::MAX] {
                check(&windows, &values, tiles, seed.into());
            }
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
fn descriptions_that_are_refused() {
    const HUGE: usize = 1 << (usize::BITS - 3);
    const LIMIT: usize = isize::MAX as usize;
    let image = Windows::new(1, 3, [8, 9], [3, 3]);
    let one = (Expected::AtLeast(1), Found::Count(0));
    let at_most = Expected::AtMost;
    // What is wrong, what names it where the image is the input and where it is the output.
    let zero = |windows: Windows, input: Field, output: Field| (windows, input, output, one);
    let same = |windows: Windows, field: Field| (windows, field, field, one);
    let (size, output_size) = (Field::InputSize, Field::OutputSize);
    let (elements, too_many) = (LIMIT / 4, (at_most(LIMIT / 4), Found::Overflow));
    for (windows, input, output, (expected, found)) in [
        same(Windows { channels: 0, ..image }, Field::InChannels),
        zero(Windows { size: [0, 9], ..image }, size(0), output_size(0)),
        zero(Windows { size: [8, 0], padding: [4, 4], ..image }, size(1), output_size(1)),
        same(Windows { kernel: [0, 3], ..image }, Field::Kernel(0)),
        same(Windows { kernel: [3, 0], ..image }, Field::Kernel(1)),
        same(Windows { stride: [0, 1], ..image }, Field::Stride(0)),
        same(Windows { stride: [1, 0], ..image }, Field::Stride(1)),
        same(Windows { dilation: [0, 1], ..image }, Field::Dilation(0)),
        same(Windows { dilation: [1, 0], ..image }, Field::Dilation(1)),
    ]
    .into_iter()
    .chain(
        [
            (Windows { kernel: [3, 10], ..image }, Field::Kernel(1), at_most(9), Found::Count(10)),
            (
                Windows { dilation: [6, 1], padding: [2, 9], ..image },
                Field::Kernel(0),
                at_most(12),
                Found::Count(13),
            ),
            (
                Windows { dilation: [1, HUGE], ..image },
                Field::Kernel(1),
                at_most(LIMIT / 2),
                Found::Overflow,
            ),
            (
                Windows { kernel: [usize::MAX, 1], ..image },
                Field::Kernel(0),
                at_most(LIMIT / 2),
                Found::Overflow,
            ),
            (
                Windows { padding: [1, usize::MAX], ..image },
                Field::Padding(1),
                at_most(LIMIT / 2),
                Found::Overflow,
            ),
            (
                Windows { padding: [HUGE, 0], ..image },
                Field::Padding(0),
                at_most(LIMIT / 2),
                Found::Overflow,
            ),
        ]
        .map(|(windows, field, expected, found)| (windows, field, field, (expected, found))),
    )
    .chain([
        // Each of these would wrap to a small number.
        (
            Windows { batch: HUGE, channels: 8, ..image },
            Field::InputElements,
            Field::OutputElements,
            too_many,
        ),
        (
            Windows { channels: usize::MAX, ..image },
            Field::InputElements,
            Field::OutputElements,
            too_many,
        ),
        // An image that the target can address, columns that it cannot.
        (
            Windows { channels: elements / 72, ..image },
            Field::OutputElements,
            Field::InputElements,
            too_many,
        ),
        (
            Windows { batch: 0, channels: elements / 72, ..image },
            Field::OutputElements,
            Field::InputElements,
            too_many,
        ),
    ]) {
        for layout in LAYOUTS {
            let Windows { kernel, dilation, padding, stride, .. } = windows;
            let unfold = Unfold2d::new(kernel).dilation(dilation).padding(padding).stride(stride);
            let plan = unfold.plan(layout, windows.batch, windows.channels, windows.size);
            refused(plan.map(drop), input, expected, found);
            let fold = Fold2d::new(kernel).dilation(dilation).padding(padding).stride(stride);
            let plan = fold.plan(layout, windows.batch, windows.channels, windows.size);
            refused(plan.map(drop), output, expected, found);
        }
    }
    // Steps that are never taken may be of any size.
    let windows = Windows { kernel: [8, 1], stride: [HUGE, 1], dilation: [1, HUGE], ..image };
    check(&windows, &Values::of(&mut Choices::new(&[])), 3, 0);
}

#[test]
fn what_a_32_bit_machine_refuses() {
    const LIMIT: usize = i32::MAX as usize;
    let too_many = (Expected::AtMost(LIMIT / 4), Found::Overflow);
    let unfold = Unfold2d::new([3, 3]).padding([1, 1]);
    let plan = |channels| unfold.plan_within(Layout::Nchw, 1, channels, [224, 224], LIMIT);
    let most = LIMIT / 4 / 9 / (224 * 224);
    assert!(plan(most).is_ok());
    refused(plan(most + 1).map(drop), Field::OutputElements, too_many.0, too_many.1);
    let fold = Fold2d::new([3, 3]).padding([1, 1]);
    let plan = |channels| fold.plan_within(Layout::Nhwc, 1, channels, [224, 224], LIMIT);
    assert!(plan(most).is_ok());
    refused(plan(most + 1).map(drop), Field::InputElements, too_many.0, too_many.1);
    // An axis has to leave room to step past its end.
    let plan = Unfold2d::new([1, 1]).plan_within(Layout::Nchw, 1, 1, [1, LIMIT / 2 + 1], LIMIT);
    refused(plan.map(drop), Field::Padding(1), Expected::AtMost(LIMIT / 2), Found::Overflow);
}

#[track_caller]
fn untouched(y: &[f32]) {
    assert!(y.iter().all(|value| value.to_bits() == POISON.to_bits()), "written to");
}

#[test]
fn slices_that_are_too_short() {
    let windows = Windows { padding: [1, 0], ..Windows::new(2, 3, [5, 6], [3, 2]) };
    for layout in LAYOUTS {
        let (unfold, fold) = (windows.unfold(layout), windows.fold(layout));
        for (input_len, output_len) in
            [(unfold.input_len(), unfold.output_len()), (fold.input_len(), fold.output_len())]
        {
            for (x_len, y_len, field, needed) in [
                (input_len - 1, output_len, Field::Input, input_len),
                (0, output_len, Field::Input, input_len),
                (input_len, output_len - 1, Field::Output, output_len),
            ] {
                let (x, mut y) = (vec![1.0; x_len], vec![POISON; y_len]);
                let found = Found::Count(if field == Field::Input { x_len } else { y_len });
                let mut is_refused = |run: &dyn Fn(&mut [f32]) -> Result<(), Error>| {
                    refused(run(&mut y), field, Expected::AtLeast(needed), found);
                    untouched(&y);
                };
                if input_len == unfold.input_len() {
                    is_refused(&|y| unfold.run(&x, y).map(drop));
                    is_refused(&|y| unfold.tiles(&x, y, 2).map(drop));
                    is_refused(&|y| reference::unfold(&unfold, &x, y));
                } else {
                    is_refused(&|y| fold.run(&x, y).map(drop));
                    is_refused(&|y| fold.tiles(&x, y, 2).map(drop));
                    is_refused(&|y| reference::fold(&fold, &x, y));
                }
            }
        }
    }
}

/// PyTorch's conditions: rows are a multiple of the taps, and there is a column for each window.
#[test]
fn columns_that_do_not_fit_the_output() {
    let x = vec![1.0; 1000];
    let mut y = vec![POISON; 1000];
    let mut is_refused = |shape: [usize; 3], kernel, field, expected, found| {
        let ones = [1; 2];
        let result = fold(shape, &x, [4, 5], kernel, ones, [0; 2], ones, &mut y);
        refused(result, field, expected, Found::Count(found));
        untouched(&y);
    };
    for rows in [0, 1, 3, 5, 11, 13] {
        let expected = Expected::MultipleOf(4);
        is_refused([1, rows, 12], [2, 2], Field::ColumnRows, expected, rows);
    }
    for columns in [0, 11, 13, 24, usize::MAX] {
        let expected = Expected::Exactly(12);
        is_refused([1, 12, columns], [2, 2], Field::ColumnCount, expected, columns);
    }
    // A kernel that is none is the first thing to be told.
    is_refused([1, 12, 12], [0, 2], Field::Kernel(0), Expected::AtLeast(1), 0);
    is_refused([1, 12, 12], [2, 0], Field::Kernel(1), Expected::AtLeast(1), 0);
    is_refused([1, 12, 12], [2, 6], Field::Kernel(1), Expected::AtMost(5), 6);
    // The product of these taps would wrap to 0.
    let half = 1 << (usize::BITS / 2);
    is_refused([1, 12, 12], [half, half], Field::Kernel(0), Expected::AtMost(4), half);

    let result = fold([1, 12, 12], &x, [4, 0], [2, 2], [1; 2], [1; 2], [1; 2], &mut y);
    refused(result, Field::OutputSize(1), Expected::AtLeast(1), Found::Count(0));
    let result = fold([2, 12, 12], &x[..287], [4, 5], [2, 2], [1; 2], [0; 2], [1; 2], &mut y);
    refused(result, Field::Input, Expected::AtLeast(288), Found::Count(287));
    let result = fold([2, 12, 12], &x, [4, 5], [2, 2], [1; 2], [0; 2], [1; 2], &mut y[..119]);
    refused(result, Field::Output, Expected::AtLeast(120), Found::Count(119));
    let result = unfold([1, 3, 4, 5], &x, [5, 1], [1; 2], [0; 2], [1; 2], &mut y);
    refused(result, Field::Kernel(0), Expected::AtMost(4), Found::Count(5));
    let result = unfold([1, 3, 4, 5], &x, [2, 2], [1; 2], [0; 2], [1; 2], &mut y[..143]);
    refused(result, Field::Output, Expected::AtLeast(144), Found::Count(143));
    untouched(&y);
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
