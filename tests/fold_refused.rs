//! Windows and calls that unfolding and folding refuse: by which error, and that the output is then
//! untouched.

#[path = "support/description.rs"]
mod description;
mod support;
#[path = "fold/windows.rs"]
mod windows;

use support::POISON;
use tapwise::{Error, Expected, Field, Fold2d, Found, Layout, Unfold2d, fold, reference, unfold};
use windows::{HUGE, LAYOUTS, Windows};

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
