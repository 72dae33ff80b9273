//! A call that was checked, and what computes a part of it.

use super::weights::Weights;
use crate::compute::operands::{Before, Operands};
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::part::Part;
use crate::kernel::residual::ResidualApart;
use crate::panels;
use crate::plan::Plan;

/// A plan with slices that were checked against it; the pointers stand for slices that the maker
/// vouches for.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    plan: &'a Plan,
    operands: Operands<'a>,
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
        epilogue.check_residual_of(initialised)
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
        let operands = Operands {
            isa: plan.isa(),
            weights: weights.elements(),
            input: input.as_ptr(),
            bias: epilogue.bias.map_or(core::ptr::null(), <[Element]>::as_ptr),
            residual: match epilogue.residual {
                Residual::None => core::ptr::null(),
                Residual::Slice(residual) => residual.as_ptr(),
                Residual::Output => output.cast_const(),
            },
            activation: epilogue.activation,
            output,
            before: None,
        };
        Task { plan, operands }
    }

    /// The same on the outputs of another layer, whose input is that of the task.
    ///
    /// # Safety
    /// The input and `before` were checked against the plan of that layer; the task's plan is one that
    /// computes both.
    pub unsafe fn after(mut self, before: Before<'a>) -> Task<'a> {
        self.operands.before = Some(before);
        self
    }

    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The path on which parts are computed.
    pub fn isa(&self) -> Isa {
        self.operands.isa
    }

    /// All of the output.
    pub fn whole(&self) -> Part {
        let geometry = &self.plan.layer.problem.geometry;
        Part { pixels: 0..geometry.pixels(), panels: 0..panels::count(geometry) }
    }

    /// Computes a part of the output, if the scratch memory will do.
    ///
    /// # Safety
    /// The part lies inside the output, and nobody else accesses its elements meanwhile.
    pub unsafe fn run_part(&self, part: Part, scratch: &mut [Element]) -> Result<(), Error> {
        let plan = self.plan;
        Error::check_len(Field::Scratch, plan.scratch_len(), scratch.len())?;
        if part.pixels.is_empty() {
            return Ok(()); // there are no images
        }
        if let Some(apart) = &plan.residual_apart {
            // SAFETY: as the caller vouches.
            unsafe { self.run_part_with(apart, &part, scratch) };
            return Ok(());
        }
        // SAFETY: `Task::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; scratch memory was checked above; the part is the caller's.
        unsafe { (plan.layer.compute)(&plan.layer, &self.operands, &part, scratch) };
        Ok(())
    }

    /// Where a residual, if there is one, has strides of its own. Apart, so that its operands are on the
    /// stack of no other.
    ///
    /// # Safety
    /// As of [`Task::run_part`], which has checked the scratch memory.
    #[inline(never)]
    unsafe fn run_part_with(&self, apart: &ResidualApart, part: &Part, scratch: &mut [Element]) {
        let layer = &self.plan.layer;
        let mut operands = self.operands;
        let Operands { residual, output, .. } = operands;
        if !residual.is_null() && residual != output.cast_const() {
            // SAFETY: the residual has as many elements as its strides reach, the output as its own
            // do; the part is the caller's.
            unsafe { (apart.copy)(&layer.problem, &apart.strides, residual, output, part) };
            operands.residual = output.cast_const();
        }
        // SAFETY: as in `run_part`.
        unsafe { (layer.compute)(layer, &operands, part, scratch) };
    }
}
