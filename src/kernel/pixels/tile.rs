//! Pixels times output channels whose sums are held in registers.

use crate::kernel::call::Call;
use crate::kernel::weights::ChannelWeights;
use core::ops::Range;

/// Output channels of one group that share tiles.
pub(super) struct TileChannels<'a> {
    pub call: &'a Call<'a>,
    pub weights: ChannelWeights,
    pub group: usize,
    pub first: usize,
    pub count: usize,
}

/// Neighbouring pixels of a row, or of rows below each other, for a few output channels.
pub(super) struct PixelTile<'a> {
    pub channels: &'a TileChannels<'a>,
    /// The first tap of the first pixel, at the first channel of the group.
    pub input: *const f32,
    /// From a pixel's window to the next.
    pub step: usize,
    pub vector: VectorStep,
    /// The column of the first tap of the first pixel; negative in the padding.
    pub column: isize,
    /// In a row: full vectors, or fewer lanes than one.
    pub pixels: usize,
    /// Where the first pixel lies in the output, at the first channel.
    pub offset: usize,
    /// The taps in depth and height that lie inside the input.
    pub taps: [Range<usize>; 2],
}

/// From a vector of a tile to the next: in the row, or below.
pub(super) struct VectorStep {
    /// Pixels of the row, or 0.
    pub pixels: usize,
    pub input: usize,
    pub output: usize,
}
