//! One lane: what every other instruction set has to equal.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics;

/// The fused multiply-add in software.
#[allow(dead_code)] // microcontrollers that have the instruction leave it out
#[derive(Clone, Copy)]
pub(crate) struct ScalarSoft;

/// The fused multiply-add of the machine.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
#[derive(Clone, Copy)]
pub(crate) struct ScalarFma(());

#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
impl ScalarFma {
    /// # Safety
    /// The machine has a fused multiply-add; on x86 that is AVX and FMA.
    pub(crate) unsafe fn new() -> Self {
        ScalarFma(())
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn fma(self, x: f32, w: f32, acc: f32) -> f32 {
        use core::arch::x86_64::{_mm_cvtss_f32, _mm_fmadd_ss, _mm_set_ss};
        // SAFETY: `self` proves that the machine has FMA.
        unsafe { _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(x), _mm_set_ss(w), _mm_set_ss(acc))) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    fn fma(self, x: f32, w: f32, acc: f32) -> f32 {
        use core::arch::aarch64::{vdup_n_f32, vfmas_lane_f32};
        // SAFETY: NEON is part of the target.
        unsafe { vfmas_lane_f32::<0>(acc, x, vdup_n_f32(w)) }
    }

    #[inline(always)]
    fn enter<B: Body>(self, body: B) {
        #[inline(never)]
        #[cfg_attr(target_arch = "x86_64", target_feature(enable = "fma"))]
        #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
        fn enter_fma<B: Body>(simd: ScalarFma, body: B) {
            body.run(simd);
        }
        // SAFETY: `self` proves that the machine has FMA; NEON is part of its target.
        unsafe { enter_fma(self, body) }
    }
}

#[allow(dead_code)]
impl ScalarSoft {
    #[inline(always)]
    fn fma(self, x: f32, w: f32, acc: f32) -> f32 {
        numerics::fma(x, w, acc)
    }

    fn enter<B: Body>(self, body: B) {
        body.run(self);
    }
}

/// The operations on one `f32`, for a type with `fma` and `enter`.
macro_rules! one_lane {
    ($name:ident, $isa:ident) => {
        impl Simd for $name {
            const ISA: Isa = Isa::$isa;

            type V = f32;
            type Index = ();

            #[inline(always)]
            fn enter<B: Body>(self, body: B) {
                $name::enter(self, body);
            }

            #[inline(always)]
            fn prefetch(self, _p: *const f32) {}

            #[inline(always)]
            fn splat(self, value: f32) -> f32 {
                value
            }

            #[inline(always)]
            unsafe fn load(self, p: *const f32) -> f32 {
                // SAFETY: the caller vouches for one lane.
                unsafe { *p }
            }

            #[inline(always)]
            unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> f32 {
                if from < to {
                    // SAFETY: the caller vouches for lane 0, the only one there is.
                    unsafe { *p }
                } else {
                    0.0
                }
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut f32, v: f32) {
                // SAFETY: the caller vouches for one lane.
                unsafe { *p = v }
            }

            #[inline(always)]
            unsafe fn store_first(self, p: *mut f32, v: f32, count: usize) {
                if count > 0 {
                    // SAFETY: the caller vouches for lane 0.
                    unsafe { *p = v }
                }
            }

            #[inline(always)]
            fn fma(self, x: f32, w: f32, acc: f32) -> f32 {
                $name::fma(self, x, w, acc)
            }

            #[inline(always)]
            fn add(self, a: f32, b: f32) -> f32 {
                a + b
            }

            #[inline(always)]
            fn mul(self, a: f32, b: f32) -> f32 {
                a * b
            }

            #[inline(always)]
            fn div(self, a: f32, b: f32) -> f32 {
                a / b
            }

            #[inline(always)]
            fn larger(self, a: f32, b: f32) -> f32 {
                if a > b { a } else { b }
            }

            #[inline(always)]
            fn smaller(self, a: f32, b: f32) -> f32 {
                if a < b { a } else { b }
            }

            #[inline(always)]
            fn select_less(self, a: f32, b: f32, then: f32, otherwise: f32) -> f32 {
                if a < b { then } else { otherwise }
            }

            #[inline(always)]
            fn canonical(self, v: f32) -> f32 {
                numerics::canonical(v)
            }

            #[inline(always)]
            fn low_bits_as_exponent(self, v: f32) -> f32 {
                numerics::low_bits_as_exponent(v)
            }

            #[inline(always)]
            fn keep(self, v: f32, mask: u32) -> f32 {
                f32::from_bits(v.to_bits() & mask)
            }

            #[inline(always)]
            fn index(self, _lanes: &[u32; MOST_LANES]) {}

            #[inline(always)]
            fn permute(self, v: f32, _index: ()) -> f32 {
                v
            }

            #[inline(always)]
            fn even_lanes(self, a: f32, _b: f32) -> f32 {
                a
            }

            #[inline(always)]
            fn interleaved(self, a: f32, b: f32) -> [f32; 2] {
                [a, b]
            }

            #[inline(always)]
            fn transpose(self, _rows: &mut [f32; MOST_LANES]) {}
        }
    };
}

#[allow(unused_imports)] // microcontrollers use it
pub(super) use one_lane;

one_lane!(ScalarSoft, ScalarSoft);
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
one_lane!(ScalarFma, Scalar);
