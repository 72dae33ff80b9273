//! Running a plan: at once, or as disjoint pieces that any threads compute in any order.

pub(crate) mod deform;
pub(crate) mod output;
mod separable;
pub(crate) mod task;
pub(crate) mod tiles;
pub(crate) mod weights;

use crate::compute::layer::Extra;
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::plan::Plan;
use core::borrow::Borrow;
use output::OutputElement;
use task::Task;
use tiles::Job;
use weights::Weights;

impl Plan {
    /// Computes the whole output: `activation(conv(x) + bias + residual)`.
    ///
    /// `x`, `y` and the residual are in the plan's layout and strides, and may be longer than
    /// [`input_len`](Plan::input_len), [`output_len`](Plan::output_len) and
    /// [`residual_len`](Plan::residual_len). `scratch` has [`scratch_len`](Plan::scratch_len)
    /// elements; what it holds does not matter. The epilogue may be a reference to one. The bits of the
    /// result are those that [`crate::numerics`] defines. It is given back as the initialised slice:
    /// [`OutputElement`] says when.
    ///
    /// # Errors
    /// Slices that are too short, weights of another layer or in another form than the plan takes,
    /// bounds of a clamp that are NaN or out of order, a residual from an output that is not
    /// initialised. The output is then untouched.
    pub fn run<'a, 'y, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        weights: impl Into<Weights<'a>>,
        epilogue: impl Borrow<Epilogue<'a>>,
        scratch: &mut [Element],
        y: &'y mut [T],
    ) -> Result<T::Written<'y>, Error> {
        let (weights, epilogue) = (weights.into(), epilogue.borrow());
        Task::check(self, x, &weights, epilogue, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the call holds `y` exclusively.
        let task = unsafe { Task::new(self, x, weights, epilogue, y.as_mut_ptr().cast()) };
        // SAFETY: all of the output, which nobody else can access.
        unsafe {
            let whole = task.whole();
            if task.begin(&whole, scratch)? {
                task.compute(&Extra::NONE, &whole, scratch);
                task.end(&whole, epilogue.pass_with_parameter());
            }
        }
        let written = y.split_at_mut_checked(self.output_len()).map_or(&mut [][..], |(y, _)| y);
        // SAFETY: without gaps every element was written.
        Ok(unsafe { T::written(written, self.output_has_no_gaps()) })
    }

    /// Checks a call as [`Plan::run`] does, for threads to share its work.
    ///
    /// # Errors
    /// As of [`Plan::run`], but for the scratch memory.
    pub fn job<'a, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        weights: impl Into<Weights<'a>>,
        epilogue: impl Borrow<Epilogue<'a>>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        let (weights, epilogue) = (weights.into(), epilogue.borrow());
        Task::check(self, x, &weights, epilogue, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the job holds `y` exclusively.
        Ok(unsafe {
            let task = Task::new(self, x, weights, epilogue, y.as_mut_ptr().cast());
            Job::new(task, Extra::NONE)
        })
    }
}
