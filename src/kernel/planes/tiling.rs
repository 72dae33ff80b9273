//! How large the tiles of an instruction set are.

use crate::simd::{HAS_VECTORS, Simd};

/// The most vectors of pixels of a tile: 1, 2, 4 or 8.
pub(super) const fn most_vectors<S: Simd>() -> usize {
    match S::LANES {
        1 if S::FUSES && HAS_VECTORS => 2,
        1 => 1,
        _ if S::FUSES => 8,
        _ => 4,
    }
}
