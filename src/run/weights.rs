//! The weights of a call: packed once, or as they are.

use crate::error::{Error, Expected, Field, Found};
use crate::panels::{HEADER, PackedFormat};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::problem::arithmetic::tri;
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::weights::WeightStrides;

/// Weights packed for a layer, checked against a plan of it.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    blob: &'a [f32],
    format: PackedFormat,
}

/// The weights of a call: packed, or a slice in PyTorch's order.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Weights<'a> {
    /// Made once by [`Plan::pack`]; the fast way.
    Packed(PackedWeights<'a>),
    /// `[out_channels, in_channels / groups, kernel...]`, for a plan that is
    /// [`unpacked`](Plan::unpacked). They are not looked at before they are used: for those that are
    /// infinite or NaN the [promise](crate::numerics) does not hold.
    Unpacked(&'a [f32]),
}

impl<'a> From<PackedWeights<'a>> for Weights<'a> {
    fn from(packed: PackedWeights<'a>) -> Self {
        Weights::Packed(packed)
    }
}

impl<'a> From<&PackedWeights<'a>> for Weights<'a> {
    fn from(packed: &PackedWeights<'a>) -> Self {
        Weights::Packed(*packed)
    }
}

/// Packs the weights of a layer.
pub(crate) fn pack<'a>(
    geometry: &Geometry,
    strides: &WeightStrides,
    format: &PackedFormat,
    weights: &[f32],
    packed: &'a mut [f32],
) -> Result<PackedWeights<'a>, Error> {
    check_unpacked(geometry, weights)?;
    if let Some(place) = weights.iter().position(|weight| !weight.is_finite()) {
        let found = Found::Number(weights[place]);
        return Err(Error::new(Field::Weight(place), Expected::Finite, found));
    }
    Error::check_len(Field::Packed, format.len, packed.len())?;
    let blob = &mut packed[..format.len];
    format.pack(geometry, strides, weights, blob);
    Ok(PackedWeights { blob, format: *format })
}

/// Whether there are as many as the layer has.
pub(crate) fn check_unpacked(geometry: &Geometry, weights: &[f32]) -> Result<(), Error> {
    let len = geometry.chain() * geometry.out_channels;
    if weights.len() == len {
        return Ok(());
    }
    Err(Error::new(Field::Weights, Expected::Exactly(len), Found::Count(weights.len())))
}

impl Plan {
    /// Packs weights in PyTorch's order, `[out_channels, in_channels / groups, kernel...]`, into
    /// the first [`packed_len`](Plan::packed_len) elements of `packed`.
    ///
    /// # Errors
    /// Slices of the wrong length: [`Field::Weights`], which has to be exact, and
    /// [`Field::Packed`], which may be longer. A weight that is infinite or NaN, by its place:
    /// [`Field::Weight`].
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        if matches!(self.layer.problem.geometry.operator, Operator::Correlation) {
            let (expected, found) = (Expected::Unpacked, Found::Packed);
            return Err(Error::new(Field::WeightForm, expected, found));
        }
        let Problem { geometry, weights: strides, .. } = &self.layer.problem;
        pack(geometry, strides, &self.format, weights, packed)
    }
}

impl<'a> PackedWeights<'a> {
    /// A blob that [`Plan::pack`] made, here or elsewhere: from flash, or from a file. Its header
    /// and its length are checked, which takes nanoseconds; the weights are believed to be those
    /// that were packed, which are finite.
    ///
    /// # Errors
    /// A slice shorter than the plan's [`packed_len`](Plan::packed_len); one that does not begin as
    /// a blob does, or has another format version or [`CHANNEL_BLOCK`](crate::CHANNEL_BLOCK); a layer
    /// with other channels, kernel or groups.
    pub const fn from_slice(plan: &Plan, blob: &'a [f32]) -> Result<Self, Error> {
        let format = plan.format;
        tri!(format.check_header(blob));
        tri!(Error::check_len(Field::Packed, format.len, blob.len()));
        let (blob, _) = blob.split_at(format.len);
        Ok(PackedWeights { blob, format })
    }

    /// [`PackedWeights::from_slice`] on bytes: words in the byte order of this machine. A blob
    /// that comes in the other order has to be copied word by word, with the bytes of each
    /// reversed (`swap_bytes`); files and flash images are little-endian by custom, and firmware
    /// for big-endian processors does this when it is built.
    ///
    /// # Errors
    /// Besides those of `from_slice`, of which a blob in the other byte order is
    /// [`Field::PackedMagic`]: bytes that do not begin at a multiple of 4.
    pub fn from_bytes(plan: &Plan, bytes: &'a [u8]) -> Result<Self, Error> {
        let whole = &bytes[..bytes.len() / 4 * 4];
        match bytemuck::try_cast_slice(whole) {
            Ok(blob) => Self::from_slice(plan, blob),
            Err(_) => {
                let misalignment = bytes.as_ptr() as usize % align_of::<f32>();
                Err(Error::new(
                    Field::PackedAlignment,
                    Expected::Exactly(0),
                    Found::Count(misalignment),
                ))
            }
        }
    }

    /// The blob, to be stored.
    pub fn as_slice(&self) -> &'a [f32] {
        self.blob
    }

    /// The panels.
    pub(crate) fn panels(&self) -> &'a [f32] {
        self.blob.get(HEADER..).unwrap_or(&[])
    }
}

impl<'a> Weights<'a> {
    /// Panels, or weights in PyTorch's order.
    pub(crate) fn elements(&self) -> &'a [f32] {
        match self {
            Weights::Packed(packed) => packed.panels(),
            Weights::Unpacked(weights) => weights,
        }
    }

    /// Whether they are of the plan's layer, and in the form that it takes.
    #[inline(always)]
    pub(crate) fn check(&self, plan: &Plan) -> Result<(), Error> {
        let field = Field::WeightForm;
        match self {
            Weights::Packed(_) if plan.takes_unpacked() => {
                Err(Error::new(field, Expected::Unpacked, Found::Packed))
            }
            Weights::Packed(packed) => plan.format.check(&packed.format),
            Weights::Unpacked(_) if !plan.takes_unpacked() => {
                Err(Error::new(field, Expected::Packed, Found::Unpacked))
            }
            Weights::Unpacked(weights) => plan.check_unpacked(weights),
        }
    }
}
