//! How large the tiles of an instruction set are.

use crate::simd::{HAS_VECTORS, Simd};

/// The most output channels of a tile: 1, 2, 4, 6 or 8.
pub(super) const fn most_channels<S: Simd>() -> usize {
    match (S::LANES, S::REGISTERS) {
        (16, 32) => 8,
        _ if S::FUSES && S::LANES > 1 => 6,
        _ => 4,
    }
}

/// The most vectors of pixels of a tile of so many channels, up to 4; of one channel up to 8 (1, 2, 3,
/// 4, 6 or 8). With the vectors of a step and a weight they fit the registers.
pub(super) const fn most_vectors<S: Simd>(channels: usize) -> usize {
    match (S::LANES, S::FUSES) {
        (1, true) if HAS_VECTORS => 2,
        (1, _) => 1,
        (_, true) if channels == 1 => 8,
        (_, false) if channels == 1 => 4,
        (16, _) => 3,
        (4, _) => 4,
        _ => 2,
    }
}
