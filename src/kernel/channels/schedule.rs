//! How the channels kernel cuts its loops. It needs no scratch memory.

use crate::element::Element;
use crate::kernel::caches::{Caches, pixel_bytes};
use crate::kernel::fit::{Fit, weights_are_more};
use crate::kernel::part::{Cut, Part, Wanted};
use crate::panels::{LANES_PER_PANEL, is_narrow};
use crate::problem::Problem;
use crate::problem::arithmetic::{at_least_1, smaller};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How many pixels a pass covers before it turns to the next output channels.
    pub pixel_block: usize,
    /// How many panels of output channels a row of pixels takes together.
    pub panel_run: usize,
    /// Whether there are more weights than inputs.
    weights_are_more: bool,
}

impl Schedule {
    pub const READS_UNPACKED: bool = false;

    /// Neighbouring panels have to be neighbouring channels.
    pub const fn fit(problem: &Problem, _unpacked: bool) -> Fit {
        let geometry = &problem.geometry;
        match problem.layout {
            Layout::Nhwc if is_narrow(geometry) => Fit::Good,
            _ if is_narrow(geometry) || geometry.groups == 1 => Fit::Poor,
            _ => Fit::Cannot,
        }
    }

    pub const fn of(problem: &Problem, caches: &Caches, _unpacked: bool) -> Schedule {
        let geometry = &problem.geometry;
        let element = size_of::<Element>();
        // Half of the first level for weights that every pixel takes in turn.
        let panel_bytes = geometry.chain().saturating_mul(LANES_PER_PANEL * element);
        Schedule {
            pixel_block: caches
                .pixel_block(geometry, pixel_bytes(geometry, geometry.in_channels, element)),
            panel_run: at_least_1(caches.first / 2 / panel_bytes),
            weights_are_more: weights_are_more(geometry),
        }
    }

    pub const fn scratch_len(&self, _geometry: &Geometry) -> usize {
        0
    }

    /// Between rows, or in a row that is long: pixels are side by side in memory. Then between panels,
    /// several of which are; the other way round where weights are more than inputs.
    pub fn cut(&self, problem: &Problem, whole: &Part, wanted: Wanted) -> Cut {
        const PIXELS: usize = 64;
        const PANELS: usize = 4;
        let width = problem.geometry.output[2];
        let pixels = if whole.pixels.end == width { smaller(width, PIXELS) } else { width };
        if self.weights_are_more {
            Cut::panels_first(whole, wanted, PANELS, pixels)
        } else {
            Cut::pixels_first(whole, wanted, PANELS, pixels)
        }
    }
}
