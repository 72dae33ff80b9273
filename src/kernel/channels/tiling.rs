//! How large the tiles of an instruction set are.

use crate::simd::{HAS_VECTORS, Simd};

/// The most neighbouring pixels of a row in a tile.
pub(super) const fn most_pixels<S: Simd>() -> usize {
    match S::LANES {
        1 if S::FUSES && HAS_VECTORS => 2,
        1 => 1,
        _ => 8,
    }
}
