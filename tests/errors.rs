//! Descriptions that [`Conv::plan`](tapwise::Conv::plan) refuses, by which words, and the nearest
//! ones that it accepts.

mod support;

use support::{POISON, assert_same_bits, bits, fill, paths, run};
use tapwise::{
    Conv1d, Conv2d, Conv3d, Epilogue, Error, Expected, Features, Field, Found, Isa, Layout, Plan,
    StrideOf, Strides, numerics,
};

const CONV: Conv2d = Conv2d::new(8, 16, [3, 3]);
const LARGEST: usize = isize::MAX as usize;
const LARGEST_32: usize = i32::MAX as usize;
/// The longest axis, padding included, with objects of so many bytes.
const fn coordinates(limit: usize) -> usize {
    limit / 2
}

fn plan(conv: Conv2d) -> Result<Plan, Error> {
    conv.plan(Layout::Nhwc, 1, [8, 8])
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, field: Field, expected: Expected, found: Found) {
    let error = result.err().expect("this has to be refused");
    assert_eq!((error.field(), error.expected(), error.found()), (field, expected, found));
}

#[track_caller]
fn too_large<T>(result: Result<T, Error>, field: Field, limit: usize) {
    refused(result, field, Expected::AtMost(limit), Found::Overflow);
}

#[test]
fn nothing_is_zero() {
    let volume = Conv3d::new(4, 4, [1, 1, 1]);
    let volume_plan = |conv: Conv3d| conv.plan(Layout::NCDHW, 1, [2, 2, 2]);
    let line = Conv1d::new(4, 4, [2]);
    for (result, field) in [
        (plan(Conv2d::new(0, 16, [3, 3])), Field::InChannels),
        (plan(Conv2d::new(8, 0, [3, 3])), Field::OutChannels),
        (plan(CONV.groups(0)), Field::Groups),
        (CONV.plan(Layout::Nhwc, 1, [0, 8]), Field::InputSize(0)),
        (CONV.plan(Layout::Nhwc, 1, [8, 0]), Field::InputSize(1)),
        (CONV.padding([4, 4]).plan(Layout::Nhwc, 1, [8, 0]), Field::InputSize(1)),
        (plan(Conv2d::new(8, 16, [0, 3])), Field::Kernel(0)),
        (plan(Conv2d::new(8, 16, [3, 0])), Field::Kernel(1)),
        (plan(CONV.stride([0, 1])), Field::Stride(0)),
        (plan(CONV.stride([1, 0])), Field::Stride(1)),
        (plan(CONV.stride([1, 0]).padding_same()), Field::Stride(1)),
        (plan(CONV.stride([1, 0]).padding_same_tensorflow()), Field::Stride(1)),
        (plan(CONV.dilation([0, 1])), Field::Dilation(0)),
        (plan(CONV.dilation([1, 0])), Field::Dilation(1)),
        (volume_plan(volume.stride([1, 1, 0])), Field::Stride(2)),
        (volume_plan(volume.dilation([0, 1, 1])), Field::Dilation(0)),
        (volume_plan(Conv3d::new(4, 4, [1, 0, 1])), Field::Kernel(1)),
        (line.plan(Layout::NLC, 1, [0]), Field::InputSize(0)),
        (line.stride([0]).plan(Layout::NLC, 1, [4]), Field::Stride(0)),
    ] {
        refused(result, field, Expected::AtLeast(1), Found::Count(0));
    }
    let zero = (Expected::AtLeast(1), Found::Count(0));
    refused(CONV.stride([0, 1]).output_size([8, 8]), Field::Stride(0), zero.0, zero.1);
    refused(Conv2d::new(8, 0, [3, 3]).parameters(true), Field::OutChannels, zero.0, zero.1);
    refused(plan(CONV).unwrap().assume_caches(0, 1), Field::CacheL1, zero.0, zero.1);
    refused(plan(CONV).unwrap().assume_caches(1, 0), Field::CacheL2, zero.0, zero.1);
}

#[test]
fn groups_divide_the_channels() {
    let divides = |channels| Expected::DivisorOf(channels);
    refused(plan(CONV.groups(3)), Field::Groups, divides(8), Found::Count(3));
    refused(plan(CONV.groups(16)), Field::Groups, divides(8), Found::Count(16));
    let six = Conv2d::new(12, 8, [3, 3]).groups(6);
    refused(plan(six), Field::Groups, divides(8), Found::Count(6));
    assert!(plan(CONV.groups(8)).is_ok());
}

#[test]
fn the_window_fits_the_padded_input() {
    let at_most = |size| Expected::AtMost(size);
    refused(CONV.plan(Layout::Nchw, 1, [8, 2]), Field::Kernel(1), at_most(2), Found::Count(3));
    let dilated = CONV.dilation([4, 1]);
    refused(plan(dilated), Field::Kernel(0), at_most(8), Found::Count(9));
    let padded = Conv1d::new(1, 1, [12]).padding_sides([1], [2]);
    let result = padded.plan(Layout::NCL, 1, [8]);
    refused(result, Field::Kernel(0), at_most(11), Found::Count(12));
    assert_eq!(padded.output_size([9]), Ok([1]));
    assert_eq!(dilated.output_size([9, 8]), Ok([1, 6]));
}

#[test]
fn same_has_no_stride() {
    let same = CONV.padding_same();
    let one = Expected::Exactly(1);
    refused(plan(same.stride([2, 1])), Field::Stride(0), one, Found::Count(2));
    refused(plan(same.stride([1, 2])), Field::Stride(1), one, Found::Count(2));
    assert_eq!(same.output_size([8, 5]), Ok([8, 5]));
}

#[test]
fn sizes_that_no_machine_can_address() {
    let elements = LARGEST / 4;
    let nchw = |conv: Conv1d, batch, size| conv.plan(Layout::NCL, batch, [size]);
    let one = Conv1d::new(1, 1, [1]);
    for huge in [usize::MAX, LARGEST, elements + 1] {
        too_large(nchw(one, huge, 1), Field::InputElements, elements);
        too_large(nchw(Conv1d::new(huge, 1, [1]), 1, 1), Field::InputElements, elements);
        too_large(nchw(Conv1d::new(1, huge, [1]), 1, 1), Field::OutputElements, elements);
    }
    assert!(nchw(one, elements, 1).is_ok());
    assert!(nchw(one, 1, elements).is_ok());
    too_large(nchw(one, 1, elements + 1), Field::InputElements, elements);
    // Without the check these would wrap to 0 and to 1.
    too_large(
        nchw(one, 1 << (usize::BITS / 2), 1 << (usize::BITS / 2)),
        Field::InputElements,
        elements,
    );
    too_large(nchw(one, usize::MAX, usize::MAX), Field::Padding(0), coordinates(LARGEST));
    too_large(nchw(Conv1d::new(1, 1, [usize::MAX]), 1, 8), Field::Kernel(0), coordinates(LARGEST));
    too_large(
        nchw(Conv1d::new(1, 1, [3]).dilation([usize::MAX]), 1, 8),
        Field::Kernel(0),
        coordinates(LARGEST),
    );
    too_large(
        nchw(Conv1d::new(1, 1, [LARGEST / 2]).padding_same(), 1, LARGEST / 2),
        Field::Padding(0),
        coordinates(LARGEST),
    );
    for (before, after) in
        [(usize::MAX, 1), (1, usize::MAX), (LARGEST, 0), (usize::MAX, usize::MAX)]
    {
        too_large(
            nchw(one.padding_sides([before], [after]), 1, 8),
            Field::Padding(0),
            coordinates(LARGEST),
        );
    }
    let wide = Conv1d::new(1 << (usize::BITS / 2 - 1), 1 << (usize::BITS / 2 - 1), [1]);
    too_large(nchw(wide, 1, 1), Field::WeightElements, elements);
    // These weights wrap to 0.
    let wide = Conv1d::new(1 << (usize::BITS / 2 - 1), 1 << (usize::BITS / 2 - 1), [4]);
    too_large(nchw(wide, 1, 4), Field::WeightElements, elements);
    too_large(wide.parameters(false), Field::WeightElements, usize::MAX);
}

/// What a 32-bit machine refuses and a 64-bit one accepts.
#[cfg(target_pointer_width = "64")]
#[test]
fn sizes_that_32_bits_cannot_address() {
    fn check<const D: usize>(
        conv: tapwise::Conv<D>,
        batch: usize,
        size: [usize; D],
        field: Field,
        limit: usize,
    ) {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            assert!(conv.plan(layout, batch, size).is_ok(), "{field}");
            too_large(conv.plan_within(layout, batch, size, LARGEST_32), field, limit);
        }
    }
    let elements = LARGEST_32 / 4;
    check(Conv2d::new(1, 1, [3, 3]), 1, [40_000; 2], Field::InputElements, elements);
    check(Conv2d::new(1, 1, [3, 3]).stride([2, 2]), 1, [40_000; 2], Field::InputElements, elements);
    check(Conv1d::new(8, 8, [1]), 1 << 27, [1], Field::InputElements, elements);
    check(Conv2d::new(1, 1024, [1, 1]), 1, [1000; 2], Field::OutputElements, elements);
    check(
        Conv2d::new(1, 1, [1, 1]).padding([20_000; 2]),
        1,
        [8; 2],
        Field::OutputElements,
        elements,
    );
    check(Conv3d::new(1 << 20, 1 << 20, [1; 3]), 1, [1; 3], Field::WeightElements, elements);
    // The weights fit, with sixteen output channels side by side they do not.
    check(Conv1d::new(1 << 25, 1, [1]), 1, [1], Field::WeightElements, elements);
    check(
        Conv1d::new(1, 1, [1]).padding_sides([1 << 31], [0]).stride([1 << 20]),
        1,
        [1],
        Field::Padding(0),
        coordinates(LARGEST_32),
    );
    check(
        Conv1d::new(1, 1, [3]).dilation([1 << 31]).padding([1 << 32]).stride([1 << 32]),
        1,
        [1],
        Field::Kernel(0),
        coordinates(LARGEST_32),
    );
    assert!(Conv1d::new(1, 1, [1]).plan_within(Layout::NCL, 1, [elements], LARGEST_32).is_ok());
}

/// Caches that would hold more partial sums than a 32-bit machine can address.
#[cfg(target_pointer_width = "64")]
#[test]
fn scratch_memory_that_32_bits_cannot_address() {
    let conv = Conv1d::new(1, 1, [1_500_000]);
    let plan = |limit| conv.plan_within(Layout::NLC, 1, [45_000_000], limit).unwrap();
    assert!(plan(LARGEST_32).scratch_len() > 0);
    let caches = (32 << 10, 11_000_000_000);
    assert!(plan(LARGEST).assume_caches(caches.0, caches.1).is_ok());
    let result = plan(LARGEST_32).assume_caches(caches.0, caches.1);
    too_large(result, Field::Scratch, LARGEST_32 / 4);
}

#[test]
fn a_dilation_is_irrelevant_where_the_kernel_is_1() {
    let (x, w) = (fill(8 * 5 * 7, 1), fill(16 * 8 * 3, 2));
    for dilation in [2, 1 << 31, usize::MAX] {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let conv = Conv2d::new(8, 16, [1, 3]);
            let usual = conv.plan(layout, 1, [5, 7]).unwrap();
            let dilated = conv.dilation([dilation, 1]).plan(layout, 1, [5, 7]).unwrap();
            let expected = run(&usual, &x, &w, Epilogue::new());
            assert_same_bits(&run(&dilated, &x, &w, Epilogue::new()), &expected, dilation);
        }
    }
    let two_taps = Conv1d::new(1, 1, [2]).dilation([1 << 31]);
    let result = two_taps.plan(Layout::NCL, 1, [8]);
    #[cfg(target_pointer_width = "64")]
    refused(result, Field::Kernel(0), Expected::AtMost(8), Found::Count((1 << 31) + 1));
    #[cfg(target_pointer_width = "32")]
    too_large(result, Field::Kernel(0), coordinates(LARGEST));
    let three_taps = Conv1d::new(1, 1, [3]).dilation([1 << 31]);
    let result = three_taps.plan_within(Layout::NCL, 1, [8], LARGEST_32);
    too_large(result, Field::Kernel(0), coordinates(LARGEST_32));
}

/// Windows that see only padding give the bias: exactly, and in canonical form.
#[test]
fn padding_may_be_wider_than_the_window() {
    let channels = 20;
    let mut bias = fill(channels, 3);
    (bias[1], bias[2], bias[3]) = (-0.0, -f32::NAN, f32::NEG_INFINITY);
    for groups in [1, 2, channels] {
        let conv = Conv2d::new(channels, channels, [2, 3]).padding_sides([5, 6], [4, 7]);
        let conv = conv.groups(groups);
        for (layout, isa) in
            support::paths().into_iter().flat_map(|isa| [(Layout::Nchw, isa), (Layout::Nhwc, isa)])
        {
            let plan = conv.plan(layout, 1, [1, 2]).unwrap().with_isa(isa).unwrap();
            let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
            let y = run(&plan, &x, &w, Epilogue::new().bias(&bias));
            let no_bias = run(&plan, &x, &w, Epilogue::new());
            let ([_, height, width], strides) = (plan.output_size(), plan.output_strides());
            assert_eq!([height, width], [9, 13]);
            for row in 0..height {
                for column in 0..width {
                    if (4..=5).contains(&row) && (4..=7).contains(&column) {
                        continue; // sees the input
                    }
                    for (channel, &bias) in bias.iter().enumerate() {
                        let at =
                            row * strides.row + column * strides.pixel + channel * strides.channel;
                        assert_eq!(y[at].to_bits(), numerics::canonical(bias).to_bits());
                        assert_eq!(no_bias[at].to_bits(), 0);
                    }
                }
            }
        }
    }
}

const DENSE: Strides = Strides { batch: 120, channel: 30, depth: 15, row: 5, pixel: 1 };

fn strided(strides: Strides) -> Result<Plan, Error> {
    let plan = Conv3d::new(1, 4, [1, 1, 1]).plan(Layout::NCDHW, 2, [2, 3, 5]).unwrap();
    plan.with_output_strides(strides)
}

#[test]
fn outputs_do_not_overlap() {
    assert_eq!(strided(DENSE).unwrap().output_len(), 240);
    let overlaps = |strides, which, least, found| {
        let field = Field::OutputStride(which);
        refused(strided(strides), field, Expected::AtLeast(least), Found::Count(found));
    };
    overlaps(Strides { pixel: 0, ..DENSE }, StrideOf::Pixel, 1, 0);
    overlaps(Strides { row: 4, ..DENSE }, StrideOf::Row, 5, 4);
    overlaps(Strides { depth: 14, ..DENSE }, StrideOf::Depth, 15, 14);
    overlaps(Strides { channel: 29, ..DENSE }, StrideOf::Channel, 30, 29);
    overlaps(Strides { batch: 119, ..DENSE }, StrideOf::Batch, 120, 119);
    overlaps(Strides { batch: 0, ..DENSE }, StrideOf::Batch, 1, 0);
    // It is the larger of two strides that would have to grow.
    overlaps(Strides { pixel: 2, ..DENSE }, StrideOf::Row, 9, 5);
    overlaps(Strides { pixel: 30, ..DENSE }, StrideOf::Pixel, 116, 30);
    // Any order of the dimensions will do.
    assert!(strided(Strides { pixel: 48, row: 16, depth: 8, channel: 2, batch: 1 }).is_ok());
    // A stride that is never taken may be anything.
    let one = Conv2d::new(1, 1, [3, 3]).plan(Layout::Nchw, 1, [3, 3]).unwrap();
    for stride in [0, usize::MAX] {
        let strides =
            Strides { batch: stride, channel: stride, depth: stride, row: stride, pixel: stride };
        assert_eq!(one.with_output_strides(strides).unwrap().output_len(), 1);
    }
}

#[test]
fn strides_that_no_machine_can_address() {
    let elements = LARGEST / 4;
    for huge in [usize::MAX, LARGEST, elements] {
        for strides in [
            Strides { pixel: huge, ..DENSE },
            Strides { row: huge, ..DENSE },
            Strides { depth: huge, ..DENSE },
            Strides { channel: huge, ..DENSE },
            Strides { batch: huge, ..DENSE },
        ] {
            too_large(strided(strides), Field::OutputElements, elements);
        }
        let plan = CONV.plan(Layout::Nhwc, 2, [8, 8]).unwrap();
        for strides in [
            Strides { pixel: huge, ..plan.input_strides() },
            Strides { row: huge, ..plan.input_strides() },
            Strides { channel: huge, ..plan.input_strides() },
            Strides { batch: huge, ..plan.input_strides() },
        ] {
            too_large(plan.with_input_strides(strides), Field::InputElements, elements);
        }
    }
    let last = Strides { batch: elements - 120, ..DENSE };
    assert_eq!(strided(last).unwrap().output_len(), elements);
}

/// Strides of 0 repeat the input.
#[test]
fn inputs_may_overlap() {
    let conv = CONV.padding([1, 1]);
    let (image, w) = (fill(8 * 8, 1), fill(16 * 8 * 9, 2));
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for isa in paths() {
            let plan = conv.plan(layout, 2, [8, 8]).unwrap().with_isa(isa).unwrap();
            let strides =
                |batch, channel, row, pixel| Strides { batch, channel, depth: 0, row, pixel };
            for (strides, len) in [
                (strides(0, 0, 0, 0), 1),
                (strides(0, 0, 8, 1), 64),
                (strides(0, 8, 0, 1), 64),
                (strides(1, 2, 3, 4), 1 + 1 + 7 * 9),
                (strides(0, 1, 8, 0), 64),
            ] {
                let repeating = plan.with_input_strides(strides).unwrap();
                assert_eq!(repeating.input_len(), len);
                let dense = plan.input_strides();
                let mut x = vec![POISON; plan.input_len()];
                for (batch, channel, row, pixel) in indices([2, 8, 8, 8]) {
                    let at = |s: Strides| {
                        batch * s.batch + channel * s.channel + row * s.row + pixel * s.pixel
                    };
                    x[at(dense)] = fill(len, 1)[at(strides)];
                }
                let expected = run(&plan, &x, &w, Epilogue::new());
                let found = run(&repeating, &fill(len, 1), &w, Epilogue::new());
                assert_same_bits(&found, &expected, (layout, isa, strides));
            }
        }
    }
    assert_eq!(bits(&image), bits(&fill(64, 1)));
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}

/// Each path that this machine or this build lacks is refused; if there is none, the rule by which
/// paths are found has to refuse them on a machine without features.
#[test]
fn paths_that_are_missing() {
    let missing: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| !isa.is_available()).collect();
    if missing.is_empty() {
        support::say("SKIPPED: this machine has every path, so Plan::with_isa can refuse none");
    }
    for isa in missing {
        let result = plan(CONV).unwrap().with_isa(isa);
        refused(result, Field::Isa, Expected::Available, Found::Isa(isa));
        let text = format!(
            "instruction set: expected one that this machine and this build have, found {}",
            isa.name()
        );
        assert_eq!(plan(CONV).unwrap().with_isa(isa).unwrap_err().to_string(), text);
    }
    let bare = Features::from_words(0, 0, 0);
    let allowed: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| bare.allow(*isa)).collect();
    let in_the_build = if Isa::Portable.is_available() { 3 } else { 2 };
    assert_eq!(allowed, [Isa::ScalarSoft, Isa::Scalar, Isa::Portable][..in_the_build]);
}

#[test]
fn errors_read_well() {
    let text = |result: Result<Plan, Error>| result.unwrap_err().to_string();
    assert_eq!(text(plan(CONV.stride([1, 0]))), "stride[1]: expected at least 1, found 0");
    assert_eq!(text(plan(CONV.groups(3))), "groups: expected a divisor of 8, found 3");
    assert_eq!(text(plan(CONV.dilation([1, 5]))), "kernel[1]: expected at most 8, found 11");
    assert_eq!(text(plan(CONV.padding_same().stride([2, 2]))), "stride[0]: expected 1, found 2");
    assert_eq!(
        text(strided(Strides { row: 4, ..DENSE })),
        "output stride of the rows: expected at least 5, found 4"
    );
    assert_eq!(
        text(CONV.plan_within(Layout::Nhwc, 1, [40_000, 40_000], LARGEST_32)),
        "elements of the input: expected at most 536870911, found more than the target can address"
    );
    let error: &dyn std::error::Error = &plan(CONV.groups(0)).unwrap_err();
    assert_eq!(error.to_string(), "groups: expected at least 1, found 0");
}

#[test]
#[should_panic(expected = "dilation")]
fn a_const_plan_panics_with_the_name_of_the_field() {
    let _ = plan(CONV.dilation([0, 1])).unwrap_or_else(|error| error.panic());
}
