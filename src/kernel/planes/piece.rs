//! A piece of the pixels, and how its copy is read.

use super::schedule::Schedule;
use crate::kernel::call::Call;
use crate::kernel::walk::Pixel;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::simd::Simd;

/// A band, or a part of a row.
pub(super) struct Piece<'a> {
    pub call: &'a Call<'a>,
    pub band: &'a Schedule,
    pub steps: &'a TapSteps,
    /// The first one.
    pub pixel: Pixel,
    pub rows: usize,
    pub columns: usize,
}

impl Piece<'_> {
    /// Whether windows of neighbouring rows of outputs see the same rows of the copy, as they lie, so that
    /// they can share what is loaded of it.
    #[inline(always)]
    pub fn rows_overlap<S: Simd>(&self) -> bool {
        let Geometry { in_per_group, stride, dilation, window, .. } = *self.call.geometry();
        let adjoin = stride[1] == 1 && dilation[1] == 1 && stride[2] == 1;
        S::FACTS.fuses && S::LANES > 1 && in_per_group == 1 && adjoin && window[2] >= 3
    }
}

/// From a tap to the next in the copy of a band.
pub(super) struct TapSteps {
    pub plane: usize,
    pub row: TapStep,
    pub column: TapStep,
}

/// Along an axis whose places lie apart by their remainders. A step that leads past the last
/// remainder is corrected.
pub(super) struct TapStep {
    step: usize,
    remainder: usize,
    stride: usize,
    correction: usize,
}

impl TapSteps {
    #[inline(always)]
    pub fn of(geometry: &Geometry, band: &Schedule) -> TapSteps {
        let Geometry { dilation, stride, .. } = *geometry;
        let Schedule { phases, copied_rows, row_len, .. } = *band;
        let column_phase = copied_rows * row_len;
        let row_phase = phases[1] * column_phase;
        TapSteps {
            plane: phases[0] * row_phase,
            row: TapStep::of(dilation[1], stride[1], row_len, row_phase),
            column: TapStep::of(dilation[2], stride[2], 1, column_phase),
        }
    }
}

impl TapStep {
    /// From a place to the next with the same remainder are `neighbour` elements, to the next
    /// remainder `phase`.
    #[inline(always)]
    fn of(dilation: usize, stride: usize, neighbour: usize, phase: usize) -> TapStep {
        let (places, remainder) = divide(dilation, stride);
        TapStep {
            step: remainder.wrapping_mul(phase).wrapping_add(places.wrapping_mul(neighbour)),
            remainder,
            stride,
            correction: neighbour.wrapping_sub(stride.wrapping_mul(phase)),
        }
    }

    /// From a tap, and the remainder of its place, to the next.
    #[inline(always)]
    pub fn next(&self, (at, remainder): (*const f32, usize)) -> (*const f32, usize) {
        let (at, remainder) = (at.wrapping_add(self.step), remainder + self.remainder);
        if remainder < self.stride {
            (at, remainder)
        } else {
            (at.wrapping_add(self.correction), remainder - self.stride)
        }
    }
}
