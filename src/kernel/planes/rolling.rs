//! Windows of three, five and seven rows: the sums of as many rows of outputs move down the copy, so that
//! each vector of it is loaded once for all outputs that see it.
//!
//! ```text
//! for each row of the copy
//!   for each column of the window
//!     x = the vectors of this row
//!     for each row of sums: sums += x * the weight at this row of its window
//!   finish the uppermost row of sums, which has met its whole window
//!   move the others up; the lowest one begins with the bias
//! ```
//!
//! The first and the last rows of the copy are seen by fewer rows of outputs.

use super::chains::Chains;
use super::piece::Piece;
use super::rows::{RowsOfOutputs, Window};
use super::tiling::most_rolling;
use crate::simd::{Body, Simd};

/// Whether the window is such a one, and there are enough rows, and columns: a single vector of three
/// rows of sums waits for itself (7x7 pixels 0.8 to 0.9 of the speed of tiles of rows below each other,
/// 28x28 1.1 to 1.4; 5x5 windows 1.2 to 1.7).
#[inline(always)]
pub(super) fn suits<S: Simd>(piece: &Piece) -> bool {
    let [depth, height, _] = piece.call.geometry().window;
    let suits = match height {
        3 => piece.columns > S::LANES,
        5 => true,
        7 => const { most_rolling(S::FACTS, 7) >= 2 },
        _ => false,
    };
    suits && depth == 1 && piece.rows > height && piece.rows_overlap::<S>()
}

/// All outputs of a piece.
pub(super) struct RollingRows<'a>(pub &'a Chains<'a>);

impl Body for RollingRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.0.piece.call.geometry().window[1] {
            3 => self.0.rolling::<S, 3>(simd),
            5 => self.0.rolling::<S, 5>(simd),
            _ => self.0.rolling::<S, 7>(simd),
        }
    }
}

impl Chains<'_> {
    /// From the last column to the first: what reaches over the end of a row is still to be written.
    #[inline(always)]
    fn rolling<S: Simd, const HEIGHT: usize>(&self, simd: S) {
        let most = const { most_rolling(S::FACTS, HEIGHT) };
        let mut vectors = self.piece.columns.div_ceil(S::LANES);
        while vectors > 0 {
            let taken = vectors.div_ceil(vectors.div_ceil(most));
            vectors -= taken;
            let column = vectors * S::LANES;
            match taken {
                4 => simd.enter(Rolling::<HEIGHT, 4> { chains: self, column }),
                3 => simd.enter(Rolling::<HEIGHT, 3> { chains: self, column }),
                2 => simd.enter(Rolling::<HEIGHT, 2> { chains: self, column }),
                _ => simd.enter(Rolling::<HEIGHT, 1> { chains: self, column }),
            }
        }
    }
}

/// Vectors beside each other, from a column on, in all rows.
struct Rolling<'a, const HEIGHT: usize, const VECTORS: usize> {
    chains: &'a Chains<'a>,
    column: usize,
}

impl<const HEIGHT: usize, const VECTORS: usize> Body for Rolling<'_, HEIGHT, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if VECTORS > const { most_rolling(S::FACTS, HEIGHT) } {
            return debug_assert!(false, "as many vectors as registers hold");
        }
        let Piece { call, band, rows, .. } = *self.chains.piece;
        let (bias, window) = (self.chains.bias(simd), Window::of(self.chains));
        let mut rolling = RowsOfSums::<S, HEIGHT, VECTORS> {
            simd,
            bias,
            sums: [[bias; VECTORS]; HEIGHT],
            window,
            w: self.chains.weights.first.wrapping_add(window.to_row.wrapping_mul(HEIGHT - 1)),
            x: call.scratch().cast_const().wrapping_add(self.column),
            row_len: band.row_len,
            outputs: RowsOfOutputs::of(self.chains, 0, self.column),
        };
        // SAFETY: outputs of the call's part, of which scratch memory holds the copy, with room behind
        // it; its rows are those of the outputs and one less than the window has.
        unsafe {
            if HEIGHT > 6 {
                rolling.next::<6, HEIGHT>();
                rolling.next::<5, HEIGHT>();
            }
            if HEIGHT > 4 {
                rolling.next::<4, HEIGHT>();
                rolling.next::<3, HEIGHT>();
            }
            rolling.next::<2, HEIGHT>();
            rolling.next::<1, HEIGHT>();
            for _ in HEIGHT - 1..rows {
                rolling.next::<0, HEIGHT>();
            }
            if HEIGHT > 6 {
                rolling.next::<0, 6>();
                rolling.next::<0, 5>();
            }
            if HEIGHT > 4 {
                rolling.next::<0, 4>();
                rolling.next::<0, 3>();
            }
            rolling.next::<0, 2>();
            rolling.next::<0, 1>();
        }
    }
}

/// Rows of sums beside the window at a row of the copy.
struct RowsOfSums<'a, S: Simd, const HEIGHT: usize, const VECTORS: usize> {
    simd: S,
    bias: S::V,
    /// The uppermost meets the last row of its window.
    sums: [[S::V; VECTORS]; HEIGHT],
    window: Window,
    /// The last row of weights.
    w: *const f32,
    x: *const f32,
    row_len: usize,
    outputs: RowsOfOutputs<'a>,
}

impl<S: Simd, const HEIGHT: usize, const VECTORS: usize> RowsOfSums<'_, S, HEIGHT, VECTORS> {
    /// Adds a row of the copy to the sums that are those of outputs, which are from `FROM` to `TO`, and
    /// finishes the uppermost.
    ///
    /// # Safety
    /// The copy has this row; if `FROM` is 0, the piece has the next row of outputs.
    #[inline(always)]
    unsafe fn next<const FROM: usize, const TO: usize>(&mut self) {
        // SAFETY: as the caller vouches.
        unsafe {
            self.window.add_row::<S, HEIGHT, VECTORS, FROM, TO>(
                self.simd,
                self.w.wrapping_sub(self.window.to_row.wrapping_mul(FROM)),
                self.x,
                &mut self.sums,
            );
            if FROM == 0 {
                self.outputs.store(self.simd, &self.sums[0]);
            }
        }
        let mut row = 1;
        while row < HEIGHT {
            self.sums[row - 1] = self.sums[row];
            row += 1;
        }
        self.sums[HEIGHT - 1] = [self.bias; VECTORS];
        self.x = self.x.wrapping_add(self.row_len);
    }
}
