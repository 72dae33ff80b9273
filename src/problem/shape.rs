//! The shape of a tensor, as users see it.

use core::ops::Deref;

/// The extents of a tensor in the order in which they lie in memory: batch, channels, then depth,
/// height and width, as many of these as the layer has; with channels last, the channels behind.
/// It is used as the slice that it stands for.
///
/// ```
/// use tapwise::{Conv2d, Layout};
/// let plan = Conv2d::new(3, 32, [3, 3]).padding_same().plan(Layout::Nhwc, 1, [96, 64])?;
/// assert_eq!(*plan.input_shape(), [1, 96, 64, 3]);
/// assert_eq!(plan.output_shape().iter().product::<usize>(), plan.output_len());
/// # Ok::<(), tapwise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    extents: [usize; 5],
    rank: usize,
}

impl Shape {
    /// With the last `dimensions` of `size`.
    pub(crate) const fn new(
        batch: usize,
        channels: usize,
        size: [usize; 3],
        dimensions: usize,
        channels_last: bool,
    ) -> Shape {
        let mut extents = [0; 5];
        extents[0] = batch;
        let (first, at) = if channels_last { (1, dimensions + 1) } else { (2, 1) };
        extents[at] = channels;
        let mut axis = 0;
        while axis < dimensions {
            extents[first + axis] = size[3 - dimensions + axis];
            axis += 1;
        }
        Shape { extents, rank: dimensions + 2 }
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        self.extents.get(..self.rank).unwrap_or(&[])
    }
}
