//! A transposed convolution, phase by phase.
//!
//! ```text
//! for each phase along depth, height, width
//!   its outputs in the part
//!   where taps meet it: a call of the kernel, on the panels of its class of taps
//!   elsewhere: the bias
//! ```
//!
//! Each output belongs to one phase, so it is written once, and phases share nothing but inputs. Where
//! neighbours in memory are of different phases, these are [woven](super::woven).

use super::direct;
use super::layer::{Extra, Layer, Options};
use super::operands::Operands;
use super::woven::{self, Piece};
use crate::activation::Activation;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::bias::BiasAlone;
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::problem::Problem;
use crate::problem::arithmetic::quotient;
use crate::problem::geometry::Geometry;
use crate::problem::phases::{Phase, Phases};
use crate::problem::strides::{Layout, Strides};
use crate::simd::enter::enter;

/// A transposed convolution.
pub(crate) const fn plan(problem: Problem, options: Options) -> Result<Layer, Error> {
    let phases = Phases::of(&problem.geometry);
    if phases.is_single()
        && let Some(Phase { problem: convolution, first_input: 0, .. }) =
            phases.phase(&problem, [0; 3])
    {
        return Layer::new(problem, convolution.simplest(), None, options);
    }
    let [window, outputs] = largest(&phases);
    let stands_for_all = phases.convolution(&problem, window, outputs).tamed();
    let mut layer = match Layer::new(problem, stands_for_all, Some(compute), options) {
        Ok(layer) => layer,
        Err(error) => return Err(error),
    };
    layer.scheduler = Some(layer.schedule.kernel().scheduler());
    layer.pixel = Some(pixel);
    layer.scratch_len = scratch_len(&layer, &phases);
    if let Some(piece) = Piece::of(&problem, &options) {
        layer.scratch_len = layer.scratch_len.saturating_add(piece.sums_len(&problem.geometry));
    }
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
            let phase = planned(layer, phases, window, outputs);
            let schedule = layer.schedule.kernel().schedule(&phase, caches, *unpacked);
            let len = schedule.scratch_len(&phase.geometry);
            most = if len > most { len } else { most };
        }
        choice += 1;
    }
    most
}

/// What the schedule of a phase is made from.
const fn planned(
    layer: &Layer,
    phases: &Phases,
    window: [usize; 3],
    outputs: [usize; 3],
) -> Problem {
    let mut problem = phases.convolution(&layer.problem, window, outputs).tamed();
    let woven = Piece::of(&layer.problem, &layer.options).is_some();
    if woven && woven::leaves_channels_last(layer) {
        problem.layout = Layout::Nhwc;
    }
    problem
}

/// The number of an output, from that of a pixel of the form that stands for all phases.
fn pixel(geometry: &Geometry, of_first_phase: usize) -> usize {
    Phases::of(geometry).pixel(geometry, of_first_phase)
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart).
unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    _extra: &Extra,
    part: &Part,
    scratch: &mut [Element],
) {
    let phases = Phases::of(&layer.problem.geometry);
    let (weights, scratch) = direct::weights(layer, operands, part, scratch);
    let phased = Phased { layer, phases: &phases, operands, weights };
    if let Some(piece) = Piece::of(&layer.problem, &layer.options) {
        // SAFETY: as the caller vouches.
        return unsafe { woven::compute(&phased, &piece, part, scratch) };
    }
    let [depth, height, width] = phases.counts();
    for d in 0..depth {
        for h in 0..height {
            for w in 0..width {
                let phase = [d, h, w];
                let rank = |pixel| phases.rank(&layer.problem.geometry, phase, pixel);
                let pixels = rank(part.pixels.start)..rank(part.pixels.end);
                let part = Part { pixels, panels: part.panels.clone() };
                // SAFETY: as the caller vouches; these are outputs of the part.
                unsafe { phased.compute(phase, &part, None, scratch) };
            }
        }
    }
}

/// A call of a transposed convolution.
pub(super) struct Phased<'a> {
    pub layer: &'a Layer,
    pub phases: &'a Phases,
    pub operands: &'a Operands<'a>,
    pub weights: WeightSlice<'a>,
}

/// Where sums go that are not finished yet.
pub(super) struct Sums {
    /// Of the first pixel of the phase, whether or not it is one of the part.
    pub first: *mut Element,
    pub strides: Strides,
}

impl Phased<'_> {
    /// A part of a phase, counted in its pixels: its outputs, or their sums.
    ///
    /// # Safety
    /// As of [`ComputePart`](super::layer::ComputePart); the weights are those of the part, and there is
    /// room for the sums.
    pub unsafe fn compute(
        &self,
        phase: [usize; 3],
        part: &Part,
        sums: Option<&Sums>,
        scratch: &mut [Element],
    ) {
        if part.pixels.is_empty() {
            return;
        }
        let Phased { layer, phases, operands, weights } = *self;
        let problem = &layer.problem;
        let untapped = |outputs| phases.convolution(problem, [1; 3], outputs).tamed();
        let of_phase = phases.phase(problem, phase);
        let convolution = match &of_phase {
            Some(of_phase) => &of_phase.problem,
            None => &untapped(phases.outputs(phase)),
        };
        let outputs = match sums {
            Some(Sums { first, strides }) => {
                Outputs::new(strides, *first, core::ptr::null(), Activation::None)
            }
            None => {
                let moved = operands.moved(0, phases.first_output(problem, phase));
                let Operands { output, residual, activation, .. } = moved;
                Outputs::new(&convolution.output, output, residual, activation)
            }
        };
        let (isa, bias, outputs) = (operands.isa, operands.bias, &outputs);
        let Some(Phase { first_input, taps_before, .. }) = of_phase else {
            let geometry = &convolution.geometry;
            // SAFETY: the operands have the instruction set; the outputs are the caller's.
            return unsafe { enter(isa, BiasAlone { geometry, bias, outputs, part }) };
        };
        let Some(scheduler) = layer.scheduler else {
            debug_assert!(false, "phases without a scheduler");
            return;
        };
        let Geometry { window, output, .. } = convolution.geometry;
        let planned = planned(layer, phases, window, output);
        let schedule = scheduler(&planned, &layer.options.caches, layer.options.unpacked);
        let weights = of_class(weights, &problem.geometry, &convolution.geometry, taps_before);
        let input = operands.moved(first_input, 0).input;
        // SAFETY: operands, weights, part and outputs are as the caller vouches, and a phase has its
        // elements inside the tensors of the layer; scratch memory suffices for the schedule of any
        // phase.
        unsafe {
            let call = Call::new(convolution, isa, input, weights, bias, outputs, part, scratch);
            (layer.entry)(&call, &schedule);
        }
    }
}

/// The weights of a class of taps, of those of the layer.
fn of_class<'a>(
    weights: WeightSlice<'a>,
    layer: &Geometry,
    class: &Geometry,
    taps_before: usize,
) -> WeightSlice<'a> {
    match weights {
        WeightSlice::Packed { panels, first_panel } => {
            // As many panels of each class as of the others.
            let steps = quotient(panels.len(), layer.taps());
            let panels = panels.get(taps_before * steps..).unwrap_or(&[]);
            let panels = panels.get(..class.taps() * steps).unwrap_or(&[]);
            WeightSlice::Packed { panels, first_panel }
        }
        WeightSlice::Unpacked(weights) => WeightSlice::Unpacked(weights),
    }
}
