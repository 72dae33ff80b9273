//! How large the tiles of an instruction set are.

use crate::kernel::bodies::LoopBody;
use crate::problem::arithmetic::smaller;
use crate::simd::HAS_VECTORS;
use crate::simd::facts::Facts;

/// The most vectors of pixels of a tile, of which there are some of 1, 2, 4, 6 and 8.
pub(super) const fn most_vectors(facts: Facts) -> usize {
    match facts.lanes {
        1 if facts.fuses && HAS_VECTORS => 2,
        1 => 1,
        _ if facts.fuses => 8,
        _ => 4,
    }
}

/// The most rows of a tile of rows that share what they read, of so many vectors each: half of the
/// registers hold sums, the others a row of the copy and a weight.
pub(super) const fn most_rows(facts: Facts, vectors: usize) -> usize {
    smaller(facts.registers / 2 / vectors, 4)
}

/// The most vectors beside each other whose sums of as many rows as a window has are in registers, with a
/// row of the copy and a weight.
pub(super) const fn most_rolling(facts: Facts, height: usize) -> usize {
    let most = (facts.registers - 1) / (height + 1);
    if most == 0 { 1 } else { smaller(most, 4) }
}

/// The bodies that all tiles enter, and those of tiles of several rows.
pub(crate) fn bodies(facts: Facts, visit: &mut dyn FnMut(LoopBody)) {
    const ONE: &[&str] = &["planes", "chains", "OneChannel"];
    const UNPACKED: &[&str] = &["planes", "chains", "OneUnpacked"];
    const SEVERAL: &[&str] = &["planes", "chains", "Channels"];
    const ROWS: &[&str] = &["planes", "rows", "SharedRows"];
    const ROLLING: &[&str] = &["planes", "rolling", "Rolling"];
    let most = most_vectors(facts);
    // One vector of several channels is a loop of its own, with one multiply-add.
    for (types, least) in [(ONE, 0), (UNPACKED, 0), (SEVERAL, 1)] {
        visit(LoopBody {
            types,
            sizes: [("vectors", 0), ("", 0)],
            multiply_adds: most,
            multiply_adds_left: [6, 4, 2, least, 0, 0]
                .map(|vectors| if vectors < most { vectors } else { 0 }),
        });
    }
    let mut rows_of_sums = |types, rows, vectors| {
        visit(LoopBody {
            types,
            sizes: [("rows", rows), ("vectors", vectors)],
            multiply_adds: rows * vectors,
            // The first and the last rows of the copy are seen by fewer.
            multiply_adds_left: [6, 5, 4, 3, 2, 1]
                .map(|seen| if seen < rows { seen * vectors } else { 0 }),
        });
    };
    for vectors in [1, 2, 4] {
        for rows in 1..=most_rows(facts, vectors) {
            rows_of_sums(ROWS, rows, vectors);
        }
    }
    for height in [3, 5, 7] {
        for vectors in 1..=most_rolling(facts, height) {
            rows_of_sums(ROLLING, height, vectors);
        }
    }
}
