//! What every description checks alike.

use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::panels::PackedFormat;
use crate::problem::arithmetic::{mul, tri};
use crate::problem::geometry::{Geometry, Operator, PaddingMode};

pub(super) const fn at_least_one(field: Field, found: usize) -> Result<(), Error> {
    if found == 0 { Err(Error::too_small(field, 1, 0)) } else { Ok(()) }
}

/// A convolution of one tap on one pixel: channels and groups, to which the rest is added.
pub(super) const fn channels(
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
) -> Result<Geometry, Error> {
    tri!(at_least_one(Field::InChannels, in_channels));
    tri!(at_least_one(Field::OutChannels, out_channels));
    tri!(at_least_one(Field::Groups, groups));
    tri!(divides(Field::Groups, groups, in_channels));
    tri!(divides(Field::Groups, groups, out_channels));
    Ok(Geometry {
        batch,
        in_channels,
        out_channels,
        groups,
        in_per_group: in_channels / groups,
        out_per_group: out_channels / groups,
        input: [1; 3],
        output: [1; 3],
        window: [1; 3],
        stride: [1; 3],
        dilation: [1; 3],
        padding: [0; 3],
        padding_mode: PaddingMode::Zeros,
        padded: false,
        operator: Operator::Convolution,
        flipped: false,
    })
}

pub(super) const fn divides(field: Field, groups: usize, channels: usize) -> Result<(), Error> {
    if channels.is_multiple_of(groups) {
        return Ok(());
    }
    Err(Error::new(field, Expected::DivisorOf(channels), Found::Count(groups)))
}

/// How the weights of a layer are packed, whatever its input.
pub(super) const fn packed_format(geometry: &Geometry) -> Result<PackedFormat, Error> {
    let elements = isize::MAX as usize / size_of::<Element>();
    tri!(geometry.weights_len(elements));
    PackedFormat::of(geometry, elements)
}

/// The size of the output of a layer in `D` dimensions.
pub(super) const fn output_size<const D: usize>(geometry: &Geometry) -> [usize; D] {
    let mut output = [0; D];
    let mut axis = 0;
    while axis < D {
        output[axis] = geometry.output[3 - D + axis];
        axis += 1;
    }
    output
}

/// The checks of a window along an axis: how far its taps are apart, and from the first to the last.
pub(super) const fn window(
    axis: usize,
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    limit: usize,
) -> Result<[usize; 2], Error> {
    tri!(at_least_one(Field::InputSize(axis), size));
    tri!(at_least_one(Field::Kernel(axis), kernel));
    tri!(at_least_one(Field::Stride(axis), stride));
    tri!(at_least_one(Field::Dilation(axis), dilation));
    let dilation = if kernel == 1 { 1 } else { dilation };
    let reach = tri!(mul(kernel - 1, dilation, limit, Field::Kernel(axis)));
    Ok([dilation, reach])
}
