//! How large the tiles of an instruction set are.

use crate::kernel::bodies::LoopBody;
use crate::simd::HAS_VECTORS;
use crate::simd::facts::Facts;

/// The most neighbouring pixels of a row in a tile.
pub(super) const fn most_pixels(facts: Facts) -> usize {
    match facts.lanes {
        1 if facts.fuses && HAS_VECTORS => 2,
        1 => 1,
        _ => 8,
    }
}

/// The columns of a window that share their input, and the least pixels of a tile for which they do:
/// where a multiply-add is an instruction, which loads would slow down.
const SHARED_COLUMNS: [usize; 2] = [3, 5];
pub(super) const LEAST_SHARING: usize = 4;

/// Whether there are tiles of this size, `columns` being 0 where none share their input. Asked in
/// `const` blocks, so that no other body is compiled.
pub(super) const fn fits(facts: Facts, depthwise: bool, columns: usize, pixels: usize) -> bool {
    let sharing = depthwise && facts.fuses && pixels >= LEAST_SHARING;
    pixels <= most_pixels(facts) && (columns == 0 || sharing)
}

/// The bodies that tiles of full vectors of a depthwise layer enter.
pub(crate) fn bodies(facts: Facts, visit: &mut dyn FnMut(LoopBody)) {
    for columns in [0].into_iter().chain(SHARED_COLUMNS) {
        for pixels in (1..=most_pixels(facts)).filter(|n| fits(facts, true, columns, *n)) {
            visit(LoopBody {
                types: &["channels", "body", "RowBody", "spread", "Adjoining"],
                sizes: [("pixels", pixels), ("columns", columns)],
                multiply_adds: pixels * columns.max(1),
                multiply_adds_left: [if columns > 0 { pixels } else { 0 }, 0, 0, 0, 0, 0],
            });
        }
    }
}
