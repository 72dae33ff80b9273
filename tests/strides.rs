//! Tensors with gaps and with their dimensions in any order: each element is in its place, gaps
//! are left alone, and nothing of what was in memory before shows.

mod support;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use support::{Layer, assert_same_bits, fill, paths, share};
use tapwise::{Epilogue, Layout, Plan, Strides, Weights, reference};

const LAYERS: usize = 3000;

/// What outputs and scratch memory hold before a call.
const POISONS: [f32; 2] = [f32::from_bits(0xffc1_2345), 77.25];

fn random_layer(random: &mut StdRng) -> Layer {
    let rank = random.random_range(1..=3_usize);
    let groups = [1, 1, 1, 2, 3, 8][random.random_range(0..6)];
    let most = if groups > 3 { 3 } else { 36 };
    let channels = [(); 2].map(|()| groups * random.random_range(1..=most));
    let mut layer = Layer::new(rank, channels, [1; 3], [1; 3]);
    layer.groups = groups;
    layer.batch = random.random_range(1..=3);
    layer.transposed = random.random_ratio(1, 3);
    for axis in 3 - rank..3 {
        layer.size[axis] = random.random_range(1..=[20, 6, 3][rank - 1]);
        layer.kernel[axis] = random.random_range(1..=3.min(layer.size[axis]));
        layer.stride[axis] = random.random_range(1..=2);
        if random.random() {
            layer.before[axis] = random.random_range(0..=2);
            layer.after[axis] = random.random_range(0..=2);
        }
        if layer.transposed {
            layer.stride[axis] = random.random_range(1..=3);
            layer.output_padding[axis] = random.random_range(0..layer.stride[axis]);
            // One output is left at least.
            let spread = (layer.size[axis] - 1) * layer.stride[axis] + layer.kernel[axis] - 1;
            let most = spread + layer.output_padding[axis];
            layer.before[axis] = layer.before[axis].min(most);
            layer.after[axis] = layer.after[axis].min(most - layer.before[axis]);
        }
    }
    layer
}

/// Strides by which no two elements meet: the dimensions in any order, gaps anywhere.
fn random_strides(random: &mut StdRng, layer: [usize; 5]) -> [usize; 5] {
    let mut order = [0, 1, 2, 3, 4];
    order.shuffle(random);
    let mut strides = [0; 5];
    let mut reach = 0;
    for dim in order {
        let gap = if random.random() { 0 } else { random.random_range(0..=3) };
        strides[dim] = reach + 1 + gap;
        if layer[dim] > 1 {
            reach += (layer[dim] - 1) * strides[dim];
        } else if random.random_ratio(1, 4) {
            strides[dim] = [0, usize::MAX, usize::MAX / 2 + 2][random.random_range(0..3)];
        }
    }
    strides
}

fn named([batch, channel, depth, row, pixel]: [usize; 5]) -> Strides {
    Strides { batch, channel, depth, row, pixel }
}

/// The place of each element, in PyTorch's order.
fn places(extents: [usize; 5], strides: [usize; 5]) -> Vec<usize> {
    let mut places = vec![0];
    for (extent, stride) in extents.into_iter().zip(strides) {
        let all = |place: &usize| {
            let place = *place;
            (0..extent).map(move |index| place + index * stride)
        };
        places = places.iter().flat_map(all).collect();
    }
    places
}

/// `values` in their places, `fill` in the gaps.
fn scattered(values: &[f32], places: &[usize], fill: f32) -> Vec<f32> {
    let mut tensor = vec![fill; places.iter().max().unwrap() + 1];
    for (value, place) in values.iter().zip(places) {
        tensor[*place] = *value;
    }
    tensor
}

/// A call and what it has to give.
struct Call<'a> {
    plan: Plan,
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    /// The sum before the activation, its residual, and the places of both.
    expected: &'a [f32],
    residual: &'a [f32],
    places: &'a [usize],
}

impl Call<'_> {
    fn check(&self, from_output: bool, tiles: usize, what: &dyn std::fmt::Debug) {
        let mut packed = vec![0.0; self.plan.packed_len()];
        let packed = Weights::Packed(self.plan.pack(self.w, &mut packed).unwrap());
        let unpacked = (self.plan.unpacked().unwrap(), Weights::Unpacked(self.w));
        for (plan, weights) in [(self.plan, packed), unpacked] {
            for poison in POISONS {
                let residual = scattered(self.residual, self.places, poison);
                let epilogue = Epilogue::new().bias(self.bias).relu();
                let (mut y, epilogue) = if from_output {
                    (residual.clone(), epilogue.residual_from_output())
                } else {
                    (vec![poison; plan.output_len()], epilogue.residual(&residual))
                };
                assert_eq!(y.len(), plan.output_len());
                let mut job = plan.job(self.x, weights, epilogue, &mut y).unwrap();
                let mut scratch = vec![poison; job.scratch_len()];
                for tile in job.tiles(tiles) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &scattered(self.expected, self.places, poison), what);
            }
        }
    }
}

fn check(random: &mut StdRng, layer: &Layer, outputs: [usize; 5]) {
    let dense = layer.plan(Layout::Nchw).unwrap();
    let x = fill(dense.input_len(), 1);
    let w = fill(dense.weights_len(), 2);
    let bias = fill(layer.out_channels, 3);
    let residual = fill(dense.output_len(), 4);
    let epilogue = Epilogue::new().bias(&bias).residual(&residual).relu();
    let mut expected = vec![0.0; dense.output_len()];
    reference::run(&dense, &x, &w, epilogue, &mut expected).unwrap();

    let extents = |channels, [depth, height, width]: [usize; 3]| {
        [layer.batch, channels, depth, height, width]
    };
    let input_extents = extents(layer.in_channels, layer.size);
    let inputs = random_strides(random, input_extents);
    let x = scattered(&x, &places(input_extents, inputs), POISONS[0]);
    let places = places(extents(layer.out_channels, layer.output()), outputs);
    let cut = random.random();
    let (tiles, from_output) = (random.random_range(1..9), random.random());
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let plan = layer.plan(layout).unwrap();
        let plan = plan.with_input_strides(named(inputs)).unwrap();
        let mut plan = plan.with_output_strides(named(outputs)).unwrap();
        if cut {
            plan = plan.assume_caches(512, 20 << 10).unwrap();
        }
        for isa in paths() {
            let call = Call {
                plan: plan.with_isa(isa).unwrap(),
                x: &x,
                w: &w,
                bias: &bias,
                expected: &expected,
                residual: &residual,
                places: &places,
            };
            let what = (layer, layout, isa, named(inputs), named(outputs));
            call.check(from_output, tiles, &what);
        }
    }
}

#[test]
fn any_strides() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..share(LAYERS) {
        let layer = random_layer(&mut random);
        let [depth, height, width] = layer.output();
        let extents = [layer.batch, layer.out_channels, depth, height, width];
        let outputs = random_strides(&mut random, extents);
        check(&mut random, &layer, outputs);
    }
}

/// Planes whose channels collide in a cache are copied; the copies have strides of their own.
#[test]
fn inputs_that_are_copied() {
    let mut random = StdRng::seed_from_u64(5);
    let padded = |layer: Layer| {
        let pad = layer.kernel.map(|taps| taps / 2);
        Layer { before: pad, after: pad, ..layer }
    };
    let mut copies = 0;
    for layer in [
        Layer::new(2, [16, 32], [1, 16, 32], [1, 1, 1]),
        padded(Layer::new(2, [17, 33], [1, 8, 64], [1, 3, 3])),
        padded(Layer::new(1, [16, 40], [1, 1, 512], [1, 1, 5])),
        Layer { batch: 2, ..Layer::new(3, [16, 32], [2, 4, 64], [2, 2, 1]) },
    ] {
        let plan = layer.plan(Layout::Nchw).unwrap();
        copies += usize::from(plan.kernel_name() == "pixels" && plan.scratch_len() > 0);
        let [depth, height, width] = layer.output();
        let extents = [layer.batch, layer.out_channels, depth, height, width];
        for _ in 0..4 {
            let outputs = random_strides(&mut random, extents);
            check(&mut random, &layer, outputs);
        }
    }
    assert!(copies > 0);
}

/// Pixels of which the first and the last are as far apart as if they were in one line, while
/// those between are not.
#[test]
fn pixels_that_seem_to_be_in_line() {
    let mut random = StdRng::seed_from_u64(2);
    for (out_channels, depth, to_plane) in [8, 16, 20]
        .into_iter()
        .flat_map(|c| [2, 3].into_iter().flat_map(move |d| (6..12).map(move |p| (c, d, p))))
    {
        let layer = Layer::new(3, [8, out_channels], [depth, 2, 2], [1, 1, 1]);
        check(&mut random, &layer, [0, 60, to_plane, 3, 2]);
        let layer = Layer::new(2, [8, out_channels], [1, 2, 2], [1, 1, 1]);
        check(&mut random, &Layer { batch: depth, ..layer }, [to_plane, 60, 0, 3, 2]);
    }
}

/// A stride that is never taken, as there is one pixel in a row, is not looked at.
#[test]
fn strides_that_are_never_taken() {
    let mut random = StdRng::seed_from_u64(4);
    for out_channels in [8, 16, 20] {
        for height in 2..10 {
            let layer = Layer::new(2, [8, out_channels], [1, height, 1], [1, 1, 1]);
            for pixel in [0, 1, usize::MAX, usize::MAX / 2 + 2] {
                check(&mut random, &layer, [pixel, height, pixel, 1, pixel]);
            }
        }
    }
}

/// A plan tells the strides that were asked for, those that are never taken included.
#[test]
fn plans_tell_their_strides() {
    let layer = Layer::new(3, [1, 1], [1, 1, 1], [1, 1, 1]);
    let wide = Layer { batch: 2, ..Layer::new(3, [3, 20], [4, 5, 6], [1, 1, 1]) };
    let dense = |layout, channels| match layout {
        Layout::Nchw => named([120 * channels, 120, 30, 6, 1]),
        Layout::Nhwc => named([120 * channels, 1, 30 * channels, 6 * channels, channels]),
    };
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let plan = wide.plan(layout).unwrap();
        assert_eq!(plan.input_strides(), dense(layout, 3));
        assert_eq!(plan.output_strides(), dense(layout, 20));
        let [inputs, outputs] = [named([5000, 1, 3, 100, 12]), named([5001, 2, 40, 161, 810])];
        let plan = plan.with_input_strides(inputs).unwrap().with_output_strides(outputs).unwrap();
        assert_eq!((plan.input_strides(), plan.output_strides()), (inputs, outputs));

        let plan = layer.plan(layout).unwrap();
        assert_eq!(plan.input_strides(), named([1; 5]));
        let [inputs, outputs] = [named([7, 0, usize::MAX, 5, 3]), named([0, 9, 2, 4, usize::MAX])];
        let plan = plan.with_input_strides(inputs).unwrap().with_output_strides(outputs).unwrap();
        assert_eq!((plan.input_strides(), plan.output_strides()), (inputs, outputs));
        let plan = plan.assume_caches(512, 512).unwrap();
        assert_eq!((plan.input_strides(), plan.output_strides()), (inputs, outputs));
        assert_eq!((plan.input_len(), plan.output_len()), (1, 1));
    }
}

/// Rows and columns exchanged: the places of neighbouring pixels descend at the end of a row.
#[test]
fn outputs_that_are_transposed() {
    let mut random = StdRng::seed_from_u64(3);
    for [height, width] in [[2, 2], [4, 2], [2, 4], [3, 2], [7, 3], [3, 4], [5, 9], [2, 17]] {
        for groups in [1, 18] {
            let layer = Layer::new(2, [18, 18], [1, height, width], [1, 1, 1]);
            let layer = Layer { groups, ..layer };
            check(&mut random, &layer, [0, height * width, 0, 1, height]);
            check(&mut random, &layer, [0, 1, 0, 18, 18 * height]);
        }
    }
}
