//! What an output slice can hold.

use core::mem::MaybeUninit;

/// What an output slice can hold: `f32`, or `MaybeUninit<f32>` that a run initialises.
///
/// A run writes every element of the output, and nothing else: not the gaps between elements where
/// the output has strides of its own, nor what the slice has behind
/// [`output_len`](crate::Plan::output_len), nor tiles that are not run.
///
/// ```
/// use std::mem::MaybeUninit;
/// use tapwise::{Conv2d, Epilogue, Layout};
/// let plan = Conv2d::new(1, 1, [1, 1]).plan(Layout::Nhwc, 1, [2, 2])?;
/// let mut packed = vec![0.0; plan.packed_len()];
/// let weights = plan.pack(&[2.0], &mut packed)?;
/// let mut y = [MaybeUninit::uninit(); 4];
/// let y = plan.run(&[1.0, 2.0, 3.0, 4.0], weights, Epilogue::new(), &mut [], &mut y)?;
/// assert_eq!(y.expect("there are no gaps"), [2.0, 4.0, 6.0, 8.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
pub trait OutputElement: sealed::Sealed {
    /// What [`Plan::run`](crate::Plan::run) gives back: the first
    /// [`output_len`](crate::Plan::output_len) elements of the slice; of one that was not initialised
    /// only if there are no gaps among them.
    type Written<'y>;
}

impl OutputElement for f32 {
    type Written<'y> = &'y mut [f32];
}

impl OutputElement for MaybeUninit<f32> {
    type Written<'y> = Option<&'y mut [f32]>;
}

pub(crate) mod sealed {
    use super::OutputElement;
    use core::mem::MaybeUninit;

    /// # Safety
    /// Only for types with the layout of `f32`.
    pub unsafe trait Sealed: Sized {
        const INITIALISED: bool;

        /// # Safety
        /// All of them were written, if `all` says so.
        unsafe fn written<'y>(written: &'y mut [Self], all: bool) -> Self::Written<'y>
        where
            Self: OutputElement;
    }

    // SAFETY: it is `f32`.
    unsafe impl Sealed for f32 {
        const INITIALISED: bool = true;

        unsafe fn written(written: &mut [f32], _all: bool) -> &mut [f32] {
            written
        }
    }

    // SAFETY: `MaybeUninit<T>` has the layout of `T`.
    unsafe impl Sealed for MaybeUninit<f32> {
        const INITIALISED: bool = false;

        unsafe fn written(written: &mut [MaybeUninit<f32>], all: bool) -> Option<&mut [f32]> {
            // SAFETY: the same layout, and the caller vouches that all were written.
            all.then(|| unsafe { &mut *(core::ptr::from_mut(written) as *mut [f32]) })
        }
    }
}
