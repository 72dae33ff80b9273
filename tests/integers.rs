//! Small integers, of which every sum is exact: there is nothing to tolerate.

mod support;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Layer, from_layout, paths, run, share, to_layout};
use tapwise::{Epilogue, Layout, Weights};

const LAYERS: usize = 4000;
const MOST_MACS: usize = 200_000;
/// Sums of up to 2^24 / 9 / 9 products are exact.
const LARGEST: i64 = 9;

fn random_layer(random: &mut StdRng) -> Layer {
    loop {
        let rank = random.random_range(1..=3_usize);
        let groups = if random.random() { 1 } else { random.random_range(1..=20) };
        let most = if groups > 4 { 5 } else { 40 };
        let channels = [(); 2].map(|()| groups * random.random_range(1..=most));
        let largest = [100, 36, 6][rank - 1];
        let mut layer = Layer::new(rank, channels, [1; 3], [1; 3]);
        layer.groups = groups;
        layer.batch = random.random_range(1..=2);
        layer.transposed = random.random_ratio(1, 3);
        layer.flipped = random.random_ratio(1, 4);
        for axis in 3 - rank..3 {
            layer.size[axis] = random.random_range(1..=largest);
            layer.kernel[axis] = random.random_range(1..=5);
            layer.stride[axis] = random.random_range(1..=3);
            layer.dilation[axis] = random.random_range(1..=3);
            if layer.transposed {
                let most = layer.stride[axis].max(layer.dilation[axis]) - 1;
                layer.output_padding[axis] = random.random_range(0..=most);
            }
            if random.random() {
                layer.before[axis] = random.random_range(0..=4);
                layer.after[axis] = random.random_range(0..=4);
            }
        }
        let fits = (0..3).all(|axis| {
            let window = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1;
            let padding = layer.before[axis] + layer.after[axis];
            if layer.transposed {
                let spread = (layer.size[axis] - 1) * layer.stride[axis];
                return padding < spread + window + layer.output_padding[axis];
            }
            window <= layer.size[axis] + padding
        });
        if fits && layer.plan(Layout::Nchw).unwrap().macs() <= MOST_MACS as u128 {
            return layer;
        }
    }
}

fn random_integers(random: &mut StdRng, len: usize) -> Vec<i64> {
    (0..len).map(|_| random.random_range(-LARGEST..=LARGEST)).collect()
}

fn floats(integers: &[i64]) -> Vec<f32> {
    integers.iter().map(|integer| *integer as f32).collect()
}

/// The sums as PyTorch defines them; their order does not matter.
fn expected(layer: &Layer, x: &[i64], w: &[i64], bias: &[i64]) -> Vec<i64> {
    (0..layer.batch * layer.out_channels * layer.pixels_out())
        .map(|element| {
            let (image, channel, at) = layer.output_place(element);
            let mut sum = bias[channel];
            layer.visit_taps(image, channel, at, |x_at, w_at| sum += x[x_at] * w[w_at]);
            sum
        })
        .collect()
}

#[test]
fn sums_of_integers_are_exact() {
    let mut random = StdRng::seed_from_u64(1);
    let mut ranks = [0; 3];
    for _ in 0..share(LAYERS) {
        let layer = random_layer(&mut random);
        ranks[layer.rank - 1] += 1;
        let nchw = layer.plan(Layout::Nchw).unwrap();
        let x = random_integers(&mut random, nchw.input_len());
        let w = random_integers(&mut random, nchw.weights_len());
        let bias = random_integers(&mut random, layer.out_channels);
        let expected = expected(&layer, &x, &w, &bias);
        let (x, w, bias) = (floats(&x), floats(&w), floats(&bias));
        let epilogue = Epilogue::new().bias(&bias);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
            for isa in paths() {
                let plan = layer.plan(layout).unwrap().with_isa(isa).unwrap();
                let y = run(&plan, &x, &w, epilogue);
                let mut unpacked = vec![f32::NAN; plan.output_len()];
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![f32::NAN; plan.scratch_len()];
                let weights = Weights::Unpacked(&w);
                plan.run(&x, weights, epilogue, &mut scratch, &mut unpacked).unwrap();
                for y in [y, unpacked] {
                    let y = from_layout(layout, &y, layer.out_channels, layer.pixels_out());
                    for (at, (y, expected)) in y.iter().zip(&expected).enumerate() {
                        let difference = f64::from(*y) - *expected as f64;
                        assert!(
                            difference == 0.0,
                            "{layer:?} {layout:?} {isa:?}: at {at}: {y}, expected {expected}"
                        );
                    }
                }
            }
        }
    }
    assert!(ranks.iter().all(|count| *count > share(LAYERS) / 10), "{ranks:?}");
}
