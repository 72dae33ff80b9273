//! A layer in memory: its shape, and where its tensors lie. Nothing of kernels, nothing of machines.

pub(crate) mod arithmetic;
pub(crate) mod boxes;
pub(crate) mod geometry;
pub(crate) mod phases;
pub(crate) mod shape;
pub(crate) mod simplest;
pub(crate) mod strides;
pub(crate) mod weights;

use crate::element::Element;
use crate::error::{Error, Field};
use arithmetic::tri;
use geometry::Geometry;
use strides::{Layout, Strides};
use weights::WeightStrides;

/// A layer on tensors with strides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub geometry: Geometry,
    pub layout: Layout,
    pub input: Strides,
    pub output: Strides,
    /// Of weights that are not packed.
    pub weights: WeightStrides,
    /// The bytes that the largest object of the target may have.
    pub limit: usize,
}

impl Problem {
    /// On tensors without gaps.
    pub const fn dense(geometry: Geometry, layout: Layout, limit: usize) -> Result<Problem, Error> {
        let elements = limit / size_of::<Element>();
        let input = tri!(Strides::of_tensor(
            layout,
            geometry.in_channels,
            geometry.input,
            elements,
            Field::InputElements
        ));
        let output = tri!(Strides::of_tensor(
            layout,
            geometry.out_channels,
            geometry.output,
            elements,
            Field::OutputElements
        ));
        let weights = WeightStrides::of(&geometry);
        Ok(Problem { geometry, layout, input, output, weights, limit })
    }

    /// The elements that an object of the target may have.
    pub const fn most_elements(&self) -> usize {
        self.limit / size_of::<Element>()
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> Result<usize, Error> {
        let Geometry { batch, in_channels, input, .. } = self.geometry;
        self.input.reach(batch, in_channels, input, self.most_elements(), Field::InputElements)
    }

    /// The elements that a slice of a tensor with the shape of the output holds at least.
    pub const fn output_len(&self, strides: &Strides, field: Field) -> Result<usize, Error> {
        let Geometry { batch, out_channels, output, .. } = self.geometry;
        strides.reach(batch, out_channels, output, self.most_elements(), field)
    }

    /// The elements that the input spans, of a problem whose [`input_len`](Problem::input_len) is
    /// no error.
    pub const fn input_elements(&self) -> usize {
        match self.input_len() {
            Ok(len) => len,
            Err(_) => usize::MAX,
        }
    }
}
