//! Eight lanes.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics::CANONICAL_NAN;
use core::arch::x86_64::*;

/// Proof that the machine has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2 and FMA.
    pub(crate) unsafe fn new() -> Self {
        Avx2(())
    }
}

/// Lanes in `from..to` all ones.
#[inline(always)]
fn lanes_mask(proof: Avx2, from: usize, to: usize) -> __m256i {
    let _ = proof;
    // SAFETY: `proof` stands for AVX2.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let before_end = _mm256_cmpgt_epi32(_mm256_set1_epi32(to as i32), lane);
        let before_start = _mm256_cmpgt_epi32(_mm256_set1_epi32(from as i32), lane);
        _mm256_andnot_si256(before_start, before_end)
    }
}

/// The machine has what the intrinsics need: a value of [`Avx2`] proves it.
macro_rules! proven {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the machine has AVX2 and FMA; the caller vouches for the
        // lanes of memory that are read or written.
        unsafe { $($body)* }
    };
}

impl Simd for Avx2 {
    const ISA: Isa = Isa::Avx2;

    type V = __m256;
    type Index = __m256i;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn enter_avx2<B: Body>(simd: Avx2, body: B) {
            body.run(simd);
        }
        proven!(enter_avx2(self, body))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: x86-64 has the instruction, which faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        proven!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        proven!(_mm256_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> Self::V {
        proven!(_mm256_maskload_ps(p, lanes_mask(self, from, to)))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        proven!(_mm256_storeu_ps(p, v))
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize) {
        proven!(_mm256_maskstore_ps(p, lanes_mask(self, 0, count), v))
    }

    #[inline(always)]
    fn fma(self, x: Self::V, w: Self::V, acc: Self::V) -> Self::V {
        proven!(_mm256_fmadd_ps(x, w, acc))
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn larger(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn smaller(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        proven!(_mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }

    #[inline(always)]
    fn canonical(self, v: Self::V) -> Self::V {
        proven! {
            let no_negative_zero = _mm256_add_ps(v, _mm256_setzero_ps());
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v);
            _mm256_blendv_ps(no_negative_zero, _mm256_set1_ps(CANONICAL_NAN), is_nan)
        }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, v: Self::V) -> Self::V {
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(v))))
    }

    #[inline(always)]
    fn keep(self, v: Self::V, mask: u32) -> Self::V {
        proven!(_mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(mask as i32))))
    }

    #[inline(always)]
    fn index(self, lanes: &[u32; MOST_LANES]) -> Self::Index {
        // SAFETY: `self` proves the instruction set; the array holds a vector of indices.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V {
        proven!(_mm256_permutevar8x32_ps(v, index))
    }

    #[inline(always)]
    fn even_lanes(self, a: Self::V, b: Self::V) -> Self::V {
        proven! {
            let halves = _mm256_shuffle_ps::<0x88>(a, b); // a02 b02 | a46 b46
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(halves)))
        }
    }

    #[inline(always)]
    fn interleaved(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
        proven! {
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)); // 01 | 45, 23 | 67
            [
                _mm256_permute2f128_ps::<0x20>(low, high),
                _mm256_permute2f128_ps::<0x31>(low, high),
            ]
        }
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; MOST_LANES]) {
        let [a, b, c, d, e, f, g, h, ..] = *rows;
        proven! {
            // Pairs of rows, then fours, within the 128-bit halves; then the halves.
            let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let (ef0, ef1) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
            let (gh0, gh1) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
            let top = [
                _mm256_shuffle_ps::<0x44>(ab0, cd0),
                _mm256_shuffle_ps::<0xee>(ab0, cd0),
                _mm256_shuffle_ps::<0x44>(ab1, cd1),
                _mm256_shuffle_ps::<0xee>(ab1, cd1),
            ];
            let bottom = [
                _mm256_shuffle_ps::<0x44>(ef0, gh0),
                _mm256_shuffle_ps::<0xee>(ef0, gh0),
                _mm256_shuffle_ps::<0x44>(ef1, gh1),
                _mm256_shuffle_ps::<0xee>(ef1, gh1),
            ];
            let mut i = 0;
            while i < 4 {
                rows[i] = _mm256_permute2f128_ps::<0x20>(top[i], bottom[i]);
                rows[i + 4] = _mm256_permute2f128_ps::<0x31>(top[i], bottom[i]);
                i += 1;
            }
        }
    }
}
