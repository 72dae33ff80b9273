//! A call that was checked, and what computes a part of it.

use super::weights::Weights;
use crate::compute::direct;
use crate::compute::layer::{Extra, Layer};
use crate::compute::operands::Operands;
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::part::Part;
use crate::panels;
use crate::plan::Plan;

/// A plan with slices that were checked against it; the pointers stand for slices that the maker
/// vouches for.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    plan: &'a Plan,
    operands: Operands<'a>,
    /// A residual with strides of its own, which parts copy to the output; or null.
    residual_apart: *const Element,
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
        let no_residual = core::ptr::null();
        let (residual, residual_apart) = match epilogue.residual {
            Residual::None => (no_residual, no_residual),
            Residual::Slice(residual) if plan.residual_apart.is_some() => {
                (output.cast_const(), residual.as_ptr())
            }
            Residual::Slice(residual) => (residual.as_ptr(), no_residual),
            Residual::Output => (output.cast_const(), no_residual),
        };
        let operands = Operands {
            isa: plan.isa(),
            weights: weights.elements(),
            input: input.as_ptr(),
            bias: epilogue.bias.map_or(core::ptr::null(), <[Element]>::as_ptr),
            residual,
            activation: epilogue.function.fused(),
            pass: epilogue.pass.map(|pass| (pass, epilogue.function.parameter())),
            output,
        };
        Task { plan, operands, residual_apart }
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
    /// The part lies inside the output, and nobody else accesses its elements meanwhile; `extra` is what
    /// the operator of the plan needs.
    pub unsafe fn run_part(
        &self,
        extra: &Extra,
        part: Part,
        scratch: &mut [Element],
    ) -> Result<(), Error> {
        let plan = self.plan;
        Error::check_len(Field::Scratch, plan.scratch_len(), scratch.len())?;
        if part.pixels.is_empty() {
            return Ok(()); // there are no images
        }
        let operands = &self.operands;
        if let Some(apart) = &plan.residual_apart
            && !self.residual_apart.is_null()
        {
            let Layer { problem, .. } = &plan.layer;
            // SAFETY: the residual has as many elements as its strides reach, the output as its own
            // do; the part is the caller's.
            unsafe {
                (apart.copy)(problem, &apart.strides, self.residual_apart, operands.output, &part);
            }
        }
        // SAFETY: `Task::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; scratch memory was checked above; the part is the caller's.
        unsafe {
            match plan.layer.compute {
                None => direct::compute(&plan.layer, operands, &part, scratch),
                Some(compute) => compute(&plan.layer, operands, extra, &part, scratch),
            }
        }
        if let Some((pass, parameter)) = operands.pass {
            let problem = &plan.layer.problem;
            // SAFETY: as above; the part is written, and `Task::check` has counted the parameters.
            unsafe { pass(problem, operands.isa, parameter, operands.output, &part) };
        }
        Ok(())
    }
}
