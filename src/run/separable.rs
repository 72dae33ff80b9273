//! Running a depthwise layer and a pointwise one in one pass.

use super::output::OutputElement;
use super::task::Task;
use super::tiles::Job;
use super::weights::Weights;
use crate::compute::layer::Extra;
use crate::compute::separable::{self, Piece};
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Expected, Field, Found, Stage};
use crate::plan::separable::SeparablePlan;
use core::borrow::Borrow;
use core::ops::Range;

impl SeparablePlan {
    /// Computes the whole output: `activation(pointwise(activation(depthwise(x) + bias)) + bias +
    /// residual)`, each layer with its own bias and activation, and with the bits of
    /// [`Plan::run`](crate::Plan::run) for the one after that for the other.
    ///
    /// `x`, `y` and the residual are in the plan's layout and strides, and may be longer than
    /// [`input_len`](SeparablePlan::input_len), [`output_len`](SeparablePlan::output_len) and
    /// [`residual_len`](SeparablePlan::residual_len). `scratch` has
    /// [`scratch_len`](SeparablePlan::scratch_len) elements; what it holds does not matter. Epilogues may
    /// be references.
    ///
    /// # Errors
    /// As of [`Plan::run`](crate::Plan::run), with the [`Stage`] of weights and epilogues; a residual
    /// in the depthwise epilogue. The output is then untouched.
    #[allow(clippy::too_many_arguments)] // those of two layers
    pub fn run<'a, 'y, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        depthwise_weights: impl Into<Weights<'a>>,
        depthwise_epilogue: impl Borrow<Epilogue<'a>>,
        pointwise_weights: impl Into<Weights<'a>>,
        pointwise_epilogue: impl Borrow<Epilogue<'a>>,
        scratch: &mut [Element],
        y: &'y mut [T],
    ) -> Result<T::Written<'y>, Error> {
        let weights = [depthwise_weights.into(), pointwise_weights.into()];
        let epilogues = [depthwise_epilogue.borrow(), pointwise_epilogue.borrow()];
        self.check(x, &weights, epilogues, y.len(), T::INITIALISED)?;
        let [depthwise, pointwise] = weights;
        let first = First {
            plan: self,
            input: x.as_ptr(),
            weights: depthwise.elements(),
            epilogue: epilogues[0],
        };
        let output = y.as_mut_ptr().cast();
        // SAFETY: checked; the call holds `y` exclusively, and the part is all of it.
        unsafe {
            let task = Task::new(&self.pointwise, x, pointwise, epilogues[1], output);
            if task.begin(&task.whole(), scratch)? {
                let operands = task.operands();
                separable::piece_by_piece(
                    &self.pointwise.layer,
                    operands,
                    &self.pieces,
                    task.whole(),
                    scratch,
                    |left, buffer, scratch| first.piece(left, buffer, scratch),
                );
                task.end(&task.whole(), epilogues[1].pass_with_parameter());
            }
        }
        let written = y.split_at_mut_checked(self.output_len()).map_or(&mut [][..], |(y, _)| y);
        // SAFETY: without gaps every element was written.
        Ok(unsafe { T::written(written, self.pointwise.output_has_no_gaps()) })
    }

    /// Checks a call as [`SeparablePlan::run`] does, for threads to share its work. Each tile has all
    /// channels of its pixels.
    ///
    /// # Errors
    /// As of [`SeparablePlan::run`], but for the scratch memory.
    pub fn job<'a, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        depthwise_weights: impl Into<Weights<'a>>,
        depthwise_epilogue: impl Borrow<Epilogue<'a>>,
        pointwise_weights: impl Into<Weights<'a>>,
        pointwise_epilogue: impl Borrow<Epilogue<'a>>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        let weights = [depthwise_weights.into(), pointwise_weights.into()];
        let epilogues = [depthwise_epilogue.borrow(), pointwise_epilogue.borrow()];
        self.check(x, &weights, epilogues, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the job holds `y` exclusively.
        unsafe {
            let [depthwise, pointwise] = weights;
            let before = self.before(depthwise.elements(), epilogues[0]);
            let task =
                Task::new(&self.pointwise, x, pointwise, epilogues[1], y.as_mut_ptr().cast());
            Ok(Job::new(task, Extra { before: Some(before), ..Extra::NONE }))
        }
    }

    /// Where its caller is, so that weights need not be in memory.
    #[inline(always)]
    fn check(
        &self,
        input: &[Element],
        weights: &[Weights; 2],
        epilogues: [&Epilogue; 2],
        output_len: usize,
        initialised: bool,
    ) -> Result<(), Error> {
        let [depthwise, pointwise] = [&self.depthwise, &self.pointwise];
        let of_depthwise = |error: Error| error.of(Stage::Depthwise);
        let of_pointwise = |error: Error| error.of(Stage::Pointwise);
        Error::check_len(Field::Input, self.input_len(), input.len())?;
        Error::check_len(Field::Output, self.output_len(), output_len)?;
        weights[0].check(depthwise).map_err(of_depthwise)?;
        weights[1].check(pointwise).map_err(of_pointwise)?;
        self.check_epilogues(epilogues, initialised)
    }

    /// In a function that has returned, and left the stack, when kernels run.
    #[inline(never)]
    fn check_epilogues(&self, epilogues: [&Epilogue; 2], initialised: bool) -> Result<(), Error> {
        let [depthwise, pointwise] = [&self.depthwise, &self.pointwise];
        let of_depthwise = |error: Error| error.of(Stage::Depthwise);
        let of_pointwise = |error: Error| error.of(Stage::Pointwise);
        if !matches!(epilogues[0].residual, Residual::None) {
            let error = Error::new(Field::ResidualBetween, Expected::NoResidual, Found::Residual);
            return Err(of_depthwise(error));
        }
        epilogues[0].check(depthwise.out_channels(), 0).map_err(of_depthwise)?;
        epilogues[1].check(pointwise.out_channels(), self.residual_len()).map_err(of_pointwise)?;
        epilogues[1].check_residual_of(initialised).map_err(of_pointwise)
    }
}

/// The depthwise layer of a call.
struct First<'a> {
    plan: &'a SeparablePlan,
    input: *const Element,
    weights: &'a [Element],
    epilogue: &'a Epilogue<'a>,
}

impl First<'_> {
    /// The first piece of the pixels that are left, in a function that has returned, and left the stack,
    /// when the pointwise layer is computed.
    ///
    /// # Safety
    /// As of [`Piece::depthwise`].
    #[inline(never)]
    unsafe fn piece(
        &self,
        left: Range<usize>,
        buffer: *mut Element,
        scratch: &mut [Element],
    ) -> (*mut Element, usize) {
        let First { plan, input, weights, epilogue } = *self;
        let piece = Piece::first(&plan.depthwise.layer, &plan.pieces, left, buffer);
        let before = plan.before(weights, epilogue);
        // SAFETY: as the caller vouches.
        unsafe {
            piece.depthwise(&before, plan.isa(), input, || epilogue.pass_with_parameter(), scratch)
        }
    }
}
