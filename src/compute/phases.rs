//! A transposed convolution, phase by phase.
//!
//! ```text
//! for each phase along depth, height, width
//!   its outputs in the part
//!   where taps meet it: a call of the kernel, on the panels of its class of taps
//!   elsewhere: the bias
//! ```
//!
//! Each output belongs to one phase, so it is written once, and phases share nothing but inputs.

use super::direct;
use super::layer::{Layer, Options};
use super::operands::Operands;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::bias::BiasAlone;
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::panels::LANES_PER_PANEL;
use crate::problem::Problem;
use crate::problem::geometry::Geometry;
use crate::problem::phases::{Phase, Phases};
use crate::simd::enter::enter;

/// A transposed convolution.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    let phases = Phases::of(&problem.geometry);
    if phases.is_single()
        && let Some(Phase { problem: convolution, first_input: 0, .. }) =
            phases.phase(&problem, [0; 3])
    {
        return Layer::new(problem, convolution.simplest(), direct::compute, options);
    }
    let [window, outputs] = largest(&phases);
    let stands_for_all = phases.convolution(&problem, window, outputs).tamed();
    let mut layer = match Layer::new(problem, stands_for_all, compute, options) {
        Ok(layer) => layer,
        Err(error) => return Err(error),
    };
    layer.scheduler = Some(layer.schedule.kernel().scheduler());
    layer.pixel = Some(pixel);
    layer.scratch_len = scratch_len(&layer, &phases);
    Ok(layer)
}

/// The largest window and the most outputs of a phase.
const fn largest(phases: &Phases) -> [[usize; 3]; 2] {
    let mut largest = [[0; 3]; 2];
    let mut axis = 0;
    while axis < 3 {
        let (windows, outputs) = phases.extents(axis);
        (largest[0][axis], largest[1][axis]) = (windows[0], outputs[0]);
        axis += 1;
    }
    largest
}

/// The most that a phase needs. Of all phases there are two windows and two sizes along each axis, so
/// schedules are as many at most.
const fn scratch_len(layer: &Layer, phases: &Phases) -> usize {
    let Options { caches, unpacked, .. } = &layer.options;
    let mut most = 0;
    let mut choice = 0;
    while choice < 1 << 6 {
        let (mut window, mut outputs) = ([0; 3], [0; 3]);
        let mut exists = true;
        let mut axis = 0;
        while axis < 3 {
            let (windows, sizes) = phases.extents(axis);
            window[axis] = windows[choice >> (2 * axis) & 1];
            outputs[axis] = sizes[choice >> (2 * axis + 1) & 1];
            exists = exists && window[axis] > 0 && outputs[axis] > 0;
            axis += 1;
        }
        if exists {
            let phase = phases.convolution(&layer.problem, window, outputs).tamed();
            let schedule = layer.schedule.kernel().schedule(&phase, caches, *unpacked);
            let len = schedule.scratch_len(&phase.geometry);
            most = if len > most { len } else { most };
        }
        choice += 1;
    }
    most
}

/// The number of an output, from that of a pixel of the form that stands for all phases.
fn pixel(geometry: &Geometry, of_first_phase: usize) -> usize {
    Phases::of(geometry).pixel(geometry, of_first_phase)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
unsafe fn compute(layer: &Layer, operands: &Operands, part: &Part, scratch: &mut [Element]) {
    let phases = Phases::of(&layer.problem.geometry);
    let (weights, scratch) = direct::weights(layer, operands, part, scratch);
    let [depth, height, width] = phases.counts();
    for d in 0..depth {
        for h in 0..height {
            for w in 0..width {
                let phase = [d, h, w];
                // SAFETY: as the caller vouches.
                unsafe { compute_phase(layer, operands, part, &phases, phase, &weights, scratch) };
            }
        }
    }
}

/// A phase of a part.
///
/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart); the weights are those of the part.
unsafe fn compute_phase(
    layer: &Layer,
    operands: &Operands,
    part: &Part,
    phases: &Phases,
    phase: [usize; 3],
    weights: &WeightSlice,
    scratch: &mut [Element],
) {
    let problem = &layer.problem;
    let rank = |pixel| phases.rank(&problem.geometry, phase, pixel);
    let pixels = rank(part.pixels.start)..rank(part.pixels.end);
    if pixels.is_empty() {
        return;
    }
    let part = &Part { pixels, panels: part.panels.clone() };
    let Operands { isa, bias, activation, .. } = *operands;
    let Some(of_phase) = phases.phase(problem, phase) else {
        let convolution = phases.convolution(problem, [1; 3], phases.outputs(phase)).tamed();
        let moved = operands.moved(0, phases.first_output(problem, phase));
        let outputs = Outputs::new(&convolution.output, moved.output, moved.residual, activation);
        let geometry = &convolution.geometry;
        // SAFETY: the operands have the instruction set; the outputs are those of the caller's part.
        return unsafe { enter(isa, BiasAlone { geometry, bias, outputs: &outputs, part }) };
    };
    let Phase { problem: convolution, first_input, first_output, taps_before } = &of_phase;
    let moved = operands.moved(*first_input, *first_output);
    let outputs = Outputs::new(&convolution.output, moved.output, moved.residual, activation);
    let weights = match weights {
        WeightSlice::Packed { panels, first_panel } => {
            // As many panels of each class as of the first.
            let steps = panels.len() / (problem.geometry.taps() * LANES_PER_PANEL);
            let first = taps_before * steps * LANES_PER_PANEL;
            let len = convolution.geometry.taps() * steps * LANES_PER_PANEL;
            let panels = panels.get(first..).and_then(|panels| panels.get(..len));
            WeightSlice::Packed { panels: panels.unwrap_or(&[]), first_panel: *first_panel }
        }
        WeightSlice::Unpacked(weights) => WeightSlice::Unpacked(weights),
    };
    let Some(scheduler) = layer.scheduler else {
        debug_assert!(false, "phases without a scheduler");
        return;
    };
    let Geometry { window, output, .. } = convolution.geometry;
    let planned = phases.convolution(problem, window, output).tamed();
    let schedule = scheduler(&planned, &layer.options.caches, layer.options.unpacked);
    // SAFETY: operands, weights and part are as the caller vouches, and a phase has its elements inside
    // the tensors of the layer; scratch memory suffices for the schedule of any phase.
    unsafe {
        let call = Call::new(convolution, isa, moved.input, weights, bias, &outputs, part, scratch);
        (layer.entry)(&call, &schedule);
    }
}
