//! Every layer of `suite.json` in both layouts on the fastest path, and what a call costs that
//! has next to nothing to compute:
//!
//! ```text
//! cargo bench
//! cargo bench -- rn50_3x3
//! ```
//!
//! A layer that seems to be faster than the multiply-adds of the machine was measured wrongly:
//! it fails the run.

#[path = "support/peak.rs"]
mod peak;
#[allow(dead_code)] // the example uses the rest
#[path = "support/suite.rs"]
mod suite;

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::time::{Duration, Instant};
use suite::{Layer, Prepared};
use tapwise::{Conv2d, Epilogue, Error, Isa, Layout, PackedWeights};

const LAYOUTS: [(&str, Layout); 2] = [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)];
const SAMPLES: usize = 10;
/// Of the peak; the clock of the machine is not quite constant.
const MOST_CREDIBLE_SHARE: f64 = 1.02;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .nresamples(10_000)
        .configure_from_args();
    calls(&mut criterion).expect("the layers are sound");
    let layers = suite::layers(include_str!("suite.json")).expect("the list is sound");
    let mut rows = Vec::new();
    for layer in &layers {
        for (name, layout) in LAYOUTS {
            rows.extend(time(&mut criterion, layer, name, layout).expect("the layer is sound"));
        }
    }
    criterion.final_summary();
    report(&rows);
}

/// What a layer took.
struct Row {
    layer: String,
    layout: &'static str,
    /// By nominal multiply-adds.
    gflops: f64,
    /// How many of these have their tap inside the input.
    valid_share: f64,
    peak: Option<f64>,
}

impl Row {
    /// Of the multiply-adds that the machine could do; those on padding, which may be skipped,
    /// are not counted.
    fn share_of_roofline(&self) -> Option<f64> {
        self.peak.map(|peak| self.gflops * self.valid_share / peak)
    }
}

/// Times one layer; `None` if the command line leaves it out.
fn time(
    criterion: &mut Criterion,
    layer: &Layer,
    layout_name: &'static str,
    layout: Layout,
) -> Result<Option<Row>, Error> {
    let isa = Isa::detect();
    let flops = 2 * layer.plan(layout, isa)?.macs() as u64;
    // Criterion keeps its samples to itself, so they are noted on the way there.
    let mut samples = Vec::new();
    let mut ready = None;
    let mut group = criterion.benchmark_group(layer.name.as_str());
    group.throughput(Throughput::Elements(flops));
    group.bench_function(layout_name, |bencher| {
        let (prepared, scratch, y, _) = ready.get_or_insert_with(|| {
            let prepared = Prepared::new(layer, layout, isa).expect("a sound layer");
            let (scratch, y) = (prepared.scratch(), prepared.output());
            (prepared, scratch, y, peak::fma_peak_gflops(isa))
        });
        let weights = prepared.call_weights().expect("packed for this plan");
        bencher.iter_custom(|calls| {
            let start = Instant::now();
            for _ in 0..calls {
                let x = black_box(&prepared.input);
                prepared.plan.run(x, weights, Epilogue::new(), scratch, y).expect("a sound call");
            }
            let elapsed = start.elapsed();
            samples.push(elapsed.as_nanos() as f64 / calls as f64);
            elapsed
        });
    });
    group.finish();
    let Some((_, _, _, peak)) = ready else { return Ok(None) };
    let measured = samples.len().saturating_sub(SAMPLES); // behind those of the warm-up
    let Some(samples) = samples.get_mut(measured..).filter(|_| measured > 0) else {
        return Ok(None);
    };
    samples.sort_by(f64::total_cmp);
    let gflops = flops as f64 / samples[samples.len() / 2];
    let layer_name = layer.name.clone();
    let valid_share = layer.valid_share();
    let mut row = Row { layer: layer_name, layout: layout_name, gflops, valid_share, peak };
    if row.share_of_roofline() > Some(MOST_CREDIBLE_SHARE) {
        // The clock may have risen meanwhile.
        row.peak = row.peak.zip(peak::fma_peak_gflops(isa)).map(|(before, now)| before.max(now));
    }
    Ok(Some(row))
}

/// Calls that are all overhead.
fn calls(criterion: &mut Criterion) -> Result<(), Error> {
    let mut group = criterion.benchmark_group("call");
    let pointwise = Conv2d::new(8, 8, [1, 1]);
    let small = Conv2d::new(8, 8, [3, 3]).padding_same();
    for (layer, conv, size) in
        [("1x1 on 1x1x8", pointwise, [1, 1]), ("3x3 on 4x4x8", small, [4, 4])]
    {
        for (name, layout) in LAYOUTS {
            let plan = conv.plan(layout, 1, size)?;
            let (x, w) = (vec![0.5; plan.input_len()], vec![0.25; plan.weights_len()]);
            let (mut packed, mut y) = (vec![0.0; plan.packed_len()], vec![0.0; plan.output_len()]);
            let mut scratch = vec![0.0; plan.scratch_len()];
            let weights = plan.pack(&w, &mut packed)?;
            group.bench_function(format!("{layer}, {name}"), |bencher| {
                bencher.iter(|| {
                    plan.run(black_box(&x), weights, Epilogue::new(), &mut scratch, &mut y)
                        .map(|_| ())
                });
            });
        }
    }
    let wide = Conv2d::new(64, 64, [3, 3]).padding([1, 1]);
    for (name, layout) in LAYOUTS {
        group.bench_function(format!("Conv::plan, {name}"), |bencher| {
            bencher.iter(|| black_box(wide).plan(layout, 1, black_box([56, 56])));
        });
    }
    let plan = wide.plan(Layout::Nhwc, 1, [56, 56])?;
    let mut packed = vec![0.0; plan.packed_len()];
    plan.pack(&vec![0.25; plan.weights_len()], &mut packed)?;
    group.bench_function("PackedWeights::from_slice", |bencher| {
        bencher.iter(|| PackedWeights::from_slice(black_box(&plan), black_box(&packed)).is_ok());
    });
    group.bench_function("Isa::detect", |bencher| bencher.iter(Isa::detect));
    group.finish();
    Ok(())
}

fn report(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\n{:<24} {:<6} {:<8} {:>9} {:>7} {:>7}",
        "layer", "layout", "path", "GFLOP/s", "% peak", "% roof"
    );
    let mut incredible = Vec::new();
    for row in rows {
        let path = Isa::detect().name();
        print!("{:<24} {:<6} {path:<8} {:>9.1}", row.layer, row.layout, row.gflops);
        match (row.peak, row.share_of_roofline()) {
            (Some(peak), Some(share)) => {
                println!(" {:>7.1} {:>7.1}", 100.0 * row.gflops / peak, 100.0 * share);
                if share > MOST_CREDIBLE_SHARE {
                    incredible.push(format!("{} {}", row.layer, row.layout));
                }
            }
            _ => println!(" {:>7} {:>7}", "?", "?"),
        }
    }
    println!(
        "GFLOP/s and % peak: by nominal multiply-adds, one thread, the peak measured before each"
    );
    println!(
        "layer. % roof: by multiply-adds whose tap lies inside the input; the roof is that of the"
    );
    println!("multiply-adds alone, as if all values were in registers.");
    assert!(incredible.is_empty(), "faster than the machine: {}", incredible.join(", "));
}
