//! Which paths a machine has: the words of its processor, read with care.

mod support;

use tapwise::{Features, Isa};

const FMA: u32 = 1 << 12;
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;
const LEAF_1: u32 = FMA | OSXSAVE | AVX;

const AVX2: u32 = 1 << 5;
const AVX512_F: u32 = 1 << 16;
const AVX512_DQ: u32 = 1 << 17;
const AVX512_BW: u32 = 1 << 30;
const AVX512_VL: u32 = 1 << 31;
const LEAF_7: u32 = AVX2 | AVX512_F | AVX512_DQ | AVX512_BW | AVX512_VL;

const XMM: u64 = 1 << 1;
const YMM: u64 = 1 << 2;
const MASKS: u64 = 1 << 5;
const ZMM_HIGH_HALVES: u64 = 1 << 6;
const ZMM_16_TO_31: u64 = 1 << 7;
const XCR0: u64 = 1 | XMM | YMM | MASKS | ZMM_HIGH_HALVES | ZMM_16_TO_31;

/// Whether fused multiply-adds, AVX2 and AVX-512 may be used, as far as the processor goes.
fn found(leaf_1: u32, leaf_7: u32, xcr0: u64) -> [bool; 3] {
    let features = Features::from_words(leaf_1, leaf_7, xcr0);
    assert!(features.allow(Isa::ScalarSoft) && features.allow(Isa::Scalar));
    assert_eq!(features.allow(Isa::Portable), PORTABLE);
    assert!(!features.allow(Isa::Neon));
    let allowed = [Isa::Avx2, Isa::Avx512].map(|isa| features.allow(isa));
    // What the build leaves out is never allowed.
    let full = Features::from_words(LEAF_1, LEAF_7, XCR0);
    assert_eq!(full.allow(Isa::Avx2), cfg!(feature = "avx2"));
    assert_eq!(full.allow(Isa::Avx512), cfg!(feature = "avx512"));
    let [avx2, avx512] = allowed;
    [features.has_fma(), avx2, avx512]
}

const BUILT: [bool; 2] = [cfg!(feature = "avx2"), cfg!(feature = "avx512")];
const PORTABLE: bool =
    cfg!(all(feature = "portable", any(target_feature = "sse2", target_feature = "simd128")));
const NOTHING: [bool; 3] = [false; 3];
const FMA_ONLY: [bool; 3] = [true, false, false];
const UP_TO_AVX2: [bool; 3] = [true, BUILT[0], false];
const EVERYTHING: [bool; 3] = [true, BUILT[0], BUILT[1]];

#[test]
fn a_machine_with_everything() {
    assert_eq!(found(LEAF_1, LEAF_7, XCR0), EVERYTHING);
    assert_eq!(found(u32::MAX, u32::MAX, u64::MAX), EVERYTHING);
    assert_eq!(found(0, 0, 0), NOTHING);
}

#[test]
fn an_operating_system_that_saves_no_wide_registers() {
    assert_eq!(found(LEAF_1 & !OSXSAVE, LEAF_7, XCR0), NOTHING);
    assert_eq!(found(!OSXSAVE, u32::MAX, u64::MAX), NOTHING);
    assert_eq!(found(LEAF_1, LEAF_7, 0), NOTHING);
    assert_eq!(found(LEAF_1, LEAF_7, 1 | XMM), NOTHING);
    for missing in [XMM, YMM] {
        assert_eq!(found(LEAF_1, LEAF_7, XCR0 & !missing), NOTHING);
        assert_eq!(found(u32::MAX, u32::MAX, !missing), NOTHING);
    }
    assert_eq!(found(LEAF_1, LEAF_7, 1 | XMM | YMM), UP_TO_AVX2);
    for missing in [MASKS, ZMM_HIGH_HALVES, ZMM_16_TO_31] {
        assert_eq!(found(LEAF_1, LEAF_7, XCR0 & !missing), UP_TO_AVX2);
        assert_eq!(found(u32::MAX, u32::MAX, !missing), UP_TO_AVX2);
    }
}

#[test]
fn a_processor_that_lacks_one_thing() {
    for missing in [FMA, AVX] {
        assert_eq!(found(LEAF_1 & !missing, LEAF_7, XCR0), NOTHING);
        assert_eq!(found(!missing, u32::MAX, u64::MAX), NOTHING);
    }
    assert_eq!(found(LEAF_1, LEAF_7 & !AVX2, XCR0), FMA_ONLY);
    assert_eq!(found(u32::MAX, !AVX2, u64::MAX), FMA_ONLY);
    assert_eq!(found(LEAF_1, 0, XCR0), FMA_ONLY);
    for missing in [AVX512_F, AVX512_DQ, AVX512_BW, AVX512_VL] {
        assert_eq!(found(LEAF_1, LEAF_7 & !missing, XCR0), UP_TO_AVX2);
        assert_eq!(found(u32::MAX, !missing, u64::MAX), UP_TO_AVX2);
    }
}

/// Words of processors through the years.
#[test]
fn the_fastest_path() {
    let fastest = |leaf_1, leaf_7, xcr0| Features::from_words(leaf_1, leaf_7, xcr0).fastest();
    let without_fma = if PORTABLE { Isa::Portable } else { Isa::Scalar };
    let ymm = 1 | XMM | YMM;
    let avx2 = if BUILT[0] { Isa::Avx2 } else { Isa::Scalar };
    assert_eq!(fastest(0, 0, 0), without_fma);
    assert_eq!(fastest(OSXSAVE | AVX, 0, ymm), without_fma);
    assert_eq!(fastest(LEAF_1, 0, ymm), Isa::Scalar); // FMA without AVX2
    assert_eq!(fastest(LEAF_1, AVX2, ymm), avx2);
    assert_eq!(fastest(LEAF_1, LEAF_7, XCR0), if BUILT[1] { Isa::Avx512 } else { avx2 });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_standard_library_finds_the_same() {
    use std::arch::is_x86_feature_detected as std_finds;
    let avx2 = std_finds!("avx2") && std_finds!("fma");
    let avx512 = avx2
        && std_finds!("avx512f")
        && std_finds!("avx512bw")
        && std_finds!("avx512dq")
        && std_finds!("avx512vl");
    assert_eq!(Isa::Avx2.is_available(), avx2 && BUILT[0]);
    assert_eq!(Isa::Avx512.is_available(), avx512 && BUILT[1]);
    assert!(Isa::Scalar.is_available() && Isa::ScalarSoft.is_available());
    let fma = std_finds!("avx") && std_finds!("fma");
    assert_eq!(Features::of_this_machine().has_fma(), fma);
    let fastest = match (avx2 && BUILT[0], avx512 && BUILT[1]) {
        (_, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        (false, false) if PORTABLE && !fma => Isa::Portable,
        (false, false) => Isa::Scalar,
    };
    assert_eq!(Isa::detect(), fastest);
    assert!(!Isa::Neon.is_available());
    for (name, has) in [("avx2", avx2), ("avx512", avx512)] {
        if !has {
            support::say(&format!("SKIPPED: this machine has no {name}"));
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn other_machines_have_what_is_in_their_target() {
    let fma = cfg!(all(target_arch = "aarch64", target_feature = "neon"));
    let neon = fma && cfg!(all(target_endian = "little", feature = "neon"));
    assert_eq!(Features::of_this_machine().has_fma(), fma);
    assert_eq!(Isa::Neon.is_available(), neon);
    let fastest = if neon {
        Isa::Neon
    } else if PORTABLE {
        Isa::Portable
    } else {
        Isa::Scalar
    };
    assert_eq!(Isa::detect(), fastest);
    assert!(Isa::Scalar.is_available() && Isa::ScalarSoft.is_available());
    assert!(!Isa::Avx2.is_available() && !Isa::Avx512.is_available());
    if !neon {
        support::say("SKIPPED: this machine, or this build, has no neon");
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn the_standard_library_finds_neon_too() {
    assert!(std::arch::is_aarch64_feature_detected!("neon"));
}

/// On a known machine, as an emulated one is, it is known which path has to be chosen.
#[test]
fn the_path_that_is_expected() {
    match std::env::var("TAPWISE_EXPECT_ISA") {
        Ok(name) => assert_eq!(Isa::detect().name(), name),
        Err(_) => support::say("SKIPPED: TAPWISE_EXPECT_ISA does not name the path to be chosen"),
    }
}

#[test]
fn threads_agree() {
    let barrier = std::sync::Barrier::new(8);
    let found: Vec<(Isa, [bool; Isa::ALL.len()], Features)> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            (Isa::detect(), Isa::ALL.map(Isa::is_available), Features::of_this_machine())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for other in &found {
        assert_eq!(other, &found[0]);
    }
    let (fastest, available, features) = found[0];
    assert_eq!(fastest, features.fastest());
    assert_eq!(available, Isa::ALL.map(|isa| features.allow(isa)));
    assert!(fastest.is_available());
}

#[test]
fn names() {
    let names = Isa::ALL.map(Isa::name);
    assert_eq!(names, ["scalar-soft", "scalar", "portable", "avx2", "avx512", "neon"]);
    for isa in Isa::ALL {
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
    }
    for unknown in ["", "AVX2", "avx", "avx512f", "scalar ", "NEON"] {
        assert_eq!(Isa::from_name(unknown), None);
    }
}
