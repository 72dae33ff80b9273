//! The promise: what every output element is, to the bit.
//!
//! ```text
//! acc = bias[oc]                                  (or +0.0 without a bias)
//! for each block of CHANNEL_BLOCK input channels of the group, ascending
//!   for kd, kh, kw ascending                      (the stored index of the kernel)
//!     for each channel of the block, ascending
//!       if the tap lies inside the input: acc = fma(x, w, acc)       rounded once
//! y = canonical(activation(acc + residual))                          the addition rounded once
//! ```
//!
//! One accumulator per output and one chain of roundings. The lanes of a vector are always
//! *different outputs*, so vector width, tile shape, cache blocking, threads and the order of
//! tiles cannot change a bit: an `f32` partial sum that is stored and reloaded is exact. The
//! chain is the same for NCHW and NHWC, so neither does the layout.
//!
//! [`canonical`] makes the promise total: a NaN becomes [`CANONICAL_NAN`] and `-0.0` becomes
//! `+0.0`, so that results compare by `to_bits()` without exceptions. It also makes skipping a
//! padded tap the same as multiplying it by `+0.0`, for finite weights. Taps that lie inside the
//! input are never skipped: infinity times zero is NaN here as elsewhere.
//!
//! Folding ([`Fold2d`](crate::Fold2d)) adds, for each element of the image,
//!
//! ```text
//! acc = +0.0
//! for kh, kw ascending                            (the rows of its channel in the columns)
//!   if a window has that tap there: acc = acc + x                      rounded once
//! y = canonical(acc)
//! ```
//!
//! and unfolding ([`Unfold2d`](crate::Unfold2d)) copies bits, NaNs and `-0.0` as they are.
//!
//! Activations with an exponential are part of the promise: they are made of multiply-adds that round
//! once and of exact steps, in the order in which [`exponential`], [`gated`], [`tanh`], [`elu`] and
//! [`gelu`] write them down. So they are not those of any system's library, and the same everywhere.
//! Of all `f32`, the largest error of a sigmoid, a SiLU, a hyperbolic tangent and an ELU is below
//! 2 ulp of the exact value, subnormal ones included (an ulp there is `2^-149`), that of a GELU below
//! 3 ulp of its argument. NaN stays NaN, and infinities become what they become in PyTorch: SiLU and
//! GELU of negative infinity are NaN, as infinity times zero is.
//!
//! Outside the promise, though still memory safe: weights that are infinite or NaN, and a host
//! that flushes subnormals or rounds in another direction than to nearest even.

pub(crate) mod functions;

use crate::activation::Activation;
pub use crate::fma::{fma, fma_in_f64, fma_in_integers};
pub use functions::{
    elu, exponential, gated, gelu, gelu_tanh, hard_sigmoid, low_bits_as_exponent, sigmoid, silu,
    tanh,
};

/// How many input channels of a group the chain of an output takes before it moves to the next
/// tap. Part of the promise and of the packed format: it is frozen.
///
/// Sixteen `f32` are a cache line of NHWC. Measured on one core of a Zen 5 (GFLOP/s, best of two
/// runs, fma peak 242 with AVX-512 and 121 with AVX2), with blocks of 4 / 8 / 16 / 32:
///
/// ```text
/// layer                   AVX-512 NHWC     AVX-512 NCHW     AVX2 NHWC        AVX2 NCHW
/// 3x3 56x56 64>64         235/232/237/232  220/218/223/215  113/113/116/112   93/100/100/ 99
/// 3x3 28x28 128>128       241/241/241/238  230/230/231/223  107/111/110/110   94/104/104/102
/// 3x3 14x14 256>256       250/252/250/248  245/244/245/242  116/122/121/120  113/118/118/118
/// 3x3 7x7 512>512         247/247/249/252  240/245/244/244  105/114/115/115  104/113/114/113
/// 3x3 32x32 128>128       240/241/239/238  188/220/229/230  113/116/116/116   88/100/107/107
/// 3x3 16x16 1024>64       243/248/250/247  244/244/243/240   91/110/111/112  102/110/111/110
/// 3x3 d18 33x33 2048>256  360/393/367/479  347/356/390/451  130/176/195/208  149/174/186/207
/// 1x3 d8 1024 128>128     225/227/223/223  200/221/219/224  106/109/108/109   81/ 94/107/109
/// 7x7 s2 224x224 3>64     204/210/208/188  180/182/178/164   94/ 93/ 93/ 82   83/ 83/ 82/ 72
/// mean, 16 being 1        .99/1.01/ 1/1.01 .95/.99/  1/1.00 .91/.99/  1/ .99 .89/.97/  1/ .99
/// ```
///
/// (GFLOP/s count padded taps.) Eight loses where channels collide in a cache, thirty-two on
/// layers of few channels.
pub const CHANNEL_BLOCK: usize = 16;

/// The one NaN that an output can hold: quiet, positive, no payload.
pub const CANONICAL_NAN: f32 = f32::from_bits(0x7fc0_0000);

/// NaN to [`CANONICAL_NAN`], `-0.0` to `+0.0`, everything else as it is.
#[inline]
pub fn canonical(v: f32) -> f32 {
    if v.is_nan() { CANONICAL_NAN } else { v + 0.0 }
}

/// `activation(v)`; every comparison with a NaN is false, so NaN passes through.
#[inline]
pub fn activate(activation: Activation, v: f32) -> f32 {
    match activation {
        Activation::None => v,
        Activation::Relu => {
            if v < 0.0 {
                0.0
            } else {
                v
            }
        }
        Activation::Clamp { lower, upper } => clamp(v, lower, upper),
        Activation::LeakyRelu { slope } => {
            if v > 0.0 {
                v
            } else {
                v * slope
            }
        }
        Activation::HardSwish => (v * clamp(v + 3.0, 0.0, 6.0)) / 6.0,
        Activation::HardSigmoid => hard_sigmoid(v),
        Activation::Sigmoid => sigmoid(v),
        Activation::Silu => silu(v),
        Activation::Tanh => tanh(v),
        Activation::Gelu => gelu(v),
        Activation::GeluTanh => gelu_tanh(v),
        Activation::Elu { alpha } => elu(v, alpha),
    }
}

/// The lower bound first, then the upper; NaN passes through.
#[inline]
fn clamp(v: f32, lower: f32, upper: f32) -> f32 {
    let v = if v < lower { lower } else { v };
    if v > upper { upper } else { v }
}

/// The last step of an output: residual, activation, canonical form.
#[inline]
pub fn finish(acc: f32, residual: Option<f32>, activation: Activation) -> f32 {
    let sum = match residual {
        Some(r) => acc + r,
        None => acc,
    };
    canonical(activate(activation, sum))
}
