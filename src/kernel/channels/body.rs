//! The tiles of a row of pixels, for neighbouring vectors of output channels.

use super::row::{TilesInRow, VectorTile};
use super::shared::TapRows;
use super::spread::Spread;
use super::tiling::{LEAST_SHARING, fits};
use crate::kernel::walk::no_body;
use crate::panels::LANES_PER_PANEL;
use crate::problem::strides::Strides;
use crate::simd::{Body, Simd};

impl<L: Spread> TilesInRow<'_, L> {
    /// Enters the body for just this number of pixels, and for how many columns of a depthwise
    /// window share their input.
    #[inline(always)]
    pub fn enter<S: Simd>(&self, simd: S) {
        let columns = self.shared_columns::<S>();
        macro_rules! enter {
            ($($columns:literal x [$($pixels:literal)*])*) => {
                match (columns, self.pixels) {
                    $($(
                        ($columns, $pixels)
                            if const { fits(S::FACTS, L::DEPTHWISE, $columns, $pixels) } =>
                        {
                            simd.enter(RowBody::<L, $pixels, $columns>(self));
                        }
                    )*)*
                    _ => no_body(),
                }
            };
        }
        enter! {
            0 x [1 2 3 4 5 6 7 8]
            3 x [4 5 6 7 8]
            5 x [4 5 6 7 8]
        }
    }

    #[inline(always)]
    fn shared_columns<S: Simd>(&self) -> usize {
        let geometry = self.vectors.call.geometry();
        let dense_windows = geometry.dilation[2] == 1 && geometry.stride[2] == 1;
        let sharing = const { L::DEPTHWISE && S::FACTS.fuses };
        if !sharing || self.pixels < LEAST_SHARING || !dense_windows {
            return 0;
        }
        match geometry.window[2] {
            0..3 => 0,
            3 | 4 => 3,
            _ => 5,
        }
    }
}

/// The tiles of a row. Where `COLUMNS` is not 0, a depthwise window has neither dilation nor stride
/// along the row, and so many columns of it at a time share their input among the pixels.
pub(super) struct RowBody<'a, L, const PIXELS: usize, const COLUMNS: usize>(&'a TilesInRow<'a, L>);

impl<L: Spread, const PIXELS: usize, const COLUMNS: usize> Body
    for RowBody<'_, L, PIXELS, COLUMNS>
{
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.0;
        let vectors = row.vectors;
        let geometry = vectors.call.geometry();
        let outputs = vectors.call.outputs();
        let to = outputs.strides();
        let size = geometry.input[2] as isize;
        let reach = geometry.reach(2) as isize;
        let past = ((PIXELS - 1) * geometry.stride[2]) as isize;
        let to_vector = to.channel.wrapping_mul(S::LANES);
        let tap_rows = TapRows::of(geometry, vectors.call.input().strides, &row.taps);
        let mut window = row.window;
        let mut column = row.column;
        let mut tile_offset = row.offset;
        let mut left = row.tiles;
        while left > 0 {
            let whole = column >= 0 && column + past + reach < size;
            let mut offset = tile_offset;
            let mut vector = 0;
            while vector < vectors.vectors {
                let first = vector * S::LANES;
                let lane = vectors.lane + first;
                let (panel, lane) = (lane / LANES_PER_PANEL, lane % LANES_PER_PANEL);
                let tile = VectorTile {
                    weights: vectors.panels.wrapping_add(panel * vectors.panel_len + lane),
                    group: row.group.wrapping_add(first),
                    window: window.wrapping_add(first),
                    column,
                };
                // SAFETY: the bias has a value for each lane.
                let bias = unsafe {
                    if vectors.call.bias().is_null() {
                        simd.splat(0.0)
                    } else {
                        let bias = vectors.call.bias().add(vectors.first + first);
                        simd.load_first(bias, vectors.count)
                    }
                };
                let mut sums = [bias; PIXELS];
                // SAFETY: the windows are of the call's input, and where a tap of them may lie
                // outside it is tested; the panels hold the weights of the lanes.
                unsafe {
                    match (COLUMNS, whole) {
                        (0, true) => row.accumulate::<S, PIXELS, true>(simd, &tile, &mut sums),
                        (0, false) => row.accumulate::<S, PIXELS, false>(simd, &tile, &mut sums),
                        (_, true) => row.accumulate_shared::<S, PIXELS, COLUMNS, true>(
                            simd, &tile, &tap_rows, &mut sums,
                        ),
                        (_, false) => row.accumulate_shared::<S, PIXELS, COLUMNS, false>(
                            simd, &tile, &tap_rows, &mut sums,
                        ),
                    }
                }
                // SAFETY: outputs of the call's part.
                unsafe {
                    let Strides { pixel, channel, .. } = *to;
                    outputs.store_vectors(simd, &sums, offset, pixel, channel, vectors.count);
                }
                offset = offset.wrapping_add(to_vector);
                vector += 1;
            }
            tile_offset += PIXELS * to.pixel;
            window = window.wrapping_add(PIXELS.wrapping_mul(row.step));
            column += (PIXELS * geometry.stride[2]) as isize;
            left -= 1;
        }
    }
}
