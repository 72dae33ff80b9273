//! Models of vectors: arrays of 4 and of 16 lanes with the facts of NEON and of AVX-512. With them all
//! that kernels do for those instruction sets, but for the instructions, is tested on any machine.

use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics;

/// As NEON has.
#[derive(Clone, Copy)]
pub(crate) struct FourLanes;

/// As AVX-512 has.
#[derive(Clone, Copy)]
pub(crate) struct SixteenLanes;

/// One lane after the other; out of line, as there are many of them.
#[inline(never)]
fn fma<const LANES: usize>(x: &[f32; LANES], w: &[f32; LANES], acc: &mut [f32; LANES]) {
    for lane in 0..LANES {
        acc[lane] = numerics::fma(x[lane], w[lane], acc[lane]);
    }
}

/// `of` for each lane.
#[inline(always)]
fn lanes<const LANES: usize>(of: impl Fn(usize) -> f32) -> [f32; LANES] {
    core::array::from_fn(of)
}

macro_rules! model {
    ($name:ident, $lanes:literal) => {
        impl Simd for $name {
            const ISA: Isa = Isa::$name;

            type V = [f32; $lanes];
            type Index = [usize; $lanes];

            #[inline(never)]
            fn enter<B: Body>(self, body: B) {
                body.run(self);
            }

            #[inline(always)]
            fn prefetch(self, _p: *const f32) {}

            #[inline(always)]
            fn splat(self, value: f32) -> Self::V {
                [value; $lanes]
            }

            #[inline(always)]
            unsafe fn load(self, p: *const f32) -> Self::V {
                // SAFETY: the caller vouches for the lanes.
                unsafe { p.cast::<Self::V>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn load_range(self, p: *const f32, from: usize, to: usize) -> Self::V {
                debug_assert!(to <= $lanes);
                let mut v = [0.0; $lanes];
                for lane in from..to {
                    // SAFETY: the caller vouches for these lanes.
                    v[lane] = unsafe { *p.wrapping_add(lane) };
                }
                v
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut f32, v: Self::V) {
                // SAFETY: the caller vouches for the lanes.
                unsafe { p.cast::<Self::V>().write_unaligned(v) }
            }

            #[inline(always)]
            unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize) {
                debug_assert!(count <= $lanes);
                for lane in 0..count {
                    // SAFETY: the caller vouches for these lanes.
                    unsafe { *p.wrapping_add(lane) = v[lane] };
                }
            }

            #[inline(always)]
            fn fma(self, x: Self::V, w: Self::V, mut acc: Self::V) -> Self::V {
                fma(&x, &w, &mut acc);
                acc
            }

            #[inline(always)]
            fn add(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| a[lane] + b[lane])
            }

            #[inline(always)]
            fn mul(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| a[lane] * b[lane])
            }

            #[inline(always)]
            fn div(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| a[lane] / b[lane])
            }

            #[inline(always)]
            fn larger(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
            }

            #[inline(always)]
            fn smaller(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
            }

            #[inline(always)]
            fn select_less(
                self,
                a: Self::V,
                b: Self::V,
                then: Self::V,
                otherwise: Self::V,
            ) -> Self::V {
                lanes(|lane| if a[lane] < b[lane] { then[lane] } else { otherwise[lane] })
            }

            #[inline(always)]
            fn canonical(self, v: Self::V) -> Self::V {
                lanes(|lane| numerics::canonical(v[lane]))
            }

            #[inline(always)]
            fn low_bits_as_exponent(self, v: Self::V) -> Self::V {
                lanes(|lane| numerics::low_bits_as_exponent(v[lane]))
            }

            #[inline(always)]
            fn keep(self, v: Self::V, mask: u32) -> Self::V {
                lanes(|lane| f32::from_bits(v[lane].to_bits() & mask))
            }

            #[inline(always)]
            fn index(self, lanes: &[u32; MOST_LANES]) -> Self::Index {
                core::array::from_fn(|lane| lanes[lane] as usize)
            }

            #[inline(always)]
            fn permute(self, v: Self::V, index: Self::Index) -> Self::V {
                lanes(|lane| v[index[lane]])
            }

            #[inline(always)]
            fn even_lanes(self, a: Self::V, b: Self::V) -> Self::V {
                lanes(|lane| {
                    let from = 2 * lane;
                    if from < $lanes { a[from] } else { b[from - $lanes] }
                })
            }

            #[inline(always)]
            fn interleaved(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
                [0, $lanes / 2].map(|first| {
                    lanes(
                        |lane| {
                            if lane % 2 == 0 { a[first + lane / 2] } else { b[first + lane / 2] }
                        },
                    )
                })
            }

            #[inline(always)]
            fn transpose(self, rows: &mut [Self::V; MOST_LANES]) {
                let from = *rows;
                for (row, to) in rows.iter_mut().enumerate().take($lanes) {
                    *to = lanes(|lane| from[lane][row]);
                }
            }
        }
    };
}

model!(FourLanes, 4);
model!(SixteenLanes, 16);
