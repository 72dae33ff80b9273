//! Numbers of a network: what its layers cost, and what an output sees.

use super::conv::Conv;
use crate::error::{Error, Field};
use crate::problem::Problem;
use crate::problem::arithmetic::{add, mul, tri};
use crate::problem::strides::Layout;

impl<const D: usize> Conv<D> {
    /// The nominal multiply-adds of the layer on `batch` images of that `size`, those of
    /// [`Plan::macs`](crate::Plan::macs): taps on padding are counted, biases are not.
    ///
    /// ```
    /// use tapwise::Conv2d;
    /// let dense = Conv2d::new(32, 64, [3, 3]).padding_same();
    /// let depthwise = Conv2d::new(32, 32, [3, 3]).padding_same().groups(32);
    /// let pointwise = Conv2d::new(32, 64, [1, 1]);
    /// let separable = depthwise.macs(1, [112, 112])? + pointwise.macs(1, [112, 112])?;
    /// assert_eq!(dense.macs(1, [112, 112])?, 9 * 32 * 64 * 112 * 112);
    /// assert_eq!(separable, (9 + 64) * 32 * 112 * 112);
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Conv::plan`], scratch memory aside.
    pub const fn macs(&self, batch: usize, size: [usize; D]) -> Result<u128, Error> {
        let limit = isize::MAX as usize;
        let geometry = tri!(self.geometry(batch, size, limit));
        let problem = tri!(Problem::dense(geometry, Layout::Nchw, limit));
        tri!(problem.input_len());
        tri!(problem.output_len(&problem.output, Field::OutputElements));
        tri!(geometry.weights_len(problem.most_elements()));
        Ok(geometry.macs())
    }
}

/// What an output of a chain of layers sees of the chain's input: output `i` along an axis depends on
/// the `size` elements from `start + i * stride` on, and on no others. Where these lie outside of the
/// input they are padding, so `start` may be negative.
///
/// Source: Araujo, Norris and Sim, *Computing Receptive Fields of Convolutional Neural Networks*,
/// Distill 2019, <https://distill.pub/2019/computing-receptive-fields>: `size`, `stride` and `start`
/// are their `r0`, `S0` and `-P0`.
///
/// With dilation or a stride beyond the kernel there are elements between that are not seen; they
/// count.
///
/// ```
/// use tapwise::{Conv2d, Error, ReceptiveField};
/// const STEM: Conv2d = Conv2d::new(3, 64, [7, 7]).stride([2, 2]).padding([3, 3]);
/// const BODY: Conv2d = Conv2d::new(64, 64, [3, 3]).padding_same();
/// const fn field() -> Result<ReceptiveField<2>, Error> {
///     match ReceptiveField::INPUT.then(&STEM) {
///         Ok(field) => field.then(&BODY),
///         error => error,
///     }
/// }
/// const FIELD: ReceptiveField<2> = match field() {
///     Ok(field) => field,
///     Err(error) => error.panic(), // when it is compiled
/// };
/// assert_eq!((FIELD.size, FIELD.stride, FIELD.start), ([11, 11], [2, 2], [-5, -5]));
/// ```
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField<const D: usize> {
    /// The elements from the first to the last that an output sees, per axis.
    pub size: [usize; D],
    /// From the first element that an output sees to the first that its neighbour sees, per axis.
    pub stride: [usize; D],
    /// The first element that output 0 sees, per axis.
    pub start: [isize; D],
}

impl<const D: usize> ReceptiveField<D> {
    /// No layer: each element sees itself.
    pub const INPUT: Self = ReceptiveField { size: [1; D], stride: [1; D], start: [0; D] };

    /// With one more layer behind. Pooling has the field of a convolution with its window.
    ///
    /// # Errors
    /// As of [`Conv::plan`], so far as they do not depend on an input; [`Field::Stride`] if the layer
    /// has a stride with [`Conv::padding_same`], or with [`Conv::padding_same_tensorflow`], whose
    /// padding then depends on the input; [`Field::Reach`]: numbers that an `isize` cannot
    /// hold.
    pub const fn then(mut self, layer: &Conv<D>) -> Result<Self, Error> {
        let limit = isize::MAX as usize;
        let mut axis = 0;
        while axis < D {
            let [window, before, stride] = tri!(layer.window(axis));
            let field = Field::Reach(axis);
            let more = tri!(mul(window - 1, self.stride[axis], limit, field));
            let back = tri!(mul(before, self.stride[axis], limit, field));
            self.size[axis] = tri!(add(self.size[axis], more, limit, field));
            self.stride[axis] = tri!(mul(self.stride[axis], stride, limit, field));
            self.start[axis] = match self.start[axis].checked_sub(back as isize) {
                Some(start) => start,
                None => return Err(Error::overflow(field, limit)),
            };
            axis += 1;
        }
        Ok(self)
    }
}
