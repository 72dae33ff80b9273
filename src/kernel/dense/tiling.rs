//! How large the tiles of an instruction set are.

use crate::kernel::bodies::LoopBody;
use crate::kernel::finish::MOST_PIXELS;
use crate::simd::HAS_VECTORS;
use crate::simd::facts::Facts;

/// The widest tile, in vectors of output channels.
pub(super) const fn most_vectors(facts: Facts) -> usize {
    match facts.lanes {
        8 => 2,                 // half of sixteen registers would be too few pixels for more
        1 if !HAS_VECTORS => 2, // code is to be small
        _ => 4,
    }
}

/// The most pixels of a tile of so many vectors: as many as the registers hold besides the weights
/// of a step and its input.
pub(super) const fn most_pixels(facts: Facts, vectors: usize) -> usize {
    if facts.lanes == 1 {
        // Two chains at once keep an instruction busy that takes several cycles.
        return if facts.fuses && MOST_PIXELS > 1 { 2 } else { 1 };
    }
    if !facts.fuses {
        return 6; // nothing stays in registers anyway
    }
    // A vector of four steps for each pixel, or one value at a time.
    let inputs = if facts.takes_a_lane { 1 } else { 0 };
    let most = (facts.registers - 2 - vectors) / (vectors + inputs);
    if most < MOST_PIXELS { most } else { MOST_PIXELS }
}

/// Whether there are tiles of this size. Asked in `const` blocks, so that no other body is compiled.
pub(super) const fn fits(facts: Facts, vectors: usize, pixels: usize) -> bool {
    vectors <= most_vectors(facts) && pixels <= most_pixels(facts, vectors)
}

/// The bodies that tiles enter.
pub(crate) fn bodies(facts: Facts, visit: &mut dyn FnMut(LoopBody)) {
    for vectors in 1..=most_vectors(facts) {
        for pixels in 1..=most_pixels(facts, vectors) {
            let body = LoopBody {
                types: &["dense", "body", "TileBody"],
                sizes: [("vectors", vectors), ("pixels", pixels)],
                multiply_adds: vectors * pixels,
                multiply_adds_left: [0; 6],
            };
            visit(body);
        }
    }
}
