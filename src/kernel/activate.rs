//! Activations that need more than a comparison or two, and those with a parameter for each channel:
//! a pass of their own over a part of the output, right behind the kernel that wrote it, while it is
//! in a cache.
//!
//! ```text
//! lines of the part                          pixels that are a step apart in the output
//!   channels of the part, or pixels          whichever does not lie side by side
//!     run of pixels, or of channels          as vectors: load, function, canonical form, store
//! ```
//!
//! Runs that adjoin are one: of an output without gaps, channels last, that is all of the part, and in
//! planes all pixels of an image.
//!
//! The kernel ends its outputs without an activation, so in their canonical form, and a function of it
//! is the function of what it was. Canonical form changes the payload of a NaN, of which every function
//! makes a NaN again, and the sign of zero, which functions of zero keep as a sign of zero, or do not
//! see.

use super::functions::{Elu, Function, Gelu, GeluTanh, HardSigmoid, Prelu, Sigmoid, Silu, Tanh};
use super::part::Part;
use super::walk::Pixel;
use crate::activation::Activation;
use crate::element::Element;
use crate::isa::Isa;
use crate::panels;
use crate::problem::Problem;
use crate::problem::arithmetic::divide;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Strides;
use crate::simd::enter::enter;
use crate::simd::{Body, MOST_LANES, Simd};
use core::marker::PhantomData;
use core::ops::Range;

/// Applies a function to a part of the output of a problem.
///
/// # Safety
/// The machine has the instruction set; the part lies inside the output and was written, and nobody
/// else accesses its elements meanwhile; a parameter for each channel is one for each of the output.
pub(crate) type Activate = unsafe fn(&Problem, Isa, Parameter, output: *mut Element, part: &Part);

/// What a function takes besides the value.
#[derive(Clone, Copy)]
pub(crate) enum Parameter {
    /// The same for all, if any.
    Same(f32),
    /// One for each output channel.
    OfChannels(*const Element),
}

/// The pass of an activation, if it has one. An epilogue holds it as a function, so that programs
/// contain those of the activations that they name: where the argument is known to the compiler, so is
/// what is left of the `match`.
#[inline(always)]
pub(crate) const fn pass_of(activation: Activation) -> Option<Activate> {
    match activation {
        Activation::HardSigmoid => Some(passes::hard_sigmoid),
        Activation::Sigmoid => Some(passes::sigmoid),
        Activation::Silu => Some(passes::silu),
        Activation::Tanh => Some(passes::tanh),
        Activation::Gelu => Some(passes::gelu),
        Activation::GeluTanh => Some(passes::gelu_tanh),
        Activation::Elu { .. } => Some(passes::elu),
        Activation::None
        | Activation::Relu
        | Activation::Clamp { .. }
        | Activation::LeakyRelu { .. }
        | Activation::HardSwish => None,
    }
}

/// The pass of PReLU with a slope for each channel.
pub(crate) const PRELU: Activate = passes::prelu;

/// Not generic, so that they are compiled with this crate and not with the one that names them, which
/// may be one that is not optimised.
macro_rules! passes {
    ($($name:ident, $function:ident;)*) => {
        mod passes {
            $(
                /// # Safety
                /// As of [`super::Activate`].
                #[inline(never)]
                pub unsafe fn $name(
                    problem: &super::Problem,
                    isa: super::Isa,
                    parameter: super::Parameter,
                    output: *mut super::Element,
                    part: &super::Part,
                ) {
                    // SAFETY: as the caller's.
                    unsafe {
                        super::pass::<super::$function>(problem, isa, parameter, output, part);
                    }
                }
            )*
        }
    };
}

passes! {
    hard_sigmoid, HardSigmoid;
    sigmoid, Sigmoid;
    silu, Silu;
    tanh, Tanh;
    gelu, Gelu;
    gelu_tanh, GeluTanh;
    elu, Elu;
    prelu, Prelu;
}

/// # Safety
/// As of [`Activate`].
#[inline(always)]
unsafe fn pass<F: Function>(
    problem: &Problem,
    isa: Isa,
    parameter: Parameter,
    output: *mut Element,
    part: &Part,
) {
    let problem = &problem.outputs();
    let function = PhantomData::<F>;
    // SAFETY: the caller vouches for the instruction set.
    unsafe { enter(isa, Pass { problem, parameter, output, part, function }) }
}

struct Pass<'a, F> {
    problem: &'a Problem,
    parameter: Parameter,
    output: *mut Element,
    part: &'a Part,
    function: PhantomData<F>,
}

/// Runs of elements, and the channels of them.
struct Runs {
    /// Of the first element of the first run.
    first: usize,
    count: usize,
    /// From a run to the next.
    step: usize,
    /// Elements of a run.
    len: usize,
    /// From an element of a run to the next.
    lane_step: usize,
    /// Of the first element.
    channel: usize,
    /// Whether runs are channels, rather than their elements.
    of_a_channel: bool,
}

impl<F: Function> Body for Pass<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Problem { geometry, output: strides, .. } = self.problem;
        let channels = channels(geometry, &self.part.panels);
        let line = pixels_in_line(geometry, strides);
        let mut number = self.part.pixels.start;
        while number < self.part.pixels.end {
            let (_, place) = divide(number, line);
            let pixels = (line - place).min(self.part.pixels.end - number);
            let first = Pixel::of(geometry, number).output_offset(strides);
            let mut runs = Runs::of(strides, first, pixels, &channels);
            if !F::PER_CHANNEL && runs.step == runs.len * runs.lane_step {
                runs.len *= runs.count;
                runs.count = 1;
            }
            self.apply(simd, &runs);
            number += pixels;
        }
    }
}

impl Runs {
    /// Of so many pixels of a line, the first of which is at `first` with its channel 0.
    #[inline(always)]
    fn of(strides: &Strides, first: usize, pixels: usize, channels: &Range<usize>) -> Runs {
        let of_a_channel = strides.pixel == 1 || strides.channel != 1;
        let along_pixels = (pixels, strides.pixel);
        let along_channels = (channels.end - channels.start, strides.channel);
        let ((count, step), (len, lane_step)) = if of_a_channel {
            (along_channels, along_pixels)
        } else {
            (along_pixels, along_channels)
        };
        let channel = channels.start;
        let first = first + channel * strides.channel;
        Runs { first, count, step, len, lane_step, channel, of_a_channel }
    }
}

impl<F: Function> Pass<'_, F> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, runs: &Runs) {
        let parameter = self.parameter;
        let step = runs.lane_step;
        let mut run = 0;
        while run < runs.count {
            let start = self.output.wrapping_add(runs.first + run * runs.step);
            let mut at = 0;
            // The usual case, from memory to memory.
            while (step == 1 || S::LANES == 1) && at + S::LANES <= runs.len {
                let p = start.wrapping_add(at * step);
                // SAFETY: the caller vouches for the elements of the part, these among them, and for
                // parameters of its channels.
                unsafe {
                    let parameter = parameter.at::<S, F>(simd, runs, run, at, S::LANES);
                    simd.store(p, simd.canonical(F::of(simd, simd.load(p), parameter)));
                }
                at += S::LANES;
            }
            // What is left of a vector, or all of a run with gaps.
            while S::LANES > 1 && at < runs.len {
                let count = S::LANES.min(runs.len - at);
                let p = start.wrapping_add(at * step);
                // SAFETY: as above.
                unsafe {
                    let parameter = parameter.at::<S, F>(simd, runs, run, at, count);
                    let v = load_lanes(simd, p, step, count);
                    store_lanes(simd, p, step, count, simd.canonical(F::of(simd, v, parameter)));
                }
                at += S::LANES;
            }
            run += 1;
        }
    }
}

impl Parameter {
    /// Of `count` elements of a run, from element `at` on.
    ///
    /// # Safety
    /// If there is one for each channel, those of the runs can be read.
    #[inline(always)]
    unsafe fn at<S: Simd, F: Function>(
        self,
        simd: S,
        runs: &Runs,
        run: usize,
        at: usize,
        count: usize,
    ) -> S::V {
        match self {
            Parameter::Same(value) => simd.splat(value),
            // SAFETY: the caller vouches for these channels.
            Parameter::OfChannels(values) if F::PER_CHANNEL => unsafe {
                let values = values.wrapping_add(runs.channel);
                if runs.of_a_channel {
                    simd.splat(*values.wrapping_add(run))
                } else if count == S::LANES {
                    simd.load(values.wrapping_add(at))
                } else {
                    simd.load_first(values.wrapping_add(at), count)
                }
            },
            Parameter::OfChannels(_) => simd.splat(0.0),
        }
    }
}

/// `count` elements that are `step` apart.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn load_lanes<S: Simd>(simd: S, p: *const Element, step: usize, count: usize) -> S::V {
    // SAFETY: as the caller's.
    unsafe {
        if step == 1 {
            simd.load_first(p, count)
        } else {
            simd.load_strided(p, step as isize, 0, count)
        }
    }
}

/// The reverse.
///
/// # Safety
/// They can be written.
#[inline(always)]
unsafe fn store_lanes<S: Simd>(simd: S, p: *mut Element, step: usize, count: usize, v: S::V) {
    // SAFETY: the caller vouches for the elements; `lanes` holds a vector.
    unsafe {
        if step == 1 {
            return simd.store_first(p, v, count);
        }
        let mut lanes = [0.0; MOST_LANES];
        simd.store(lanes.as_mut_ptr(), v);
        for (lane, value) in lanes.iter().enumerate().take(count) {
            *p.wrapping_add(lane * step) = *value;
        }
    }
}

/// The output channels of panels.
#[inline(always)]
fn channels(geometry: &Geometry, panels: &Range<usize>) -> Range<usize> {
    let (first, _) = panels::channels(geometry, panels.start);
    let (last, count) = panels::channels(geometry, panels.end - 1);
    first..last + count
}

/// How many pixels follow each other by one step, from the first one on and from each of its
/// multiples: a row of the output, or all of its rows, planes or images if they adjoin.
#[inline(always)]
fn pixels_in_line(geometry: &Geometry, strides: &Strides) -> usize {
    let [depth, height, width] = geometry.output;
    let outer = [(height, strides.row), (depth, strides.depth), (geometry.batch, strides.batch)];
    let mut pixels = width;
    for (extent, stride) in outer {
        if extent > 1 && stride != pixels.wrapping_mul(strides.pixel) {
            break;
        }
        pixels *= extent;
    }
    pixels
}
