//! Vectors of `f32`: the few operations that kernels are made of, each with its exact meaning.

pub(crate) mod enter;
pub(crate) mod facts;
mod scalar;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
mod avx512;
// As of `isa::HAS_VFMA`.
#[cfg(all(
    target_arch = "arm",
    target_abi = "eabihf",
    not(target_has_atomic = "64"),
    not(target_os = "horizon")
))]
mod cortex_m;
#[cfg(feature = "models")]
mod model;
#[cfg(all(
    target_arch = "aarch64",
    target_endian = "little",
    target_feature = "neon",
    feature = "neon"
))]
mod neon;
#[cfg(all(
    feature = "portable",
    any(target_feature = "sse2", all(target_arch = "wasm32", target_feature = "simd128"))
))]
mod portable;

use crate::isa::Isa;
use facts::Facts;

/// Whether the target may have vectors. Where it has not, tables that lie on the stack are small.
pub(crate) const HAS_VECTORS: bool = cfg!(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_family = "wasm",
    feature = "models"
));

/// The most lanes of any instruction set of the target.
pub(crate) const MOST_LANES: usize = if HAS_VECTORS { 16 } else { 1 };

/// A body that runs on any instruction set.
pub(crate) trait Body {
    /// Must be `#[inline(always)]`, and so must everything generic that it calls: it is compiled
    /// once for each instruction set, inside a function that enables it.
    fn run<S: Simd>(self, simd: S);
}

/// An instruction set. A value of it proves that the machine has it: it is made only
/// where [`Isa`] was checked.
///
/// Lanes are independent, so every operation means what it means for one `f32`, in round to
/// nearest even. Reads and writes need no alignment beyond that of `f32`, and those of some lanes
/// touch no byte of the others.
pub(crate) trait Simd: Copy {
    /// Which one it is.
    const ISA: Isa;
    /// What it has.
    const FACTS: Facts = Facts::of(Self::ISA);
    /// `f32` to a vector; divides [`MOST_LANES`].
    const LANES: usize = Self::FACTS.lanes;

    /// A vector.
    type V: Copy;
    /// For each lane, the number of a lane.
    type Index: Copy;

    /// Runs a body in a function of its own that enables the instruction set.
    fn enter<B: Body>(self, body: B);

    /// Asks for the cache line of `p`, which may be anywhere; the result does not depend on it.
    fn prefetch(self, p: *const f32);

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// `p[0..LANES]`.
    ///
    /// # Safety
    /// These elements can be read.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// `p[lane]` for lanes in `from..to`, `+0.0` in the others; `to <= LANES`.
    ///
    /// # Safety
    /// The elements of these lanes can be read.
    unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> Self::V;
    /// Writes `p[0..LANES]`.
    ///
    /// # Safety
    /// These elements can be written.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes `p[0..count]`; `count <= LANES`.
    ///
    /// # Safety
    /// These elements can be written.
    unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize);

    /// `x * w + acc`, rounded once.
    fn fma(self, x: Self::V, w: Self::V, acc: Self::V) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` where either is NaN, or both are zeros.
    fn larger(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` where either is NaN, or both are zeros.
    fn smaller(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { then } else { otherwise }`; false for NaN.
    fn select_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// [`crate::numerics::canonical`].
    fn canonical(self, v: Self::V) -> Self::V;
    /// [`crate::numerics::low_bits_as_exponent`].
    fn low_bits_as_exponent(self, v: Self::V) -> Self::V;
    /// `v` where `mask` is all ones, `+0.0` where it is zero.
    fn keep(self, v: Self::V, mask: u32) -> Self::V;

    /// The first `LANES` of `lanes`, each less than `LANES`.
    fn index(self, lanes: &[u32; MOST_LANES]) -> Self::Index;
    /// `v[index[lane]]`.
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V;
    /// Lanes 0, 2, 4, … of `a`, then those of `b`.
    fn even_lanes(self, a: Self::V, b: Self::V) -> Self::V;
    /// A lane of `a`, then one of `b`, and so on, as two vectors.
    fn interleaved(self, a: Self::V, b: Self::V) -> [Self::V; 2];
    /// The first `LANES` rows become columns.
    fn transpose(self, rows: &mut [Self::V; MOST_LANES]);

    /// `-v`, but for the sign of a NaN.
    #[inline(always)]
    fn negative(self, v: Self::V) -> Self::V {
        self.mul(v, self.splat(-1.0))
    }

    /// `value` in every lane where `mask` is all ones, `+0.0` where it is zero.
    #[inline(always)]
    fn splat_kept(self, value: f32, mask: u32) -> Self::V {
        self.keep(self.splat(value), mask)
    }

    /// `v[LANE]` in every lane.
    #[inline(always)]
    fn splat_lane<const LANE: i32>(self, v: Self::V) -> Self::V {
        self.permute(v, self.index(&[LANE as u32; MOST_LANES]))
    }

    /// `p[0..count]`, `+0.0` in the other lanes.
    ///
    /// # Safety
    /// These elements can be read.
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> Self::V {
        // SAFETY: as the caller's.
        unsafe { self.load_range(p, 0, count) }
    }

    /// `p[lane * stride]` for lanes in `from..to`, `+0.0` in the others.
    ///
    /// # Safety
    /// The elements of these lanes can be read.
    #[inline(always)]
    unsafe fn load_strided(self, p: *const f32, stride: isize, from: usize, to: usize) -> Self::V {
        let mut lanes = [0.0; MOST_LANES];
        if from == 0 && to == Self::LANES {
            let mut lane = 0;
            while lane < Self::LANES {
                // SAFETY: the caller vouches for these lanes.
                lanes[lane] = unsafe { *p.wrapping_offset(stride.wrapping_mul(lane as isize)) };
                lane += 1;
            }
        } else {
            for (lane, value) in lanes.iter_mut().enumerate().take(to).skip(from) {
                // SAFETY: the caller vouches for these lanes.
                *value = unsafe { *p.wrapping_offset(stride.wrapping_mul(lane as isize)) };
            }
        }
        // SAFETY: `lanes` holds a vector.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// `p[2 * lane]` for lanes in `from..to`, `+0.0` in the others; reads nothing behind the last.
    ///
    /// # Safety
    /// The elements from that of lane `from` to that of lane `to - 1` can be read.
    #[inline(always)]
    unsafe fn load_alternate(self, p: *const f32, from: usize, to: usize) -> Self::V {
        let end = (2 * to).saturating_sub(1);
        let within = |from_lane: usize| {
            let to = end.saturating_sub(from_lane).min(Self::LANES);
            ((2 * from).saturating_sub(from_lane).min(to), to)
        };
        let (low, high) = (within(0), within(Self::LANES));
        // SAFETY: the elements from that of the first lane to that of the last; the caller vouches
        // for both, and they lie in one row of the input.
        unsafe {
            let low = self.load_range(p, low.0, low.1);
            let high = self.load_range(p.wrapping_add(Self::LANES), high.0, high.1);
            self.even_lanes(low, high)
        }
    }
}
