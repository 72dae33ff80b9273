//! A call that was checked, and what computes a part of it.

use super::weights::Weights;
use crate::compute::direct;
use crate::compute::layer::Extra;
use crate::compute::operands::Operands;
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::kernel::activate::{Activate, Parameter};
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
    /// What is applied to the outputs of a part when they are written.
    pass: Option<(Activate, Parameter)>,
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
    #[inline(always)]
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
            output,
        };
        Task { plan, operands, residual_apart, pass: epilogue.pass_with_parameter() }
    }

    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    pub fn operands(&self) -> &Operands<'a> {
        &self.operands
    }

    /// The path on which parts are computed.
    pub fn isa(&self) -> Isa {
        self.operands.isa
    }

    /// All of the output.
    #[inline(always)]
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
        // SAFETY: as the caller vouches.
        unsafe {
            if self.begin(&part, scratch)? {
                self.compute(extra, &part, scratch);
                self.end(&part, self.pass);
            }
        }
        Ok(())
    }

    /// What comes before a part is computed; whether there is anything to compute.
    ///
    /// # Safety
    /// As of [`Task::run_part`].
    #[inline(always)]
    pub unsafe fn begin(&self, part: &Part, scratch: &[Element]) -> Result<bool, Error> {
        let Task { plan, operands, residual_apart, .. } = self;
        Error::check_len(Field::Scratch, plan.scratch_len(), scratch.len())?;
        if part.pixels.is_empty() {
            return Ok(false); // there are no images
        }
        if let Some(apart) = &plan.residual_apart
            && !residual_apart.is_null()
        {
            let problem = &plan.layer.problem;
            // SAFETY: the residual has as many elements as its strides reach, the output as its own
            // do; the part is the caller's.
            unsafe {
                (apart.copy)(problem, &apart.strides, *residual_apart, operands.output, part);
            }
        }
        Ok(true)
    }

    /// # Safety
    /// As of [`Task::run_part`], behind [`Task::begin`].
    #[inline(always)]
    pub unsafe fn compute(&self, extra: &Extra, part: &Part, scratch: &mut [Element]) {
        let layer = &self.plan.layer;
        // SAFETY: `Task::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; `begin` checked scratch memory; the part is the caller's.
        unsafe {
            match layer.compute {
                None => direct::compute(layer, &self.operands, part, scratch),
                Some(compute) => {
                    // A copy: the other way needs none of them in memory.
                    let operands = self.operands;
                    compute(layer, &operands, extra, part, scratch);
                }
            }
        }
    }

    /// What comes behind: the pass of the epilogue.
    ///
    /// # Safety
    /// As of [`Task::run_part`]; the part is written.
    #[inline(always)]
    pub unsafe fn end(&self, part: &Part, pass: Option<(Activate, Parameter)>) {
        if let Some((pass, parameter)) = pass {
            let Operands { isa, output, .. } = self.operands;
            // SAFETY: as the caller vouches; `Task::check` has counted the parameters.
            unsafe { pass(&self.plan.layer.problem, isa, parameter, output, part) };
        }
    }
}
