//! The slices of a call, checked.

use super::pieces::Pieces;
use crate::activation::Activation;
use crate::element::Element;
use crate::isa::Isa;
use crate::kernel::activate::{Activate, Parameter};
use crate::kernel::{Entry, Schedule};
use crate::problem::Problem;

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
    /// What is applied to the outputs of a part when they are written.
    pub pass: Option<(Activate, Parameter)>,
    pub output: *mut Element,
}

/// What only some operators are computed from. Apart, so that it is on the stack of no other.
#[derive(Clone, Copy)]
pub(crate) struct Extra<'a> {
    /// Of a deformable convolution, otherwise null.
    pub offsets: *const Element,
    /// Of a deformable convolution that is modulated, otherwise null.
    pub mask: *const Element,
    /// Of two layers in one pass: the first one.
    pub before: Option<Before<'a>>,
}

impl Extra<'_> {
    pub const NONE: Extra<'static> =
        Extra { offsets: core::ptr::null(), mask: core::ptr::null(), before: None };
}

/// The layer whose outputs are the inputs: they never exist all at once, but piece by piece.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    /// As its kernel sees it, with outputs where those of a piece lie.
    pub problem: &'a Problem,
    pub schedule: &'a Schedule,
    pub entry: Entry,
    pub pieces: &'a Pieces,
    /// Panels.
    pub weights: &'a [Element],
    /// A value for each of its output channels, or null.
    pub bias: *const Element,
    pub activation: Activation,
    /// What is applied to the outputs of a piece when they are written.
    pub pass: Option<(Activate, Parameter)>,
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
