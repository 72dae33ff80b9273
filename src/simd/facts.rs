//! What an instruction set has. How a kernel uses it is the kernel's affair.

use crate::isa::Isa;

/// The facts of an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// `f32` to a vector.
    pub lanes: usize,
    /// Vectors that its registers hold.
    pub registers: usize,
    /// Whether a multiply-add is an instruction.
    pub fuses: bool,
    /// Whether a multiply-add takes any one lane of a factor for all.
    pub takes_a_lane: bool,
}

impl Facts {
    /// Of any instruction set, whether or not the build contains it.
    pub const fn of(isa: Isa) -> Facts {
        match isa {
            Isa::ScalarSoft => Facts { fuses: false, ..Facts::usual(1, 16) },
            Isa::Scalar => Facts::usual(1, 16),
            // Each vector is two registers.
            Isa::Portable => Facts { fuses: false, ..Facts::usual(8, 8) },
            Isa::Avx2 => Facts::usual(8, 16),
            Isa::Avx512 => Facts::usual(16, 32),
            Isa::Neon => Facts { takes_a_lane: true, ..Facts::usual(4, 32) },
            #[cfg(feature = "models")]
            Isa::FourLanes => Facts::of(Isa::Neon),
            #[cfg(feature = "models")]
            Isa::SixteenLanes => Facts::of(Isa::Avx512),
        }
    }

    const fn usual(lanes: usize, registers: usize) -> Facts {
        Facts { lanes, registers, fuses: true, takes_a_lane: false }
    }
}
