//! The simplest equal form of a problem, which is what kernels see.
//!
//! An axis is *plain* where the window has one tap and no output reads padding: it only says which
//! pixels there are. Its stride is taken up by the strides of the input, plain axes of one element
//! drop out, and plain axes that adjoin in memory, in the input as in the output, become one. So do
//! axes of one output whose taps adjoin. Images are an axis as well. A pointwise layer is then one
//! long row in either layout, whatever its image was.
//!
//! Neither the order of the pixels nor that of the taps changes, so nor does a bit of the output,
//! the packed weights, or what the number of a pixel means.

use super::Problem;
use super::geometry::Operator;
use super::strides::Strides;

/// An axis of a problem: of pixels, and of the taps of their windows.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    window: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    /// Whether some output has a tap in the padding.
    padded: bool,
    /// From an element to the next, in the input and in the output.
    input_step: usize,
    output_step: usize,
    /// From a tap to the next among weights that are not packed.
    weight_step: usize,
}

impl Axis {
    /// What a problem has in place of an axis that dropped out. Its steps are never taken, and are 1
    /// so that no product of them overflows.
    const NONE: Axis = Axis {
        input: 1,
        output: 1,
        window: 1,
        stride: 1,
        dilation: 1,
        padding: 0,
        padded: false,
        input_step: 1,
        output_step: 1,
        weight_step: 1,
    };

    /// Only pixels, no taps: one tap that every output has inside the input.
    const fn is_plain(&self) -> bool {
        self.window == 1 && !self.padded
    }

    /// Only taps, no pixels: one output that has every tap inside the input.
    const fn is_taps(&self) -> bool {
        self.output == 1 && !self.padded
    }

    /// Without what is never used.
    const fn tame(mut self) -> Axis {
        if self.is_plain() {
            self.input_step = self.input_step.wrapping_mul(self.stride);
            self.stride = 1;
            self.input = self.output;
        }
        if self.output == 1 {
            self.output_step = 1;
        }
        if self.input == 1 {
            self.input_step = 1;
        }
        self
    }

    /// Both as one, if they adjoin; `inner` is the faster.
    const fn merged(outer: &Axis, inner: &Axis) -> Option<Axis> {
        let tap_step = inner.input_step.wrapping_mul(inner.dilation);
        if outer.is_plain()
            && inner.is_plain()
            && outer.input_step == inner.input_step.wrapping_mul(inner.input)
            && outer.output_step == inner.output_step.wrapping_mul(inner.output)
        {
            let count = outer.output * inner.output;
            Some(Axis { input: count, output: count, ..*inner })
        } else if outer.is_taps()
            && inner.is_taps()
            && outer.input_step.wrapping_mul(outer.dilation) == tap_step.wrapping_mul(inner.window)
            && outer.weight_step == inner.weight_step.wrapping_mul(inner.window)
        {
            let window = outer.window * inner.window;
            match (window - 1).checked_mul(inner.dilation) {
                Some(reach) if reach < isize::MAX as usize / 2 => {
                    Some(Axis { input: reach + 1, window, ..*inner })
                }
                _ => None,
            }
        } else {
            None
        }
    }
}

impl Problem {
    /// The same problem with as few axes as possible, the last ones being used. Without images it is
    /// a problem of one image, for which there is a schedule.
    pub(crate) const fn simplest(&self) -> Problem {
        let axes = self.axes();
        // From the fastest axis to the slowest.
        let mut kept = [Axis::NONE; 3];
        let mut count = 0;
        let mut images = Axis::NONE;
        let mut from = axes.len();
        while from > 0 {
            from -= 1;
            let axis = axes[from].tame();
            if axis.is_plain() && axis.output == 1 {
                continue;
            }
            if count > 0
                && let Some(merged) = Axis::merged(&axis, &kept[count - 1])
            {
                kept[count - 1] = merged;
            } else if from == 0 && count > 0 {
                images = axis;
            } else {
                kept[count] = axis;
                count += 1;
            }
        }
        self.with_axes(&[images, kept[2], kept[1], kept[0]])
    }

    /// The outputs alone, with as few axes as possible: as of a layer that only copies.
    pub(crate) const fn outputs(&self) -> Problem {
        let mut problem = *self;
        let geometry = &mut problem.geometry;
        geometry.operator = Operator::Convolution;
        geometry.window = [1; 3];
        geometry.stride = [1; 3];
        geometry.dilation = [1; 3];
        geometry.padding = [0; 3];
        geometry.input = geometry.output;
        problem.input = problem.output;
        problem.simplest()
    }

    /// The same axes, each without what is never used.
    pub(crate) const fn tamed(&self) -> Problem {
        let [images, depth, row, pixel] = self.axes();
        self.with_axes(&[images.tame(), depth.tame(), row.tame(), pixel.tame()])
    }

    /// Images, depth, rows, pixels.
    const fn axes(&self) -> [Axis; 4] {
        let Problem { geometry, input, output, .. } = self;
        let mut axes = [Axis::NONE; 4];
        let images = if geometry.batch == 0 { 1 } else { geometry.batch };
        axes[0].input = images;
        axes[0].output = images;
        let input_steps = [input.batch, input.depth, input.row, input.pixel];
        let output_steps = [output.batch, output.depth, output.row, output.pixel];
        let mut at = 0;
        while at < 4 {
            if at > 0 {
                axes[at] = Axis {
                    input: geometry.input[at - 1],
                    output: geometry.output[at - 1],
                    window: geometry.window[at - 1],
                    stride: geometry.stride[at - 1],
                    dilation: geometry.dilation[at - 1],
                    padding: geometry.padding[at - 1],
                    padded: geometry.is_padded(at - 1),
                    weight_step: self.weights.taps[at - 1],
                    ..Axis::NONE
                };
            }
            axes[at].input_step = input_steps[at];
            axes[at].output_step = output_steps[at];
            at += 1;
        }
        axes
    }

    const fn with_axes(&self, axes: &[Axis; 4]) -> Problem {
        let mut problem = *self;
        let geometry = &mut problem.geometry;
        geometry.batch = axes[0].output;
        geometry.padded = false;
        let mut at = 0;
        while at < 3 {
            let axis = &axes[at + 1];
            geometry.input[at] = axis.input;
            geometry.output[at] = axis.output;
            geometry.window[at] = axis.window;
            geometry.stride[at] = axis.stride;
            geometry.dilation[at] = axis.dilation;
            geometry.padding[at] = axis.padding;
            geometry.padded |= axis.padded;
            problem.weights.taps[at] = axis.weight_step;
            at += 1;
        }
        let [images, depth, row, pixel] = axes;
        let one_in = geometry.in_channels == 1;
        let one_out = geometry.out_channels == 1;
        problem.input = Strides {
            batch: images.input_step,
            channel: if one_in { 1 } else { self.input.channel },
            depth: depth.input_step,
            row: row.input_step,
            pixel: pixel.input_step,
        };
        problem.output = Strides {
            batch: images.output_step,
            channel: if one_out { 1 } else { self.output.channel },
            depth: depth.output_step,
            row: row.output_step,
            pixel: pixel.output_step,
        };
        problem
    }
}
