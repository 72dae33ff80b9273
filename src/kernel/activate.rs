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
use crate::simd::{Body, Simd};
use core::marker::PhantomData;
use core::ops::Range;

/// Applies a function to a part of the output of a problem in its simplest form.
///
/// # Safety
/// The machine has the instruction set; the part lies inside the output and was written, and nobody
/// else accesses its elements meanwhile; a parameter for each channel is one for each of the output.
pub(crate) type Activate = unsafe fn(&Problem, Isa, &Parameter, output: *mut Element, part: &Part);

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
        Activation::HardSigmoid => Some(pass::<HardSigmoid>),
        Activation::Sigmoid => Some(pass::<Sigmoid>),
        Activation::Silu => Some(pass::<Silu>),
        Activation::Tanh => Some(pass::<Tanh>),
        Activation::Gelu => Some(pass::<Gelu>),
        Activation::GeluTanh => Some(pass::<GeluTanh>),
        Activation::Elu { .. } => Some(pass::<Elu>),
        Activation::None
        | Activation::Relu
        | Activation::Clamp { .. }
        | Activation::LeakyRelu { .. }
        | Activation::HardSwish => None,
    }
}

/// The pass of PReLU with a slope for each channel.
pub(crate) const PRELU: Activate = pass::<Prelu>;

/// # Safety
/// As of [`Activate`].
unsafe fn pass<F: Function>(
    problem: &Problem,
    isa: Isa,
    parameter: &Parameter,
    output: *mut Element,
    part: &Part,
) {
    let function = PhantomData::<F>;
    // SAFETY: the caller vouches for the instruction set.
    unsafe { enter(isa, Pass { problem, parameter: *parameter, output, part, function }) }
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
        let mut run = 0;
        while run < runs.count {
            let start = self.output.wrapping_add(runs.first + run * runs.step);
            let mut parameter = simd.splat(match self.parameter {
                Parameter::Same(value) => value,
                // SAFETY: the channel is one of the part.
                Parameter::OfChannels(values) if runs.of_a_channel => unsafe {
                    *values.wrapping_add(runs.channel + run)
                },
                Parameter::OfChannels(_) => 0.0,
            });
            let mut at = 0;
            while at < runs.len {
                let count = S::LANES.min(runs.len - at);
                if F::PER_CHANNEL
                    && !runs.of_a_channel
                    && let Parameter::OfChannels(values) = self.parameter
                {
                    // SAFETY: the channels are some of the part.
                    parameter =
                        unsafe { simd.load_first(values.wrapping_add(runs.channel + at), count) };
                }
                // SAFETY: these elements are some of the part, which the caller vouches for.
                unsafe { vector::<S, F>(simd, start, at, runs.lane_step, count, parameter) };
                at += S::LANES;
            }
            run += 1;
        }
    }
}

/// Applies the function to `count` elements from element `at` of a run on.
///
/// # Safety
/// They can be read and written.
#[inline(always)]
unsafe fn vector<S: Simd, F: Function>(
    simd: S,
    start: *mut Element,
    at: usize,
    step: usize,
    count: usize,
    parameter: S::V,
) {
    let p = start.wrapping_add(at * step);
    // SAFETY: the caller vouches for the elements.
    unsafe {
        if step == 1 && count == S::LANES {
            simd.store(p, simd.canonical(F::of(simd, simd.load(p), parameter)));
        } else if step == 1 {
            let v = simd.load_first(p, count);
            simd.store_first(p, simd.canonical(F::of(simd, v, parameter)), count);
        } else {
            let v = simd.load_strided(p, step as isize, 0, count);
            let v = simd.canonical(F::of(simd, v, parameter));
            let mut lanes = [0.0; crate::simd::MOST_LANES];
            simd.store(lanes.as_mut_ptr(), v);
            for (lane, value) in lanes.iter().enumerate().take(count) {
                *p.wrapping_add(lane * step) = *value;
            }
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
