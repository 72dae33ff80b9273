//! How large the tiles of an instruction set are.

use crate::kernel::bodies::LoopBody;
use crate::simd::HAS_VECTORS;
use crate::simd::facts::Facts;

/// The most output channels of a tile: 1, 2, 4, 6 or 8.
pub(super) const fn most_channels(facts: Facts) -> usize {
    match (facts.lanes, facts.registers) {
        (16, 32) => 8,
        (1, _) if !HAS_VECTORS => 1, // code is to be small
        _ if facts.fuses && facts.lanes > 1 => 6,
        _ => 4,
    }
}

/// The most vectors of pixels of a tile of so many channels, up to 4; of one channel up to 8 (1, 2, 3,
/// 4, 6 or 8). With the vectors of a step and a weight they fit the registers.
pub(super) const fn most_vectors(facts: Facts, channels: usize) -> usize {
    match (facts.lanes, facts.fuses) {
        (1, true) if HAS_VECTORS => 2,
        (1, _) => 1,
        (_, true) if channels == 1 => 8,
        (_, false) if channels == 1 => 4,
        (16, _) => 3,
        (4, _) => 4,
        _ => 2,
    }
}

/// Whether there are tiles of this size. Asked in `const` blocks, so that no other body is compiled.
pub(super) const fn fits(facts: Facts, channels: usize, vectors: usize) -> bool {
    channels <= most_channels(facts) && vectors <= most_vectors(facts, channels)
}

/// The bodies that tiles enter.
pub(crate) fn bodies(facts: Facts, visit: &mut dyn FnMut(LoopBody)) {
    for channels in [1, 2, 4, 6, 8] {
        for vectors in [1, 2, 3, 4, 6, 8] {
            if fits(facts, channels, vectors) {
                visit(LoopBody {
                    types: &["pixels", "body", "TileBody"],
                    sizes: [("channels", channels), ("vectors", vectors)],
                    multiply_adds: channels * vectors,
                    multiply_adds_left: [0; 6],
                });
            }
        }
    }
}
