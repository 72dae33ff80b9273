//! Which instruction sets this machine has, found without `std` and remembered.

use core::sync::atomic::{AtomicU8, Ordering};

/// Whether the target is a Cortex-M with a floating-point unit, all of which fuse multiply-adds. The
/// stable compiler does not tell of the instruction; but among targets with hardware floats and
/// without atomics of 64 bits, only a games console (`horizon`) is something else.
pub(crate) const HAS_VFMA: bool = cfg!(all(
    target_arch = "arm",
    target_abi = "eabihf",
    not(target_has_atomic = "64"),
    not(target_os = "horizon")
));

/// A path through the kernels. All of them compute the same bits; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// One output at a time, with the fused multiply-add in software even where the machine has
    /// an instruction for it. It runs everywhere but on Cortex-M with a floating-point unit, whose
    /// flash has better uses; elsewhere than in tests prefer [`Isa::Scalar`].
    ScalarSoft,
    /// One output at a time, with the machine's fused multiply-add if it has one.
    Scalar,
    /// x86 with SSE2, or WebAssembly with simd128, if the build is for that: 8 lanes, with the
    /// fused multiply-add in software. Chosen where the machine has none.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 lanes.
    Avx512,
    /// Little-endian AArch64 with NEON, its baseline: 4 lanes.
    Neon,
    /// A model of NEON, for tests.
    #[cfg(feature = "models")]
    #[doc(hidden)]
    FourLanes,
    /// A model of AVX-512, for tests.
    #[cfg(feature = "models")]
    #[doc(hidden)]
    SixteenLanes,
}

impl Isa {
    /// All paths, of each machine the faster ones behind.
    pub const ALL: [Isa; 6] =
        [Isa::ScalarSoft, Isa::Scalar, Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The models, if the build has them: slow, never chosen.
    #[doc(hidden)]
    pub const MODELS: &[Isa] = &[
        #[cfg(feature = "models")]
        Isa::FourLanes,
        #[cfg(feature = "models")]
        Isa::SixteenLanes,
    ];

    /// A short name: `scalar-soft`, `scalar`, `portable`, `avx2`, `avx512`, `neon`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::ScalarSoft => "scalar-soft",
            Isa::Scalar => "scalar",
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
            #[cfg(feature = "models")]
            Isa::FourLanes => "model-neon",
            #[cfg(feature = "models")]
            Isa::SixteenLanes => "model-avx512",
        }
    }

    /// The path of that [`name`](Isa::name).
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// The fastest path that this machine has and this build contains. The first call asks the
    /// processor; later ones read one byte.
    pub fn detect() -> Isa {
        Features::of_this_machine().fastest()
    }

    /// Whether this machine has the path and this build contains it.
    pub fn is_available(self) -> bool {
        Features::of_this_machine().allow(self)
    }
}

/// What the kernels want to know of a machine. A set of bits, so that an atomic byte can hold it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    const FMA: u8 = 1; // on x86 AVX and FMA, and the operating system saves ymm
    const AVX2: u8 = 2; // FMA and AVX2
    const AVX512: u8 = 4; // AVX2 and AVX-512 F, BW, DQ, VL, and the operating system saves zmm
    const NEON: u8 = 8; // FMA and NEON, little-endian
    const ASKED: u8 = 128;

    /// Asks once. Two threads that ask at the same time write the same byte.
    pub fn of_this_machine() -> Features {
        static KNOWN: AtomicU8 = AtomicU8::new(0);
        let known = KNOWN.load(Ordering::Relaxed);
        if known & Features::ASKED != 0 {
            return Features(known);
        }
        let asked = Features(ask_processor().0 | Features::ASKED);
        KNOWN.store(asked.0, Ordering::Relaxed);
        asked
    }

    /// Whether scalar code may use the machine's fused multiply-add.
    pub fn has_fma(self) -> bool {
        self.0 & Features::FMA != 0
    }

    /// Whether these features, and the features of this build, are enough for `isa`.
    pub fn allow(self, isa: Isa) -> bool {
        match isa {
            Isa::ScalarSoft => !HAS_VFMA,
            Isa::Scalar => true,
            Isa::Portable => cfg!(all(
                feature = "portable",
                any(
                    target_feature = "sse2",
                    all(target_arch = "wasm32", target_feature = "simd128")
                )
            )),
            Isa::Avx2 => cfg!(feature = "avx2") && self.0 & Features::AVX2 != 0,
            Isa::Avx512 => cfg!(feature = "avx512") && self.0 & Features::AVX512 != 0,
            Isa::Neon => cfg!(feature = "neon") && self.0 & Features::NEON != 0,
            #[cfg(feature = "models")]
            Isa::FourLanes | Isa::SixteenLanes => true,
        }
    }

    /// The fastest of what is allowed. One lane with the machine's multiply-add is faster than
    /// eight that do it in software.
    pub fn fastest(self) -> Isa {
        let wanted = |isa: &Isa| self.allow(*isa) && (*isa != Isa::Portable || !self.has_fma());
        Isa::ALL.into_iter().rev().find(wanted).unwrap_or(Isa::ScalarSoft)
    }

    /// From the words that `CPUID` and `XGETBV` return. `leaf1_ecx` and `leaf7_ebx` are zero
    /// where the processor has no such leaf, `xcr0` where it may not be read (OSXSAVE missing).
    ///
    /// Bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID, and
    /// volume 1, section 13.3.
    pub fn from_words(leaf1_ecx: u32, leaf7_ebx: u32, xcr0: u64) -> Features {
        const FMA: u32 = 1 << 12;
        const OSXSAVE: u32 = 1 << 27;
        const AVX: u32 = 1 << 28;
        const AVX2: u32 = 1 << 5;
        const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31; // F, DQ, BW, VL
        const YMM: u64 = 0b110; // the low halves and the high halves of ymm
        const ZMM: u64 = 0b1110_0110; // and the mask registers and both parts of zmm

        let mut found = 0;
        let ymm_saved = leaf1_ecx & OSXSAVE != 0 && xcr0 & YMM == YMM;
        if ymm_saved && leaf1_ecx & (FMA | AVX) == FMA | AVX {
            found |= Features::FMA;
            if leaf7_ebx & AVX2 != 0 {
                found |= Features::AVX2;
                if xcr0 & ZMM == ZMM && leaf7_ebx & AVX512 == AVX512 {
                    found |= Features::AVX512;
                }
            }
        }
        Features(found)
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
fn ask_processor() -> Features {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn read_xcr0() -> u64 {
        // SAFETY: the caller has seen OSXSAVE, so XGETBV is enabled and register 0 exists.
        unsafe { _xgetbv(0) }
    }

    #[allow(unused_unsafe)] // CPUID is safe to call from Rust 1.94 on
    // SAFETY: every x86-64 processor has CPUID, and leaf 7 is asked only where it exists.
    let (highest_leaf, leaf1_ecx) = unsafe { (__cpuid(0).eax, __cpuid(1).ecx) };
    #[allow(unused_unsafe)]
    // SAFETY: as above.
    let leaf7_ebx = if highest_leaf >= 7 { unsafe { __cpuid_count(7, 0).ebx } } else { 0 };
    let has_osxsave = leaf1_ecx & 1 << 27 != 0;
    // SAFETY: OSXSAVE says that the processor has XSAVE and the operating system enabled it.
    let xcr0 = if has_osxsave { unsafe { read_xcr0() } } else { 0 };
    Features::from_words(leaf1_ecx, leaf7_ebx, xcr0)
}

/// What is in the target needs no asking.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
fn ask_processor() -> Features {
    if !cfg!(all(target_arch = "aarch64", target_feature = "neon")) {
        Features(0)
    } else if cfg!(target_endian = "little") {
        Features(Features::FMA | Features::NEON)
    } else {
        Features(Features::FMA)
    }
}
