//! A depthwise layer and a pointwise one behind it, piece by piece.
//!
//! ```text
//! for each piece of the part's pixels      (rows whose channels the second-level cache holds)
//!   depthwise: all channels of these pixels, into the buffer
//!   pointwise: from the buffer to the output
//! ```
//!
//! A pointwise output needs the pixel of the same number and no other, so nothing is computed twice.
//! To either kernel a piece is a part of the whole layer: its pixels have their numbers, and the buffer
//! lies where the layer's tensor would have them.

use super::borders;
use super::layer::{Before, ComputePart, Extra, Layer, Options};
use super::operands::Operands;
use super::pieces::Pieces;
use crate::element::Element;
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::activate::{Activate, Parameter};
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::panels;
use crate::problem::Problem;
use crate::problem::arithmetic::{smaller, tri};
use crate::problem::geometry::Geometry;
use core::ops::Range;

/// Both layers, and their pieces. The second layer is the one that computes parts.
pub(crate) const fn plan(
    depthwise: Problem,
    pointwise: Problem,
    [first, second]: [Options; 2],
) -> Result<([Layer; 2], Pieces), Error> {
    let whole = depthwise.simplest();
    let schedule = tri!(first.kernel(&whole)).schedule(&whole, &first.caches, first.unpacked);
    let pieces = Pieces::of(&depthwise, &first.caches, schedule.rows_together());
    let between = pieces.strides(depthwise.geometry.output);
    let into_buffer = Problem { output: between, ..depthwise };
    let from_buffer = Problem { input: between, ..pointwise }.simplest();
    let before = tri!(if borders::leaves_zeros(&depthwise.geometry) {
        borders::plan(into_buffer, first)
    } else {
        layer(depthwise, into_buffer.simplest(), None, &pieces, first)
    });
    let mut layer = tri!(layer(pointwise, from_buffer, Some(compute), &pieces, second));
    layer.grain = Some(grain(&pointwise.geometry));
    let kernels = if before.scratch_len > layer.scratch_len { &before } else { &layer };
    layer.scratch_len = kernels.scratch_len.saturating_add(pieces.buffer_len);
    let elements = pointwise.most_elements();
    if layer.scratch_len > elements {
        return Err(Error::overflow(Field::Scratch, elements));
    }
    Ok(([before, layer], pieces))
}

/// A layer with the kernel of the whole, but a schedule for no more than a piece of it.
const fn layer(
    problem: Problem,
    simplest: Problem,
    compute: Option<ComputePart>,
    pieces: &Pieces,
    options: Options,
) -> Result<Layer, Error> {
    let piece = of_piece(&simplest, pieces.pixels);
    let of_whole = Options { forced: Some(tri!(options.kernel(&simplest))), ..options };
    let layer = tri!(Layer::new(problem, piece, compute, of_whole));
    Ok(Layer { simplest, options, ..layer })
}

/// The problem with no more pixels than those of a piece.
const fn of_piece(problem: &Problem, pixels: usize) -> Problem {
    let mut piece = *problem;
    let geometry = &mut piece.geometry;
    let mut left = pixels;
    let mut axis = 3;
    while axis > 0 {
        axis -= 1;
        let whole = geometry.output[axis];
        geometry.output[axis] = smaller(whole, left);
        left = left.div_ceil(whole);
        if geometry.taps() == 1 {
            geometry.input[axis] = smaller(geometry.input[axis], geometry.output[axis]);
        }
    }
    geometry.batch = smaller(geometry.batch, left);
    piece
}

/// The pixels of which parts are made: rows, unless one is long, and enough of them to pay.
const fn grain(geometry: &Geometry) -> usize {
    const PIXELS: usize = 96;
    let width = geometry.output[2];
    if width > 2 * PIXELS { PIXELS } else { PIXELS.div_ceil(width) * width }
}

/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart). The part has all panels.
unsafe fn compute(
    layer: &Layer,
    operands: &Operands,
    extra: &Extra,
    part: &Part,
    scratch: &mut [Element],
) {
    let Some(before) = &extra.before else {
        debug_assert!(false, "no layer before");
        return;
    };
    let (isa, input, pieces) = (operands.isa, operands.input, before.pieces);
    // SAFETY: as the caller vouches; of either layer.
    unsafe {
        piece_by_piece(layer, operands, pieces, part.clone(), scratch, |left, buffer, scratch| {
            let piece = Piece::first(before.layer, pieces, left, buffer);
            piece.depthwise(before, isa, input, || before.pass, scratch)
        });
    }
}

/// The outputs of a part, from what `depthwise` writes into the buffer: it is told which pixels are
/// left, takes some first ones, and tells where the tensor between the layers would begin, and the end
/// of these pixels.
///
/// # Safety
/// As of [`ComputePart`](super::layer::ComputePart), for the second layer; `depthwise` writes what it
/// tells. The part has all panels.
#[inline(always)]
pub(crate) unsafe fn piece_by_piece(
    layer: &Layer,
    operands: &Operands,
    pieces: &Pieces,
    part: Part,
    scratch: &mut [Element],
    mut depthwise: impl FnMut(Range<usize>, *mut Element, &mut [Element]) -> (*mut Element, usize),
) {
    let Operands { isa, weights, bias, residual, activation, output, .. } = *operands;
    let problem = &layer.simplest;
    let outputs = &Outputs::new(&problem.output, output, residual, activation);
    let weights = WeightSlice::Packed { panels: weights, first_panel: 0 };
    let (buffer, scratch) = scratch.split_at_mut_checked(pieces.buffer_len).unwrap_or_default();
    let buffer = buffer.as_mut_ptr();
    let Part { pixels: mut left, panels } = part;
    while !left.is_empty() {
        let (between, end) = depthwise(left.clone(), buffer, scratch);
        let piece = Part { pixels: left.start..end, panels: panels.clone() };
        left.start = end;
        // SAFETY: operands and part are as the caller vouches, the piece is of the part; its inputs lie
        // `between` the layers. The scratch memory behind the buffer is enough for either layer.
        unsafe {
            let call = Call::new(problem, isa, between, weights, bias, outputs, &piece, scratch);
            (layer.entry)(&call, &layer.schedule);
        }
    }
}

/// Some pixels whose depthwise outputs are in the buffer at a time.
pub(crate) struct Piece {
    part: Part,
    /// Where the tensor between the layers would begin, so that these pixels are in the buffer.
    between: *mut Element,
}

impl Piece {
    /// The first one of these pixels, in all channels of the first layer.
    #[inline(always)]
    pub fn first(
        layer: &Layer,
        pieces: &Pieces,
        left: Range<usize>,
        buffer: *mut Element,
    ) -> Piece {
        let pixels = pieces.first(&left);
        let between = buffer.wrapping_sub(pixels.start * pieces.pixel_step);
        let panels = 0..panels::count(&layer.simplest.geometry);
        Piece { part: Part { pixels, panels }, between }
    }

    /// Writes its depthwise outputs, and tells where the tensor between the layers would begin, and where
    /// the piece ends. The pass of the activation is asked for when there are outputs.
    ///
    /// # Safety
    /// As of [`ComputePart`](super::layer::ComputePart), for the first layer; the buffer has room for a
    /// piece.
    #[inline(always)]
    pub unsafe fn depthwise(
        self,
        before: &Before,
        isa: Isa,
        input: *const Element,
        pass: impl FnOnce() -> Option<(Activate, Parameter)>,
        scratch: &mut [Element],
    ) -> (*mut Element, usize) {
        let Before { layer, weights, bias, activation, .. } = *before;
        let Piece { part, between } = self;
        let problem = &layer.simplest;
        let residual = core::ptr::null();
        // SAFETY: as the caller vouches.
        unsafe {
            if let Some(compute) = layer.compute {
                let output = between;
                let operands = Operands { isa, input, weights, bias, residual, activation, output };
                compute(layer, &operands, &Extra::NONE, &part, scratch);
            } else {
                let outputs = Outputs::new(&problem.output, between, residual, activation);
                let weights = WeightSlice::Packed { panels: weights, first_panel: 0 };
                let call = Call::new(problem, isa, input, weights, bias, &outputs, &part, scratch);
                (layer.entry)(&call, &layer.schedule);
            }
            if let Some((pass, parameter)) = pass() {
                // That of the two whose outputs lie in the buffer.
                let problem = if layer.compute.is_some() { &layer.problem } else { problem };
                pass(problem, isa, parameter, between, &part);
            }
        }
        (between, part.pixels.end)
    }
}
