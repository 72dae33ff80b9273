//! Bands: the rows of a plane whose input is copied at once, for depthwise layers in planes.

use crate::pack::LANES_PER_PANEL;
use crate::shape::Geometry;

/// How many rows and columns of the output a band has, and how its input lies in scratch memory: by
/// plane of the window, by remainder of the row and of the column when divided by the stride, then
/// rows and columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    pub rows: usize,
    pub columns: usize,
    /// The remainders of rows and of columns.
    pub phases: [usize; 2],
    /// For each pair of remainders.
    pub copied_rows: usize,
    pub row_len: usize,
}

impl Band {
    pub const NONE: Band = Band { rows: 0, columns: 0, phases: [0; 2], copied_rows: 0, row_len: 0 };

    /// One that takes half of the first-level cache, or, where that would be a few rows of a large
    /// window or a part of a row, a quarter of the second.
    pub const fn of(geometry: &Geometry, l1: usize, l2: usize) -> Band {
        let [_, height, width] = geometry.output;
        let band = Band::fitting(geometry, l1 / 2 / size_of::<f32>());
        let few = band.rows < height && band.rows < band.copied_rows / 2;
        if few || band.columns < width {
            Band::fitting(geometry, l2 / 4 / size_of::<f32>())
        } else {
            band
        }
    }

    /// The largest whose copy and sums take no more than `elements`, or what a row of 64 pixels
    /// needs.
    const fn fitting(geometry: &Geometry, elements: usize) -> Band {
        let [_, height, width] = geometry.output;
        let phases = [phases(geometry, 1), phases(geometry, 2)];
        let [above, beside] = [steps_apart(geometry, 1), steps_apart(geometry, 2)];
        let planes = geometry.kernel[0].saturating_mul(phases[0]).saturating_mul(phases[1]);
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
        Band { rows, columns, phases, copied_rows: rows.saturating_add(above), row_len }
    }

    /// The elements of scratch memory: of the copy, of the sums behind it, and of a vector, because
    /// both are read and written in whole ones.
    pub const fn scratch_len(&self, geometry: &Geometry) -> usize {
        let sums = self.rows.saturating_mul(self.row_len);
        self.copied_len(geometry).saturating_add(sums).saturating_add(LANES_PER_PANEL)
    }

    /// The elements of the copy.
    pub const fn copied_len(&self, geometry: &Geometry) -> usize {
        let [rows, columns] = self.phases;
        let phases = geometry.kernel[0].saturating_mul(rows).saturating_mul(columns);
        phases.saturating_mul(self.copied_rows).saturating_mul(self.row_len)
    }
}

/// The remainders that taps along an axis may have when divided by the stride; dilation may leave
/// some out.
const fn phases(geometry: &Geometry, axis: usize) -> usize {
    let reach = (geometry.kernel[axis] - 1) * geometry.dilation[axis];
    if reach < geometry.stride[axis] { reach + 1 } else { geometry.stride[axis] }
}

/// How many outputs further on the first tap lies where the last one of an output does.
const fn steps_apart(geometry: &Geometry, axis: usize) -> usize {
    (geometry.kernel[axis] - 1) * geometry.dilation[axis] / geometry.stride[axis]
}
