//! Depthwise-separable layers in one pass give the bits of the two layers, one after the other, by the
//! plain loops: on every path, in both layouts, for any caches, tiles and strides, with special values.

mod support;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::Cell;
use std::mem::MaybeUninit;
use support::case::{LAYOUTS, POISONS};
use support::choices::Choices;
use support::layers::{caches, ending, extents, places, with_gaps};
use support::values::Values;
use support::{Ending, Layer, POISON, Residual, bits, fill, last_axes, paths, share};
use tapwise::{Conv2d, Epilogue, Isa, Layout, Separable2d, SeparablePlan, reference};

/// The most multiply-adds of a layer.
const MOST_MACS: usize = 60_000;
/// More than the choices of a case take; the others become data.
const BYTES: usize = 140;

/// Both layers and how they are run.
#[derive(Clone, Debug)]
struct Case {
    depthwise: Layer,
    pointwise: Layer,
    endings: [Ending; 2],
    caches: [usize; 2],
    /// Elements left free in input, output and residual; 0: none.
    gaps: [usize; 3],
    tiles: usize,
    order: usize,
    poison: f32,
    values: Values,
}

impl Case {
    fn of(choices: &mut Choices) -> Case {
        let channels = choices.small_in(40);
        let multiplier = choices.choose(&[1, 1, 1, 1, 2, 3, 17]);
        let wide = choices.one_in(8);
        let mut depthwise = Layer::new(2, [channels, channels * multiplier], [1; 3], [1; 3]);
        depthwise.groups = channels;
        depthwise.batch = choices.choose(&[1, 1, 1, 2, 3]);
        depthwise.flipped = choices.one_in(8);
        let padded = !choices.one_in(4);
        for axis in 1..3 {
            depthwise.size[axis] = choices.small_in(if wide && axis == 2 { 300 } else { 24 });
            depthwise.kernel[axis] = choices.small_in(5);
            depthwise.stride[axis] = choices.small_in(3);
            depthwise.dilation[axis] = choices.small_in(3);
            if padded {
                depthwise.before[axis] = choices.number_in(0..=3);
                depthwise.after[axis] = choices.number_in(0..=3);
            }
        }
        let most = if choices.one_in(8) { 600 } else { 70 };
        let out_channels = choices.small_in(most);
        cut_down(&mut depthwise);
        let channels = [depthwise.out_channels, out_channels];
        let mut pointwise = Layer::new(2, channels, depthwise.output(), [1; 3]);
        pointwise.batch = depthwise.batch;
        let mut endings = [ending(choices), ending(choices)];
        endings[0].residual = Residual::None;
        Case {
            depthwise,
            pointwise,
            endings,
            caches: caches(choices),
            gaps: [(); 3].map(|()| choices.number_in(0..=5).saturating_sub(2)),
            tiles: choices.small_in(12),
            order: choices.number_in(0..=0xff),
            poison: choices.choose(&POISONS),
            values: Values::of(choices),
        }
    }

    fn plan(&self, layout: Layout) -> SeparablePlan {
        let [input, output, residual] = self.gaps;
        let mut plan = plan(&self.depthwise, &self.pointwise, layout);
        let [l1, l2] = self.caches;
        if input > 0 {
            let strides = with_gaps(layout, self.depthwise.in_channels, self.depthwise.size, input);
            plan = plan.with_input_strides(strides).unwrap();
        }
        plan = plan.assume_caches(l1, l2).unwrap();
        let of_output =
            |gap| with_gaps(layout, self.pointwise.out_channels, self.pointwise.size, gap);
        if output > 0 {
            plan = plan.with_output_strides(of_output(output)).unwrap();
        }
        if residual > 0 && self.endings[1].residual == Residual::Slice {
            plan = plan.with_residual_strides(of_output(residual)).unwrap();
        }
        plan
    }

    fn values(&self) -> Data {
        let Case { depthwise, pointwise, values, .. } = self;
        let inputs = depthwise.batch * depthwise.in_channels * depthwise.pixels_in();
        let taps: usize = depthwise.kernel.iter().product();
        let outputs = pointwise.batch * pointwise.out_channels * pointwise.pixels_out();
        Data {
            x: values.tensor(inputs, 0),
            weights: [
                values.finite(depthwise.out_channels * taps, 1),
                values.finite(pointwise.in_channels * pointwise.out_channels, 2),
            ],
            biases: [
                values.tensor(depthwise.out_channels, 3),
                values.tensor(pointwise.out_channels, 4),
            ],
            residual: values.tensor(outputs, 5),
        }
    }

    /// Whether every path, in both layouts, gives the bits of the plain loops, at once and in tiles.
    fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let Case { depthwise, pointwise, endings, poison, .. } = self;
        let data = self.values();
        let expected = one_after_the_other(depthwise, pointwise, endings, &data);
        for layout in LAYOUTS {
            let plan = self.plan(layout);
            let input = extents(depthwise, depthwise.in_channels, depthwise.size);
            let output = extents(pointwise, pointwise.out_channels, pointwise.size);
            let scatter = |values: &[f32], places: &[usize], len: usize| {
                let mut tensor = vec![*poison; len];
                places.iter().zip(values).for_each(|(place, value)| tensor[*place] = *value);
                tensor
            };
            let x = scatter(&data.x, &places(input, plan.input_strides()), plan.input_len());
            let of_output = places(output, plan.output_strides());
            let wanted = scatter(&expected, &of_output, plan.output_len());
            let before = match endings[1].residual {
                Residual::Output => scatter(&data.residual, &of_output, plan.output_len()),
                _ => vec![*poison; plan.output_len()],
            };
            let of_residual = places(output, plan.residual_strides());
            let residual = scatter(&data.residual, &of_residual, plan.residual_len());
            let first = endings[0].epilogue(&data.biases[0], &[]);
            let second = endings[1].epilogue(&data.biases[1], &residual);
            let [mut packed, mut pointwise_packed] =
                [plan.depthwise_packed_len(), plan.pointwise_packed_len()]
                    .map(|len| vec![*poison; len]);
            let w = plan.pack_depthwise(&data.weights[0], &mut packed).unwrap();
            let v = plan.pack_pointwise(&data.weights[1], &mut pointwise_packed).unwrap();
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let what = || format!("{layout:?} {:?} {}", plan.kernel_names(), isa.name());
                let mut scratch = vec![*poison; plan.scratch_len()];
                let mut y = before.clone();
                plan.run(&x, w, first, v, second, &mut scratch, &mut y).unwrap();
                equal(&y, &wanted).map_err(|place| format!("{}: {place}", what()))?;

                let mut y = before.clone();
                let mut job = plan.job(&x, w, first, v, second, &mut y).unwrap();
                let mut tiles: Vec<_> = job.tiles(self.tiles).collect();
                let count = tiles.len();
                tiles.rotate_left(self.order % count);
                if self.order % 2 == 1 {
                    tiles.reverse();
                }
                scratch.fill(*poison);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                equal(&y, &wanted)
                    .map_err(|place| format!("{} in {count} tiles: {place}", what()))?;
            }
        }
        Ok(())
    }
}

/// Tensors in PyTorch's order.
struct Data {
    x: Vec<f32>,
    weights: [Vec<f32>; 2],
    biases: [Vec<f32>; 2],
    residual: Vec<f32>,
}

/// The definition: a layer, and a layer on its outputs.
fn one_after_the_other(
    depthwise: &Layer,
    pointwise: &Layer,
    endings: &[Ending; 2],
    data: &Data,
) -> Vec<f32> {
    let [first, second] = [depthwise, pointwise].map(|layer| layer.plan(Layout::Nchw).unwrap());
    let mut between = vec![POISON; first.output_len()];
    let epilogue = endings[0].epilogue(&data.biases[0], &[]);
    reference::run(&first, &data.x, &data.weights[0], epilogue, &mut between).unwrap();
    let mut y = data.residual.clone();
    let epilogue = endings[1].epilogue(&data.biases[1], &data.residual);
    reference::run(&second, &between, &data.weights[1], epilogue, &mut y).unwrap();
    y
}

fn conv(layer: &Layer) -> Conv2d {
    let conv = Conv2d::new(layer.in_channels, layer.out_channels, last_axes(layer.kernel))
        .stride(last_axes(layer.stride))
        .padding_sides(last_axes(layer.before), last_axes(layer.after))
        .dilation(last_axes(layer.dilation))
        .groups(layer.groups);
    if layer.flipped { conv.flipped() } else { conv }
}

fn plan(depthwise: &Layer, pointwise: &Layer, layout: Layout) -> SeparablePlan {
    let block = Separable2d::new(conv(depthwise), conv(pointwise));
    block.plan(layout, depthwise.batch, last_axes(depthwise.size)).unwrap()
}

/// Makes windows fit, and halves what is largest until the layer is small.
fn cut_down(layer: &mut Layer) {
    loop {
        for axis in 1..3 {
            let padded = layer.size[axis] + layer.before[axis] + layer.after[axis];
            if (layer.kernel[axis] - 1) * layer.dilation[axis] >= padded {
                (layer.kernel[axis], layer.dilation[axis]) = (layer.kernel[axis].min(padded), 1);
            }
        }
        let taps: usize = layer.kernel.iter().product();
        let outputs = layer.batch * layer.pixels_out() * layer.out_channels;
        let inputs = layer.batch * layer.pixels_in() * layer.in_channels;
        if outputs * taps <= MOST_MACS && outputs.max(inputs) <= MOST_MACS / 8 {
            return;
        }
        let multiplier = layer.out_channels / layer.in_channels;
        let [_, height, width] = &mut layer.size;
        let largest = [&mut layer.in_channels, height, width].into_iter().max().unwrap();
        *largest /= 2;
        layer.groups = layer.in_channels;
        layer.out_channels = layer.in_channels * multiplier;
    }
}

/// Where they differ, if they do.
fn equal(y: &[f32], wanted: &[f32]) -> Result<(), String> {
    match bits(y).iter().zip(bits(wanted)).position(|(y, wanted)| *y != wanted) {
        None => Ok(()),
        Some(at) => Err(format!("at {at} of {}: {:e}, expected {:e}", y.len(), y[at], wanted[at])),
    }
}

#[test]
fn one_pass_equals_two_layers() {
    let paths = paths();
    let count = share(6_000) as u32;
    let mut runner = TestRunner::new(Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    // How many of the layouts have several pieces, or pieces of a row, the last of which is shorter.
    let (several, of_row, uneven) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let cases = vec(any::<u8>(), BYTES).prop_map(|bytes| Case::of(&mut Choices::new(&bytes)));
    let result = runner.run(&cases, |case| {
        for layout in LAYOUTS {
            let plan = case.plan(layout);
            let [_, height, width] = plan.output_size();
            let (pixels, piece) = (plan.batch() * height * width, plan.pixels_in_buffer());
            several.set(several.get() + u32::from(piece < pixels));
            of_row.set(of_row.get() + u32::from(piece < width));
            let row = if piece < width { width } else { pixels };
            uneven.set(uneven.get() + u32::from(row % piece > 0));
        }
        case.check(&paths).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = [several, of_row, uneven].map(Cell::into_inner);
    eprintln!("{count} layers in both layouts; several pieces, of a row, uneven: {counts:?}");
    assert!(counts.into_iter().all(|kind| kind > count / 10), "{counts:?}");
}

/// Layers as large as MobileNet's, for the caches that a plan assumes: of several pieces, too.
#[test]
fn whole_blocks() {
    for ([channels, out_channels], size, stride) in
        [([32, 16], [112, 112], 1), ([96, 24], [113, 111], 2), ([3, 40], [9, 20_000], 1)]
    {
        let depthwise = Layer {
            groups: channels,
            stride: [1, stride, stride],
            before: [0, 1, 1],
            after: [0, 1, 1],
            ..Layer::new(2, [channels, channels], [1, size[0], size[1]], [1, 3, 3])
        };
        let pointwise = Layer::new(2, [channels, out_channels], depthwise.output(), [1; 3]);
        let [bias, pointwise_bias] = [fill(channels, 3), fill(out_channels, 4)];
        let [w, v] = [fill(9 * channels, 1), fill(channels * out_channels, 2)];
        let first = Epilogue::new().bias(&bias).relu6();
        let second = Epilogue::new().bias(&pointwise_bias).relu();
        for layout in LAYOUTS {
            let plans = [depthwise, pointwise].map(|layer| layer.plan(layout).unwrap());
            let x = fill(plans[0].input_len(), 0);
            let between = support::run(&plans[0], &x, &w, first);
            let wanted = support::run(&plans[1], &between, &v, second);
            let plan = plan(&depthwise, &pointwise, layout);
            let [_, height, width] = plan.output_size();
            assert!(plan.pixels_in_buffer() < height * width);
            assert!(plan.scratch_len() < between.len() / 2);
            // Blobs of the layers are those of the plan.
            let blobs = plans.map(|plan| vec![0.0; plan.packed_len()]);
            let [mut packed, mut pointwise_packed] = blobs;
            plans[0].pack(&w, &mut packed).unwrap();
            plans[1].pack(&v, &mut pointwise_packed).unwrap();
            let w = plan.depthwise_weights(&packed).unwrap();
            let v = plan.pointwise_weights(&pointwise_packed).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                let mut y = vec![MaybeUninit::uninit(); plan.output_len()];
                let y = plan.run(&x, w, first, v, second, &mut scratch, &mut y).unwrap();
                assert_eq!(equal(y.unwrap(), &wanted), Ok(()), "{layout:?} {}", isa.name());
            }
        }
    }
}
