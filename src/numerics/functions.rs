//! The functions that need an exponential, for scalars, step by step: part of the promise, so their
//! constants and the order of their operations are frozen.
//!
//! Each line is one operation that is rounded once, or [`exact`](low_bits_as_exponent). Every
//! comparison with a NaN is false, so a NaN passes through. Their results are canonical only after
//! [`canonical`](super::canonical).

use super::{clamp, fma};

/// `1 / ln 2`, rounded.
pub(crate) const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
/// `ln 2`, rounded, and what it lacks.
pub(crate) const LN_2: [f32; 2] = [f32::from_bits(0x3f31_7218), f32::from_bits(0xb102_e308)];
/// Among numbers of this size neighbours are 1 apart, so that a sum with it is rounded to a whole
/// number, which its low bits hold; those of this one are 127, the exponent of 1.
pub(crate) const WHOLE: f32 = 12_583_039.0; // 1.5 * 2^23 + 127
/// `(exp(r) - 1 - r) / r^2`, from its highest power down: on `|r| <= ln 2 / 2` the relative error of
/// `exp(r) - 1` is below `2^-26`.
pub(crate) const EXPONENTIAL: [f32; 5] = [
    f32::from_bits(0x3ab6_ac6d), // 1 / 720, about
    f32::from_bits(0x3c09_13d6), // 1 / 120
    f32::from_bits(0x3d2a_aa6f), // 1 / 24
    f32::from_bits(0x3e2a_aa58), // 1 / 6
    0.5,
];

/// Sums of exponentials are scaled by this, lest they overflow where a quotient is still a number.
pub(crate) const SCALE: f32 = 1.0 / 18_446_744_073_709_551_616.0; // 2^-64
/// The logarithm of [`SCALE`].
pub(crate) const SCALE_EXPONENT: f32 = -64.0;
/// Up to `2^23` a power of two and 1 have an exact sum; this is `2^23`, scaled.
pub(crate) const LARGEST_WITH_ONE: f32 = 8_388_608.0 * SCALE;
/// Above it a sigmoid is 1, by far.
pub(crate) const LARGEST_LOGIT: f32 = 40.0;
/// Below it a sigmoid, and that times its argument, is 0.
pub(crate) const LEAST_LOGIT: f32 = -110.0;
/// Below it the tanh form of GELU is 0 before it becomes subnormal, which many machines are slow at.
pub(crate) const LEAST_LOGIT_OF_GELU: f32 = -80.0;

/// `2 * sqrt(2 / pi)` times 0.044715, and times 1.
pub(crate) const GELU_TANH: [f32; 2] = [0.071_354_814, 1.595_769_2];

/// Here the denominator of a tail is infinite, and the tail 0; further out the power of its
/// exponential would be none.
pub(crate) const LARGEST_SIZE: f32 = 13.2;
/// `exp(a^2 / 2)` times the probability that a normal variable is below `-a`, for `a` up to 14: a
/// numerator and a denominator, from their highest powers down. The relative error of the quotient
/// is below `2^-26`.
pub(crate) const TAIL: ([f32; 5], [f32; 6]) = (
    [
        f32::from_bits(0x3b84_9ece),
        f32::from_bits(0x3d24_9739),
        f32::from_bits(0x3e3a_4a0b),
        f32::from_bits(0x3edf_84b8),
        0.5,
    ],
    [
        f32::from_bits(0x3c26_3679),
        f32::from_bits(0x3dce_4c4e),
        f32::from_bits(0x3eee_978f),
        f32::from_bits(0x3f99_3aeb),
        f32::from_bits(0x3fd5_e373),
        1.0,
    ],
);

/// The number whose sign and exponent are the low nine bits of `v`, and whose fraction is zero: of
/// `1.5 * 2^23 + 127 + n` that is `2^n`, for `n` from -126 to 127.
#[inline]
pub fn low_bits_as_exponent(v: f32) -> f32 {
    f32::from_bits(v.to_bits() << 23)
}

/// The one exponential: `(power, rest)` with `exp(y) * 2^exponent = power * (1 + rest)`, `power`
/// being a power of two and `rest` between -0.3 and 0.42, with a relative error of about `2^-24`.
///
/// `exponent` is whole, and `y / ln 2 + exponent` is from -126 to 127; for other `y` the result is
/// any two numbers. Cody and Waite's reduction, then a polynomial.
#[inline]
pub fn exponential(y: f32, exponent: f32) -> (f32, f32) {
    let whole = WHOLE + exponent; // exact
    let shifted = fma(y, LOG2_E, whole);
    let n = shifted - whole; // exact
    let r = fma(n, -LN_2[0], y);
    let r = fma(n, -LN_2[1], r);
    let [a, b, c, d, e] = EXPONENTIAL;
    let p = fma(a, r, b);
    let p = fma(p, r, c);
    let p = fma(p, r, d);
    let p = fma(p, r, e);
    let square = r * r;
    let rest = fma(square, p, r);
    (low_bits_as_exponent(shifted), rest)
}

/// `v * sigmoid(logit)`, that is `v / (1 + exp(-logit))`; where `logit < least`, `v` divided by
/// infinity.
///
/// The sum `1 + power * (1 + rest)` is rounded once where `1 + power` is exact; beyond, `2^23` of the
/// power stays with the 1, so that it is not lost.
#[inline]
pub fn gated(v: f32, logit: f32, least: f32) -> f32 {
    let y = -logit;
    let y = if -LARGEST_LOGIT > y { -LARGEST_LOGIT } else { y };
    let (power, rest) = exponential(y, SCALE_EXPONENT);
    let with_one = if power < LARGEST_WITH_ONE { power } else { LARGEST_WITH_ONE };
    let near_one = with_one + SCALE; // exact
    let beyond = power - with_one;
    let sum = fma(power, rest, near_one);
    let sum = sum + beyond;
    let sum = if logit < least { f32::INFINITY } else { sum };
    let quotient = v / sum;
    let quotient = quotient * SCALE;
    if LARGEST_LOGIT < logit { v } else { quotient }
}

/// `1 / (1 + exp(-v))` as [`gated`]`(1, v, -110)`, which is what is computed, within 2 ulp; 0 at negative
/// infinity.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html>.
#[inline]
pub fn sigmoid(v: f32) -> f32 {
    gated(1.0, v, LEAST_LOGIT)
}

/// `v / (1 + exp(-v))` as [`gated`]`(v, v, -110)`, within 2 ulp. At negative infinity NaN, as PyTorch's,
/// being infinity divided by infinity; so is [`hard-swish`](crate::Activation::HardSwish) there.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html>.
#[inline]
pub fn silu(v: f32) -> f32 {
    gated(v, v, LEAST_LOGIT)
}

/// The hyperbolic tangent, within 2 ulp, as `(exp(-2|v|) - 1) / (exp(-2|v|) + 1)` with the sign of
/// `v`: so `tanh(-v)` is `-tanh(v)`.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html>.
#[inline]
pub fn tanh(v: f32) -> f32 {
    let size = if v > -v { v } else { -v };
    let y = size * -2.0;
    let y = if -20.0 > y { -20.0 } else { y };
    let (power, rest) = exponential(y, 0.0);
    let less_one = power - 1.0;
    let and_one = power + 1.0;
    let quotient = fma(power, rest, less_one) / fma(power, rest, and_one);
    if v < 0.0 { quotient } else { -quotient }
}

/// `v` where `v > 0`, otherwise `alpha * (exp(v) - 1)`, within 2 ulp; at negative infinity `-alpha`.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html>.
#[inline]
pub fn elu(v: f32, alpha: f32) -> f32 {
    let y = if -32.0 > v { -32.0 } else { v };
    let (power, rest) = exponential(y, 0.0);
    let less_one = power - 1.0;
    let below = fma(power, rest, less_one) * alpha;
    if 0.0 < v { v } else { below }
}

/// `v` times the probability that a normal variable is below `v`, which is
/// `(1 + erf(v / sqrt(2))) / 2`; the error is at most 4 ulp of `v`. At negative infinity NaN, as
/// PyTorch's, being infinity times zero.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html>.
#[inline]
pub fn gelu(v: f32) -> f32 {
    let size = if v > -v { v } else { -v };
    let size = if LARGEST_SIZE < size { LARGEST_SIZE } else { size };
    let y = size * 0.5;
    let y = y * size;
    let (power, rest) = exponential(y, 0.0);
    let growth = fma(power, rest, power);
    let ([p4, p3, p2, p1, p0], [q5, q4, q3, q2, q1, q0]) = TAIL;
    let p = fma(p4, size, p3);
    let p = fma(p, size, p2);
    let p = fma(p, size, p1);
    let p = fma(p, size, p0);
    let q = fma(q5, size, q4);
    let q = fma(q, size, q3);
    let q = fma(q, size, q2);
    let q = fma(q, size, q1);
    let q = fma(q, size, q0);
    let below = p / (q * growth); // the probability of less than -|v|
    let above = 1.0 - below;
    v * if v < 0.0 { below } else { above }
}

/// `v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v^3))) / 2`, as [`gated`] by twice the argument of
/// the tangent, and 0 where that is below -80; the error is at most 4 ulp of `v`. At negative infinity NaN, as PyTorch's.
///
/// Source: `approximate='tanh'` of
/// <https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html>.
#[inline]
pub fn gelu_tanh(v: f32) -> f32 {
    let square = v * v;
    let factor = fma(square, GELU_TANH[0], GELU_TANH[1]);
    gated(v, v * factor, LEAST_LOGIT_OF_GELU)
}

/// `clamp(v + 3, 0, 6) / 6`.
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html>.
#[inline]
pub fn hard_sigmoid(v: f32) -> f32 {
    clamp(v + 3.0, 0.0, 6.0) / 6.0
}
