//! Transposed layers beside the convolutions of which they are the adjoints: the same multiply-adds on
//! the same tensors, the other way round.
//!
//! ```text
//! cargo bench --bench transposed
//! cargo bench --bench transposed -- unet
//! ```
//!
//! A transposed layer may take 1 / 0.9 times as long, on every vector path and in both layouts: else
//! the run fails.

#[allow(dead_code)] // other benches use the rest
#[path = "support/suite.rs"]
mod suite;

use std::time::Instant;
use suite::{Kind, Layer, Prepared};
use tapwise::{Epilogue, Error, Isa, Layout};

const LEAST: f64 = 0.9;
const ROUNDS: usize = 15;

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let layers = suite::layers(include_str!("suite.json")).expect("the list is sound");
    let mut slow = Vec::new();
    println!(
        "{:<24} {:<6} {:<8} {:>13} {:>15} {:>6}",
        "layer", "layout", "path", "transposed us", "convolution us", "speed"
    );
    for layer in layers.iter().filter(|layer| layer.kind == Kind::ConvTranspose2d) {
        if only.as_ref().is_some_and(|only| !layer.name.contains(only.as_str())) {
            continue;
        }
        for isa in [Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
        {
            for (name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
                let mut times = measure(layer, layout, isa).expect("sound layers");
                if times.speed < LEAST {
                    // The machine may have been busy.
                    let again = measure(layer, layout, isa).expect("sound layers");
                    times = if again.speed > times.speed { again } else { times };
                }
                let Times { transposed, convolution, speed } = times;
                println!(
                    "{:<24} {name:<6} {:<8} {transposed:>13.1} {convolution:>15.1} {speed:>6.2}",
                    layer.name,
                    isa.name()
                );
                if speed < LEAST {
                    slow.push(format!("{} {name} {}: {speed:.2}", layer.name, isa.name()));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{} layers are too slow\n{}", slow.len(), slow.join("\n"));
}

struct Times {
    /// Microseconds.
    transposed: f64,
    convolution: f64,
    /// The median of convolution / transposed.
    speed: f64,
}

/// Both in turns.
fn measure(layer: &Layer, layout: Layout, isa: Isa) -> Result<Times, Error> {
    let transposed = Prepared::new(layer, layout, isa)?;
    let [_, height, width] = transposed.plan.output_size();
    let adjoint = Layer {
        kind: Kind::Conv2d,
        name: layer.name.clone(),
        in_channels: layer.out_channels,
        out_channels: layer.in_channels,
        size: [height, width],
        ..*layer
    };
    let convolution = Prepared::new(&adjoint, layout, isa)?;
    assert_eq!(convolution.plan.macs(), transposed.plan.macs());
    let call = |prepared: &Prepared, calls: usize| -> Result<f64, Error> {
        let (mut scratch, mut y) = (prepared.scratch(), prepared.output());
        let weights = prepared.call_weights()?;
        let run = &mut || {
            prepared
                .plan
                .run(&prepared.input, weights, Epilogue::new(), &mut scratch, &mut y)
                .map(|_| ())
        };
        run()?;
        let start = Instant::now();
        for _ in 0..calls {
            run()?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    let calls = (500.0 / call(&transposed, 1)?).ceil().clamp(1.0, 1000.0) as usize;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let pair = [call(&transposed, calls)?, call(&convolution, calls)?];
        times[0].push(pair[0]);
        times[1].push(pair[1]);
        times[2].push(pair[1] / pair[0]);
    }
    let [transposed, convolution, speed] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(Times { transposed, convolution, speed })
}
