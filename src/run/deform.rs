//! Running the plan of a deformable convolution: the calls of a plan, with offsets and a mask.

use super::output::OutputElement;
use super::task::Task;
use super::tiles::Job;
use super::weights::Weights;
use crate::compute::layer::Extra;
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Expected, Field, Found};
use crate::plan::deform::DeformPlan;

impl DeformPlan {
    /// Computes the whole output. All slices are in the plan's layout, see [`DeformPlan`], and may be
    /// longer than it says; `scratch` has [`scratch_len`](DeformPlan::scratch_len) elements. `mask` is
    /// given if the layer is [modulated](crate::DeformConv2d::modulated).
    ///
    /// # Errors
    /// As of [`Plan::run`](crate::Plan::run); offsets or a mask that are too short; a mask that is missing
    /// or that the layer does not have. The output is then untouched.
    #[allow(clippy::too_many_arguments)]
    pub fn run<'a, 'y, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        offsets: &'a [Element],
        mask: Option<&'a [Element]>,
        weights: impl Into<Weights<'a>>,
        epilogue: Epilogue<'a>,
        scratch: &mut [Element],
        y: &'y mut [T],
    ) -> Result<T::Written<'y>, Error> {
        let (plan, weights) = (&self.plan, weights.into());
        self.check_offsets(offsets, mask)?;
        Task::check(plan, x, &weights, &epilogue, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the call holds `y` exclusively.
        let task = unsafe { Task::new(plan, x, weights, &epilogue, y.as_mut_ptr().cast()) };
        // SAFETY: all of the output, which nobody else can access.
        unsafe { task.run_part(&extra(offsets, mask), task.whole(), scratch)? };
        let written = y.split_at_mut_checked(self.output_len()).map_or(&mut [][..], |(y, _)| y);
        // SAFETY: without gaps every element was written.
        Ok(unsafe { T::written(written, plan.output_has_no_gaps()) })
    }

    /// Checks a call as [`DeformPlan::run`] does, for threads to share its work.
    ///
    /// # Errors
    /// As of [`DeformPlan::run`], but for the scratch memory.
    pub fn job<'a, T: OutputElement>(
        &'a self,
        x: &'a [Element],
        offsets: &'a [Element],
        mask: Option<&'a [Element]>,
        weights: impl Into<Weights<'a>>,
        epilogue: Epilogue<'a>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        let (plan, weights) = (&self.plan, weights.into());
        self.check_offsets(offsets, mask)?;
        Task::check(plan, x, &weights, &epilogue, y.len(), T::INITIALISED)?;
        // SAFETY: checked; the job holds `y` exclusively.
        unsafe {
            let task = Task::new(plan, x, weights, &epilogue, y.as_mut_ptr().cast());
            Ok(Job::new(task, extra(offsets, mask)))
        }
    }

    pub(crate) fn check_offsets(
        &self,
        offsets: &[Element],
        mask: Option<&[Element]>,
    ) -> Result<(), Error> {
        Error::check_len(Field::Offsets, self.offsets_len(), offsets.len())?;
        match mask {
            None if self.is_modulated() => {
                Err(Error::new(Field::Modulation, Expected::Mask, Found::NoMask))
            }
            Some(_) if !self.is_modulated() => {
                Err(Error::new(Field::Modulation, Expected::NoMask, Found::Mask))
            }
            None => Ok(()),
            Some(mask) => Error::check_len(Field::Mask, self.mask_len(), mask.len()),
        }
    }
}

/// What moves the taps, of the lengths of the plan; the mask is one if the plan is modulated.
fn extra<'a>(offsets: &'a [Element], mask: Option<&'a [Element]>) -> Extra<'a> {
    Extra {
        offsets: offsets.as_ptr(),
        mask: mask.map_or(core::ptr::null(), <[Element]>::as_ptr),
        before: None,
    }
}
