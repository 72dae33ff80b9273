//! Running a depthwise layer and a pointwise one in one pass.

use super::output::OutputElement;
use super::task::Task;
use super::tiles::Job;
use super::weights::Weights;
use crate::compute::layer::Extra;
use crate::element::Element;
use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Expected, Field, Found, Stage};
use crate::plan::separable::SeparablePlan;

impl SeparablePlan {
    /// Computes the whole output: `activation(pointwise(activation(depthwise(x) + bias)) + bias +
    /// residual)`, each layer with its own bias and activation, and with the bits of
    /// [`Plan::run`](crate::Plan::run) for the one after that for the other.
    ///
    /// `x`, `y` and the residual are in the plan's layout and strides, and may be longer than
    /// [`input_len`](SeparablePlan::input_len), [`output_len`](SeparablePlan::output_len) and
    /// [`residual_len`](SeparablePlan::residual_len). `scratch` has
    /// [`scratch_len`](SeparablePlan::scratch_len) elements; what it holds does not matter.
    ///
    /// # Errors
    /// As of [`Plan::run`](crate::Plan::run), with the [`Stage`] of weights and epilogues; a residual
    /// in the depthwise epilogue. The output is then untouched.
    #[allow(clippy::too_many_arguments)] // those of two layers
    pub fn run<'a, 'y, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        depthwise_weights: impl Into<Weights<'a>>,
        depthwise_epilogue: Epilogue<'a>,
        pointwise_weights: impl Into<Weights<'a>>,
        pointwise_epilogue: Epilogue<'a>,
        scratch: &mut [Element],
        y: &'y mut [T],
    ) -> Result<T::Written<'y>, Error> {
        let weights = [depthwise_weights.into(), pointwise_weights.into()];
        let epilogues = [&depthwise_epilogue, &pointwise_epilogue];
        self.check(x, &weights, epilogues, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the call holds `y` exclusively.
        let (task, extra) = unsafe { self.task(x, weights, epilogues, y.as_mut_ptr().cast()) };
        // SAFETY: all of the output, which nobody else can access.
        unsafe { task.run_part(&extra, task.whole(), scratch)? };
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
        depthwise_epilogue: Epilogue<'a>,
        pointwise_weights: impl Into<Weights<'a>>,
        pointwise_epilogue: Epilogue<'a>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        let weights = [depthwise_weights.into(), pointwise_weights.into()];
        let epilogues = [&depthwise_epilogue, &pointwise_epilogue];
        self.check(x, &weights, epilogues, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the job holds `y` exclusively.
        unsafe {
            let (task, extra) = self.task(x, weights, epilogues, y.as_mut_ptr().cast());
            Ok(Job::new(task, extra))
        }
    }

    /// In a function that has returned, and left the stack, when kernels run.
    #[inline(never)]
    fn check(
        &self,
        input: &[Element],
        weights: &[Weights; 2],
        epilogues: [&Epilogue; 2],
        output_len: usize,
        initialised: bool,
    ) -> Result<(), Error> {
        let [depthwise, pointwise] = [&self.depthwise, &self.pointwise];
        Error::check_len(Field::Input, self.input_len(), input.len())?;
        Error::check_len(Field::Output, self.output_len(), output_len)?;
        let of_depthwise = |error: Error| error.of(Stage::Depthwise);
        let of_pointwise = |error: Error| error.of(Stage::Pointwise);
        weights[0].check(depthwise).map_err(of_depthwise)?;
        weights[1].check(pointwise).map_err(of_pointwise)?;
        if !matches!(epilogues[0].residual, Residual::None) {
            let error = Error::new(Field::ResidualBetween, Expected::NoResidual, Found::Residual);
            return Err(of_depthwise(error));
        }
        epilogues[0].check(depthwise.out_channels(), 0).map_err(of_depthwise)?;
        epilogues[1].check(pointwise.out_channels(), self.residual_len()).map_err(of_pointwise)?;
        epilogues[1].check_residual_of(initialised).map_err(of_pointwise)
    }

    /// # Safety
    /// As of [`Task::new`], with [`SeparablePlan::check`].
    unsafe fn task<'a>(
        &'a self,
        input: &'a [Element],
        [depthwise, pointwise]: [Weights<'a>; 2],
        epilogues: [&Epilogue<'a>; 2],
        output: *mut Element,
    ) -> (Task<'a>, Extra<'a>) {
        let [Epilogue { bias, function, pass, .. }, epilogue] = epilogues;
        let pass = pass.map(|pass| (pass, function.parameter()));
        let before = self.before(depthwise.elements(), *bias, function.fused(), pass);
        // SAFETY: as the caller vouches.
        let task = unsafe { Task::new(&self.pointwise, input, pointwise, epilogue, output) };
        (task, Extra { before: Some(before), ..Extra::NONE })
    }
}
