//! Eight lanes: two registers of SSE2 or of WebAssembly's simd128, through `wide`. For machines
//! without a fused multiply-add, which is done here in `f64`, on all lanes at once.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics::{self, CANONICAL_NAN};
use bytemuck::cast;
use wide::{f32x4, f32x8, f64x2, i16x8, u32x8, u64x2};

/// No proof is needed: this module is compiled only for targets that have such vectors.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Lane by lane, as `wide` cannot convert; the compiler makes vector instructions of it.
#[inline(always)]
fn widen(v: f32x8) -> [f64x2; 4] {
    let lanes = v.to_array();
    let mut pairs = [f64x2::ZERO; 4];
    let mut pair = 0;
    while pair < 4 {
        let (low, high) = (lanes[2 * pair], lanes[2 * pair + 1]);
        pairs[pair] = f64x2::new([f64::from(low), f64::from(high)]);
        pair += 1;
    }
    pairs
}

/// The reverse, rounded.
#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn narrow(pairs: &[f64x2; 4]) -> f32x8 {
    let mut lanes = [0.0; 8];
    let mut pair = 0;
    while pair < 4 {
        let [low, high] = pairs[pair].to_array();
        lanes[2 * pair] = low as f32;
        lanes[2 * pair + 1] = high as f32;
        pair += 1;
    }
    f32x8::new(lanes)
}

/// Here the compiler would go lane by lane.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn narrow(pairs: &[f64x2; 4]) -> f32x8 {
    use core::arch::wasm32::{f32x4_demote_f64x2_zero, i64x2_shuffle};
    let mut halves = [f32x4::ZERO; 2];
    let mut half = 0;
    while half < 2 {
        let low = f32x4_demote_f64x2_zero(pairs[2 * half].into());
        let high = f32x4_demote_f64x2_zero(pairs[2 * half + 1].into());
        halves[half] = i64x2_shuffle::<0, 2>(low, high).into();
        half += 1;
    }
    cast(halves)
}

#[inline(always)]
fn words(sums: f64x2) -> i16x8 {
    cast(cast::<f64x2, u64x2>(sums) << 3_u32)
}

/// Whether an exact sum, of which `sums` are the roundings to `f64`, may have to become another
/// `f32` than its rounding does. It may where that is a tie between two normal `f32`, its low 29
/// bits being 1000…, or where it is too small for a normal one.
///
/// Shifted left by 3, the second 16-bit word of a sum is the upper part of those 29 bits, and the
/// fourth begins with the low 9 bits of the exponent. Taken as signed numbers, a tie is the
/// least number there is. The exponents are in order from 2^-255, which is -256, to the highest
/// there is. Lower ones come out high, and rightly so: such sums become zero whatever they were
/// before they were rounded. So do zero, infinity and NaN, which stay what they are. One sum in
/// 2^16 is doubted for no reason.
#[inline(always)]
fn doubtful(sums: &[f64x2; 4]) -> bool {
    const NOTHING: i16 = i16::MIN;
    const TIE: i16 = i16::MIN + 1;
    const NORMAL: i16 = -127 << 7; // 2^-126
    let mut least = words(sums[0]);
    let mut pair = 1;
    while pair < 4 {
        least = least.min(words(sums[pair]));
        pair += 1;
    }
    let bound = i16x8::new([NOTHING, TIE, NOTHING, NORMAL, NOTHING, TIE, NOTHING, NORMAL]);
    least.simd_lt(bound).any()
}

/// `x * w + acc`, one lane after the other.
#[cold]
#[inline(never)]
fn fma_lane_by_lane([x, w, acc]: &[f32x8; 3]) -> f32x8 {
    let (x, w, acc) = (x.to_array(), w.to_array(), acc.to_array());
    let mut lanes = [0.0; 8];
    let mut lane = 0;
    while lane < 8 {
        lanes[lane] = numerics::fma(x[lane], w[lane], acc[lane]);
        lane += 1;
    }
    f32x8::new(lanes)
}

impl Simd for Portable {
    const ISA: Isa = Isa::Portable;

    type V = f32x8;
    type Index = [u32; 8];

    #[inline(never)]
    fn enter<B: Body>(self, body: B) {
        body.run(self);
    }

    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}

    #[inline(always)]
    fn splat(self, value: f32) -> f32x8 {
        f32x8::splat(value)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x8 {
        // SAFETY: the caller vouches for eight lanes.
        f32x8::new(unsafe { *p.cast() })
    }

    #[inline(always)]
    unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> f32x8 {
        let mut lanes = [0.0; 8];
        let mut lane = 0;
        while lane < 8 {
            if from <= lane && lane < to {
                // SAFETY: the caller vouches for these lanes.
                lanes[lane] = unsafe { *p.wrapping_add(lane) };
            }
            lane += 1;
        }
        f32x8::new(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: the caller vouches for eight lanes.
        unsafe { *p.cast() = v.to_array() }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: f32x8, count: usize) {
        let lanes = v.to_array();
        let mut lane = 0;
        while lane < count {
            // SAFETY: the caller vouches for these lanes.
            unsafe { *p.wrapping_add(lane) = lanes[lane] };
            lane += 1;
        }
    }

    /// The product of two `f32` is exact in `f64`; the sum is rounded there, then to `f32`.
    #[inline(always)]
    fn fma(self, x: f32x8, w: f32x8, acc: f32x8) -> f32x8 {
        let (wide_x, wide_w) = (widen(x), widen(w));
        let mut sums = widen(acc);
        let mut pair = 0;
        while pair < 4 {
            sums[pair] = wide_x[pair] * wide_w[pair] + sums[pair];
            pair += 1;
        }
        let narrowed = narrow(&sums);
        if doubtful(&sums) { fma_lane_by_lane(&[x, w, acc]) } else { narrowed }
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }

    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }

    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }

    #[inline(always)]
    fn larger(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b).select(a, b)
    }

    #[inline(always)]
    fn smaller(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_lt(b).select(a, b)
    }

    #[inline(always)]
    fn select_less(self, a: f32x8, b: f32x8, then: f32x8, otherwise: f32x8) -> f32x8 {
        a.simd_lt(b).select(then, otherwise)
    }

    #[inline(always)]
    fn canonical(self, v: f32x8) -> f32x8 {
        v.is_nan().select(f32x8::splat(CANONICAL_NAN), v + f32x8::ZERO)
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, v: f32x8) -> f32x8 {
        cast(cast::<f32x8, u32x8>(v) << 23_u32)
    }

    #[inline(always)]
    fn keep(self, v: f32x8, mask: u32) -> f32x8 {
        v & cast::<u32x8, f32x8>(u32x8::splat(mask))
    }

    #[inline(always)]
    fn index(self, lanes: &[u32; MOST_LANES]) -> [u32; 8] {
        let [a, b, c, d, e, f, g, h, ..] = *lanes;
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn permute(self, v: f32x8, index: [u32; 8]) -> f32x8 {
        let lanes = v.to_array();
        let mut permuted = [0.0; 8];
        let mut lane = 0;
        while lane < 8 {
            permuted[lane] = lanes[index[lane] as usize % 8];
            lane += 1;
        }
        f32x8::new(permuted)
    }

    #[inline(always)]
    fn even_lanes(self, a: f32x8, b: f32x8) -> f32x8 {
        let ([a0, _, a2, _, a4, _, a6, _], [b0, _, b2, _, b4, _, b6, _]) =
            (a.to_array(), b.to_array());
        f32x8::new([a0, a2, a4, a6, b0, b2, b4, b6])
    }

    #[inline(always)]
    fn interleaved(self, a: f32x8, b: f32x8) -> [f32x8; 2] {
        let ([a0, a1, a2, a3, a4, a5, a6, a7], [b0, b1, b2, b3, b4, b5, b6, b7]) =
            (a.to_array(), b.to_array());
        [f32x8::new([a0, b0, a1, b1, a2, b2, a3, b3]), f32x8::new([a4, b4, a5, b5, a6, b6, a7, b7])]
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [f32x8; MOST_LANES]) {
        // Squares of four by four, the second and the third of which change places.
        let mut squares = [[f32x4::ZERO; 4]; 4];
        let mut row = 0;
        while row < 8 {
            let [left, right] = cast::<f32x8, [f32x4; 2]>(rows[row]);
            squares[row / 4 * 2][row % 4] = left;
            squares[row / 4 * 2 + 1][row % 4] = right;
            row += 1;
        }
        let [a, b, c, d] = squares;
        let [a, b, c, d] =
            [f32x4::transpose(a), f32x4::transpose(b), f32x4::transpose(c), f32x4::transpose(d)];
        let mut row = 0;
        while row < 4 {
            rows[row] = cast([a[row], c[row]]);
            rows[row + 4] = cast([b[row], d[row]]);
            row += 1;
        }
    }
}
