//! A call that was checked, and what computes a part of it.

use super::weights::Weights;
use crate::compute::operands::Operands;
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Expected, Field, Found};
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
        let operands = Operands {
            isa: plan.isa(),
            weights: match weights {
                Weights::Packed(packed) => packed.panels(),
                Weights::Unpacked(weights) => weights,
            },
            input: input.as_ptr(),
            offsets: core::ptr::null(),
            mask: core::ptr::null(),
            bias: epilogue.bias.map_or(core::ptr::null(), <[Element]>::as_ptr),
            residual: match epilogue.residual {
                Residual::None => core::ptr::null(),
                Residual::Slice(residual) => residual.as_ptr(),
                Residual::Output => output.cast_const(),
            },
            activation: epilogue.function.fused(),
            pass: epilogue.pass.map(|pass| (pass, epilogue.function.parameter())),
            output,
        };
        Task { plan, operands }
    }

    /// With what moves the taps of a deformable convolution, of the lengths of its plan; the mask is
    /// one if the plan is modulated.
    pub fn with_offsets(mut self, offsets: &'a [Element], mask: Option<&'a [Element]>) -> Self {
        self.operands.offsets = offsets.as_ptr();
        self.operands.mask = mask.map_or(core::ptr::null(), <[Element]>::as_ptr);
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
        let mut operands = self.operands;
        let Operands { residual, output, .. } = operands;
        if let Some(apart) = &plan.residual_apart
            && !residual.is_null()
            && residual != output.cast_const()
        {
            // SAFETY: the residual has as many elements as its strides reach, the output as its own
            // do; the part is the caller's.
            unsafe {
                (apart.copy)(&plan.layer.problem, &apart.strides, residual, output, &part);
            }
            operands.residual = output.cast_const();
        }
        // SAFETY: `Task::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; scratch memory was checked above; the part is the caller's.
        unsafe { (plan.layer.compute)(&plan.layer, &operands, &part, scratch) };
        if let Some((pass, parameter)) = operands.pass {
            // SAFETY: as above; the part is written, and `Task::check` has counted the parameters.
            unsafe { pass(&plan.layer.problem, operands.isa, parameter, output, &part) };
        }
        Ok(())
    }
}
