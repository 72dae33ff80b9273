//! The fastest that this machine does fused multiply-adds in `f32`: what every share is a share of.

use tapwise::Isa;

/// GFLOP/s of one core (a multiply-add is two operations) with the vectors of `isa`: the best
/// millisecond out of a hundred, so that what else the machine does hardly counts. `None`, loudly,
/// where the machine has no such instruction or this file no loop for it.
pub fn fma_peak_gflops(isa: Isa) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    let peak = x86::peak_gflops(isa);
    #[cfg(not(target_arch = "x86_64"))]
    let peak = None;
    if peak.is_none() {
        eprintln!("NO PEAK: nothing to measure the path {} against on this machine;", isa.name());
        eprintln!("NO PEAK: every share of the peak is left out.");
    }
    peak
}

/// Independent chains of multiply-adds, in assembly: a compiler spills the accumulators of the
/// same loop written with intrinsics.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::time::Instant;
    use tapwise::Isa;

    /// Enough for two units with a latency of up to six cycles each.
    const CHAINS: u64 = 12;
    const RUNS: usize = 100;
    const RUN_NS: f64 = 1e6;

    pub fn peak_gflops(isa: Isa) -> Option<f64> {
        let (lanes, chains): (u64, fn(u64)) = match isa {
            // The software multiply-add is measured against the instruction it stands in for.
            Isa::ScalarSoft | Isa::Scalar if is_x86_feature_detected!("fma") => (1, scalar),
            Isa::Avx2 if isa.is_available() => (8, ymm),
            Isa::Avx512 if isa.is_available() => (16, zmm),
            _ => return None,
        };
        let steps_per_ns = |steps: u64| {
            let start = Instant::now();
            chains(steps);
            steps as f64 / start.elapsed().as_nanos() as f64
        };
        steps_per_ns(1_000_000); // wakes the wide units up
        let steps = (steps_per_ns(100_000) * RUN_NS) as u64;
        let best = (0..RUNS).map(|_| steps_per_ns(steps)).fold(0.0, f64::max);
        Some(best * (2 * lanes * CHAINS) as f64)
    }

    /// `$steps` times one multiply-add into each of the accumulators. Their values grow slowly
    /// from zero, so that none is ever subnormal or infinite.
    macro_rules! chains {
        ($steps:ident, $fma:literal, $spread:literal, $vector:literal, $($acc:literal)*) => {
            asm!(
                "vmovd xmm14, {x:e}",
                "vmovd xmm15, {w:e}",
                concat!($spread, " ", $vector, "14, xmm14"),
                concat!($spread, " ", $vector, "15, xmm15"),
                $(concat!("vxorps xmm", $acc, ", xmm", $acc, ", xmm", $acc),)*
                "2:",
                $(concat!($fma, " ", $vector, $acc, ", ", $vector, "14, ", $vector, "15"),)*
                "dec {steps}",
                "jnz 2b",
                "vzeroupper",
                x = in(reg) 1.5_f32.to_bits(),
                w = in(reg) 1e-6_f32.to_bits(),
                steps = inout(reg) $steps.max(1) => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack),
            )
        };
    }

    fn scalar(steps: u64) {
        // SAFETY: `peak_gflops` has detected FMA, which implies AVX; every register written is
        // named, and memory is not touched.
        unsafe { chains!(steps, "vfmadd231ss", "vmovaps", "xmm", 0 1 2 3 4 5 6 7 8 9 10 11) };
    }

    fn ymm(steps: u64) {
        // SAFETY: `peak_gflops` has detected AVX2 and FMA; the rest as above.
        unsafe { chains!(steps, "vfmadd231ps", "vbroadcastss", "ymm", 0 1 2 3 4 5 6 7 8 9 10 11) };
    }

    fn zmm(steps: u64) {
        // SAFETY: `peak_gflops` has detected AVX-512; the rest as above.
        unsafe { chains!(steps, "vfmadd231ps", "vbroadcastss", "zmm", 0 1 2 3 4 5 6 7 8 9 10 11) };
    }
}
