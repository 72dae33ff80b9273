//! What a kernel is given. A value of [`Call`] is the proof that its pointers may be used: nothing but
//! the checks of a call can make one.

use super::finish::Outputs;
use super::part::Part;
use crate::element::Element;
use crate::isa::Isa;
use crate::panels::{self, LANES_PER_PANEL};
use crate::problem::Problem;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use core::marker::PhantomData;

/// Where the input lies: the only place from which a kernel learns it.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub first: *const Element,
    pub strides: &'a Strides,
}

/// The weights as a kernel reads them.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// All panels of the layer, or all from `first_panel` on.
    Packed { panels: &'a [Element], first_panel: usize },
    /// PyTorch's order.
    Unpacked(&'a [Element]),
}

/// A part of the output to be computed.
pub(crate) struct Call<'a> {
    geometry: &'a Geometry,
    isa: Isa,
    input: Input<'a>,
    weights: Weights<'a>,
    bias: *const Element,
    outputs: Outputs<'a>,
    part: Part,
    scratch: *mut Element,
    borrows: PhantomData<&'a mut [Element]>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// - The machine has `isa`.
    /// - `input` is the first of as many elements as the problem's `input_len`, `bias`, unless it
    ///   is null, of one for each output channel, and the tensors of `outputs` of as many as its
    ///   strides reach; all of them live as long as the call.
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
        weights: Weights<'a>,
        bias: *const Element,
        outputs: Outputs<'a>,
        part: Part,
        scratch: &'a mut [Element],
    ) -> Call<'a> {
        let Problem { geometry, input: strides, .. } = problem;
        let call = Call {
            geometry,
            isa,
            input: Input { first: input, strides },
            weights,
            bias,
            outputs,
            part,
            scratch: scratch.as_mut_ptr(),
            borrows: PhantomData,
        };
        if cfg!(debug_assertions) {
            call.assert_sound();
        }
        call
    }

    fn assert_sound(&self) {
        let Part { pixels, panels } = &self.part;
        debug_assert!(self.isa.is_available());
        debug_assert!(pixels.start <= pixels.end && pixels.end <= self.geometry.pixels());
        debug_assert!(panels.start <= panels.end && panels.end <= panels::count(self.geometry));
        match self.weights {
            Weights::Packed { panels: held, first_panel } => {
                let panel_len = self.geometry.chain() * LANES_PER_PANEL;
                debug_assert!(first_panel <= panels.start);
                debug_assert!(held.len() >= (panels.end - first_panel) * panel_len);
            }
            Weights::Unpacked(weights) => {
                debug_assert!(weights.len() == self.geometry.chain() * self.geometry.out_channels);
            }
        }
        let align = align_of::<Element>();
        debug_assert!(self.input.first.cast::<u8>().align_offset(align) == 0);
        debug_assert!(self.scratch.cast::<u8>().align_offset(align) == 0);
    }

    /// The same on a copy of what some pixels see of the input.
    ///
    /// # Safety
    /// `input` has the values of the call's wherever windows of `pixels` meet the input.
    pub unsafe fn on_copy<'b>(
        &'b self,
        input: Input<'b>,
        pixels: core::ops::Range<usize>,
    ) -> Call<'b> {
        debug_assert!(self.part.pixels.start <= pixels.start && pixels.end <= self.part.pixels.end);
        let part = Part { pixels, panels: self.part.panels.clone() };
        Call { input, part, ..*self }
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

    #[inline(always)]
    pub fn weights(&self) -> Weights<'a> {
        self.weights
    }

    /// The packed weights of a panel of the part, and of those behind it. Of a call with unpacked
    /// weights there are none.
    #[inline(always)]
    pub fn panel(&self, panel: usize) -> *const Element {
        match self.weights {
            Weights::Packed { panels, first_panel } => {
                let panel_len = self.geometry.chain() * LANES_PER_PANEL;
                panels.as_ptr().wrapping_add((panel - first_panel) * panel_len)
            }
            Weights::Unpacked(_) => {
                debug_assert!(false, "this kernel reads packed weights");
                core::ptr::null()
            }
        }
    }

    /// A value for each output channel, or null.
    #[inline(always)]
    pub fn bias(&self) -> *const Element {
        self.bias
    }

    #[inline(always)]
    pub fn outputs(&self) -> &Outputs<'a> {
        &self.outputs
    }

    #[inline(always)]
    pub fn part(&self) -> &Part {
        &self.part
    }

    #[inline(always)]
    pub fn scratch(&self) -> *mut Element {
        self.scratch
    }
}
