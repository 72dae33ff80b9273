//! What a kernel is given. A value of [`Call`] is the proof that its pointers may be used: nothing but
//! the checks of a call can make one.

use super::finish::Outputs;
use super::part::Part;
use crate::element::Element;
use crate::isa::Isa;
use crate::panels::{self, LANES_PER_PANEL};
use crate::problem::Problem;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::problem::weights::WeightStrides;
use core::marker::PhantomData;

/// Where the input lies: the only place from which a kernel learns it.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub first: *const Element,
    pub strides: &'a Strides,
}

/// The weights of a call.
#[derive(Clone, Copy)]
pub(crate) enum WeightSlice<'a> {
    /// All panels of the layer, or all from `first_panel` on.
    Packed { panels: &'a [Element], first_panel: usize },
    /// All of the layer, with the strides of the problem.
    Unpacked(&'a [Element]),
}

/// A part of the output to be computed.
pub(crate) struct Call<'a> {
    geometry: &'a Geometry,
    weight_strides: &'a WeightStrides,
    isa: Isa,
    input: Input<'a>,
    /// The first panel of the layer, whether or not it is held; or the first weight.
    weights: *const Element,
    is_packed: bool,
    bias: *const Element,
    outputs: &'a Outputs<'a>,
    part: &'a Part,
    scratch: *mut Element,
    #[cfg(debug_assertions)]
    scratch_len: usize,
    borrows: PhantomData<&'a mut [Element]>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// - The machine has `isa`.
    /// - `input` is the first of as many elements as the problem's `input_len`, `bias`, unless it
    ///   is null, of one for each output channel, and the tensors of `outputs` of as many as its
    ///   strides reach; all of them live as long as the call. Or else `input` and `outputs` are where
    ///   these would begin, and what the part reads and writes of them lives.
    /// - The part lies inside the output, and nobody else accesses its elements meanwhile.
    /// - `weights` hold what the part needs: the panels from `first_panel` on at least to the
    ///   part's last, or all weights of the layer.
    /// - `scratch` has as many elements as the schedule of the kernel says.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // each is something else to vouch for
    pub unsafe fn new(
        problem: &'a Problem,
        isa: Isa,
        input: *const Element,
        weights: WeightSlice<'a>,
        bias: *const Element,
        outputs: &'a Outputs<'a>,
        part: &'a Part,
        scratch: &'a mut [Element],
    ) -> Call<'a> {
        let Problem { geometry, input: strides, weights: weight_strides, .. } = problem;
        if cfg!(debug_assertions) {
            assert_sound(problem, isa, &weights, part);
        }
        let (weights, is_packed) = match weights {
            WeightSlice::Packed { panels, first_panel } => {
                let before = first_panel * geometry.chain() * LANES_PER_PANEL;
                (panels.as_ptr().wrapping_sub(before), true)
            }
            WeightSlice::Unpacked(weights) => (weights.as_ptr(), false),
        };
        Call {
            geometry,
            weight_strides,
            isa,
            input: Input { first: input, strides },
            weights,
            is_packed,
            bias,
            outputs,
            part,
            scratch: scratch.as_mut_ptr(),
            #[cfg(debug_assertions)]
            scratch_len: scratch.len(),
            borrows: PhantomData,
        }
    }

    /// The same on a copy of the input.
    ///
    /// # Safety
    /// `input` has the values of the call's wherever a window meets it for which it is used.
    pub unsafe fn on_copy<'b>(&'b self, input: Input<'b>) -> Call<'b> {
        Call { input, ..*self }
    }

    #[inline(always)]
    pub fn geometry(&self) -> &'a Geometry {
        self.geometry
    }

    #[inline(always)]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    #[inline(always)]
    pub fn input(&self) -> Input<'a> {
        self.input
    }

    /// Whether weights come in panels.
    #[inline(always)]
    pub fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// The packed weights of a panel of the part, and of those behind it.
    #[inline(always)]
    pub fn panel(&self, panel: usize) -> *const Element {
        debug_assert!(self.is_packed && self.part.panels.contains(&panel));
        self.weights.wrapping_add(panel * self.geometry.chain() * LANES_PER_PANEL)
    }

    /// The weights of an output channel that are not packed, at the first tap.
    #[inline(always)]
    pub fn filter(&self, channel: usize) -> *const Element {
        debug_assert!(!self.is_packed && channel < self.geometry.out_channels);
        let (group, channel) = divide(channel, self.geometry.out_per_group);
        self.weights.wrapping_add(self.weight_strides.filter(group, channel))
    }

    /// Where weights lie that are not packed.
    #[inline(always)]
    pub fn weight_strides(&self) -> &'a WeightStrides {
        self.weight_strides
    }

    /// A value for each output channel, or null.
    #[inline(always)]
    pub fn bias(&self) -> *const Element {
        self.bias
    }

    #[inline(always)]
    pub fn outputs(&self) -> &'a Outputs<'a> {
        self.outputs
    }

    #[inline(always)]
    pub fn part(&self) -> &'a Part {
        self.part
    }

    /// At the door of a kernel: whether scratch memory is as long as its schedule says.
    #[inline(always)]
    pub fn assert_room(&self, _least: usize) {
        #[cfg(debug_assertions)]
        assert!(self.scratch_len >= _least, "{} of {_least} elements", self.scratch_len);
    }

    #[inline(always)]
    pub fn scratch(&self) -> *mut Element {
        self.scratch
    }
}

/// What the checks of a call have made sure of.
fn assert_sound(problem: &Problem, isa: Isa, weights: &WeightSlice, part: &Part) {
    let geometry = &problem.geometry;
    let Part { pixels, panels } = part;
    debug_assert!(isa.is_available());
    debug_assert!(pixels.start < pixels.end && pixels.end <= geometry.pixels());
    debug_assert!(panels.start < panels.end && panels.end <= panels::count(geometry));
    match weights {
        WeightSlice::Packed { panels: held, first_panel } => {
            let panel_len = geometry.chain() * LANES_PER_PANEL;
            debug_assert!(*first_panel <= panels.start);
            debug_assert!(held.len() >= (panels.end - first_panel) * panel_len);
        }
        WeightSlice::Unpacked(held) => debug_assert!(last_weight(problem) < held.len()),
    }
}

/// The furthest weight of those that are not packed: at the last tap, or at the first one of windows
/// that are reversed.
fn last_weight(problem: &Problem) -> usize {
    let Problem { geometry, weights, .. } = problem;
    let first_tap = weights
        .filter(geometry.groups - 1, geometry.out_per_group - 1)
        .wrapping_add(weights.in_channel.wrapping_mul(geometry.in_per_group - 1));
    first_tap.max(first_tap.wrapping_add(weights.tap(geometry.window.map(|taps| taps - 1))))
}
