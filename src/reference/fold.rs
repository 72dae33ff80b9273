//! Folding, as plain loops.

use super::windows::visit;
use crate::error::{Error, Field};
use crate::numerics::canonical;
use crate::op::fold::FoldPlan;

/// Computes what [`FoldPlan::run`] computes, column by column.
///
/// ```
/// use tapwise::{Fold2d, Layout, reference};
/// let plan = Fold2d::new([1, 2]).plan(Layout::Nchw, 1, 1, [1, 3])?;
/// let mut y = [0.0; 3];
/// reference::fold(&plan, &[1.0, 2.0, 2.0, 3.0], &mut y)?;
/// assert_eq!(y, [1.0, 4.0, 3.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`FoldPlan::run`].
pub fn fold(plan: &FoldPlan, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    Error::check_len(Field::Input, plan.input_len(), x.len())?;
    Error::check_len(Field::Output, plan.output_len(), y.len())?;
    let y = &mut y[..plan.output_len()];
    y.fill(0.0);
    visit(plan.windows(), |column, pixel| {
        if let Some(pixel) = pixel {
            y[pixel] += x[column];
        }
    });
    y.iter_mut().for_each(|value| *value = canonical(*value));
    Ok(())
}
