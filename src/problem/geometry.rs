//! The shape of a layer on an input, in three dimensions.

use super::arithmetic::{divide, mul, tri};
use crate::error::{Error, Field};

/// A layer on an input. Each field has passed the checks of [`Conv::plan`](crate::Conv::plan);
/// dimensions that a layer lacks are ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub in_per_group: usize,
    pub out_per_group: usize,
    pub input: [usize; 3],
    pub output: [usize; 3],
    /// The taps of the kernel along each axis.
    pub window: [usize; 3],
    pub stride: [usize; 3],
    pub dilation: [usize; 3],
    /// Zeros before the first element; of a transposed convolution, outputs that are left out.
    pub padding: [usize; 3],
    pub padding_mode: PaddingMode,
    /// Whether some output has a tap in the padding.
    pub padded: bool,
    pub operator: Operator,
    /// Whether the window is turned round along every axis.
    pub flipped: bool,
}

/// What a layer does with its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// Each output gathers the inputs of its window.
    Convolution,
    /// Each input is spread over the outputs of its window: the adjoint.
    Transposed,
    /// A convolution of each image with a window of its own.
    Correlation,
    /// Each output gathers samples between inputs, where offsets say: one for each tap and each of so
    /// many groups of input channels, which a mask multiplies if it is modulated.
    Deformable { offset_groups: usize, modulated: bool },
}

/// How the input continues in the padding: PyTorch's `padding_mode`.
///
/// Of `a b c d`, with a padding of 3:
///
/// ```text
/// Zeros      0 0 0 | a b c d | 0 0 0
/// Reflect    d c b | a b c d | c b a
/// Replicate  a a a | a b c d | d d d
/// Circular   b c d | a b c d | a b c
/// ```
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaddingMode {
    /// With zeros.
    #[default]
    Zeros,
    /// Mirrored at the first and the last element, which are not repeated; the padding of each side is
    /// less than the size.
    Reflect,
    /// With the first and the last element.
    Replicate,
    /// From the other side; the padding of each side is at most the size.
    Circular,
}

impl PaddingMode {
    /// The place of the input that stands at a place of the padded one; not of [`PaddingMode::Zeros`].
    pub(crate) fn source(self, padded: usize, before: usize, size: usize) -> usize {
        let Some(place) = padded.checked_sub(before) else {
            let outside = before - padded;
            return match self {
                PaddingMode::Reflect => outside,
                PaddingMode::Circular => size - outside,
                _ => 0,
            };
        };
        if place < size {
            return place;
        }
        match self {
            PaddingMode::Reflect => 2 * (size - 1) - place,
            PaddingMode::Circular => place - size,
            _ => size - 1,
        }
    }

    /// The most padding of a side, of an axis of that size.
    pub(crate) const fn most(self, size: usize) -> usize {
        match self {
            PaddingMode::Reflect => size - 1,
            PaddingMode::Circular => size,
            _ => usize::MAX,
        }
    }
}

impl Geometry {
    /// The taps of a window.
    pub const fn taps(&self) -> usize {
        self.window[0] * self.window[1] * self.window[2]
    }

    /// The multiply-adds of one output, padding included.
    pub const fn chain(&self) -> usize {
        self.in_per_group * self.taps()
    }

    /// The pixels of the output, all images together.
    pub const fn pixels(&self) -> usize {
        self.batch * self.output[0] * self.output[1] * self.output[2]
    }

    /// The multiply-adds of all outputs, as is usual: those on padding are counted, and of a transposed
    /// convolution those of all taps with all inputs.
    pub const fn macs(&self) -> u128 {
        let (pixels, channels) = match self.operator {
            Operator::Transposed => (pixels(&self.input), self.in_channels * self.out_per_group),
            Operator::Convolution | Operator::Correlation | Operator::Deformable { .. } => {
                (pixels(&self.output), self.out_channels * self.in_per_group)
            }
        };
        self.batch as u128 * pixels * channels as u128 * self.taps() as u128
    }

    /// The image and the coordinates of an output pixel, from its number: row by row through all images.
    #[inline(always)]
    pub fn pixel(&self, number: usize) -> (usize, [usize; 3]) {
        let [depth, height, width] = self.output;
        let (rows, w) = divide(number, width);
        let (planes, h) = divide(rows, height);
        let (image, d) = divide(planes, depth);
        (image, [d, h, w])
    }

    /// From the first tap of a window to its last along an axis.
    pub const fn reach(&self, axis: usize) -> usize {
        (self.window[axis] - 1) * self.dilation[axis]
    }

    /// One input channel and one output channel to each group.
    pub const fn is_plain_depthwise(&self) -> bool {
        self.in_per_group == 1 && self.out_per_group == 1
    }

    /// Whether some output has a tap in the padding of that axis.
    pub const fn is_padded(&self, axis: usize) -> bool {
        let last = (self.output[axis] - 1) * self.stride[axis] + self.reach(axis);
        self.padding[axis] > 0 || last >= self.input[axis]
    }

    pub const fn weights_len(&self, limit: usize) -> Result<usize, Error> {
        let field = Field::WeightElements;
        let mut len = tri!(mul(self.out_channels, self.in_per_group, limit, field));
        let mut axis = 0;
        while axis < 3 {
            len = tri!(mul(len, self.window[axis], limit, field));
            axis += 1;
        }
        Ok(len)
    }
}

const fn pixels(size: &[usize; 3]) -> u128 {
    size[0] as u128 * size[1] as u128 * size[2] as u128
}
