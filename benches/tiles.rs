//! What it costs to cut a layer into tiles, and what two threads gain:
//!
//! ```text
//! cargo bench --bench tiles
//! cargo bench --bench tiles -- mbv1_dw
//! ```
//!
//! The tiles of any cut up to 16, one after the other on one thread, may take 1.15 times as long as the
//! whole layer, and two threads that wait by spinning have to be 1.7 times as fast as one on depthwise
//! layers: else the run fails.

#[path = "../examples/layers/crew.rs"]
mod crew;
#[allow(dead_code)] // the other bench uses the rest
#[path = "support/suite.rs"]
mod suite;

use std::collections::BTreeMap;
use std::time::Instant;
use suite::Prepared;
use tapwise::{Epilogue, Error, Isa, Kernel, Layout};

const MOST_FOR_TILES: f64 = 1.15;
const LEAST_FOR_TWO_THREADS: f64 = 1.7;
/// Layers that take longer than this many multiply-adds add nothing but time.
const MOST_MACS: u128 = 150_000_000;
/// Where a call takes less, threads cost more than they bring.
const LEAST_MICROSECONDS: f64 = 10.0;
const ROUNDS: usize = 15;

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let layers = suite::layers(include_str!("suite.json")).expect("the list is sound");
    let mut faults = Vec::new();
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    println!(
        "{:<24} {:<6} {:<9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>12}",
        "layer", "layout", "kernel", "whole us", "2", "4", "8", "16", "two threads"
    );
    for layer in &layers {
        let wanted = only.as_ref().is_none_or(|only| layer.name.contains(only.as_str()));
        if !wanted {
            continue;
        }
        for (name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
            let prepared = Prepared::new(layer, layout, Isa::detect()).expect("a sound layer");
            if prepared.plan.macs() > MOST_MACS {
                continue;
            }
            let mut row = measure(&prepared).expect("a sound call");
            let mut two = two_threads(&prepared).expect("a sound call");
            let kernel = prepared.plan.kernel_name();
            let depthwise = layer.groups == layer.in_channels && layer.groups > 1;
            // What seems too slow is measured again: the machine may have been busy.
            for _ in 0..2 {
                if depthwise && two < LEAST_FOR_TWO_THREADS {
                    two = two.max(two_threads(&prepared).expect("a sound call"));
                }
            }
            let most = |row: &Row| row.ratios.iter().copied().fold(0.0, f64::max);
            if most(&row) > MOST_FOR_TILES {
                let again = measure(&prepared).expect("a sound call");
                for (ratio, again) in row.ratios.iter_mut().zip(again.ratios) {
                    *ratio = ratio.min(again);
                }
            }
            let ratios: Vec<String> = row.ratios.iter().map(|r| format!("{r:>7.3}")).collect();
            println!(
                "{:<24} {name:<6} {kernel:<9} {:>9.2} {} {two:>12.2}",
                layer.name,
                row.whole,
                ratios.join(" ")
            );
            let entry = worst.entry(kernel).or_default();
            *entry = entry.max(most(&row));
            if row.whole >= LEAST_MICROSECONDS {
                if most(&row) > MOST_FOR_TILES {
                    faults.push(format!("{} {name}: tiles {:.3}", layer.name, most(&row)));
                }
                if depthwise && two < LEAST_FOR_TWO_THREADS {
                    faults.push(format!("{} {name}: two threads {two:.2}", layer.name));
                }
            }
        }
    }
    println!("the worst cut of each kernel: {worst:?}");
    let missing =
        Kernel::ALL.map(Kernel::name).into_iter().filter(|name| !worst.contains_key(name));
    faults.extend(missing.filter(|_| only.is_none()).map(|name| format!("{name}: no layer")));
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

struct Row {
    /// Microseconds.
    whole: f64,
    /// Of the tiles of each cut, one after the other, to the whole.
    ratios: [f64; 4],
}

/// Whole layer and tiles in turns; medians of their ratios.
fn measure(prepared: &Prepared) -> Result<Row, Error> {
    let mut scratch = prepared.scratch();
    let mut y = prepared.output();
    let weights = prepared.call_weights()?;
    let plan = &prepared.plan;
    let mut run = |tiles: Option<usize>| -> Result<(), Error> {
        match tiles {
            None => plan
                .run(&prepared.input, weights, Epilogue::new(), &mut scratch, &mut y)
                .map(|_| ()),
            Some(count) => {
                let mut job = plan.job(&prepared.input, weights, Epilogue::new(), &mut y)?;
                for tile in job.tiles(count) {
                    tile.run(&mut scratch)?;
                }
                Ok(())
            }
        }
    };
    let start = Instant::now();
    run(None)?;
    let calls = (200e-6 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1000.0) as usize;
    let mut time = |tiles| -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..calls {
            run(tiles)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    time(None)?;
    let mut wholes = Vec::new();
    let mut ratios = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (ratios, count) in ratios.iter_mut().zip([2, 4, 8, 16]) {
            let whole = time(None)?;
            wholes.push(whole);
            ratios.push(time(Some(count))? / whole);
        }
    }
    Ok(Row { whole: median(&mut wholes), ratios: ratios.map(|mut ratios| median(&mut ratios)) })
}

/// How many times as fast two threads are as one; both already exist.
fn two_threads(prepared: &Prepared) -> Result<f64, String> {
    let time = |threads: usize| {
        let (time, _) = crew::with_threads(prepared, threads, |call| {
            let mut samples = Vec::new();
            for _ in 0..3 * ROUNDS {
                let start = Instant::now();
                let mut calls = 0;
                while start.elapsed().as_micros() < 200 {
                    call().map_err(|error| error.to_string())?;
                    calls += 1;
                }
                samples.push(start.elapsed().as_secs_f64() / f64::from(calls));
            }
            Ok(median(&mut samples))
        })?;
        Ok::<f64, String>(time)
    };
    Ok(time(1)? / time(2)?)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
