//! Sixteen lanes.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics::CANONICAL_NAN;
use core::arch::x86_64::*;

/// Proof that the machine has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has AVX-512 F, BW, DQ and VL.
    pub(crate) unsafe fn new() -> Self {
        Avx512(())
    }
}

/// The bits of lanes `from..to`.
#[inline(always)]
fn lanes_mask(from: usize, to: usize) -> __mmask16 {
    let below = |lane: usize| (1_u32 << lane) - 1;
    (below(to) & !below(from)) as __mmask16
}

/// The machine has what the intrinsics need: a value of [`Avx512`] proves it.
macro_rules! proven {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the machine has AVX-512 F, BW, DQ and VL; the caller vouches for the
        // lanes of memory that are read or written.
        unsafe { $($body)* }
    };
}

impl Simd for Avx512 {
    const ISA: Isa = Isa::Avx512;

    type V = __m512;
    type Index = __m512i;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn enter_avx512<B: Body>(simd: Avx512, body: B) {
            body.run(simd);
        }
        proven!(enter_avx512(self, body))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: x86-64 has the instruction, which faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        proven!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        proven!(_mm512_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> Self::V {
        proven!(_mm512_maskz_loadu_ps(lanes_mask(from, to), p))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        proven!(_mm512_storeu_ps(p, v))
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize) {
        proven!(_mm512_mask_storeu_ps(p, lanes_mask(0, count), v))
    }

    #[inline(always)]
    fn fma(self, x: Self::V, w: Self::V, acc: Self::V) -> Self::V {
        proven!(_mm512_fmadd_ps(x, w, acc))
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn larger(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn smaller(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        proven!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then))
    }

    #[inline(always)]
    fn canonical(self, v: Self::V) -> Self::V {
        proven! {
            let no_negative_zero = _mm512_add_ps(v, _mm512_setzero_ps());
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            _mm512_mask_blend_ps(is_nan, no_negative_zero, _mm512_set1_ps(CANONICAL_NAN))
        }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, v: Self::V) -> Self::V {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(v))))
    }

    #[inline(always)]
    fn keep(self, v: Self::V, mask: u32) -> Self::V {
        proven!(_mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(mask as i32))))
    }

    #[inline(always)]
    fn index(self, lanes: &[u32; MOST_LANES]) -> Self::Index {
        // SAFETY: `self` proves the instruction set; the array holds a vector of indices.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V {
        proven!(_mm512_permutexvar_ps(index, v))
    }

    #[inline(always)]
    fn even_lanes(self, a: Self::V, b: Self::V) -> Self::V {
        proven! {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_permutex2var_ps(a, even, b)
        }
    }

    #[inline(always)]
    fn interleaved(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
        proven! {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            [_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)]
        }
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; MOST_LANES]) {
        let r = *rows;
        proven! {
            // Blocks of 4 x 4 within the 128-bit quarters, then the quarters, in two steps.
            let mut blocks = [_mm512_setzero_ps(); 16];
            let mut i = 0;
            while i < 16 {
                let (ab0, ab1) = (_mm512_unpacklo_ps(r[i], r[i + 1]), _mm512_unpackhi_ps(r[i], r[i + 1]));
                let (cd0, cd1) =
                    (_mm512_unpacklo_ps(r[i + 2], r[i + 3]), _mm512_unpackhi_ps(r[i + 2], r[i + 3]));
                blocks[i] = _mm512_shuffle_ps::<0x44>(ab0, cd0);
                blocks[i + 1] = _mm512_shuffle_ps::<0xee>(ab0, cd0);
                blocks[i + 2] = _mm512_shuffle_ps::<0x44>(ab1, cd1);
                blocks[i + 3] = _mm512_shuffle_ps::<0xee>(ab1, cd1);
                i += 4;
            }
            let mut i = 0;
            while i < 4 {
                let low = _mm512_shuffle_f32x4::<0x88>(blocks[i], blocks[i + 4]);
                let high = _mm512_shuffle_f32x4::<0xdd>(blocks[i], blocks[i + 4]);
                let low_below = _mm512_shuffle_f32x4::<0x88>(blocks[i + 8], blocks[i + 12]);
                let high_below = _mm512_shuffle_f32x4::<0xdd>(blocks[i + 8], blocks[i + 12]);
                rows[i] = _mm512_shuffle_f32x4::<0x88>(low, low_below);
                rows[i + 8] = _mm512_shuffle_f32x4::<0xdd>(low, low_below);
                rows[i + 4] = _mm512_shuffle_f32x4::<0x88>(high, high_below);
                rows[i + 12] = _mm512_shuffle_f32x4::<0xdd>(high, high_below);
                i += 1;
            }
        }
    }
}
