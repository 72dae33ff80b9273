//! What the tiles of a row have in common.

use crate::kernel::call::Call;
use core::ops::Range;

/// Neighbouring vectors of output channels.
pub(super) struct Vectors<'a> {
    pub call: &'a Call<'a>,
    /// The first step of the chain, in the first panel of the run.
    pub panels: *const f32,
    pub panel_len: usize,
    /// How many lanes of the run lie before.
    pub lane: usize,
    /// The first output channel.
    pub first: usize,
    pub vectors: usize,
    /// The lanes that are channels, of each vector.
    pub count: usize,
}

/// Tiles of the same number of neighbouring pixels, side by side in a row.
pub(super) struct TilesInRow<'a, L> {
    pub vectors: &'a Vectors<'a>,
    pub spread: &'a L,
    /// The first pixel of the image, at the first lane's group.
    pub group: *const f32,
    /// The first tap of the first pixel.
    pub window: *const f32,
    /// From a pixel's window to the next.
    pub step: usize,
    /// The column of the first tap of the first pixel; negative in the padding.
    pub column: isize,
    /// The taps in depth and height that lie inside the input.
    pub taps: [Range<usize>; 2],
    pub tiles: usize,
    pub pixels: usize,
    /// Where the first pixel lies in the output, at the first lane.
    pub offset: usize,
}

/// A tile at one vector of output channels.
pub(super) struct VectorTile {
    /// The first step of the chain.
    pub weights: *const f32,
    /// The first pixel of the image, at the first lane's group.
    pub group: *const f32,
    /// The first tap of the first pixel.
    pub window: *const f32,
    /// Its column; negative in the padding.
    pub column: isize,
}
