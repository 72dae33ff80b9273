//! Unfolding, as plain loops.

use super::windows::visit;
use crate::error::{Error, Field};
use crate::op::unfold::UnfoldPlan;

/// Computes what [`UnfoldPlan::run`] computes.
///
/// ```
/// use tapwise::{Layout, Unfold2d, reference};
/// let plan = Unfold2d::new([1, 2]).plan(Layout::Nchw, 1, 1, [1, 3])?;
/// let mut y = [0.0; 4];
/// reference::unfold(&plan, &[1.0, 2.0, 3.0], &mut y)?;
/// assert_eq!(y, [1.0, 2.0, 2.0, 3.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`UnfoldPlan::run`].
pub fn unfold(plan: &UnfoldPlan, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    Error::check_len(Field::Input, plan.input_len(), x.len())?;
    Error::check_len(Field::Output, plan.output_len(), y.len())?;
    visit(plan.windows(), |column, pixel| y[column] = pixel.map_or(0.0, |pixel| x[pixel]));
    Ok(())
}
