//! A transposed convolution as ordinary ones.
//!
//! Along an axis an input at `i` adds to the outputs `i * stride - padding + tap * dilation`. The
//! outputs `phase`, `phase + stride`, `phase + 2 * stride`, ... are a *phase*. All of them are met by
//! the same taps, those with `tap * dilation = phase + padding` modulo the stride: none, or a *class*
//! of taps, which are `stride / gcd(stride, dilation)` apart. From an output of a phase to the next
//! all taps move by one input. So a phase is a convolution without stride: its window is the class,
//! backwards, its dilation is `dilation / gcd(stride, dilation)`, and its outputs are `stride` apart.
//!
//! There are as many classes that have taps as the window has taps, at most, however many phases there
//! are; panels are packed class by class.

use super::Problem;
use super::arithmetic::{quotient, remainder, smaller};
use super::geometry::{Geometry, Operator};
use super::strides::Strides;
use super::weights::WeightStrides;

/// The phases of a transposed convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    axes: [Axis; 3],
}

#[derive(Clone, Copy, Debug)]
struct Axis {
    input: usize,
    output: usize,
    window: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    /// The greatest common divisor of stride and dilation.
    common: usize,
    /// From a tap of a class to the next: also the number of classes, those without taps included.
    apart: usize,
}

/// A phase that has taps, as an ordinary convolution.
pub(crate) struct Phase {
    pub problem: Problem,
    /// Its first input, in the tensor.
    pub first_input: usize,
    /// Taps of the classes that are packed before.
    pub taps_before: usize,
}

impl Axis {
    const fn of(geometry: &Geometry, axis: usize) -> Axis {
        let (stride, dilation) = (geometry.stride[axis], geometry.dilation[axis]);
        let common = common_divisor(stride, dilation);
        Axis {
            input: geometry.input[axis],
            output: geometry.output[axis],
            window: geometry.window[axis],
            stride,
            dilation,
            padding: geometry.padding[axis],
            common,
            apart: quotient(stride, common),
        }
    }

    /// Classes that have taps.
    const fn classes(&self) -> usize {
        smaller(self.apart, self.window)
    }

    /// The taps of a class that has any.
    const fn taps(&self, class: usize) -> usize {
        quotient(self.window - class - 1, self.apart) + 1
    }

    /// The taps of the classes before.
    const fn taps_before(&self, class: usize) -> usize {
        let longer = remainder(self.window, self.apart);
        class * quotient(self.window, self.apart) + smaller(class, longer)
    }

    /// Phases that have outputs.
    const fn phases(&self) -> usize {
        smaller(self.stride, self.output)
    }

    /// The outputs of a phase that are less than `end`.
    const fn outputs_before(&self, phase: usize, end: usize) -> usize {
        if end <= phase { 0 } else { quotient(end - phase - 1, self.stride) + 1 }
    }

    /// The class whose taps meet a phase.
    const fn class_of(&self, phase: usize) -> Option<usize> {
        let place = phase + self.padding;
        if remainder(place, self.common) != 0 {
            return None;
        }
        let place = remainder(quotient(place, self.common), self.apart);
        let step = remainder(quotient(self.dilation, self.common), self.apart);
        let class = multiply_modulo(place, inverse_modulo(step, self.apart), self.apart);
        if class < self.window { Some(class) } else { None }
    }

    /// Where the first output of a phase has the first tap of its window, in the input; negative in
    /// the padding.
    const fn window_start(&self, phase: usize, class: usize) -> isize {
        let last_tap = class + (self.taps(class) - 1) * self.apart;
        // A multiple of the stride.
        let (place, reach) = (phase + self.padding, last_tap * self.dilation);
        if place >= reach {
            quotient(place - reach, self.stride) as isize
        } else {
            -(quotient(reach - place, self.stride) as isize)
        }
    }
}

impl Phases {
    /// Of a transposed convolution.
    pub const fn of(geometry: &Geometry) -> Phases {
        Phases { axes: [Axis::of(geometry, 0), Axis::of(geometry, 1), Axis::of(geometry, 2)] }
    }

    /// Along each axis, the phases that have outputs.
    pub const fn counts(&self) -> [usize; 3] {
        let [d, h, w] = &self.axes;
        [d.phases(), h.phases(), w.phases()]
    }

    /// Whether there is one phase alone.
    pub const fn is_single(&self) -> bool {
        let [d, h, w] = &self.axes;
        d.stride == 1 && h.stride == 1 && w.stride == 1
    }

    /// Along each axis, the classes that have taps.
    pub const fn classes(&self) -> [usize; 3] {
        let [d, h, w] = &self.axes;
        [d.classes(), h.classes(), w.classes()]
    }

    /// From a tap of a class to the next.
    pub const fn taps_apart(&self) -> [usize; 3] {
        [self.axes[0].apart, self.axes[1].apart, self.axes[2].apart]
    }

    /// The window of a class.
    pub const fn window(&self, class: [usize; 3]) -> [usize; 3] {
        let [d, h, w] = &self.axes;
        [d.taps(class[0]), h.taps(class[1]), w.taps(class[2])]
    }

    /// The weights of a class, of those of the layer.
    pub const fn weights(&self, class: [usize; 3], layer: &WeightStrides) -> WeightStrides {
        let window = self.window(class);
        let mut last = [0; 3];
        let mut apart = [1; 3];
        let mut axis = 0;
        while axis < 3 {
            apart[axis] = self.axes[axis].apart;
            last[axis] = class[axis] + (window[axis] - 1) * apart[axis];
            axis += 1;
        }
        layer.reversed(last, apart)
    }

    /// The taps of the classes before this one, of which the last axis goes first.
    pub const fn taps_before(&self, class: [usize; 3]) -> usize {
        let [d, h, w] = &self.axes;
        let [depth, height, _] = self.window(class);
        d.taps_before(class[0]) * h.window * w.window
            + depth * h.taps_before(class[1]) * w.window
            + depth * height * w.taps_before(class[2])
    }

    /// The outputs of a phase, of those of the layer whose number is less than `pixel`.
    pub fn rank(&self, geometry: &Geometry, phase: [usize; 3], pixel: usize) -> usize {
        let (image, at) = geometry.pixel(pixel);
        let mut rank = image;
        // Whether the pixel's row, or plane, is one of the phase.
        let mut inside = true;
        for ((axis, phase), at) in self.axes.iter().zip(phase).zip(at) {
            let all = axis.outputs_before(phase, axis.output);
            let before = if inside { axis.outputs_before(phase, at) } else { 0 };
            rank = rank * all + before;
            inside &= at >= phase && remainder(at - phase, axis.stride) == 0;
        }
        rank
    }

    /// The number of an output, from its number among those of the first phase; behind the last of
    /// those, the number of all outputs.
    pub fn pixel(&self, geometry: &Geometry, rank: usize) -> usize {
        let mut rest = rank;
        let mut at = [0; 3];
        for (axis, at) in self.axes.iter().zip(&mut at).rev() {
            let count = axis.outputs_before(0, axis.output);
            *at = remainder(rest, count) * axis.stride;
            rest = quotient(rest, count);
        }
        let [_, height, width] = geometry.output;
        ((rest * geometry.output[0] + at[0]) * height + at[1]) * width + at[2]
    }

    /// A phase as a convolution; `None` where no tap meets an input.
    pub const fn phase(&self, layer: &Problem, phase: [usize; 3]) -> Option<Phase> {
        let mut class = [0; 3];
        let mut axis = 0;
        while axis < 3 {
            class[axis] = match self.axes[axis].class_of(phase[axis]) {
                Some(class) => class,
                None => return None,
            };
            axis += 1;
        }
        let mut outputs = [0; 3];
        let mut skipped = [0; 3];
        let mut padding = [0; 3];
        let mut axis = 0;
        while axis < 3 {
            let of = &self.axes[axis];
            outputs[axis] = of.outputs_before(phase[axis], of.output);
            let start = of.window_start(phase[axis], class[axis]);
            if start >= 0 {
                skipped[axis] = start as usize;
            } else {
                padding[axis] = start.unsigned_abs();
            }
            if skipped[axis] >= of.input {
                return None;
            }
            axis += 1;
        }
        let mut problem = self.convolution(layer, self.window(class), outputs);
        problem.weights = self.weights(class, &layer.weights);
        let geometry = &mut problem.geometry;
        geometry.padding = padding;
        geometry.padded = false;
        let mut axis = 0;
        while axis < 3 {
            geometry.input[axis] -= skipped[axis];
            geometry.padded |= geometry.is_padded(axis);
            axis += 1;
        }
        Some(Phase {
            problem: problem.tamed(),
            first_input: layer.input.place(skipped),
            taps_before: self.taps_before(class),
        })
    }

    /// The outputs of a phase along each axis.
    pub fn outputs(&self, phase: [usize; 3]) -> [usize; 3] {
        let [d, h, w] = &self.axes;
        [
            d.outputs_before(phase[0], d.output),
            h.outputs_before(phase[1], h.output),
            w.outputs_before(phase[2], w.output),
        ]
    }

    /// The outputs of a phase along a row in the columns before `end`.
    pub fn outputs_before(&self, phase: usize, end: usize) -> usize {
        self.axes[2].outputs_before(phase, end)
    }

    /// Where a phase begins in the output.
    pub const fn first_output(&self, layer: &Problem, phase: [usize; 3]) -> usize {
        layer.output.place(phase)
    }

    /// A convolution that stands for the phases with such a window and so many outputs: what can be
    /// known of them before they are run.
    pub const fn convolution(
        &self,
        layer: &Problem,
        window: [usize; 3],
        outputs: [usize; 3],
    ) -> Problem {
        let mut problem = *layer;
        let geometry = &mut problem.geometry;
        geometry.operator = Operator::Convolution;
        geometry.output = outputs;
        geometry.window = window;
        geometry.stride = [1; 3];
        geometry.padding = [0; 3];
        let mut axis = 0;
        while axis < 3 {
            let of = &self.axes[axis];
            geometry.dilation[axis] =
                if window[axis] == 1 { 1 } else { quotient(of.dilation, of.common) };
            axis += 1;
        }
        geometry.padded = true;
        let Strides { depth, row, pixel, .. } = &mut problem.output;
        *depth = depth.wrapping_mul(self.axes[0].stride);
        *row = row.wrapping_mul(self.axes[1].stride);
        *pixel = pixel.wrapping_mul(self.axes[2].stride);
        problem
    }

    /// The two windows and the two numbers of outputs that phases may have along an axis, the larger
    /// one first; 0 where there is no second.
    pub const fn extents(&self, axis: usize) -> ([usize; 2], [usize; 2]) {
        let of = &self.axes[axis];
        (shares(of.window, of.apart), shares(of.output, of.stride))
    }
}

/// What parts hold of `count` things that are dealt out to them in turn.
const fn shares(count: usize, parts: usize) -> [usize; 2] {
    let (all, rest) = (quotient(count, parts), remainder(count, parts));
    if rest == 0 { [all, 0] } else { [all + 1, all] }
}

const fn common_divisor(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, remainder(a, b));
    }
    a
}

/// What gives 1 when it is multiplied by `a` modulo `modulus`, of numbers without a common divisor.
const fn inverse_modulo(a: usize, modulus: usize) -> usize {
    // Euclid's algorithm; factors stay below the modulus, which is a size.
    let (mut rest, mut next) = (a as isize, modulus as isize);
    let (mut factor, mut next_factor) = (1_isize, 0_isize);
    while next > 0 {
        let times = match rest.checked_div(next) {
            Some(times) => times,
            None => 0,
        };
        (rest, next) = (next, rest - times * next);
        (factor, next_factor) = (next_factor, factor - times * next_factor);
    }
    if factor < 0 { (factor + modulus as isize) as usize } else { factor as usize }
}

/// Twice as wide as a size.
#[cfg(target_pointer_width = "64")]
type Wide = u128;
#[cfg(not(target_pointer_width = "64"))]
type Wide = u64;

const fn multiply_modulo(a: usize, b: usize, modulus: usize) -> usize {
    if a <= 1 || b <= 1 {
        return remainder(a * b, modulus);
    }
    match (a as Wide * b as Wide).checked_rem(modulus as Wide) {
        Some(rest) => rest as usize,
        None => 0,
    }
}
