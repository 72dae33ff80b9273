//! Tiles of several rows of outputs, whose windows overlap: a vector of the copy is loaded once for all
//! rows of the tile that see it, which saves most loads of large windows.
//!
//! ```text
//! for each row of the copy that the tile sees
//!   for each column of the window
//!     x = the vectors of this row
//!     for each row of the tile whose window has this row
//!       sums of the row += x * the weight at this row of its window
//! ```
//!
//! For each output the rows of its window ascend, as everywhere.

use super::chains::Chains;
use super::piece::Piece;
use super::tiling::most_rows;
use crate::kernel::finish::{Outputs, spilled};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::{Body, Simd};

/// Whether windows are so high, and rows so many, that what is gained by sharing is more than what is
/// lost where the first and the last rows of the copy are seen by few rows of a tile: 7x7 gains a fifth
/// to a half, 5x5 loses a tenth.
#[inline(always)]
pub(super) fn suits<S: Simd>(piece: &Piece) -> bool {
    piece.call.geometry().window[1] >= 7 && piece.rows >= 8 && piece.rows_overlap::<S>()
}

/// All outputs of a piece.
pub(super) struct SeveralRows<'a>(pub &'a Chains<'a>);

impl Body for SeveralRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.sharing_rows(simd);
    }
}

impl Chains<'_> {
    /// From the last column to the first, and downwards: what reaches over the end of a row is still to be
    /// written.
    #[inline(always)]
    fn sharing_rows<S: Simd>(&self, simd: S) {
        let mut vectors = self.piece.columns.div_ceil(S::LANES);
        while vectors > 0 {
            vectors -= match vectors {
                4.. => self.columns::<S, 4>(simd, vectors),
                2.. => self.columns::<S, 2>(simd, vectors),
                _ => self.columns::<S, 1>(simd, vectors),
            };
        }
    }

    /// The last of so many vectors, in all rows; how many they are.
    #[inline(always)]
    fn columns<S: Simd, const VECTORS: usize>(&self, simd: S, vectors: usize) -> usize {
        let most_rows = const { most_rows(S::FACTS, VECTORS) };
        let column = (vectors - VECTORS) * S::LANES;
        let mut run = Run { chains: self, row: 0, tiles: 1, column };
        let mut left = self.piece.rows;
        while left > 0 {
            // Rather three and two rows than four and a single one.
            let of_tile = if left == 5 { most_rows.min(3) } else { left.min(most_rows) };
            run.tiles = if left > 2 * most_rows { left / most_rows - 1 } else { 1 };
            match of_tile {
                4 => simd.enter(SharedRows::<4, VECTORS>(run)),
                3 => simd.enter(SharedRows::<3, VECTORS>(run)),
                2 => simd.enter(SharedRows::<2, VECTORS>(run)),
                _ => simd.enter(SharedRows::<1, VECTORS>(run)),
            }
            left -= run.tiles * of_tile;
            run.row += run.tiles * of_tile;
        }
        VECTORS
    }
}

/// Where rows of vectors of sums go, from a row and a column of the piece on, downwards. Its fields are
/// copies, which stay in registers.
pub(super) struct RowsOfOutputs<'a> {
    outputs: Outputs<'a>,
    /// Of the next row.
    offset: usize,
    to_row: usize,
    pixel: usize,
    /// Outputs of the row, from the column on.
    columns: usize,
    /// Places that may be written from there on: where rows adjoin, what reaches over the end of a row is
    /// written again by those below it.
    room: usize,
    room_of_row: usize,
}

impl<'a> RowsOfOutputs<'a> {
    #[inline(always)]
    pub fn of(chains: &'a Chains<'a>, row: usize, column: usize) -> RowsOfOutputs<'a> {
        let Piece { call, rows, columns, .. } = *chains.piece;
        let outputs = *call.outputs();
        let Strides { row: to_row, pixel, .. } = *outputs.strides();
        let adjoin = pixel == 1 && to_row == columns && !outputs.have_residual();
        let room_of_row = if adjoin { columns } else { 0 };
        RowsOfOutputs {
            outputs,
            offset: chains.offset + row * to_row + column * pixel,
            to_row,
            pixel,
            columns: columns - column,
            room: (rows - 1 - row) * room_of_row + columns - column,
            room_of_row,
        }
    }

    /// Finishes the next row.
    ///
    /// # Safety
    /// The piece has it, and those below it, and what is before it in these, are not yet written.
    #[inline(always)]
    pub unsafe fn store<S: Simd, const VECTORS: usize>(&mut self, simd: S, sums: &[S::V; VECTORS]) {
        let RowsOfOutputs { outputs, mut offset, pixel, columns, .. } = *self;
        let step = pixel.wrapping_mul(S::LANES);
        if self.room >= VECTORS * S::LANES {
            // SAFETY: outputs of the row, and of those below it.
            unsafe { outputs.store_vectors(simd, sums, offset, step, pixel, S::LANES) };
        } else {
            let mut left = columns;
            for sum in spilled(sums) {
                let count = left.min(S::LANES);
                if count > 0 {
                    // SAFETY: outputs of the row.
                    unsafe { outputs.store_strided(simd, sum, offset, pixel, count) };
                }
                offset = offset.wrapping_add(step);
                left -= count;
            }
        }
        self.offset = self.offset.wrapping_add(self.to_row);
        self.room = self.room.wrapping_sub(self.room_of_row);
    }
}

/// Tiles below each other, from a row and a column on.
#[derive(Clone, Copy)]
struct Run<'a> {
    chains: &'a Chains<'a>,
    row: usize,
    tiles: usize,
    column: usize,
}

/// Tiles of a size.
struct SharedRows<'a, const ROWS: usize, const VECTORS: usize>(Run<'a>);

impl<const ROWS: usize, const VECTORS: usize> Body for SharedRows<'_, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if ROWS > const { most_rows(S::FACTS, VECTORS) } {
            return debug_assert!(false, "tiles have at most as many rows as registers hold");
        }
        let Run { chains, row, tiles, column } = self.0;
        let band = chains.piece.band;
        let mut outputs = RowsOfOutputs::of(chains, row, column);
        let mut at = row * band.row_len + column;
        for _ in 0..tiles {
            // SAFETY: outputs of the call's part, of which scratch memory holds the copy, with room
            // behind it.
            unsafe {
                let sums = self.sums(simd, at);
                let mut row = 0;
                while row < ROWS {
                    outputs.store(simd, &sums[row]);
                    row += 1;
                }
            }
            at += ROWS * band.row_len;
        }
    }
}

impl<const ROWS: usize, const VECTORS: usize> SharedRows<'_, ROWS, VECTORS> {
    /// The chains of a tile, whose first vector is at position `at` of the copy.
    ///
    /// # Safety
    /// The copy of the band is made, and has these vectors for every tap of the window.
    #[inline(always)]
    unsafe fn sums<S: Simd>(&self, simd: S, at: usize) -> [[S::V; VECTORS]; ROWS] {
        let chains = self.0.chains;
        let Piece { call, band, steps, .. } = *chains.piece;
        let mut sums = [[chains.bias(simd); VECTORS]; ROWS];
        let [depth, height, _] = call.geometry().window;
        let window = Window::of(chains);
        let mut w_plane = chains.weights.first;
        let mut plane = call.scratch().cast_const().wrapping_add(at);
        for _ in 0..depth {
            let mut w = w_plane;
            let mut x = plane;
            for row in 0..height + ROWS - 1 {
                let (from, to) = (row.saturating_sub(height - 1), ROWS.min(row + 1));
                // SAFETY: the weights hold row `row - from` of the window, and those before it; the copy
                // holds what they see.
                unsafe {
                    match (from, to) {
                        (0, to) if to == ROWS => {
                            window.add_row::<S, ROWS, VECTORS, 0, ROWS>(simd, w, x, &mut sums)
                        }
                        (0, 1) => window.add_row::<S, ROWS, VECTORS, 0, 1>(simd, w, x, &mut sums),
                        (0, 2) => window.add_row::<S, ROWS, VECTORS, 0, 2>(simd, w, x, &mut sums),
                        (0, 3) => window.add_row::<S, ROWS, VECTORS, 0, 3>(simd, w, x, &mut sums),
                        (1, _) => {
                            window.add_row::<S, ROWS, VECTORS, 1, ROWS>(simd, w, x, &mut sums)
                        }
                        (2, _) => {
                            window.add_row::<S, ROWS, VECTORS, 2, ROWS>(simd, w, x, &mut sums)
                        }
                        _ => window.add_row::<S, ROWS, VECTORS, 3, ROWS>(simd, w, x, &mut sums),
                    }
                }
                if row < height - 1 {
                    w = w.wrapping_add(window.to_row);
                }
                x = x.wrapping_add(band.row_len);
            }
            w_plane = w_plane.wrapping_add(chains.weights.to_tap[0]);
            plane = plane.wrapping_add(steps.plane);
        }
        sums
    }
}

/// A row of a window. Its fields are copies, which stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// From a weight to the same of the next row, and to the next of the row.
    pub to_row: usize,
    to_tap: usize,
    width: usize,
    dilation: usize,
}

impl Window {
    #[inline(always)]
    pub fn of(chains: &Chains) -> Window {
        let Geometry { window, dilation, .. } = *chains.piece.call.geometry();
        let [_, to_row, to_tap] = chains.weights.to_tap;
        Window { to_row, to_tap, width: window[2], dilation: dilation[2] }
    }

    /// Adds a row of the copy, from `x` on, to the sums of the rows of outputs from `FROM` to `TO`, for the
    /// first of which `w` is the row of weights; those of the next lie before it.
    ///
    /// # Safety
    /// The weights can be read, and the vectors for every column of the window.
    #[inline(always)]
    pub unsafe fn add_row<
        S: Simd,
        const ROWS: usize,
        const VECTORS: usize,
        const FROM: usize,
        const TO: usize,
    >(
        &self,
        simd: S,
        mut w: *const f32,
        mut x: *const f32,
        sums: &mut [[S::V; VECTORS]; ROWS],
    ) {
        let Window { to_row, to_tap, width, dilation } = *self;
        for _ in 0..width {
            // SAFETY: as the caller vouches.
            unsafe {
                let mut vectors = [simd.splat(0.0); VECTORS];
                let mut vector = 0;
                while vector < VECTORS {
                    vectors[vector] = simd.load(x.wrapping_add(vector * S::LANES));
                    vector += 1;
                }
                let mut row = FROM;
                while row < TO && row < ROWS {
                    let before = to_row.wrapping_mul(row - FROM);
                    let weight = simd.splat(*w.wrapping_sub(before));
                    let mut vector = 0;
                    while vector < VECTORS {
                        sums[row][vector] = simd.fma(vectors[vector], weight, sums[row][vector]);
                        vector += 1;
                    }
                    row += 1;
                }
            }
            w = w.wrapping_add(to_tap);
            x = x.wrapping_add(dilation);
        }
    }
}
