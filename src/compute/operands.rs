//! The slices of a call, checked.

use crate::activation::Activation;
use crate::element::Element;
use crate::isa::Isa;

/// What a layer is computed from. The pointers stand for slices that were checked against its plan.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub isa: Isa,
    /// Of the layer before, if there is one.
    pub input: *const Element,
    /// Panels, or weights that are not packed, as the plan takes them.
    pub weights: &'a [Element],
    /// A value for each output channel, or null.
    pub bias: *const Element,
    /// Or null.
    pub residual: *const Element,
    /// What the kernel applies.
    pub activation: Activation,
    pub output: *mut Element,
}

impl Operands<'_> {
    /// From other places in the input and in the output, and in the residual, which has the strides of
    /// the output.
    pub fn moved(mut self, input: usize, output: usize) -> Self {
        self.input = self.input.wrapping_add(input);
        self.output = self.output.wrapping_add(output);
        if !self.residual.is_null() {
            self.residual = self.residual.wrapping_add(output);
        }
        self
    }
}
