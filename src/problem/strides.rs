//! Where the elements of a tensor lie.

use super::arithmetic::{add, at_least_1, mul, tri};
use crate::error::{Error, Field, StrideOf};

/// The order of the dimensions in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels before pixels: NCL, NCHW, NCDHW. PyTorch's default.
    Nchw,
    /// Channels last: NLC, NHWC, NDHWC. TensorFlow's default, PyTorch's `channels_last`.
    Nhwc,
}

impl Layout {
    /// [`Layout::Nchw`] for 1-D layers.
    pub const NCL: Layout = Layout::Nchw;
    /// [`Layout::Nhwc`] for 1-D layers.
    pub const NLC: Layout = Layout::Nhwc;
    /// [`Layout::Nchw`] for 3-D layers.
    pub const NCDHW: Layout = Layout::Nchw;
    /// [`Layout::Nhwc`] for 3-D layers.
    pub const NDHWC: Layout = Layout::Nhwc;
}

/// The distance, in elements, between neighbours along each dimension. The stride of a dimension
/// that a tensor lacks, or of which it has one element, is never taken and may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From an image to the next.
    pub batch: usize,
    /// From a channel to the next.
    pub channel: usize,
    /// From a plane to the next (3-D layers).
    pub depth: usize,
    /// From a row to the next (2-D and 3-D layers).
    pub row: usize,
    /// From a pixel to the next in the row.
    pub pixel: usize,
}

impl Strides {
    /// As PyTorch's `Tensor.stride()` lists them whatever the layout: batch, channel, then depth,
    /// row, pixel, as many of these as the tensor has (`R` is 3, 4 or 5).
    ///
    /// ```
    /// use tapwise::Strides;
    /// let strides = Strides::new([1024, 1, 128, 16]); // of a 2-D tensor, channels last
    /// assert_eq!((strides.batch, strides.channel, strides.row, strides.pixel), (1024, 1, 128, 16));
    /// ```
    pub const fn new<const R: usize>(strides: [usize; R]) -> Strides {
        const { assert!(R >= 3 && R <= 5, "tensors have 1, 2 or 3 dimensions besides these two") };
        Strides {
            batch: strides[0],
            channel: strides[1],
            depth: if R > 4 { strides[R - 3] } else { 0 },
            row: if R > 3 { strides[R - 2] } else { 0 },
            pixel: strides[R - 1],
        }
    }

    /// Those of a tensor without gaps, such as one of which another is a slice.
    ///
    /// ```
    /// use tapwise::{Conv2d, Epilogue, Layout, Strides};
    /// // The output is channels 8 to 24 of a tensor of 40.
    /// let whole = Strides::dense(Layout::Nhwc, 40, [6, 6])?;
    /// let plan = Conv2d::new(3, 16, [1, 1]).plan(Layout::Nhwc, 1, [6, 6])?.with_output_strides(whole)?;
    /// let mut tensor = vec![0.0; 6 * 6 * 40];
    /// let y = &mut tensor[8..];
    /// # let (x, w) = (vec![1.0; plan.input_len()], vec![1.0; plan.weights_len()]);
    /// # let mut packed = vec![0.0; plan.packed_len()];
    /// # let weights = plan.pack(&w, &mut packed)?;
    /// plan.run(&x, weights, Epilogue::new(), &mut vec![0.0; plan.scratch_len()], y)?;
    /// assert_eq!(tensor[7..9], [0.0, 3.0]);
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Field::InputElements`]: more than the target can address.
    pub const fn dense<const D: usize>(
        layout: Layout,
        channels: usize,
        size: [usize; D],
    ) -> Result<Strides, Error> {
        const { assert!(D >= 1 && D <= 3, "tensors have 1, 2 or 3 dimensions") };
        let mut extents = [1; 3];
        let mut axis = 0;
        while axis < D {
            extents[3 - D + axis] = size[axis];
            axis += 1;
        }
        Strides::of_tensor(layout, channels, extents, usize::MAX, Field::InputElements)
    }

    /// Whether both put a tensor of that shape (batch, channels, and up to three more) at the same
    /// places: strides of dimensions of one element do not count.
    ///
    /// ```
    /// use tapwise::Strides;
    /// let (a, b) = (Strides::new([99, 1, 64, 8]), Strides::new([512, 1, 64, 8]));
    /// assert!(a.same_places(&b, [1, 8, 8, 8]) && !a.same_places(&b, [2, 8, 8, 8]));
    /// ```
    pub fn same_places<const R: usize>(&self, other: &Strides, shape: [usize; R]) -> bool {
        const { assert!(R >= 3 && R <= 5, "tensors have 1, 2 or 3 dimensions besides these two") };
        let mut size = [1; 3];
        size[5 - R..].copy_from_slice(&shape[2..]);
        let dims = self.dims(shape[0], shape[1], size);
        let others = other.dims(shape[0], shape[1], size);
        dims.into_iter().zip(others).all(|(a, b)| a.0 <= 1 || a.1 == b.1)
    }

    /// Where coordinates lie, at image 0 and channel 0. Wraps.
    pub(crate) const fn place(&self, [d, h, w]: [usize; 3]) -> usize {
        d.wrapping_mul(self.depth)
            .wrapping_add(h.wrapping_mul(self.row))
            .wrapping_add(w.wrapping_mul(self.pixel))
    }

    /// Those of a tensor without gaps, within `elements`.
    pub(crate) const fn of_tensor(
        layout: Layout,
        channels: usize,
        size: [usize; 3],
        elements: usize,
        field: Field,
    ) -> Result<Strides, Error> {
        let (channel, pixel) = match layout {
            Layout::Nchw => (0, 1),
            Layout::Nhwc => (1, channels),
        };
        let row = tri!(mul(size[2], pixel, elements, field));
        let depth = tri!(mul(size[1], row, elements, field));
        let volume = tri!(mul(size[0], depth, elements, field));
        Ok(match layout {
            Layout::Nchw => {
                let batch = tri!(mul(volume, channels, elements, field));
                Strides { batch, channel: volume, depth, row, pixel }
            }
            Layout::Nhwc => Strides { batch: volume, channel, depth, row, pixel },
        })
    }

    /// One more than the offset of the last element; 0 for a tensor without images, of which one
    /// has to be possible all the same.
    pub(crate) const fn reach(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
        elements: usize,
        field: Field,
    ) -> Result<usize, Error> {
        let dims = self.dims(at_least_1(batch), channels, size);
        let mut count = 1;
        let mut reach = 1;
        let mut at = 0;
        while at < dims.len() {
            let (extent, stride, _) = dims[at];
            count = tri!(mul(count, extent, elements, field));
            reach =
                tri!(add(reach, tri!(mul(extent - 1, stride, elements, field)), elements, field));
            at += 1;
        }
        Ok(if batch == 0 { 0 } else { reach })
    }

    /// No two elements share a place: from the smallest stride up, each one steps over
    /// everything that the smaller ones reach.
    pub(crate) const fn check_disjoint(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
    ) -> Result<(), Error> {
        let mut dims = self.dims(batch, channels, size);
        let mut sorted = 0;
        let mut reach = 0;
        while sorted < dims.len() {
            let mut least = sorted;
            let mut at = sorted + 1;
            while at < dims.len() {
                if dims[at].1 < dims[least].1 {
                    least = at;
                }
                at += 1;
            }
            (dims[sorted], dims[least]) = (dims[least], dims[sorted]);
            let (extent, stride, name) = dims[sorted];
            if extent > 1 {
                if stride <= reach {
                    return Err(Error::too_small(Field::OutputStride(name), reach + 1, stride));
                }
                reach += (extent - 1) * stride;
            }
            sorted += 1;
        }
        Ok(())
    }

    const fn dims(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
    ) -> [(usize, usize, StrideOf); 5] {
        [
            (batch, self.batch, StrideOf::Batch),
            (channels, self.channel, StrideOf::Channel),
            (size[0], self.depth, StrideOf::Depth),
            (size[1], self.row, StrideOf::Row),
            (size[2], self.pixel, StrideOf::Pixel),
        ]
    }
}
