//! From the name of an instruction set to a body that runs on it.

#[cfg(all(
    target_arch = "arm",
    target_abi = "eabihf",
    not(target_has_atomic = "64"),
    not(target_os = "horizon")
))]
use super::cortex_m::CortexM as OneLane;
#[cfg(not(all(
    target_arch = "arm",
    target_abi = "eabihf",
    not(target_has_atomic = "64"),
    not(target_os = "horizon")
)))]
use super::scalar::ScalarSoft as OneLane;
use super::{Body, MOST_LANES, Simd};
use crate::isa::Isa;

/// Runs a body on an instruction set.
///
/// # Safety
/// The machine has it, and the build contains it: [`Isa::is_available`].
#[inline]
pub(crate) unsafe fn enter<B: Body>(isa: Isa, body: B) {
    match isa {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
        // SAFETY: the caller vouches for it.
        Isa::Avx512 => on(unsafe { super::avx512::Avx512::new() }, isa, body),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
        // SAFETY: as above.
        Isa::Avx2 => on(unsafe { super::avx2::Avx2::new() }, isa, body),
        #[cfg(all(
            feature = "portable",
            any(target_feature = "sse2", all(target_arch = "wasm32", target_feature = "simd128"))
        ))]
        Isa::Portable => on(super::portable::Portable, isa, body),
        #[cfg(all(
            target_arch = "aarch64",
            target_endian = "little",
            target_feature = "neon",
            feature = "neon"
        ))]
        Isa::Neon => on(super::neon::Neon, isa, body),
        #[cfg(any(
            all(target_arch = "x86_64", target_feature = "sse2"),
            all(target_arch = "aarch64", target_feature = "neon")
        ))]
        Isa::Scalar if crate::isa::Features::of_this_machine().has_fma() => {
            // SAFETY: the machine has FMA.
            on(unsafe { super::scalar::ScalarFma::new() }, isa, body);
        }
        #[cfg(feature = "models")]
        Isa::FourLanes => on(super::model::FourLanes, isa, body),
        #[cfg(feature = "models")]
        Isa::SixteenLanes => on(super::model::SixteenLanes, isa, body),
        // The only one that there is for both.
        _ => {
            debug_assert!(matches!(isa, Isa::Scalar | Isa::ScalarSoft), "{}", isa.name());
            OneLane.enter(body);
        }
    }
}

#[allow(dead_code)] // of one lane there is nothing to check
fn on<S: Simd, B: Body>(simd: S, isa: Isa, body: B) {
    const { assert!(S::LANES <= MOST_LANES && MOST_LANES.is_multiple_of(S::LANES)) };
    debug_assert!(S::ISA as u8 == isa as u8);
    simd.enter(body);
}
