//! Descriptions that [`ConvTranspose::plan`](tapwise::ConvTranspose::plan) refuses, by which words, and
//! the nearest ones that it accepts.

mod support;

use support::{POISON, assert_same_bits, fill, paths, run};
use tapwise::{
    ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Epilogue, Error, Expected, Field, Found,
    Layout, Plan, StrideOf, Weights, reference,
};

const UP: ConvTranspose2d = ConvTranspose2d::new(8, 16, [3, 3]).stride([2, 2]);
const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
const LARGEST: usize = isize::MAX as usize;
const LARGEST_32: usize = i32::MAX as usize;
/// The longest axis, with all that its windows reach, with objects of so many bytes.
const fn coordinates(limit: usize) -> usize {
    limit / 2
}

fn plan(layer: ConvTranspose2d) -> Result<Plan, Error> {
    layer.plan(Layout::Nhwc, 1, [8, 8])
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
    let volume = ConvTranspose3d::new(4, 4, [1, 1, 1]);
    let volume_plan = |layer: ConvTranspose3d| layer.plan(Layout::NCDHW, 1, [2, 2, 2]);
    let line = ConvTranspose1d::new(4, 4, [2]);
    for (result, field) in [
        (plan(ConvTranspose2d::new(0, 16, [3, 3])), Field::InChannels),
        (plan(ConvTranspose2d::new(8, 0, [3, 3])), Field::OutChannels),
        (plan(UP.groups(0)), Field::Groups),
        (UP.plan(Layout::Nhwc, 1, [0, 8]), Field::InputSize(0)),
        (UP.plan(Layout::Nhwc, 0, [8, 0]), Field::InputSize(1)),
        (plan(ConvTranspose2d::new(8, 16, [0, 3])), Field::Kernel(0)),
        (plan(ConvTranspose2d::new(8, 16, [3, 0])), Field::Kernel(1)),
        (plan(UP.stride([0, 1])), Field::Stride(0)),
        (plan(UP.stride([1, 0])), Field::Stride(1)),
        (plan(UP.stride([1, 0]).to_output_size([10, 10])), Field::Stride(1)),
        (plan(UP.dilation([0, 1])), Field::Dilation(0)),
        (plan(UP.dilation([1, 0])), Field::Dilation(1)),
        (plan(UP.flipped().dilation([1, 0])), Field::Dilation(1)),
        (volume_plan(volume.stride([1, 1, 0])), Field::Stride(2)),
        (volume_plan(volume.dilation([0, 1, 1])), Field::Dilation(0)),
        (volume_plan(ConvTranspose3d::new(4, 4, [1, 0, 1])), Field::Kernel(1)),
        (line.plan(Layout::NLC, 1, [0]), Field::InputSize(0)),
        (line.stride([0]).plan(Layout::NLC, 1, [4]), Field::Stride(0)),
    ] {
        refused(result, field, Expected::AtLeast(1), Found::Count(0));
    }
    let zero = (Expected::AtLeast(1), Found::Count(0));
    refused(UP.stride([0, 1]).output_size([8, 8]), Field::Stride(0), zero.0, zero.1);
    refused(
        ConvTranspose2d::new(8, 0, [1; 2]).parameters(true),
        Field::OutChannels,
        zero.0,
        zero.1,
    );
    refused(UP.stride([1, 0]).packed_len(), Field::Stride(1), zero.0, zero.1);
    refused(UP.dilation([0, 1]).pack(&[], &mut []), Field::Dilation(0), zero.0, zero.1);
}

#[test]
fn groups_divide_the_channels() {
    let divides = |channels| Expected::DivisorOf(channels);
    refused(plan(UP.groups(3)), Field::Groups, divides(8), Found::Count(3));
    refused(plan(UP.groups(16)), Field::Groups, divides(8), Found::Count(16));
    let six = ConvTranspose2d::new(12, 8, [3, 3]).groups(6);
    refused(plan(six), Field::Groups, divides(8), Found::Count(6));
    assert!(plan(UP.groups(8)).is_ok());
}

/// PyTorch: "output padding must be smaller than either stride or dilation".
#[test]
fn output_padding_is_less_than_stride_or_dilation() {
    for (stride, dilation, most) in [(1, 1, 0), (3, 1, 2), (1, 3, 2), (2, 4, 3), (4, 2, 3)] {
        // Whether or not taps are apart at all.
        for kernel in [1, 2] {
            let layer = ConvTranspose1d::new(1, 1, [kernel]).stride([stride]).dilation([dilation]);
            let size = |layer: ConvTranspose1d| layer.output_size([3]);
            let Ok([whole]) = size(layer) else { panic!("{layer:?}") };
            assert_eq!(size(layer.output_padding([most])), Ok([whole + most]));
            for more in [most + 1, usize::MAX] {
                let result = size(layer.output_padding([more]));
                let field = Field::OutputPadding(0);
                refused(result, field, Expected::AtMost(most), Found::Count(more));
            }
        }
    }
    let result = plan(UP.output_padding([1, 2]));
    refused(result, Field::OutputPadding(1), Expected::AtMost(1), Found::Count(2));
}

#[test]
fn padding_leaves_an_output() {
    let layer = ConvTranspose1d::new(1, 1, [3]).stride([2]);
    // Of 3 inputs there are 7 outputs.
    let size = |layer: ConvTranspose1d| layer.output_size([3]);
    assert_eq!(size(layer.padding([3])), Ok([1]));
    for (before, after) in [(4, 3), (7, 0), (0, 7)] {
        let layer = layer.padding_sides([before], [after]);
        refused(size(layer), Field::Padding(0), Expected::AtMost(6), Found::Count(7));
        assert_eq!(size(layer.output_padding([1])), Ok([1]));
        assert_eq!(size(layer.to_output_size([1])), Ok([1]));
        let layer = layer.padding_sides([before + 1], [after]);
        let result = size(layer.output_padding([1]));
        refused(result, Field::Padding(0), Expected::AtMost(7), Found::Count(8));
        let result = size(layer.to_output_size([1]));
        refused(result, Field::Padding(0), Expected::AtMost(7), Found::Count(8));
    }
    let far = UP.padding([1 << 20, 0]);
    refused(plan(far), Field::Padding(0), Expected::AtMost(16), Found::Count(1 << 21));
    for (before, after) in [(usize::MAX, 1), (1, usize::MAX), (LARGEST + 1, 0)] {
        let result = size(layer.padding_sides([before], [after]));
        too_large(result, Field::Padding(0), coordinates(usize::MAX));
    }
}

/// As `output_size` of PyTorch's `forward`: from the least up to a stride less one more.
#[test]
fn an_output_size_that_is_out_of_reach() {
    let layer = UP.padding([1, 0]);
    assert_eq!(layer.output_size([8, 8]), Ok([15, 17]));
    for size in [[15, 17], [16, 18], [15, 18]] {
        assert_eq!(layer.to_output_size(size).output_size([8, 8]), Ok(size));
    }
    let to = |size| plan(layer.to_output_size(size));
    refused(to([14, 17]), Field::OutputSize(0), Expected::AtLeast(15), Found::Count(14));
    refused(to([15, 0]), Field::OutputSize(1), Expected::AtLeast(17), Found::Count(0));
    refused(to([17, 17]), Field::OutputSize(0), Expected::AtMost(16), Found::Count(17));
    let most = (Expected::AtMost(18), Found::Count(usize::MAX));
    refused(to([16, usize::MAX]), Field::OutputSize(1), most.0, most.1);
    // The dilation adds nothing, unlike to the output padding.
    let dilated = ConvTranspose1d::new(1, 1, [2]).dilation([5]).to_output_size([9]);
    let result = dilated.output_size([3]);
    refused(result, Field::OutputSize(0), Expected::AtMost(8), Found::Count(9));
    // Nothing of it is asked for where there is no input.
    assert!(layer.to_output_size([0, 0]).packed_len().is_ok());
}

#[test]
fn sizes_that_no_machine_can_address() {
    let elements = LARGEST / 4;
    let ncl = |layer: ConvTranspose1d, batch, size| layer.plan(Layout::NCL, batch, [size]);
    let one = ConvTranspose1d::new(1, 1, [1]);
    for huge in [usize::MAX, LARGEST, elements + 1] {
        too_large(ncl(one, huge, 1), Field::InputElements, elements);
        too_large(ncl(ConvTranspose1d::new(huge, 1, [1]), 1, 1), Field::InputElements, elements);
        too_large(ncl(ConvTranspose1d::new(1, huge, [1]), 1, 1), Field::OutputElements, elements);
    }
    assert!(ncl(one, elements, 1).is_ok());
    assert!(ncl(one, 1, elements).is_ok());
    too_large(ncl(one, 1, elements + 1), Field::InputElements, elements);
    too_large(ncl(one.stride([2]), 1, elements), Field::OutputElements, elements);
    let half = 1 << (usize::BITS / 2);
    // Without the checks these would wrap to 1, to 1 and to 0.
    too_large(ncl(one.stride([half]), 1, half + 1), Field::Stride(0), coordinates(LARGEST));
    let far = ConvTranspose1d::new(1, 1, [half + 1]).dilation([half]);
    too_large(ncl(far, 1, 1), Field::Kernel(0), coordinates(LARGEST));
    too_large(ncl(one, half, half), Field::InputElements, elements);
    too_large(ncl(one, 1, usize::MAX), Field::Stride(0), coordinates(LARGEST));
    let wide = ConvTranspose1d::new(1, 1, [usize::MAX]);
    too_large(ncl(wide, 1, 8), Field::Kernel(0), coordinates(LARGEST));
    let both = ConvTranspose1d::new(1, 1, [LARGEST / 4]).stride([LARGEST / 4]);
    too_large(ncl(both, 1, 3), Field::Kernel(0), coordinates(LARGEST));
    let more = ConvTranspose1d::new(1, 1, [LARGEST / 2 - 4]).stride([8]);
    too_large(ncl(more.output_padding([7]), 1, 1), Field::OutputPadding(0), coordinates(LARGEST));
    too_large(ncl(more.to_output_size([7]), 1, 1), Field::Stride(0), coordinates(LARGEST));
    let half = 1 << (usize::BITS / 2 - 1);
    too_large(ncl(ConvTranspose1d::new(half, half, [1]), 1, 1), Field::WeightElements, elements);
    // These weights wrap to 0.
    let wide = ConvTranspose1d::new(half, half, [4]);
    too_large(ncl(wide, 1, 4), Field::WeightElements, elements);
    too_large(wide.parameters(false), Field::WeightElements, usize::MAX);
    too_large(wide.packed_len(), Field::WeightElements, elements);
}

/// What a 32-bit machine refuses and a 64-bit one accepts.
#[cfg(target_pointer_width = "64")]
#[test]
fn sizes_that_32_bits_cannot_address() {
    fn check<const D: usize>(
        layer: tapwise::ConvTranspose<D>,
        batch: usize,
        size: [usize; D],
        field: Field,
        limit: usize,
    ) {
        for layout in LAYOUTS {
            assert!(layer.plan(layout, batch, size).is_ok(), "{field}");
            too_large(layer.plan_within(layout, batch, size, LARGEST_32), field, limit);
        }
    }
    let (elements, longest) = (LARGEST_32 / 4, coordinates(LARGEST_32));
    let one = ConvTranspose2d::new(1, 1, [1, 1]);
    check(one, 1, [40_000; 2], Field::InputElements, elements);
    check(one.stride([40; 2]), 1, [1000; 2], Field::OutputElements, elements);
    check(ConvTranspose2d::new(1, 1024, [1, 1]), 1, [1000; 2], Field::OutputElements, elements);
    check(ConvTranspose1d::new(8, 8, [1]), 1 << 27, [1], Field::InputElements, elements);
    check(
        ConvTranspose3d::new(1 << 20, 1 << 20, [1; 3]),
        1,
        [1; 3],
        Field::WeightElements,
        elements,
    );
    // The weights fit, with sixteen output channels side by side they do not.
    check(ConvTranspose1d::new(1 << 25, 1, [1]), 1, [1], Field::WeightElements, elements);
    let line = ConvTranspose1d::new(1, 1, [2]).padding_sides([1 << 31], [0]);
    check(line.dilation([1 << 31]), 1, [1], Field::Kernel(0), longest);
    check(line.stride([1 << 31]), 1, [2], Field::Stride(0), longest);
    let line = ConvTranspose1d::new(1, 1, [1]).stride([1 << 29]);
    check(line.padding_sides([1 << 30], [0]), 1, [4], Field::Stride(0), longest);
    let most = ConvTranspose1d::new(1, 1, [1]);
    assert!(most.plan_within(Layout::NCL, 1, [elements], LARGEST_32).is_ok());
}

/// A stride that is never taken, for there is one input; all taps are of classes of their own.
#[test]
fn strides_that_are_never_taken() {
    let mut planned = 0;
    for stride in [1 << 20, 1 << 40, 1 << 61, (1 << 61) + 1, 3 << 40, (1 << 62) - 1]
        .map(|stride: u64| stride as usize)
        .into_iter()
        .filter(|stride| *stride > 0 && *stride <= coordinates(LARGEST))
    {
        for dilation in [1, 2, 3, 4, 5] {
            let layer = ConvTranspose2d::new(3, 17, [2, 3])
                .stride([stride; 2])
                .dilation([dilation, dilation])
                .padding_sides([0, 1], [0, 0]);
            for (layer, layout) in [layer, layer.flipped(), layer.groups(1).output_padding([3, 2])]
                .into_iter()
                .flat_map(|layer| LAYOUTS.map(|layout| (layer, layout)))
            {
                same_as_the_loops(&layer.plan(layout, 1, [1, 1]).unwrap(), stride);
                planned += 1;
            }
        }
    }
    assert!(planned > 0);
    let layer = ConvTranspose1d::new(1, 1, [2]).dilation([2]);
    for stride in [LARGEST / 2 + 1, LARGEST, LARGEST + 1, usize::MAX] {
        let result = layer.stride([stride]).plan(Layout::NCL, 1, [1]);
        too_large(result, Field::Stride(0), coordinates(LARGEST));
    }
    assert!(layer.stride([1 << 30]).plan_within(Layout::NCL, 1, [1], LARGEST_32).is_err());
}

/// Dilations as far as strides, so that a few outputs have more than one tap.
#[test]
fn windows_as_far_as_strides() {
    let far = 1 << (usize::BITS - 4);
    for (stride, dilation) in
        [(far, far), (far, far / 2), (far / 2, far), (far, far - 1), (far - 1, far), (far, 3)]
    {
        let layer = ConvTranspose1d::new(2, 3, [2]).stride([stride]).dilation([dilation]);
        // Around the second tap of the first input.
        for before in [dilation, dilation - 1, stride.min(dilation) - 2] {
            let whole = dilation + 1;
            let layer = layer.padding_sides([before], [(whole - before).saturating_sub(3)]);
            for layout in LAYOUTS {
                let plan = layer.plan(layout, 2, [1]).unwrap();
                same_as_the_loops(&plan, (stride, dilation, before));
            }
        }
    }
}

#[track_caller]
fn same_as_the_loops(plan: &Plan, what: impl std::fmt::Debug) {
    let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
    let bias = fill(plan.out_channels(), 3);
    let epilogue = Epilogue::new().bias(&bias);
    let mut expected = vec![POISON; plan.output_len()];
    reference::run(plan, &x, &w, epilogue, &mut expected).unwrap();
    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        assert_same_bits(&run(&plan, &x, &w, epilogue), &expected, (isa, &what));
        let plan = plan.unpacked().unwrap();
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        plan.run(&x, Weights::Unpacked(&w), epilogue, &mut scratch, &mut y).unwrap();
        assert_same_bits(&y, &expected, (isa, &what, "unpacked"));
    }
}

#[test]
fn a_dilation_is_irrelevant_where_the_kernel_is_1() {
    for dilation in [2, 1 << 31, usize::MAX] {
        for layout in LAYOUTS {
            let layer = ConvTranspose2d::new(8, 16, [1, 3]).stride([2, 2]);
            let usual = layer.plan(layout, 1, [5, 7]).unwrap();
            let dilated = layer.dilation([dilation, 1]).plan(layout, 1, [5, 7]).unwrap();
            let (x, w) = (fill(usual.input_len(), 1), fill(usual.weights_len(), 2));
            let expected = run(&usual, &x, &w, Epilogue::new());
            assert_same_bits(&run(&dilated, &x, &w, Epilogue::new()), &expected, dilation);
        }
    }
    let two_taps = ConvTranspose1d::new(1, 1, [2]).dilation([usize::MAX]);
    let result = two_taps.plan(Layout::NCL, 1, [8]);
    too_large(result, Field::Kernel(0), coordinates(LARGEST));
}

/// Outputs of a phase are apart, and those of all phases do not overlap.
#[test]
fn outputs_do_not_overlap() {
    let plan = UP.plan(Layout::Nchw, 2, [3, 3]).unwrap();
    let dense = plan.output_strides();
    let row = tapwise::Strides { row: 6, ..dense };
    let expected = (Expected::AtLeast(7), Found::Count(6));
    let field = Field::OutputStride(StrideOf::Row);
    refused(plan.with_output_strides(row), field, expected.0, expected.1);
    assert!(plan.with_output_strides(dense).is_ok());
    let huge = tapwise::Strides { row: LARGEST / 4, ..dense };
    too_large(plan.with_output_strides(huge), Field::OutputElements, LARGEST / 4);
}

#[test]
fn errors_read_well() {
    let text = |result: Result<Plan, Error>| result.unwrap_err().to_string();
    let output_padding = UP.output_padding([0, 2]);
    assert_eq!(text(plan(output_padding)), "output_padding[1]: expected at most 1, found 2");
    let output_size = UP.to_output_size([17, 20]);
    assert_eq!(text(plan(output_size)), "output size[1]: expected at most 18, found 20");
    assert_eq!(text(plan(UP.padding([9, 0]))), "padding[0]: expected at most 16, found 18");
}

#[test]
#[should_panic(expected = "output_padding")]
fn a_const_plan_panics_with_the_name_of_the_field() {
    let _ = plan(UP.output_padding([2, 0])).unwrap_or_else(|error| error.panic());
}
