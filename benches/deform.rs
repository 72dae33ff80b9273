//! Deformable convolutions, on one thread: milliseconds, GFLOP/s (multiply-adds with weights count as
//! two), and the share of the fma peak, with offsets up to two elements and up to twenty.
//!
//! ```text
//! cargo bench --bench deform
//! cargo bench --bench deform -- 256        layers whose name has this in it
//! python3 benches/deform.py                beside torchvision
//! ```

#[allow(dead_code)] // other benches use the rest
#[path = "support/suite.rs"]
mod suite;

#[path = "support/peak.rs"]
mod peak;

use std::time::Instant;
use suite::{Aligned, Random, permuted};
use tapwise::{DeformConv2d, Epilogue, Error, Isa, Layout};

const ROUNDS: usize = 15;

/// Name, input channels, output channels, size, groups, offset groups.
type Layer = (&'static str, usize, usize, [usize; 2], usize, usize);

/// Modulated, 3x3, padded by one.
const LAYERS: [Layer; 4] = [
    ("256_to_256_50x84", 256, 256, [50, 84], 1, 1),
    ("64_to_64_56x56", 64, 64, [56, 56], 1, 1),
    ("512_to_512_25x42", 512, 512, [25, 42], 1, 4),
    ("depthwise_128_50x84", 128, 128, [50, 84], 128, 4),
];

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    println!(
        "{:<22} {:<5} {:<8} {:>6} {:>9} {:>9} {:>6}",
        "layer", "", "path", "moves", "ms", "GFLOP/s", "peak"
    );
    for isa in [Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
        let peak = peak::fma_peak_gflops(isa);
        for layer in LAYERS {
            if only.as_ref().is_some_and(|only| !layer.0.contains(only.as_str())) {
                continue;
            }
            for (name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
                for moves in [2.0, 20.0] {
                    let (ms, gflops) = measure(&layer, layout, isa, moves).expect("sound layers");
                    let share = peak.map_or(f64::NAN, |peak| 100.0 * gflops / peak);
                    println!(
                        "{:<22} {name:<5} {:<8} {moves:>6} {ms:>9.3} {gflops:>9.1} {share:>5.0}%",
                        layer.0,
                        isa.name(),
                    );
                }
            }
        }
    }
}

/// The best of some rounds, each of at least ten milliseconds.
fn measure(layer: &Layer, layout: Layout, isa: Isa, moves: f32) -> Result<(f64, f64), Error> {
    let (name, in_channels, out_channels, size, groups, offset_groups) = *layer;
    let deform = DeformConv2d::new(in_channels, out_channels, [3, 3])
        .padding([1, 1])
        .groups(groups)
        .offset_groups(offset_groups)
        .modulated();
    let plan = deform.plan(layout, 1, size)?.with_isa(isa)?;
    let mut random = Random::from_name(name);
    let mut tensor = |len: usize, channels: usize| {
        let values = random.vector(len);
        Aligned::copy_of(&permuted(&values, 1, channels, Layout::Nchw, layout))
    };
    let sets = offset_groups * 9;
    let x = tensor(plan.input_len(), in_channels);
    let mut offsets = tensor(plan.offsets_len(), 2 * sets);
    offsets.iter_mut().for_each(|offset| *offset *= moves);
    let mask = tensor(plan.mask_len(), sets);
    let w = random.vector(plan.weights_len());
    let mut packed = Aligned::zeros(plan.packed_len());
    let weights = plan.pack(&w, &mut packed)?;
    let mut y = Aligned::zeros(plan.output_len());
    let mut scratch = Aligned::zeros(plan.scratch_len());
    let mut call = |calls: usize| -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..calls {
            let epilogue = Epilogue::new();
            plan.run(&x, &offsets, Some(&mask), weights, epilogue, &mut scratch, &mut y)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e3 / calls as f64)
    };
    let calls = (10.0 / call(1)?).ceil() as usize;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        best = best.min(call(calls)?);
    }
    Ok((best, 2.0 * plan.macs() as f64 / best / 1e6))
}
