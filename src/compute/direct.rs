//! A layer as one call of its kernel.

use super::layer::{Layer, Options};
use super::operands::Operands;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::panels::LANES_PER_PANEL;
use crate::problem::Problem;

/// A convolution.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    Layer::new(problem, problem.simplest(), None, options)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
#[inline(always)]
pub(crate) unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    part: &Part,
    scratch: &mut [Element],
) {
    let simplest = &layer.simplest;
    let (weights, scratch) = weights(layer, operands, part, scratch);
    let Operands { isa, input, bias, residual, activation, output, .. } = *operands;
    let outputs = Outputs::new(&simplest.output, output, residual, activation);
    // SAFETY: operands, part and scratch memory are as the caller vouches; the simplest form of the
    // problem has its elements at the same places, and its pixels have the same numbers.
    unsafe {
        let call = Call::new(simplest, isa, input, weights, bias, &outputs, part, scratch);
        (layer.entry)(&call, &layer.schedule);
    }
}

/// The weights for a part, packed first if the layer says so, and what is left of the scratch memory.
pub(super) fn weights<'a>(
    layer: &Layer,
    operands: &Operands<'a>,
    part: &Part,
    scratch: &'a mut [Element],
) -> (WeightSlice<'a>, &'a mut [Element]) {
    let Problem { geometry, weights: strides, .. } = &layer.problem;
    if !layer.options.unpacked {
        return (WeightSlice::Packed { panels: operands.weights, first_panel: 0 }, scratch);
    }
    let Some(pack_panels) = layer.pack_panels else {
        return (WeightSlice::Unpacked(operands.weights), scratch);
    };
    let len = part.panels.len() * geometry.chain() * LANES_PER_PANEL;
    let (body, scratch) = scratch.split_at_mut_checked(len).unwrap_or_default();
    pack_panels(geometry, strides, operands.weights, part.panels.clone(), body);
    (WeightSlice::Packed { panels: body, first_panel: part.panels.start }, scratch)
}
