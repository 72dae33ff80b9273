//! A call that was checked, and what computes a part of it.

use super::weights::Weights;
use crate::element::Element;
use crate::epilogue::{Epilogue, Function, Residual};
use crate::error::{Error, Expected, Field, Found};
use crate::isa::Isa;
use crate::kernel::activate::Activate;
use crate::kernel::call::{Call, WeightSlice};
use crate::kernel::finish::Outputs;
use crate::kernel::part::Part;
use crate::panels::{self, LANES_PER_PANEL};
use crate::plan::Plan;

/// A plan with slices that were checked against it; the pointers stand for slices that the maker
/// vouches for.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    plan: &'a Plan,
    isa: Isa,
    /// Panels, or weights in PyTorch's order, as the plan takes them.
    weights: &'a [Element],
    input: *const Element,
    bias: *const Element,
    /// Or null.
    residual: *const Element,
    function: Function<'a>,
    /// What applies the function, if the kernel does not.
    pass: Option<Activate>,
    output: *mut Element,
}

impl<'a> Task<'a> {
    /// Checks a call. In a function that has returned, and left the stack, when kernels run.
    ///
    /// # Errors
    /// As of [`Plan::run`], but for the scratch memory.
    #[inline(never)]
    pub fn check(
        plan: &Plan,
        input: &[Element],
        weights: &Weights,
        epilogue: &Epilogue,
        output_len: usize,
        initialised: bool,
    ) -> Result<(), Error> {
        Error::check_len(Field::Input, plan.input_len(), input.len())?;
        Error::check_len(Field::Output, plan.output_len(), output_len)?;
        weights.check(plan)?;
        epilogue.check(plan.out_channels(), plan.residual_len())?;
        match epilogue.residual {
            Residual::Output if !initialised => Err(Error::new(
                Field::ResidualFromOutput,
                Expected::Initialised,
                Found::Uninitialised,
            )),
            _ => Ok(()),
        }
    }

    /// # Safety
    /// [`Task::check`] has accepted the call with these slices, `output` being the first element of
    /// the one whose length it saw, and nobody else accesses that while parts are computed.
    pub unsafe fn new(
        plan: &'a Plan,
        input: &'a [Element],
        weights: Weights<'a>,
        epilogue: &Epilogue<'a>,
        output: *mut Element,
    ) -> Task<'a> {
        Task {
            plan,
            isa: plan.isa(),
            weights: match weights {
                Weights::Packed(packed) => packed.panels(),
                Weights::Unpacked(weights) => weights,
            },
            input: input.as_ptr(),
            bias: epilogue.bias.map_or(core::ptr::null(), <[Element]>::as_ptr),
            residual: match epilogue.residual {
                Residual::None => core::ptr::null(),
                Residual::Slice(residual) => residual.as_ptr(),
                Residual::Output => output.cast_const(),
            },
            function: epilogue.function,
            pass: epilogue.pass,
            output,
        }
    }

    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The path on which parts are computed.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// All of the output.
    pub fn whole(&self) -> Part {
        let geometry = &self.plan.problem.geometry;
        Part { pixels: 0..geometry.pixels(), panels: 0..panels::count(geometry) }
    }

    /// Computes a part of the output, if the scratch memory will do.
    ///
    /// # Safety
    /// The part lies inside the output, and nobody else accesses its elements meanwhile.
    pub unsafe fn run_part(&self, part: Part, scratch: &mut [Element]) -> Result<(), Error> {
        let plan = self.plan;
        let simplest = &plan.simplest;
        Error::check_len(Field::Scratch, plan.scratch_len(), scratch.len())?;
        if part.pixels.is_empty() {
            return Ok(()); // there are no images
        }
        let (weights, scratch) = if !plan.takes_unpacked() {
            (WeightSlice::Packed { panels: self.weights, first_panel: 0 }, scratch)
        } else if let Some(pack_panels) = plan.pack_panels {
            let panel_len = simplest.geometry.chain() * LANES_PER_PANEL;
            let len = part.panels.len() * panel_len;
            let Some((body, scratch)) = scratch.split_at_mut_checked(len) else {
                return Error::check_len(Field::Scratch, len, scratch.len());
            };
            pack_panels(&simplest.geometry, self.weights, part.panels.clone(), body);
            (WeightSlice::Packed { panels: body, first_panel: part.panels.start }, scratch)
        } else {
            (WeightSlice::Unpacked(self.weights), scratch)
        };
        let mut residual = self.residual;
        if let Some(apart) = &plan.residual_apart
            && !residual.is_null()
            && residual != self.output.cast_const()
        {
            // SAFETY: the residual has as many elements as its strides reach, the output as its own
            // do; the part is the caller's.
            unsafe { (apart.copy)(&plan.problem, &apart.strides, residual, self.output, &part) };
            residual = self.output.cast_const();
        }
        let outputs = Outputs::new(&simplest.output, self.output, residual, self.function.fused());
        let (outputs, part) = (&outputs, &part);
        // SAFETY: `Task::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; scratch memory was checked above; the part is the caller's.
        unsafe {
            let call = Call::new(
                simplest, self.isa, self.input, weights, self.bias, outputs, part, scratch,
            );
            (plan.entry)(&call, &plan.schedule);
        }
        if let Some(pass) = self.pass {
            // SAFETY: as above; the kernel has written the part, and `Task::check` has counted the
            // parameters.
            unsafe { pass(simplest, self.isa, self.function.parameter(), self.output, part) };
        }
        Ok(())
    }
}
