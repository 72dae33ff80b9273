//! One layer: checked first, then timed.

use crate::crew::with_threads;
use crate::peak::fma_peak_gflops;
use crate::suite::{Layer, Prepared, Random, fnv1a, permuted};
use std::time::{Duration, Instant};
use tapwise::{Isa, Layout, Plan};

/// What a layer took, and what it computed.
pub struct Measured {
    pub plan: Plan,
    pub threads: usize,
    /// Of a core, on the path of the plan, just before the layer: the clock is not constant.
    pub peak_gflops: Option<f64>,
    pub median_ns: f64,
    pub min_ns: f64,
    /// Over the bits of the output in NCHW order.
    pub hash: u64,
}

impl Measured {
    /// By nominal multiply-adds: those on padding are counted, as is usual.
    pub fn gflops(&self) -> f64 {
        2.0 * self.plan.macs() as f64 / self.median_ns
    }
}

/// Runs a layer once and checks it, then times it.
pub fn measure(
    layer: &Layer,
    layout: Layout,
    isa: Isa,
    threads: usize,
) -> Result<Measured, String> {
    let prepared = Prepared::new(layer, layout, isa).map_err(|error| error.to_string())?;
    let plan = prepared.plan;
    let ((), first) = with_threads(&prepared, threads, |call| call().map_err(|e| e.to_string()))?;
    check(layer, &prepared, &first)?;
    let peak_gflops = fma_peak_gflops(isa);
    let ([median_ns, min_ns], last) = with_threads(&prepared, threads, |call| {
        call().map_err(|error| error.to_string())?;
        Ok(time(&mut || {
            let _ = call(); // the same call as that before
        }))
    })?;
    let bits = |values: &[f32]| {
        let nchw = permuted(values, layer.batch, layer.out_channels, layout, Layout::Nchw);
        fnv1a(nchw.into_iter().flat_map(|value| value.to_bits().to_le_bytes()))
    };
    let hash = bits(&first);
    if hash != bits(&last) {
        return Err("the last call computed other bits than the first".to_owned());
    }
    Ok(Measured { plan, threads, peak_gflops, median_ns, min_ns, hash })
}

/// Median and minimum of the nanoseconds of a call: 50 ms to warm up, then samples of at least
/// 150 us, at least 15 of them and for a quarter of a second; fewer where a call takes long.
fn time(call: &mut dyn FnMut()) -> [f64; 2] {
    let mut sample = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    let mut estimate = sample(1);
    if estimate < 50e6 {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(50) {
            sample(1);
            calls += 1;
        }
        estimate = start.elapsed().as_nanos() as f64 / f64::from(calls);
    }
    let calls = (150e3 / estimate).ceil().max(1.0) as u32;
    let least = match estimate {
        ..0.4e9 => 15,
        ..2e9 => 5,
        _ => 2,
    };
    let mut samples = Vec::new();
    let start = Instant::now();
    while samples.len() < least || start.elapsed() < Duration::from_millis(250) {
        samples.push(sample(calls));
    }
    samples.sort_by(f64::total_cmp);
    [samples[samples.len() / 2], samples[0]]
}

/// Compares 64 outputs with plain sums in `f64`. A chain of `k` roundings is off by at most
/// `k * eps * sum(|x * w|)`.
fn check(layer: &Layer, prepared: &Prepared, y: &[f32]) -> Result<(), String> {
    let [_, height, width] = prepared.plan.output_size();
    let strides = prepared.plan.output_strides();
    let mut random = Random::from_name(&format!("{} samples", layer.name));
    for _ in 0..64 {
        let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
        let (image, channel) = (below(layer.batch), below(layer.out_channels));
        let (row, column) = (below(height), below(width));
        let place = image * strides.batch
            + channel * strides.channel
            + row * strides.row
            + column * strides.pixel;
        let (expected, bound) = plain(layer, prepared, image, channel, [row, column]);
        let off = (f64::from(y[place]) - expected).abs();
        if off.is_nan() || off > bound {
            return Err(format!(
                "image {image}, channel {channel}, row {row}, column {column} is {}, not {expected} \
                 (allowed: {bound:e})",
                y[place]
            ));
        }
    }
    Ok(())
}

/// One output in `f64`, and how far an `f32` chain may be from it.
fn plain(
    layer: &Layer,
    prepared: &Prepared,
    image: usize,
    out_channel: usize,
    output: [usize; 2],
) -> (f64, f64) {
    let strides = prepared.plan.input_strides();
    let in_per_group = layer.in_channels / layer.groups;
    let group = out_channel / (layer.out_channels / layer.groups);
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for channel in 0..in_per_group {
        for tap_row in 0..layer.kernel[0] {
            for tap_column in 0..layer.kernel[1] {
                let (row, column) =
                    (layer.place(0, output[0], tap_row), layer.place(1, output[1], tap_column));
                let (Some(row), Some(column)) = (row, column) else { continue };
                let x = prepared.input[image * strides.batch
                    + (group * in_per_group + channel) * strides.channel
                    + row * strides.row
                    + column * strides.pixel];
                let row = layer.filter(out_channel, channel) * layer.kernel[0] + tap_row;
                let w = prepared.weights[row * layer.kernel[1] + tap_column];
                let product = f64::from(x) * f64::from(w);
                sum += product;
                magnitude += product.abs();
            }
        }
    }
    let chain = (in_per_group * layer.kernel[0] * layer.kernel[1]) as f64;
    (sum, chain * f64::from(f32::EPSILON) * magnitude)
}
