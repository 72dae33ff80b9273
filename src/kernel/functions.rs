//! Activations on vectors: the definitions of [`numerics`] line by line, with the operations of
//! [`Simd`]. Not in their canonical form yet.

#[cfg(doc)]
use crate::numerics;
use crate::numerics::functions::{
    EXPONENTIAL, GELU_TANH, LARGEST_LOGIT, LARGEST_SIZE, LARGEST_WITH_ONE, LEAST_LOGIT,
    LEAST_LOGIT_OF_GELU, LN_2, LOG2_E, SCALE, SCALE_EXPONENT, TAIL, WHOLE,
};
use crate::simd::Simd;

/// A function of an output. Types, so that a program contains those that it names.
pub(super) trait Function {
    /// Whether it takes a parameter for each channel.
    const PER_CHANNEL: bool = false;

    /// Of each lane; `parameter` is what the function takes besides, if it does.
    fn of<S: Simd>(simd: S, v: S::V, parameter: S::V) -> S::V;
}

pub(super) enum Prelu {}

impl Function for Prelu {
    const PER_CHANNEL: bool = true;

    /// As of [`crate::Activation::LeakyRelu`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, slope: S::V) -> S::V {
        simd.select_less(simd.splat(0.0), v, v, simd.mul(v, slope))
    }
}

pub(super) enum HardSigmoid {}

impl Function for HardSigmoid {
    /// [`numerics::hard_sigmoid`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        let sum = simd.add(v, simd.splat(3.0));
        let clamped = simd.smaller(simd.splat(6.0), simd.larger(simd.splat(0.0), sum));
        simd.div(clamped, simd.splat(6.0))
    }
}

pub(super) enum Sigmoid {}

impl Function for Sigmoid {
    /// [`numerics::sigmoid`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        gated(simd, simd.splat(1.0), v, LEAST_LOGIT)
    }
}

pub(super) enum Silu {}

impl Function for Silu {
    /// [`numerics::silu`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        gated(simd, v, v, LEAST_LOGIT)
    }
}

pub(super) enum Tanh {}

impl Function for Tanh {
    /// [`numerics::tanh`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        let size = simd.larger(v, simd.negative(v));
        let y = simd.mul(size, simd.splat(-2.0));
        let y = simd.larger(simd.splat(-20.0), y);
        let (power, rest) = exponential(simd, y, 0.0);
        let less_one = simd.add(power, simd.splat(-1.0));
        let and_one = simd.add(power, simd.splat(1.0));
        let quotient = simd.div(simd.fma(power, rest, less_one), simd.fma(power, rest, and_one));
        simd.select_less(v, simd.splat(0.0), quotient, simd.negative(quotient))
    }
}

pub(super) enum Elu {}

impl Function for Elu {
    /// [`numerics::elu`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, alpha: S::V) -> S::V {
        let y = simd.larger(simd.splat(-32.0), v);
        let (power, rest) = exponential(simd, y, 0.0);
        let less_one = simd.add(power, simd.splat(-1.0));
        let below = simd.mul(simd.fma(power, rest, less_one), alpha);
        simd.select_less(simd.splat(0.0), v, v, below)
    }
}

pub(super) enum Gelu {}

impl Function for Gelu {
    /// [`numerics::gelu`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        let size = simd.larger(v, simd.negative(v));
        let size = simd.smaller(simd.splat(LARGEST_SIZE), size);
        let y = simd.mul(size, simd.splat(0.5));
        let y = simd.mul(y, size);
        let (power, rest) = exponential(simd, y, 0.0);
        let growth = simd.fma(power, rest, power);
        let p = polynomial(simd, size, &TAIL.0);
        let q = polynomial(simd, size, &TAIL.1);
        let below = simd.div(p, simd.mul(q, growth));
        let above = simd.add(simd.splat(1.0), simd.negative(below));
        simd.mul(v, simd.select_less(v, simd.splat(0.0), below, above))
    }
}

pub(super) enum GeluTanh {}

impl Function for GeluTanh {
    /// [`numerics::gelu_tanh`].
    #[inline(always)]
    fn of<S: Simd>(simd: S, v: S::V, _: S::V) -> S::V {
        let square = simd.mul(v, v);
        let factor = polynomial(simd, square, &GELU_TANH);
        gated(simd, v, simd.mul(v, factor), LEAST_LOGIT_OF_GELU)
    }
}

/// [`numerics::exponential`].
#[inline(always)]
fn exponential<S: Simd>(simd: S, y: S::V, exponent: f32) -> (S::V, S::V) {
    let whole = WHOLE + exponent;
    let shifted = simd.fma(y, simd.splat(LOG2_E), simd.splat(whole));
    let n = simd.add(shifted, simd.splat(-whole));
    let r = simd.fma(n, simd.splat(-LN_2[0]), y);
    let r = simd.fma(n, simd.splat(-LN_2[1]), r);
    let p = polynomial(simd, r, &EXPONENTIAL);
    let square = simd.mul(r, r);
    (simd.low_bits_as_exponent(shifted), simd.fma(square, p, r))
}

/// Horner's scheme, from the highest power down.
#[inline(always)]
fn polynomial<S: Simd, const TERMS: usize>(simd: S, x: S::V, factors: &[f32; TERMS]) -> S::V {
    let mut sum = simd.splat(factors[0]);
    let mut term = 1;
    while term < TERMS {
        sum = simd.fma(sum, x, simd.splat(factors[term]));
        term += 1;
    }
    sum
}

/// [`numerics::gated`].
#[inline(always)]
fn gated<S: Simd>(simd: S, v: S::V, logit: S::V, least: f32) -> S::V {
    let y = simd.larger(simd.splat(-LARGEST_LOGIT), simd.negative(logit));
    let (power, rest) = exponential(simd, y, SCALE_EXPONENT);
    let with_one = simd.smaller(power, simd.splat(LARGEST_WITH_ONE));
    let near_one = simd.add(with_one, simd.splat(SCALE));
    let beyond = simd.add(power, simd.negative(with_one));
    let sum = simd.fma(power, rest, near_one);
    let sum = simd.add(sum, beyond);
    let infinity = simd.splat(f32::INFINITY);
    let sum = simd.select_less(logit, simd.splat(least), infinity, sum);
    let quotient = simd.div(v, sum);
    let quotient = simd.mul(quotient, simd.splat(SCALE));
    simd.select_less(simd.splat(LARGEST_LOGIT), logit, v, quotient)
}
