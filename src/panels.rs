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

use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::numerics::CHANNEL_BLOCK;
use crate::problem::arithmetic::{add, divide, mul, tri};
use crate::problem::geometry::{Geometry, Operator};
use crate::problem::phases::Phases;
use crate::problem::weights::WeightStrides;
use core::ops::Range;

/// Output channels side by side in a panel: as many as the widest vector has lanes.
pub(crate) const LANES_PER_PANEL: usize = 16;

/// Words before the first panel; as many as a panel is wide, so that panels keep the alignment
/// of the blob.
pub(crate) const HEADER: usize = 16;

/// Computing so many pixels takes ten times as long as packing the weights for them.
pub(crate) const PIXELS_WORTH_PACKING: usize = 320;

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"tapw");
const VERSION: u32 = 1;

/// What the packed weights of a layer are known by, whatever its batch, size and layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedFormat {
    /// In elements, header included.
    pub len: usize,
    signature: [u32; 2],
}

impl PackedFormat {
    /// Of a layer whose blob has at most `elements`.
    pub const fn of(geometry: &Geometry, elements: usize) -> Result<PackedFormat, Error> {
        let field = Field::WeightElements;
        let panel = tri!(mul(geometry.chain(), LANES_PER_PANEL, elements, field));
        let body = tri!(mul(panel, count(geometry), elements, field));
        let len = tri!(add(body, HEADER, elements, field));
        Ok(PackedFormat { len, signature: signature(geometry) })
    }

    /// The words with which a blob begins; zeros follow.
    const fn header(&self) -> [u32; 5] {
        let [low, high] = self.signature;
        [MAGIC, VERSION, CHANNEL_BLOCK as u32, low, high]
    }

    /// Whether a blob begins as one of this layer does.
    pub const fn check_header(&self, blob: &[Element]) -> Result<(), Error> {
        tri!(Error::check_len(Field::Packed, HEADER, blob.len()));
        let header = self.header();
        let mut place = 0;
        while place < header.len() {
            let (expected, found) = (header[place], blob[place].to_bits());
            if expected == found {
                place += 1;
                continue;
            }
            let count = (Expected::Exactly(expected as usize), Found::Count(found as usize));
            let (field, (expected, found)) = match place {
                0 if found == expected.swap_bytes() => {
                    (Field::PackedMagic, (Expected::Blob, Found::ReversedBytes))
                }
                0 => (Field::PackedMagic, (Expected::Blob, Found::OtherWords)),
                1 => (Field::PackedVersion, count),
                2 => (Field::PackedChannelBlock, count),
                _ => return Err(PackedFormat::another_layer()),
            };
            return Err(Error::new(field, expected, found));
        }
        Ok(())
    }

    /// Whether weights that were packed for another format serve this one.
    pub fn check(&self, other: &PackedFormat) -> Result<(), Error> {
        // Equal signatures imply equal lengths but for collisions, which must not reach kernels.
        if self.signature == other.signature && self.len == other.len {
            Ok(())
        } else {
            Err(PackedFormat::another_layer())
        }
    }

    const fn another_layer() -> Error {
        Error::new(Field::PackedSignature, Expected::LayerOfThePlan, Found::AnotherLayer)
    }

    /// Packs all weights of a layer; `packed` has `len` elements.
    pub fn pack(
        &self,
        geometry: &Geometry,
        strides: &WeightStrides,
        weights: &[Element],
        packed: &mut [Element],
    ) {
        let (header, body) = packed.split_at_mut(HEADER);
        header.fill(0.0);
        for (word, value) in header.iter_mut().zip(self.header()) {
            *word = Element::from_bits(value);
        }
        pack_panels(geometry, strides, weights, 0..count(geometry), body);
    }
}

/// Groups of which several share a panel.
pub(crate) const fn is_narrow(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.out_per_group < LANES_PER_PANEL
}

/// The panels of all groups.
pub(crate) const fn count(geometry: &Geometry) -> usize {
    if is_narrow(geometry) {
        geometry.out_channels.div_ceil(LANES_PER_PANEL)
    } else {
        geometry.groups * geometry.out_per_group.div_ceil(LANES_PER_PANEL)
    }
}

/// The first output channel of a panel, and how many it holds.
pub(crate) fn channels(geometry: &Geometry, panel: usize) -> (usize, usize) {
    let (group, panel, channels) = if is_narrow(geometry) {
        (0, panel, geometry.out_channels)
    } else {
        let per_group = geometry.out_per_group.div_ceil(LANES_PER_PANEL);
        let (group, panel) = divide(panel, per_group);
        (group, panel, geometry.out_per_group)
    };
    let in_group = panel * LANES_PER_PANEL;
    (group * channels + in_group, LANES_PER_PANEL.min(channels - in_group))
}

/// The input channels that a range of panels sees: those of its groups.
pub(crate) fn in_channels(geometry: &Geometry, panels: &Range<usize>) -> Range<usize> {
    let (first, _) = channels(geometry, panels.start);
    let (last, count) = channels(geometry, panels.end - 1);
    let group = |channel| divide(channel, geometry.out_per_group).0;
    let per_group = geometry.in_per_group;
    group(first) * per_group..(group(last + count - 1) + 1) * per_group
}

/// Sixty bits of FNV-1a over channels, groups and window, in words that no `f32` move can alter:
/// their exponent is never that of a NaN. A window that does not ascend has a word for that, and a
/// transposed convolution the distances of the taps of its classes.
const fn signature(geometry: &Geometry) -> [u32; 2] {
    let [depth, height, width] = geometry.window;
    let transposed = matches!(geometry.operator, Operator::Transposed);
    let order = geometry.flipped as usize + 2 * transposed as usize;
    let [d, h, w] = if transposed { Phases::of(geometry).taps_apart() } else { [0; 3] };
    let Geometry { in_channels, out_channels, groups, .. } = *geometry;
    let fields = [in_channels, out_channels, groups, depth, height, width, order, d, h, w];
    let count = if transposed {
        10
    } else if geometry.flipped {
        7
    } else {
        6
    };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = 0;
    while byte < 8 * count {
        let value = fields[byte / 8] as u64 >> (8 * (byte % 8)) & 0xff;
        hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        byte += 1;
    }
    let bits = (1 << 30) - 1;
    [hash as u32 & bits, (hash >> 30) as u32 & bits]
}

/// [`pack_panels`].
pub(crate) type PackPanels =
    fn(&Geometry, &WeightStrides, &[Element], Range<usize>, &mut [Element]);

/// Packs `range` of the layer's panels; `body` holds just these. Of a transposed convolution, these
/// panels of each class of taps.
pub(crate) fn pack_panels(
    geometry: &Geometry,
    strides: &WeightStrides,
    weights: &[Element],
    range: Range<usize>,
    body: &mut [Element],
) {
    if !matches!(geometry.operator, Operator::Transposed) {
        return pack_window(geometry, strides, weights, range, body);
    }
    let phases = Phases::of(geometry);
    let [depth, height, width] = phases.classes();
    let mut left = body;
    for d in 0..depth {
        for h in 0..height {
            for w in 0..width {
                let class = [d, h, w];
                let window = Geometry { window: phases.window(class), ..*geometry };
                let len = range.len() * window.chain() * LANES_PER_PANEL;
                let (body, behind) = left.split_at_mut_checked(len).unwrap_or_default();
                let strides = phases.weights(class, strides);
                pack_window(&window, &strides, weights, range.clone(), body);
                left = behind;
            }
        }
    }
}

/// Packs panels of one window.
fn pack_window(
    geometry: &Geometry,
    strides: &WeightStrides,
    weights: &[Element],
    range: Range<usize>,
    body: &mut [Element],
) {
    let [depth, height, width] = geometry.window;
    let in_per_group = geometry.in_per_group;
    let mut rows = body.chunks_exact_mut(LANES_PER_PANEL);
    for panel in range {
        let (first, count) = channels(geometry, panel);
        let mut filters = [0; LANES_PER_PANEL];
        for (lane, filter) in filters.iter_mut().enumerate().take(count) {
            let (group, channel) = divide(first + lane, geometry.out_per_group);
            *filter = strides.filter(group, channel);
        }
        let filters = filters.get(..count).unwrap_or(&[]);
        for block in (0..in_per_group).step_by(CHANNEL_BLOCK) {
            let block_channels = block..in_per_group.min(block + CHANNEL_BLOCK);
            for kd in 0..depth {
                for kh in 0..height {
                    for kw in 0..width {
                        let tap = strides.tap([kd, kh, kw]);
                        for channel in block_channels.clone() {
                            let Some(row) = rows.next() else { return };
                            let step = tap.wrapping_add(channel.wrapping_mul(strides.in_channel));
                            pack_step(weights, filters, step, row);
                        }
                    }
                }
            }
        }
    }
}

/// The weights of a panel's filters at one step of the chain, and zeros.
fn pack_step(weights: &[Element], filters: &[usize], step: usize, row: &mut [Element]) {
    for (lane, packed) in row.iter_mut().enumerate() {
        *packed = match filters.get(lane) {
            Some(filter) => {
                let weight = weights.get(filter.wrapping_add(step));
                debug_assert!(weight.is_some(), "a weight outside of its slice");
                weight.copied().unwrap_or(0.0)
            }
            None => 0.0,
        };
    }
}
