//! Depthwise-separable layers in one pass beside their two layers one after the other.
//!
//! ```text
//! cargo bench --bench separable
//! cargo bench --bench separable -- mbv1
//! ```
//!
//! One pass may take 1 / 0.9 times as long on any vector path, in either layout: else the run fails.

#[allow(dead_code)] // other benches use the rest
#[path = "support/suite.rs"]
mod suite;

use std::time::Instant;
use suite::{Aligned, Random};
use tapwise::{Conv2d, Epilogue, Error, Isa, Layout, Separable2d};

const LEAST: f64 = 0.9;
const ROUNDS: usize = 31;

/// Channels between the layers, height and width of the input, stride, channels of the output.
struct Block {
    network: &'static str,
    channels: usize,
    size: usize,
    stride: usize,
    out_channels: usize,
}

/// MobileNetV1 at 224 (<https://arxiv.org/abs/1704.04861>, table 1), then the depthwise layers of
/// MobileNetV2 with the projections behind them (<https://arxiv.org/abs/1801.04381>, table 2).
const BLOCKS: [Block; 27] = [
    v1(32, 112, 1, 64),
    v1(64, 112, 2, 128),
    v1(128, 56, 1, 128),
    v1(128, 56, 2, 256),
    v1(256, 28, 1, 256),
    v1(256, 28, 2, 512),
    v1(512, 14, 1, 512),
    v1(512, 14, 2, 1024),
    v1(1024, 7, 1, 1024),
    v2(32, 112, 1, 16),
    v2(96, 112, 2, 24),
    v2(144, 56, 1, 24),
    v2(144, 56, 2, 32),
    v2(192, 28, 1, 32),
    v2(192, 28, 2, 64),
    v2(384, 14, 1, 64),
    v2(384, 14, 1, 96),
    v2(576, 14, 1, 96),
    v2(576, 14, 2, 160),
    v2(960, 7, 1, 160),
    v2(960, 7, 1, 320),
    // Larger images.
    v1(32, 224, 1, 16),
    v1(64, 256, 1, 8),
    v1(16, 384, 1, 16),
    v2(96, 224, 2, 24),
    v2(144, 112, 1, 24),
    v1(128, 112, 1, 128),
];

const fn v1(channels: usize, size: usize, stride: usize, out_channels: usize) -> Block {
    Block { network: "mbv1", channels, size, stride, out_channels }
}

const fn v2(channels: usize, size: usize, stride: usize, out_channels: usize) -> Block {
    Block { network: "mbv2", ..v1(channels, size, stride, out_channels) }
}

impl Block {
    fn name(&self) -> String {
        let Block { network, channels, size, stride, out_channels, .. } = self;
        format!("{network}_{size}_{channels}_s{stride}_{out_channels}")
    }

    fn layers(&self) -> [Conv2d; 2] {
        let Block { channels, stride, out_channels, .. } = *self;
        let depthwise = Conv2d::new(channels, channels, [3, 3])
            .groups(channels)
            .stride([stride; 2])
            .padding([1, 1]);
        [depthwise, Conv2d::new(channels, out_channels, [1, 1])]
    }
}

fn main() {
    let mut slow = Vec::new();
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    println!(
        "{:<22} {:<6} {:<8} {:>8} {:>6} {:>10} {:>10} {:>6}",
        "block", "layout", "path", "between", "pieces", "one us", "two us", "speed"
    );
    for block in &BLOCKS {
        let name = block.name();
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        for isa in [Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
        {
            for (layout_name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
                let mut times = measure(block, layout, isa).expect("sound layers");
                if times.speed < LEAST {
                    // The machine may have been busy.
                    let again = measure(block, layout, isa).expect("sound layers");
                    times = if again.speed > times.speed { again } else { times };
                }
                let Times { between, pieces, one, two, speed } = times;
                println!(
                    "{name:<22} {layout_name:<6} {:<8} {:>7}K {pieces:>6} {one:>10.1} {two:>10.1} {speed:>6.2}",
                    isa.name(),
                    between / 1024,
                );
                if speed < LEAST {
                    slow.push(format!("{name} {layout_name} {}: {speed:.2}", isa.name()));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{} blocks are too slow\n{}", slow.len(), slow.join("\n"));
}

struct Times {
    /// Bytes between the layers.
    between: usize,
    pieces: usize,
    /// Microseconds.
    one: f64,
    two: f64,
    /// The median of two / one.
    speed: f64,
}

/// Both in turns.
fn measure(block: &Block, layout: Layout, isa: Isa) -> Result<Times, Error> {
    let [depthwise, pointwise] = block.layers();
    let size = [block.size; 2];
    let plan = Separable2d::new(depthwise, pointwise).plan(layout, 1, size)?.with_isa(isa)?;
    let first = depthwise.plan(layout, 1, size)?.with_isa(isa)?;
    let [_, height, width] = first.output_size();
    let second = pointwise.plan(layout, 1, [height, width])?.with_isa(isa)?;
    let mut random = Random::from_name(&block.name());
    let mut filled = |len: usize| {
        let values: Vec<f32> =
            (0..len).map(|_| (random.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
        Aligned::copy_of(&values)
    };
    let x = filled(plan.input_len());
    let [w, v] = [filled(plan.depthwise_weights_len()), filled(plan.pointwise_weights_len())];
    let [bias, pointwise_bias] = [filled(block.channels), filled(block.out_channels)];
    let mut packed = Aligned::zeros(plan.depthwise_packed_len());
    let mut pointwise_packed = Aligned::zeros(plan.pointwise_packed_len());
    let w = plan.pack_depthwise(&w, &mut packed)?;
    let v = plan.pack_pointwise(&v, &mut pointwise_packed)?;
    let relu6 = Epilogue::new().relu6();
    let (relu6, end) = (relu6.bias(&bias), relu6.bias(&pointwise_bias));
    let [mut y, mut y_of_two] = [(); 2].map(|()| Aligned::zeros(plan.output_len()));
    let mut between = Aligned::zeros(first.output_len());
    let scratch_len = plan.scratch_len().max(first.scratch_len()).max(second.scratch_len());
    let [mut scratch, mut scratch_of_two] = [(); 2].map(|()| Aligned::zeros(scratch_len));

    let mut one = |calls: usize| -> Result<f64, Error> {
        plan.run(&x, w, relu6, v, end, &mut scratch, &mut y)?;
        let start = Instant::now();
        for _ in 0..calls {
            plan.run(&x, w, relu6, v, end, &mut scratch, &mut y)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    let mut two = |calls: usize| -> Result<f64, Error> {
        let mut run = || -> Result<(), Error> {
            first.run(&x, w, relu6, &mut scratch_of_two, &mut between)?;
            second.run(&between, v, end, &mut scratch_of_two, &mut y_of_two)?;
            Ok(())
        };
        run()?;
        let start = Instant::now();
        for _ in 0..calls {
            run()?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    let calls = (1000.0 / two(1)?).ceil().clamp(1.0, 1000.0) as usize;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let pair = [one(calls)?, two(calls)?];
        times[0].push(pair[0]);
        times[1].push(pair[1]);
        times[2].push(pair[1] / pair[0]);
    }
    let [one, two, speed] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(Times {
        between: 4 * first.output_len(),
        pieces: (height * width).div_ceil(plan.pixels_in_buffer()),
        one,
        two,
        speed,
    })
}
