//! Four lanes.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics::CANONICAL_NAN;
use core::arch::aarch64::*;
use core::arch::asm;

/// NEON, which every processor that this build is for has: see the `cfg` of this module.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// The machine has what the intrinsics need.
macro_rules! proven {
    ($($body:tt)*) => {
        // SAFETY: the module is compiled only where NEON is part of the target; the caller vouches
        // for the lanes of memory that are read or written.
        unsafe { $($body)* }
    };
}

/// `then` where the mask is all ones, `otherwise` where it is zero. There is a minimum and a
/// maximum in the instruction set, but they prefer NaN, and order zeros by sign.
#[inline(always)]
fn select(mask: uint32x4_t, then: float32x4_t, otherwise: float32x4_t) -> float32x4_t {
    proven!(vbslq_f32(mask, then, otherwise))
}

impl Simd for Neon {
    const ISA: Isa = Isa::Neon;

    type V = float32x4_t;
    type Index = uint8x16_t;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn enter_neon<B: Body>(simd: Neon, body: B) {
            body.run(simd);
        }
        proven!(enter_neon(self, body))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a hint, which faults at no address.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) p, options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        proven!(vdupq_n_f32(value))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        proven!(vld1q_f32(p))
    }

    /// Lane by lane where it is not the whole vector: there are no masks for memory.
    #[inline(always)]
    unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> Self::V {
        proven! {
            if from == 0 && to == 4 {
                return vld1q_f32(p);
            }
            let mut v = vdupq_n_f32(0.0);
            if from == 0 && to > 0 {
                v = vld1q_lane_f32::<0>(p, v);
            }
            if from <= 1 && to > 1 {
                v = vld1q_lane_f32::<1>(p.wrapping_add(1), v);
            }
            if from <= 2 && to > 2 {
                v = vld1q_lane_f32::<2>(p.wrapping_add(2), v);
            }
            if from <= 3 && to > 3 {
                v = vld1q_lane_f32::<3>(p.wrapping_add(3), v);
            }
            v
        }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        proven!(vst1q_f32(p, v))
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize) {
        proven! {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(p, v),
                2 => vst1_f32(p, vget_low_f32(v)),
                3 => {
                    vst1_f32(p, vget_low_f32(v));
                    vst1q_lane_f32::<2>(p.wrapping_add(2), v);
                }
                _ => vst1q_f32(p, v),
            }
        }
    }

    /// A splat costs nothing here: the instruction takes any one lane of `x` or `w` for all.
    #[inline(always)]
    fn fma(self, x: Self::V, w: Self::V, acc: Self::V) -> Self::V {
        proven!(vfmaq_f32(acc, x, w))
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(vaddq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(vdivq_f32(a, b))
    }

    #[inline(always)]
    fn larger(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(select(vcgtq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn smaller(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(select(vcltq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        proven!(select(vcltq_f32(a, b), then, otherwise))
    }

    #[inline(always)]
    fn canonical(self, v: Self::V) -> Self::V {
        proven! {
            let no_negative_zero = vaddq_f32(v, vdupq_n_f32(0.0));
            let is_number = vceqq_f32(v, v);
            select(is_number, no_negative_zero, vdupq_n_f32(CANONICAL_NAN))
        }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, v: Self::V) -> Self::V {
        proven!(vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(v))))
    }

    #[inline(always)]
    fn keep(self, v: Self::V, mask: u32) -> Self::V {
        proven!(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(mask))))
    }

    #[inline(always)]
    fn splat_lane<const LANE: i32>(self, v: Self::V) -> Self::V {
        proven!(vdupq_laneq_f32::<LANE>(v))
    }

    /// In an integer register: vectors of masks would leave too few for sums.
    #[inline(always)]
    fn splat_kept(self, value: f32, mask: u32) -> Self::V {
        self.splat(f32::from_bits(value.to_bits() & mask))
    }

    #[inline(always)]
    fn index(self, lanes: &[u32; MOST_LANES]) -> Self::Index {
        // SAFETY: NEON as above; the array holds a vector of indices.
        unsafe {
            // The instruction wants the numbers of bytes: 4 * lane and the three behind it.
            let first_bytes = vmulq_n_u32(vld1q_u32(lanes.as_ptr()), 0x0404_0404);
            vreinterpretq_u8_u32(vaddq_u32(first_bytes, vdupq_n_u32(0x0302_0100)))
        }
    }

    #[inline(always)]
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V {
        proven!(vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), index)))
    }

    #[inline(always)]
    fn even_lanes(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(vuzp1q_f32(a, b))
    }

    #[inline(always)]
    fn interleaved(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
        proven!([vzip1q_f32(a, b), vzip2q_f32(a, b)])
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; MOST_LANES]) {
        let [a, b, c, d, ..] = *rows;
        proven! {
            // Pairs of rows, then fours.
            let ab02 = vreinterpretq_f64_f32(vtrn1q_f32(a, b)); // a0 b0 a2 b2
            let ab13 = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
            let cd02 = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
            let cd13 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
            rows[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab02, cd02));
            rows[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab13, cd13));
            rows[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab02, cd02));
            rows[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab13, cd13));
        }
    }
}
