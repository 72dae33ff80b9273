//! The boxes of an output, by whether windows leave the input.

use super::Problem;
use super::arithmetic::{div_ceil, quotient};
use super::geometry::{Geometry, PaddingMode};

/// Along each axis three runs of outputs: those whose windows begin in the padding, those whose
/// windows lie in the input, and those behind. Any of them may be empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boxes {
    /// Where the runs in the middle begin and end, and the outputs.
    axes: [[usize; 3]; 3],
}

/// Outputs whose windows lie in the input, as a convolution without padding.
pub(crate) struct Inside {
    pub problem: Problem,
    /// Its first input and its first output, in the tensors.
    pub first_input: usize,
    pub first_output: usize,
}

impl Boxes {
    pub const fn of(geometry: &Geometry) -> Boxes {
        let mut axes = [[0; 3]; 3];
        let mut axis = 0;
        while axis < 3 {
            let (stride, padding) = (geometry.stride[axis], geometry.padding[axis]);
            let count = geometry.output[axis];
            let start = div_ceil(padding, stride);
            // The last output o has o * stride - padding + reach <= size - 1.
            let end = match (geometry.input[axis] + padding).checked_sub(geometry.reach(axis) + 1) {
                Some(last) => quotient(last, stride) + 1,
                None => 0,
            };
            let end = if end < count { end } else { count };
            let start = if start < count { start } else { count };
            axes[axis] = [start, if end < start { start } else { end }, count];
            axis += 1;
        }
        Boxes { axes }
    }

    /// A run of an axis: 0, 1 or 2.
    const fn run(&self, axis: usize, run: usize) -> (usize, usize) {
        let [start, end, count] = self.axes[axis];
        match run {
            0 => (0, start),
            1 => (start, end),
            _ => (end, count),
        }
    }

    /// The outputs of a box along each axis.
    pub fn extents(&self, place: [usize; 3]) -> [usize; 3] {
        core::array::from_fn(|axis| {
            let (start, end) = self.run(axis, place[axis]);
            end - start
        })
    }

    /// The coordinates of an output from those in its box.
    pub fn output(&self, place: [usize; 3], at: [usize; 3]) -> [usize; 3] {
        core::array::from_fn(|axis| self.run(axis, place[axis]).0 + at[axis])
    }

    /// The outputs of a box, of those of the layer whose number is less than `pixel`.
    pub fn rank(&self, geometry: &Geometry, place: [usize; 3], pixel: usize) -> usize {
        let (image, at) = geometry.pixel(pixel);
        let mut rank = image;
        // Whether the pixel's row, or plane, is one of the box.
        let mut inside = true;
        for (axis, at) in at.into_iter().enumerate() {
            let (start, end) = self.run(axis, place[axis]);
            let before = if inside { at.min(end).saturating_sub(start) } else { 0 };
            rank = rank * (end - start) + before;
            inside &= (start..end).contains(&at);
        }
        rank
    }

    /// The box in the middle, if it is not empty.
    pub const fn inside(&self, layer: &Problem) -> Option<Inside> {
        let mut problem = *layer;
        let geometry = &mut problem.geometry;
        geometry.padding_mode = PaddingMode::Zeros;
        geometry.padded = false;
        let (mut first_input, mut first_output) = ([0; 3], [0; 3]);
        let mut axis = 0;
        while axis < 3 {
            let (start, end) = self.run(axis, 1);
            if start == end {
                return None;
            }
            first_output[axis] = start;
            first_input[axis] = start * geometry.stride[axis] - geometry.padding[axis];
            geometry.output[axis] = end - start;
            geometry.input[axis] -= first_input[axis];
            geometry.padding[axis] = 0;
            axis += 1;
        }
        Some(Inside {
            problem: problem.tamed(),
            first_input: layer.input.place(first_input),
            first_output: layer.output.place(first_output),
        })
    }
}
