//! How large the tiles of an instruction set are.

use crate::kernel::finish::MOST_PIXELS;
use crate::simd::Simd;

/// The widest tile, in vectors of output channels.
pub(super) const fn most_vectors<S: Simd>() -> usize {
    // Half of sixteen registers would be too few pixels for more than two.
    if S::LANES == 8 { 2 } else { 4 }
}

/// The most pixels of a tile of so many vectors: as many as the registers hold besides the weights
/// of a step and its input.
pub(super) const fn most_pixels<S: Simd>(vectors: usize) -> usize {
    if S::LANES == 1 {
        // Two chains at once keep an instruction busy that takes several cycles.
        return if S::FUSES && MOST_PIXELS > 1 { 2 } else { 1 };
    }
    if !S::FUSES {
        return 6; // nothing stays in registers anyway
    }
    // A vector of four steps for each pixel, or one value at a time.
    let inputs = if S::TAKES_A_LANE { 1 } else { 0 };
    let most = (S::REGISTERS - 2 - vectors) / (vectors + inputs);
    if most < MOST_PIXELS { most } else { MOST_PIXELS }
}
