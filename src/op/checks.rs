//! What descriptions have in common: checks, and what follows from weights alone.

use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::panels::PackedFormat;
use crate::problem::arithmetic::{add, tri};
use crate::problem::geometry::Geometry;
use crate::problem::weights::WeightStrides;
use crate::run::weights::{self, PackedWeights};

/// What a description of `$D` dimensions tells of its `conv`.
macro_rules! tells_of_conv {
    ($D:expr) => {
        /// The channels of the input.
        pub const fn in_channels(&self) -> usize {
            self.conv.in_channels()
        }

        /// The channels of the output.
        pub const fn out_channels(&self) -> usize {
            self.conv.out_channels()
        }

        /// The groups.
        pub const fn group_count(&self) -> usize {
            self.conv.group_count()
        }

        /// The size of the kernel, in taps.
        pub const fn kernel_size(&self) -> [usize; $D] {
            self.conv.kernel_size()
        }
    };
}
pub(super) use tells_of_conv;

pub(super) const fn at_least_one(field: Field, found: usize) -> Result<(), Error> {
    if found == 0 { Err(Error::too_small(field, 1, 0)) } else { Ok(()) }
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

/// Packs weights for every plan of a layer.
pub(super) fn pack<'a>(
    geometry: &Geometry,
    weights: &[Element],
    packed: &'a mut [Element],
) -> Result<PackedWeights<'a>, Error> {
    let format = packed_format(geometry)?;
    weights::pack(geometry, &WeightStrides::of(geometry), &format, weights, packed)
}

/// The number of weights, and with `bias` of the biases.
pub(super) const fn parameters(geometry: &Geometry, bias: bool) -> Result<usize, Error> {
    let weights = tri!(geometry.weights_len(usize::MAX));
    let biases = if bias { geometry.out_channels } else { 0 };
    add(weights, biases, usize::MAX, Field::WeightElements)
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
