//! Weights in the order of the chain, sixteen output channels side by side.
//!
//! A blob is a header of [`HEADER`] words, then panels. A panel holds, for each step of the chain
//! (see [`crate::numerics`]), the weights of [`LANES_PER_PANEL`] output channels: those of one
//! group (dense layers; the last panel of each group is filled up with zeros), or the next ones
//! whatever their groups (narrow groups of fewer than 16 output channels). The format depends on
//! the layer alone, so one blob, made on any machine, serves every instruction set, layout, batch
//! and image size.
//!
//! A blob is words of 32 bits in the byte order of the machine that reads it, for they are read
//! where they lie. In bytes it is therefore one of two: the words of a blob from a machine of the
//! other order are to be reversed, byte by byte, before it is read. It cannot be mistaken, because
//! the magic word is another when it is reversed.

use crate::error::{Error, Expected, Field, Found};
use crate::numerics::CHANNEL_BLOCK;
use crate::plan::{Plan, is_narrow, panels};
use crate::shape::{Geometry, divide};

/// Output channels side by side in a panel: as many as the widest vector has lanes.
pub(crate) const LANES_PER_PANEL: usize = 16;

/// Words before the first panel; as many as a panel is wide, so that panels keep the alignment
/// of the blob.
pub(crate) const HEADER: usize = 16;

const MAGIC: u32 = u32::from_le_bytes(*b"tapw");
const VERSION: u32 = 1;

/// What the words of the header are.
const HEADER_FIELDS: [Field; 5] = [
    Field::PackedMagic,
    Field::PackedVersion,
    Field::PackedChannelBlock,
    Field::PackedSignature,
    Field::PackedSignature,
];

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
        header.fill(0.0);
        for (word, value) in header.iter_mut().zip(self.packed_header()) {
            *word = f32::from_bits(value);
        }
        pack_panels(&self.geometry, weights, 0..panels(&self.geometry), body);
        Ok(PackedWeights { blob, signature: self.signature })
    }

    /// The words with which a blob begins; zeros follow.
    fn packed_header(&self) -> [u32; HEADER_FIELDS.len()] {
        let [low, high] = self.signature;
        [MAGIC, VERSION, CHANNEL_BLOCK as u32, low, high]
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
        for ((field, expected), found) in HEADER_FIELDS.iter().zip(plan.packed_header()).zip(blob) {
            if found.to_bits() != expected {
                let expected = Expected::Exactly(expected as usize);
                return Err(Error::new(*field, expected, Found::Count(found.to_bits() as usize)));
            }
        }
        Error::check_len(Field::Packed, plan.packed_len(), blob.len())?;
        Ok(PackedWeights { blob: &blob[..plan.packed_len()], signature: plan.signature })
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

    /// The panels, if they were packed for this layer.
    pub(crate) fn panels_for(&self, plan: &Plan) -> Result<&'a [f32], Error> {
        for (expected, found) in plan.signature.into_iter().zip(self.signature) {
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
        Ok(self.blob.get(HEADER..).unwrap_or(&[]))
    }
}

/// Sixty bits of FNV-1a over channels, groups and kernel, in words that no `f32` move can alter:
/// their exponent is never that of a NaN.
pub(crate) const fn signature(geometry: &Geometry) -> [u32; 2] {
    let [depth, height, width] = geometry.kernel;
    let fields =
        [geometry.in_channels, geometry.out_channels, geometry.groups, depth, height, width];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = 0;
    while byte < 8 * fields.len() {
        let value = fields[byte / 8] as u64 >> (8 * (byte % 8)) & 0xff;
        hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        byte += 1;
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
        let (group, panel) = divide(panel, per_group);
        (group, panel, out_per_group)
    };
    let in_group = panel * LANES_PER_PANEL;
    (group * channels + in_group, LANES_PER_PANEL.min(channels - in_group))
}
