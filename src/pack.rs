//! Weights in the order of the chain, sixteen output channels side by side.
//!
//! A blob is a header of [`HEADER`] words, then panels. A panel holds, for each step of the chain
//! (see [`crate::numerics`]), the weights of [`LANES_PER_PANEL`] output channels: those of one
//! group (dense layers; the last panel of each group is filled up with zeros), or the next ones
//! whatever their groups (narrow groups of fewer than 16 output channels). The format depends on
//! the layer alone, so one blob, made on any machine, serves every instruction set, layout, batch
//! and image size.

use crate::error::{Error, Expected, Field, Found};
use crate::numerics::CHANNEL_BLOCK;
use crate::plan::{Plan, is_narrow, panels};
use crate::shape::Geometry;

/// Output channels side by side in a panel: as many as the widest vector has lanes.
pub(crate) const LANES_PER_PANEL: usize = 16;

/// Words before the first panel; as many as a panel is wide, so that panels keep the alignment
/// of the blob.
pub(crate) const HEADER: usize = 16;

const MAGIC: u32 = u32::from_le_bytes(*b"tapw");
const VERSION: u32 = 1;

/// Weights packed for a layer, checked against a plan of it.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    blob: &'a [f32],
    signature: [u32; 2],
}

/// The weights of a call: packed, or a slice in PyTorch's order.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Weights<'a> {
    /// Made once by [`Plan::pack`]; the fast way.
    Packed(PackedWeights<'a>),
    /// `[out_channels, in_channels / groups, kernel...]`, for weights known only at run time. A
    /// run needs [`Plan::scratch_len_unpacked`] elements of scratch memory.
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

impl Plan {
    /// Packs weights in PyTorch's order, `[out_channels, in_channels / groups, kernel...]`, into
    /// the first [`packed_len`](Plan::packed_len) elements of `packed`.
    ///
    /// # Errors
    /// Slices of the wrong length: [`Field::Weights`], which has to be exact, and
    /// [`Field::Packed`], which may be longer.
    pub fn pack<'a>(
        &self,
        weights: &[f32],
        packed: &'a mut [f32],
    ) -> Result<PackedWeights<'a>, Error> {
        self.check_unpacked(weights)?;
        Error::check_len(Field::Packed, self.packed_len(), packed.len())?;
        let blob = &mut packed[..self.packed_len()];
        let (header, body) = blob.split_at_mut(HEADER);
        write_header(&self.geometry, header);
        pack_panels(&self.geometry, weights, 0..panels(&self.geometry), body);
        Ok(PackedWeights { blob, signature: signature(&self.geometry) })
    }

    pub(crate) fn check_unpacked(&self, weights: &[f32]) -> Result<(), Error> {
        if weights.len() == self.weights_len() {
            return Ok(());
        }
        let expected = Expected::Exactly(self.weights_len());
        Err(Error::new(Field::Weights, expected, Found::Count(weights.len())))
    }
}

impl<'a> PackedWeights<'a> {
    /// A blob that [`Plan::pack`] made, here or elsewhere: from flash, or from a file.
    ///
    /// # Errors
    /// A slice shorter than the plan's [`packed_len`](Plan::packed_len); another magic word,
    /// format version or [`CHANNEL_BLOCK`]; the signature of a layer with other channels, kernel
    /// or groups.
    pub fn from_slice(plan: &Plan, blob: &'a [f32]) -> Result<Self, Error> {
        Error::check_len(Field::Packed, HEADER, blob.len())?;
        let signature = signature(&plan.geometry);
        let [low, high] = signature;
        let words = [
            (Field::PackedMagic, MAGIC),
            (Field::PackedVersion, VERSION),
            (Field::PackedChannelBlock, CHANNEL_BLOCK as u32),
            (Field::PackedSignature, low),
            (Field::PackedSignature, high),
        ];
        for ((field, expected), found) in words.into_iter().zip(blob) {
            if found.to_bits() != expected {
                let expected = Expected::Exactly(expected as usize);
                return Err(Error::new(field, expected, Found::Count(found.to_bits() as usize)));
            }
        }
        Error::check_len(Field::Packed, plan.packed_len(), blob.len())?;
        Ok(PackedWeights { blob: &blob[..plan.packed_len()], signature })
    }

    /// [`PackedWeights::from_slice`] on bytes, in the order of this machine.
    ///
    /// # Errors
    /// Besides those of `from_slice`: bytes that do not begin at a multiple of 4.
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

    /// The panels, if they were packed for this layer.
    pub(crate) fn panels_for(&self, plan: &Plan) -> Result<&'a [f32], Error> {
        let expected = signature(&plan.geometry);
        for (expected, found) in expected.into_iter().zip(self.signature) {
            if expected != found {
                let expected = Expected::Exactly(expected as usize);
                return Err(Error::new(
                    Field::PackedSignature,
                    expected,
                    Found::Count(found as usize),
                ));
            }
        }
        // Implied by the signature but for collisions, which must not reach the kernels.
        Error::check_len(Field::Packed, plan.packed_len(), self.blob.len())?;
        Ok(&self.blob[HEADER..])
    }
}

fn write_header(geometry: &Geometry, header: &mut [f32]) {
    header.fill(0.0);
    let [low, high] = signature(geometry);
    let words = [MAGIC, VERSION, CHANNEL_BLOCK as u32, low, high];
    for (word, value) in header.iter_mut().zip(words) {
        *word = f32::from_bits(value);
    }
}

/// Sixty bits of FNV-1a over channels, groups and kernel, in words that no `f32` move can alter:
/// their exponent is never that of a NaN.
fn signature(geometry: &Geometry) -> [u32; 2] {
    let [depth, height, width] = geometry.kernel;
    let fields =
        [geometry.in_channels, geometry.out_channels, geometry.groups, depth, height, width];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for field in fields {
        for byte in (field as u64).to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    let bits = (1 << 30) - 1;
    [hash as u32 & bits, (hash >> 30) as u32 & bits]
}

/// Packs `range` of the layer's panels; `body` holds just these.
pub(crate) fn pack_panels(
    geometry: &Geometry,
    weights: &[f32],
    range: core::ops::Range<usize>,
    body: &mut [f32],
) {
    let taps = geometry.taps();
    let in_per_group = geometry.in_per_group();
    let mut rows = body.chunks_exact_mut(LANES_PER_PANEL);
    for panel in range {
        let (first, count) = panel_channels(geometry, panel);
        for block in (0..in_per_group).step_by(CHANNEL_BLOCK) {
            let channels = block..in_per_group.min(block + CHANNEL_BLOCK);
            for tap in 0..taps {
                for channel in channels.clone() {
                    let Some(row) = rows.next() else { return };
                    let (used, unused) = row.split_at_mut(count);
                    for (lane, weight) in used.iter_mut().enumerate() {
                        *weight = weights[((first + lane) * in_per_group + channel) * taps + tap];
                    }
                    unused.fill(0.0);
                }
            }
        }
    }
}

/// The first output channel of a panel, and how many it holds.
pub(crate) fn panel_channels(geometry: &Geometry, panel: usize) -> (usize, usize) {
    let (group, panel, channels) = if is_narrow(geometry) {
        (0, panel, geometry.out_channels)
    } else {
        let out_per_group = geometry.out_per_group();
        let per_group = out_per_group.div_ceil(LANES_PER_PANEL);
        (panel / per_group, panel % per_group, out_per_group)
    };
    let in_group = panel * LANES_PER_PANEL;
    (group * channels + in_group, LANES_PER_PANEL.min(channels - in_group))
}
