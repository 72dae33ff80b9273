//! Which kernel suits a problem.

use crate::panels::LANES_PER_PANEL;
use crate::problem::geometry::Geometry;

/// How well a kernel suits a problem. The best is chosen, the first of the list among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// The packed format or the layout is not one that the kernel reads.
    Cannot = 0,
    /// Right, but made for something else.
    Poor = 1,
    /// As well as any layer of its format.
    Fair = 2,
    /// What the kernel was made for.
    Good = 3,
}

/// Rows that fill vectors well enough for pixels in the lanes, which then need neither broadcasts
/// of scattered inputs nor transposed outputs.
pub(crate) const fn has_wide_rows(geometry: &Geometry) -> bool {
    let width = geometry.output[2];
    if geometry.taps() == 1 {
        // Images, more likely than rows. Where weights are more than inputs, reading these again and
        // again is cheaper.
        let few = width < 512;
        if few || geometry.out_per_group > geometry.batch.saturating_mul(width) {
            return false;
        }
    }
    let fills_vectors = width >= 64 || width >= 32 && width.is_multiple_of(LANES_PER_PANEL);
    // At three quarters of the columns no tap meets the padding.
    let few_at_borders = geometry.input[2].saturating_sub(geometry.reach(2)) >= width - width / 4;
    fills_vectors && geometry.stride[2] == 1 && few_at_borders
}

/// Whether a layer has more weights than inputs.
pub(crate) const fn weights_are_more(geometry: &Geometry) -> bool {
    let [depth, height, width] = geometry.input;
    let inputs = depth.saturating_mul(height).saturating_mul(width).saturating_mul(geometry.batch);
    // Of a channel of the input each.
    geometry.taps().saturating_mul(geometry.out_per_group) > inputs
}
