//! Bands: the rows of a plane whose input is copied at once, and the scratch memory for the copy.

use crate::element::Element;
use crate::kernel::caches::Caches;
use crate::kernel::fit::{Fit, has_wide_rows};
use crate::kernel::part::{Cut, Part, Wanted};
use crate::panels::{LANES_PER_PANEL, is_narrow};
use crate::problem::Problem;
use crate::problem::arithmetic::{div_ceil, quotient, smaller};
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

/// How many rows and columns of the output a band has, and how its input lies in scratch memory: by
/// plane of the window, by remainder of the row and of the column when divided by the stride, then
/// rows and columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub rows: usize,
    pub columns: usize,
    /// The remainders of rows and of columns.
    pub phases: [usize; 2],
    /// For each pair of remainders.
    pub copied_rows: usize,
    pub row_len: usize,
}

impl Schedule {
    pub const READS_UNPACKED: bool = true;

    /// Output channels that share no input with others.
    pub const fn fit(problem: &Problem, _unpacked: bool) -> Fit {
        let geometry = &problem.geometry;
        let one_output = geometry.out_channels == 1 && geometry.in_per_group > 1;
        let suits = match problem.layout {
            Layout::Nchw => geometry.in_per_group == 1 && is_narrow(geometry) || one_output,
            Layout::Nhwc => one_output,
        };
        if suits && repays_a_copy(geometry) { Fit::Good } else { Fit::Poor }
    }

    /// A band that takes half of the first-level cache, or, where that would be a few rows of a
    /// large window or a part of a row, a quarter of the second.
    pub const fn of(problem: &Problem, caches: &Caches, _unpacked: bool) -> Schedule {
        Schedule::of_geometry(&problem.geometry, caches)
    }

    const fn of_geometry(geometry: &Geometry, caches: &Caches) -> Schedule {
        let [_, height, width] = geometry.output;
        let channels = geometry.in_per_group;
        let elements = quotient(caches.first / 2 / size_of::<Element>(), channels);
        let band = Schedule::fitting(geometry, elements);
        let few = band.rows < height && band.rows < band.copied_rows / 2;
        if few || band.columns < width {
            let elements = caches.second / 4 / size_of::<Element>();
            Schedule::fitting(geometry, quotient(elements, channels))
        } else {
            band
        }
    }

    /// Between panels first, which share no input. Then between rows, of which a part has so many that all
    /// parts together copy a tenth more than the whole at most, or in a row that is long.
    pub fn cut(&self, problem: &Problem, whole: &Part, wanted: Wanted) -> Cut {
        const PIXELS: usize = 128;
        let geometry = &problem.geometry;
        let [_, height, width] = geometry.output;
        let pixels = if whole.pixels.end == width {
            steps_apart(geometry, 2).saturating_mul(3).max(PIXELS).min(width)
        } else {
            // (rows + shared) / rows <= 1.1 * (height + shared) / height
            let shared = steps_apart(geometry, 1);
            let least = shared.saturating_mul(height).saturating_mul(10);
            let rows = div_ceil(least, height.saturating_add(shared.saturating_mul(11)));
            rows.max(div_ceil(PIXELS, width)).saturating_mul(width)
        };
        Cut::panels_first(whole, wanted, 1, pixels)
    }

    /// The largest whose copy and sums take no more than `elements`, or what a row of 64 pixels
    /// needs.
    const fn fitting(geometry: &Geometry, elements: usize) -> Schedule {
        let [_, height, width] = geometry.output;
        let phases = [phases(geometry, 1), phases(geometry, 2)];
        let [above, beside] = [steps_apart(geometry, 1), steps_apart(geometry, 2)];
        let planes = geometry.window[0].saturating_mul(phases[0]).saturating_mul(phases[1]);
        // Of a column of one row of outputs: its copy, and the sum.
        let column_len = planes.saturating_mul(above.saturating_add(1)).saturating_add(1);
        let columns = (elements / column_len).saturating_sub(beside);
        let columns = if columns < 64 { 64 } else { columns };
        let columns = if columns < width { columns } else { width };
        let row_len = columns.saturating_add(beside);
        // Rows share the copied rows between their first and last taps.
        let shared = planes.saturating_mul(above).saturating_mul(row_len);
        let rows =
            elements.saturating_sub(shared) / planes.saturating_add(1).saturating_mul(row_len);
        let rows = if rows == 0 || columns < width {
            1
        } else if rows < height {
            height.div_ceil(height.div_ceil(rows)) // alike
        } else {
            height
        };
        Schedule { rows, columns, phases, copied_rows: rows.saturating_add(above), row_len }
    }

    /// The elements of scratch memory: of the copies, of the sums behind them, and of a vector, because
    /// both are read and written in whole ones.
    pub const fn scratch_len(&self, geometry: &Geometry) -> usize {
        let sums = self.rows.saturating_mul(self.row_len);
        self.copies_len(geometry).saturating_add(sums).saturating_add(LANES_PER_PANEL)
    }

    /// The elements of the copies of all channels of a group.
    pub const fn copies_len(&self, geometry: &Geometry) -> usize {
        self.channel_len(geometry).saturating_mul(geometry.in_per_group)
    }

    /// From the copy of a channel to the next. Of several, each has room for a vector behind it.
    pub const fn channel_len(&self, geometry: &Geometry) -> usize {
        let room = if geometry.in_per_group > 1 { LANES_PER_PANEL } else { 0 };
        self.copied_len(geometry).saturating_add(room)
    }

    /// The elements of the copy of a channel.
    const fn copied_len(&self, geometry: &Geometry) -> usize {
        let [rows, columns] = self.phases;
        let phases = geometry.window[0].saturating_mul(rows).saturating_mul(columns);
        phases.saturating_mul(self.copied_rows).saturating_mul(self.row_len)
    }
}

/// The remainders that taps along an axis may have when divided by the stride; dilation may leave
/// some out.
const fn phases(geometry: &Geometry, axis: usize) -> usize {
    smaller(geometry.reach(axis) + 1, geometry.stride[axis])
}

/// How many outputs further on the first tap lies where the last one of an output does.
const fn steps_apart(geometry: &Geometry, axis: usize) -> usize {
    geometry.reach(axis) / geometry.stride[axis]
}

/// A copy of the input that is small beside the work on it; rows that rarely meet the padding need
/// more of that.
const fn repays_a_copy(geometry: &Geometry) -> bool {
    const MOST: usize = 1 << 20;
    if geometry.taps() <= 4 && has_wide_rows(geometry) {
        return false;
    }
    let band = Schedule::of_geometry(geometry, &Caches::USUAL);
    let taps = (band.rows * band.columns).saturating_mul(geometry.taps());
    band.scratch_len(geometry) <= MOST && band.copied_len(geometry) <= taps / 2
}
