//! What an activation costs that runs as a pass behind the kernel:
//!
//! ```text
//! cargo bench --bench activations
//! cargo bench --bench activations -- rn50_3x3
//! ```
//!
//! Each layer with and without, in turns; medians of the ratios. On the layer `rn50_3x3_56_64` SiLU may
//! take a tenth of its time, with AVX2 and AVX-512 in both layouts: else the run fails.

#[allow(dead_code)] // the other bench uses the rest
#[path = "support/suite.rs"]
mod suite;

use std::time::Instant;
use suite::Prepared;
use tapwise::{Activation, Epilogue, Error, Isa, Layout};

const BOUND: &str = "rn50_3x3_56_64";
const MOST_FOR_SILU: f64 = 1.10;
const LAYERS: [&str; 6] = [
    BOUND,
    "rn50_3x3_14_256",
    "rn50_1x1_56_64_256",
    "mbv2_pw_14_96_576",
    "mbv1_dw3x3_112_32",
    "effb0_dw5x5_14_480",
];
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("relu", Activation::Relu),
    ("hard-sigmoid", Activation::HardSigmoid),
    ("sigmoid", Activation::Sigmoid),
    ("silu", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("gelu", Activation::Gelu),
    ("gelu tanh", Activation::GeluTanh),
];
const ROUNDS: usize = 31;

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let layers = suite::layers(include_str!("suite.json")).expect("the list is sound");
    let mut faults = Vec::new();
    print!("{:<24} {:<6} {:<9} {:>9}", "layer", "layout", "path", "plain us");
    ACTIVATIONS.iter().for_each(|(name, _)| print!(" {name:>12}"));
    println!(" {:>12}", "prelu");
    for name in LAYERS {
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let layer = layers.iter().find(|layer| layer.name == name).expect("a layer of the list");
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable] {
            if !isa.is_available() {
                continue;
            }
            for (layout_name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
                let prepared = Prepared::new(layer, layout, isa).expect("a sound layer");
                let slopes = vec![0.25; prepared.plan.out_channels()];
                let mut row = Vec::new();
                let mut plain = 0.0;
                for (activation_name, activation) in ACTIVATIONS {
                    let epilogue = Epilogue::new().activation(activation);
                    let (mut ratio, time) = measure(&prepared, epilogue).expect("a sound call");
                    plain = time;
                    if activation_name == "silu" && name == BOUND && isa != Isa::Portable {
                        // What seems too slow is measured again: the machine may have been busy.
                        if ratio > MOST_FOR_SILU {
                            ratio = ratio.min(measure(&prepared, epilogue).expect("a call").0);
                        }
                        if ratio > MOST_FOR_SILU {
                            faults.push(format!("{name} {layout_name} {}: {ratio:.3}", isa.name()));
                        }
                    }
                    row.push(ratio);
                }
                row.push(measure(&prepared, Epilogue::new().prelu(&slopes)).expect("a call").0);
                print!("{name:<24} {layout_name:<6} {:<9} {plain:>9.2}", isa.name());
                row.iter().for_each(|ratio| print!(" {ratio:>12.3}"));
                println!();
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// With the epilogue to without, as a median of ratios, and the microseconds without.
fn measure(prepared: &Prepared, epilogue: Epilogue) -> Result<(f64, f64), Error> {
    let mut scratch = prepared.scratch();
    let mut y = prepared.output();
    let weights = prepared.call_weights()?;
    let plan = &prepared.plan;
    let mut run =
        |epilogue| plan.run(&prepared.input, weights, epilogue, &mut scratch, &mut y).map(|_| ());
    let start = Instant::now();
    run(epilogue)?;
    let calls = (200e-6 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1000.0) as usize;
    let mut time = |epilogue| -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..calls {
            run(epilogue)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    time(epilogue)?;
    let (mut ratios, mut plains) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let plain = time(Epilogue::new())?;
        plains.push(plain);
        ratios.push(time(epilogue)? / plain);
    }
    Ok((median(&mut ratios), median(&mut plains)))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
