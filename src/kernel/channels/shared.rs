//! Chains of depthwise windows without dilation and stride along the row: several columns of taps
//! share their input among the pixels of a tile.

use super::row::{TilesInRow, VectorTile};
use super::spread::Spread;
use crate::panels::LANES_PER_PANEL;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::Simd;
use core::ops::Range;

/// The rows of taps that lie inside the input, of a depthwise window.
pub(super) struct TapRows {
    /// The first one, in the weights and behind the window's start; from each to the next; and from
    /// behind the last one of a plane to the next plane.
    pub weights: usize,
    pub input: usize,
    pub to_weights: usize,
    pub to_input: usize,
    pub plane_to_weights: usize,
    pub plane_to_input: usize,
    /// How many planes of taps, rows in each, taps in each row.
    pub depth: usize,
    pub height: usize,
    pub width: usize,
}

impl TapRows {
    #[inline(always)]
    pub fn of(geometry: &Geometry, strides: &Strides, taps: &[Range<usize>; 2]) -> TapRows {
        let [depth, height] = taps;
        let [_, window_height, width] = geometry.window;
        let to_weights = width * LANES_PER_PANEL;
        let to_input = geometry.dilation[1].wrapping_mul(strides.row);
        let to_plane = geometry.dilation[0].wrapping_mul(strides.depth);
        let rows = height.end - height.start;
        TapRows {
            weights: (depth.start * window_height + height.start) * to_weights,
            input: depth
                .start
                .wrapping_mul(to_plane)
                .wrapping_add(height.start.wrapping_mul(to_input)),
            to_weights,
            to_input,
            plane_to_weights: (window_height - rows) * to_weights,
            plane_to_input: to_plane.wrapping_sub(rows.wrapping_mul(to_input)),
            depth: depth.end - depth.start,
            height: rows,
            width,
        }
    }
}

impl<L: Spread> TilesInRow<'_, L> {
    /// Adds the whole chain of a depthwise window, `COLUMNS` taps of a row at a time, those that
    /// are left one by one.
    ///
    /// # Safety
    /// As of [`accumulate`](TilesInRow::accumulate), of a depthwise window.
    #[inline(always)]
    pub unsafe fn accumulate_shared<
        S: Simd,
        const PIXELS: usize,
        const COLUMNS: usize,
        const WHOLE: bool,
    >(
        &self,
        simd: S,
        tile: &VectorTile,
        rows: &TapRows,
        sums: &mut [S::V; PIXELS],
    ) {
        let to_column = self.vectors.call.input().strides.pixel;
        let mut w = tile.weights.wrapping_add(rows.weights);
        let mut x = tile.window.wrapping_add(rows.input);
        let mut planes = rows.depth;
        while planes > 0 {
            let mut height = rows.height;
            while height > 0 {
                let (mut w_tap, mut x_tap, mut column) = (w, x, tile.column);
                let mut left = rows.width;
                while left >= COLUMNS {
                    // SAFETY: the panel holds these steps; the columns are of the input, or in
                    // the padding.
                    unsafe {
                        self.columns::<S, PIXELS, COLUMNS, WHOLE>(simd, w_tap, x_tap, column, sums);
                    }
                    w_tap = w_tap.wrapping_add(COLUMNS * LANES_PER_PANEL);
                    x_tap = x_tap.wrapping_add(COLUMNS.wrapping_mul(to_column));
                    column += COLUMNS as isize;
                    left -= COLUMNS;
                }
                while left > 0 {
                    // SAFETY: as above.
                    unsafe {
                        self.columns::<S, PIXELS, 1, WHOLE>(simd, w_tap, x_tap, column, sums);
                    }
                    w_tap = w_tap.wrapping_add(LANES_PER_PANEL);
                    x_tap = x_tap.wrapping_add(to_column);
                    column += 1;
                    left -= 1;
                }
                w = w.wrapping_add(rows.to_weights);
                x = x.wrapping_add(rows.to_input);
                height -= 1;
            }
            w = w.wrapping_add(rows.plane_to_weights);
            x = x.wrapping_add(rows.plane_to_input);
            planes -= 1;
        }
    }

    /// `COLUMNS` taps of a row, the first one at `x` and `column` for the first pixel: each column
    /// of the input is loaded once for all the pixels that see it. Columns ascend, so the taps of
    /// each pixel do.
    ///
    /// # Safety
    /// The panel holds `COLUMNS` steps from `weights` on; the row of the input lies around `x`, whose
    /// column is `column`, and with `WHOLE` has all columns that the pixels see.
    #[inline(always)]
    unsafe fn columns<S: Simd, const PIXELS: usize, const COLUMNS: usize, const WHOLE: bool>(
        &self,
        simd: S,
        weights: *const f32,
        mut x: *const f32,
        column: isize,
        sums: &mut [S::V; PIXELS],
    ) {
        let to_column = self.vectors.call.input().strides.pixel;
        let size = self.vectors.call.geometry().input[2] as isize;
        let seen = PIXELS - 1 + COLUMNS;
        if !WHOLE && (column + seen as isize <= 0 || column >= size) {
            return;
        }
        let mut w = [simd.splat(0.0); COLUMNS];
        let mut tap = 0;
        while tap < COLUMNS {
            // SAFETY: the panel holds these steps.
            w[tap] = unsafe { simd.load(weights.wrapping_add(tap * LANES_PER_PANEL)) };
            tap += 1;
        }
        let mut shift = 0;
        while shift < seen {
            // A branch, not a choice of addresses: the compiler would load all columns ahead of
            // the sums, and there are not the registers to hold them.
            if WHOLE || (0..size).contains(&(column + shift as isize)) {
                // SAFETY: this column lies inside the input.
                let value = unsafe { self.spread.load(simd, x, 0) };
                let mut pixel = 0;
                while pixel < PIXELS {
                    if pixel <= shift && shift < pixel + COLUMNS {
                        sums[pixel] = simd.fma(value, w[shift - pixel], sums[pixel]);
                    }
                    pixel += 1;
                }
            }
            x = x.wrapping_add(to_column);
            shift += 1;
        }
    }
}
