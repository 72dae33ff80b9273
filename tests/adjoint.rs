//! A transposed convolution is the adjoint of the convolution with its weights: for every `x` and `y`
//! the sum over `conv(x) * y` is the sum over `x * transposed(y)`. Data are small integers, of which
//! every sum is exact, so there is nothing to tolerate.

mod support;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Layer, from_layout, paths, run, share, to_layout};
use tapwise::{Epilogue, Isa, Layout, Weights};

const LAYERS: usize = 1500;
const MOST_MACS: usize = 100_000;
/// Sums of up to 2^24 / 7 / 7 products are exact.
const LARGEST: i64 = 7;

/// A convolution, with and without rest behind its last window, and perhaps flipped.
fn random_layer(random: &mut StdRng) -> Layer {
    loop {
        let rank = random.random_range(1..=3_usize);
        let groups = if random.random() { 1 } else { random.random_range(1..=20) };
        let most = if groups > 4 { 5 } else { 36 };
        let channels = [(); 2].map(|()| groups * random.random_range(1..=most));
        let largest = [100, 30, 6][rank - 1];
        let mut layer = Layer::new(rank, channels, [1; 3], [1; 3]);
        layer.groups = groups;
        layer.batch = random.random_range(1..=2);
        layer.flipped = random.random();
        for axis in 3 - rank..3 {
            layer.size[axis] = random.random_range(1..=largest);
            layer.kernel[axis] = random.random_range(1..=5);
            layer.stride[axis] = random.random_range(1..=4);
            layer.dilation[axis] = random.random_range(1..=4);
            if random.random() {
                layer.before[axis] = random.random_range(0..=4);
                layer.after[axis] = random.random_range(0..=4);
            }
        }
        let fits = (0..3).all(|axis| {
            let window = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1;
            window <= layer.size[axis] + layer.before[axis] + layer.after[axis]
        });
        if fits && layer.plan(Layout::Nchw).unwrap().macs() <= MOST_MACS as u128 {
            return layer;
        }
    }
}

/// From the outputs of a convolution back to the size of its inputs: those that no window reached,
/// less than a stride, are the output padding.
fn adjoint(layer: &Layer) -> Layer {
    let output = layer.output();
    let output_padding = std::array::from_fn(|axis| {
        let window = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1;
        let padded = layer.size[axis] + layer.before[axis] + layer.after[axis];
        padded - (output[axis] - 1) * layer.stride[axis] - window
    });
    Layer {
        in_channels: layer.out_channels,
        out_channels: layer.in_channels,
        size: output,
        transposed: true,
        output_padding,
        ..*layer
    }
}

fn random_integers(random: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-LARGEST..=LARGEST) as f32).collect()
}

fn product(a: &[f32], b: &[f32]) -> i64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| *a as i64 * *b as i64).sum()
}

/// Outputs in PyTorch's order, from inputs in PyTorch's order, with packed and unpacked weights.
fn outputs(layer: &Layer, layout: Layout, isa: Isa, x: &[f32], w: &[f32]) -> [Vec<f32>; 2] {
    let plan = layer.plan(layout).unwrap().with_isa(isa).unwrap();
    let x = to_layout(layout, x, layer.in_channels, layer.pixels_in());
    let packed = run(&plan, &x, w, Epilogue::new());
    let plan = plan.unpacked().unwrap();
    let mut y = vec![f32::NAN; plan.output_len()];
    let mut scratch = vec![f32::NAN; plan.scratch_len()];
    plan.run(&x, Weights::Unpacked(w), Epilogue::new(), &mut scratch, &mut y).unwrap();
    [packed, y].map(|y| from_layout(layout, &y, layer.out_channels, layer.pixels_out()))
}

#[test]
fn transposed_is_adjoint() {
    let mut random = StdRng::seed_from_u64(11);
    let (mut ranks, mut strided, mut with_rest) = ([0; 3], 0, 0);
    for _ in 0..share(LAYERS) {
        let layer = random_layer(&mut random);
        let transposed = adjoint(&layer);
        assert_eq!(transposed.output(), layer.size);
        ranks[layer.rank - 1] += 1;
        strided += usize::from(layer.stride != [1; 3]);
        with_rest += usize::from(transposed.output_padding != [0; 3]);
        let plan = layer.plan(Layout::Nchw).unwrap();
        let x = random_integers(&mut random, plan.input_len());
        let y = random_integers(&mut random, plan.output_len());
        // The same weights in the same order: `out_channels` of the one are `in_channels` of the other.
        let w = random_integers(&mut random, plan.weights_len());
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for isa in paths() {
                let [expected, same] =
                    outputs(&layer, layout, isa, &x, &w).map(|found| product(&found, &y));
                assert_eq!(expected, same, "{layer:?}");
                for found in outputs(&transposed, layout, isa, &y, &w) {
                    assert_eq!(product(&x, &found), expected, "{layer:?} {layout:?} {isa:?}");
                }
            }
        }
    }
    let few = share(LAYERS) / 30;
    assert!(ranks.iter().all(|count| *count > few), "{ranks:?}");
    assert!(strided > few && with_rest > few, "{strided} {with_rest}");
}
