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
//! Taps ascend by their place in the window as it lies on the input. That is the stored index of the
//! kernel; where the kernel is flipped, or the convolution transposed, the stored index descends, and
//! where it is both it ascends again. Of a transposed convolution an output has the taps from which an
//! input is spread to it. With a padding mode other than zeros every tap is inside, and `x` is what
//! stands in the padding. A correlation is the convolution of each sample with its own kernel.
//!
//! A deformable convolution has the same chain, over all taps: in place of `x` is the [`bilinear`]
//! sample at the tap's position, times the mask if there is one; where the position is outside, it is
//! `+0.0`, whatever the mask is.
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

/// Where a tap of a deformable convolution reads, along an axis: its `place` in the input, which is
/// `output * stride - padding + tap * dilation`, moved by an `offset`. The place is an integer and is
/// rounded to the nearest `f32` first (of two, the even one; up to 2<sup>24</sup> it is exact), then
/// the sum.
#[inline]
pub fn deformed(place: isize, offset: f32) -> f32 {
    place as f32 + offset
}

/// The sample of a plane of `height` times `width` elements at a position, a row and a column that
/// need not be integers; `None` outside. The operation is that of `torchvision.ops.deform_conv2d`
/// (<https://docs.pytorch.org/vision/stable/generated/torchvision.ops.deform_conv2d.html>, whose
/// kernel is `deform_conv2d_kernel.cpp`), here in the order of its operations, each of them rounded:
///
/// ```text
/// outside, unless y > -1 and y < height and x > -1 and x < width        (so where either is NaN)
/// top = floor(y)    ly = y - top     hy = 1 - ly
/// left = floor(x)   lx = x - left    hx = 1 - lx
/// v1, v2 = the elements at (top, left), (top, left + 1)
/// v3, v4 = those at (top + 1, left), (top + 1, left + 1)                (+0.0 where there is none)
/// sample = (((hy * hx) * v1 + (hy * lx) * v2) + (ly * hx) * v3) + (ly * lx) * v4
/// ```
///
/// `height` and `width` are rounded to `f32` where they are compared. `read` gives an element; it is
/// asked for those that there are, even where their weight is zero: zero times infinity is NaN.
///
/// ```
/// let plane = [[1.0, 2.0], [3.0, 5.0]];
/// let at = |y, x| tapwise::numerics::bilinear([2, 2], [y, x], |row, column| plane[row][column]);
/// assert_eq!(at(0.5, 0.5), Some(2.75));
/// assert_eq!(at(1.5, 0.0), Some(1.5)); // half of it is below the last row
/// assert_eq!((at(2.0, 0.0), at(f32::NAN, 0.0)), (None, None));
/// ```
#[inline]
pub fn bilinear(
    [height, width]: [usize; 2],
    [y, x]: [f32; 2],
    read: impl Fn(usize, usize) -> f32,
) -> Option<f32> {
    let (rows, columns) = (Between::of(y, height)?, Between::of(x, width)?);
    let corner = |row: Option<usize>, column: Option<usize>| match (row, column) {
        (Some(row), Some(column)) => read(row, column),
        _ => 0.0,
    };
    let [w1, w2, w3, w4] = Between::weights(&rows, &columns);
    let ([top, bottom], [left, right]) = (rows.places, columns.places);
    let upper = w1 * corner(top, left) + w2 * corner(top, right);
    Some((upper + w3 * corner(bottom, left)) + w4 * corner(bottom, right))
}

/// A position along an axis as one between two neighbours.
pub(crate) struct Between {
    /// Both, where they are inside.
    pub places: [Option<usize>; 2],
    /// How much each of them counts.
    weights: [f32; 2],
}

impl Between {
    /// `None` outside, and for NaN.
    #[inline(always)]
    pub fn of(position: f32, size: usize) -> Option<Between> {
        if !(position > -1.0 && position < size as f32) {
            return None;
        }
        let floor = libm::floorf(position);
        let upper = position - floor;
        // It is -1 or more, and the next number that an `f32` below `size` can be, or less.
        let low = floor as isize;
        let inside = |place: isize| usize::try_from(place).ok().filter(|place| *place < size);
        Some(Between { places: [inside(low), inside(low + 1)], weights: [1.0 - upper, upper] })
    }

    /// Of the four corners, row by row.
    #[inline(always)]
    pub fn weights(rows: &Between, columns: &Between) -> [f32; 4] {
        let ([hy, ly], [hx, lx]) = (rows.weights, columns.weights);
        [hy * hx, hy * lx, ly * hx, ly * lx]
    }
}
