//! One lane on a microcontroller that fuses multiply-adds of `f32`: Cortex-M4F, M7, M33 and later.

use super::scalar::one_lane;
use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;
use crate::numerics;
use core::arch::asm;

/// The target has the instruction, so there is nothing to prove.
#[derive(Clone, Copy)]
pub(crate) struct CortexM;

impl CortexM {
    /// Through core registers: the compiler hands out those of the floating-point unit only on
    /// targets that have double precision as well.
    #[inline(always)]
    fn fma(self, x: f32, w: f32, mut acc: f32) -> f32 {
        // SAFETY: arithmetic on registers that are named; the assembler refuses the instruction
        // where the target lacks it.
        unsafe {
            asm!(
                "vmov s0, {x}",
                "vmov s1, {w}",
                "vmov s2, {acc}",
                "vfma.f32 s2, s0, s1",
                "vmov {acc}, s2",
                x = in(reg) x,
                w = in(reg) w,
                acc = inout(reg) acc,
                out("s0") _,
                out("s1") _,
                out("s2") _,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        acc
    }

    fn enter<B: Body>(self, body: B) {
        body.run(self);
    }
}

one_lane!(CortexM, Scalar);
