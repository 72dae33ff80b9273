//! A depthwise layer and a pointwise one, how they are run and on what data: one pass gives the bits of
//! the two layers, one after the other, by the plain loops. And descriptions, absurd or not, and what has
//! to hold for them.

#![allow(dead_code)] // each test uses a part

use crate::description::{self, Description, LARGEST, MOST_ELEMENTS, MOST_MACS, number};
use crate::support::case::{LAYOUTS, POISONS, equal, of_all_kernels, scatter};
use crate::support::choices::Choices;
use crate::support::layers::{caches, ending, extents, places, with_gaps};
use crate::support::values::Values;
use crate::support::{Ending, Layer, POISON, Residual, assert_same_bits, fill, last_axes, paths};
use tapwise::{Conv2d, Epilogue, Isa, Kernel, Layout, Plan, Separable2d, SeparablePlan, reference};

/// Both layers and how they are run.
#[derive(Clone, Debug)]
pub struct SeparableCase {
    pub depthwise: Layer,
    pub pointwise: Layer,
    pub endings: [Ending; 2],
    pub caches: [usize; 2],
    /// Elements left free in input, output and residual; 0: none.
    pub gaps: [usize; 3],
    pub tiles: usize,
    pub order: usize,
    pub poison: f32,
    pub values: Values,
}

impl SeparableCase {
    /// With at most so many multiply-adds of the depthwise layer.
    pub fn of(choices: &mut Choices, most: usize) -> SeparableCase {
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
        let most_outputs = if choices.one_in(8) { 600 } else { 70 };
        let out_channels = choices.small_in(most_outputs);
        cut_down(&mut depthwise, most);
        let channels = [depthwise.out_channels, out_channels];
        let mut pointwise = Layer::new(2, channels, depthwise.output(), [1; 3]);
        pointwise.batch = depthwise.batch;
        let mut endings = [ending(choices), ending(choices)];
        endings[0].residual = Residual::None;
        SeparableCase {
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

    /// With the case's strides and caches.
    pub fn plan(&self, layout: Layout) -> SeparablePlan {
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

    /// The plan in both layouts, then with each kernel that can run the first layer, and one for the
    /// second that the order of the case says.
    pub fn plans(&self) -> Vec<SeparablePlan> {
        let second = |first| Kernel::ALL[(first as usize + self.order) % Kernel::ALL.len()];
        let plan = |layout| self.plan(layout);
        let forced =
            of_all_kernels(plan, |plan, first| plan.with_kernels(first, second(first)).ok());
        LAYOUTS.map(plan).into_iter().chain(forced.into_iter().map(|(.., plan)| plan)).collect()
    }

    fn values(&self) -> Data {
        let Self { depthwise, pointwise, values, .. } = self;
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

    /// Whether these plans, on every path, give the bits of the plain loops, at once and in tiles.
    pub fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let Self { depthwise, pointwise, endings, poison, .. } = self;
        let data = self.values();
        let expected = one_after_the_other(depthwise, pointwise, endings, &data);
        for plan in self.plans() {
            let input = extents(depthwise, depthwise.in_channels, depthwise.size);
            let output = extents(pointwise, pointwise.out_channels, pointwise.size);
            let x =
                scatter(&data.x, &places(input, plan.input_strides()), *poison, plan.input_len());
            let of_output = places(output, plan.output_strides());
            let wanted = scatter(&expected, &of_output, *poison, plan.output_len());
            let before = match endings[1].residual {
                Residual::Output => scatter(&data.residual, &of_output, *poison, plan.output_len()),
                _ => vec![*poison; plan.output_len()],
            };
            let of_residual = places(output, plan.residual_strides());
            let residual = scatter(&data.residual, &of_residual, *poison, plan.residual_len());
            let first = endings[0].epilogue(&data.biases[0], &[]);
            let second = endings[1].epilogue(&data.biases[1], &residual);
            let [mut packed, mut pointwise_packed] =
                [plan.depthwise_packed_len(), plan.pointwise_packed_len()]
                    .map(|len| vec![*poison; len]);
            let w = plan.pack_depthwise(&data.weights[0], &mut packed).unwrap();
            let v = plan.pack_pointwise(&data.weights[1], &mut pointwise_packed).unwrap();
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let what =
                    || format!("{:?} {:?} {}", plan.layout(), plan.kernel_names(), isa.name());
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

pub fn plan(depthwise: &Layer, pointwise: &Layer, layout: Layout) -> SeparablePlan {
    let block = Separable2d::new(conv(depthwise), conv(pointwise));
    block.plan(layout, depthwise.batch, last_axes(depthwise.size)).unwrap()
}

/// Makes windows fit, and halves what is largest until the layer is small.
fn cut_down(layer: &mut Layer, most: usize) {
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
        if outputs * taps <= most && outputs.max(inputs) <= most / 8 {
            return;
        }
        let mut multiplier = layer.out_channels / layer.in_channels;
        let [_, height, width] = &mut layer.size;
        let largest = [&mut layer.in_channels, height, width].into_iter().max().unwrap();
        if *largest > 1 {
            *largest /= 2;
        } else {
            (layer.batch, multiplier) = (1, 1);
        }
        layer.groups = layer.in_channels;
        layer.out_channels = layer.in_channels * multiplier;
    }
}

/// Checks a description, everything of it absurd, or tensors small and the rest absurd: of how many
/// plans runs were compared.
pub fn describe(choices: &mut Choices, tame: bool) -> usize {
    let mut description = Description::of(choices, tame);
    if tame && description.padding < 2 {
        description.padding = 2;
        description.pad(choices, 4);
    }
    let Description { layout, batch, limit, caches, .. } = description;
    let [channels, mut out_channels] = description.channels;
    let groups = if tame || choices.flag() { channels } else { description.groups };
    let multiplier = if tame { choices.small_in(3) } else { number(choices) };
    let between =
        if choices.one_in(8) { number(choices) } else { channels.wrapping_mul(multiplier) };
    let axes = last_axes;
    let depthwise = Conv2d::new(channels, between, axes(description.kernel))
        .stride(axes(description.stride))
        .dilation(axes(description.dilation))
        .padding_sides(axes(description.before), axes(description.after))
        .groups(groups);
    let depthwise = if description.flipped { depthwise.flipped() } else { depthwise };
    // Seldom anything but a pointwise layer.
    let mut rarely = |usual: usize| if choices.one_in(24) { number(choices) } else { usual };
    out_channels = rarely(out_channels);
    let pointwise = Conv2d::new(rarely(between), out_channels, [rarely(1), rarely(1)])
        .stride([rarely(1), rarely(1)])
        .padding([rarely(0), rarely(0)])
        .dilation([rarely(1), rarely(1)])
        .groups(rarely(1));
    let tiles = choices.number();
    let input_strides = description::strides(description.input_strides);
    let output_strides = description::strides(description.output_strides);

    let layers = Separable2d::new(depthwise, pointwise);
    let size = axes(description.size);
    let plan = layers.plan(layout, batch, size);
    let narrow = layers.plan_within(layout, batch, size, limit);
    // What a small machine accepts, a large one does.
    assert!(plan.is_ok() || narrow.is_err());
    assert!(layers.output_size(size).is_ok() || plan.is_err());
    let mut runs = 0;
    for (plan, limit) in [(plan, LARGEST), (narrow, limit)] {
        let Ok(plan) = plan else { continue };
        consistent(&plan, limit);
        let others = [
            plan.assume_caches(caches[0], caches[1]),
            plan.with_input_strides(input_strides),
            plan.with_output_strides(output_strides),
            plan.with_residual_strides(output_strides),
        ];
        for plan in others.into_iter().flatten().chain([plan]) {
            consistent(&plan, limit.max(caches[1]));
            let [first, second] = alone(&layers, layout, batch, size);
            runs += usize::from(run(&plan, &first, &second, tiles));
        }
    }
    runs
}

/// The plans of the two layers by themselves.
fn alone(layers: &Separable2d, layout: Layout, batch: usize, size: [usize; 2]) -> [Plan; 2] {
    let first = layers.depthwise().plan(layout, batch, size).unwrap();
    let [_, height, width] = first.output_size();
    [first, layers.pointwise().plan(layout, batch, [height, width]).unwrap()]
}

fn consistent(plan: &SeparablePlan, limit: usize) {
    let elements = limit / 4;
    let weights = [plan.depthwise_packed_len(), plan.pointwise_packed_len()];
    for len in [plan.input_len(), plan.output_len()].into_iter().chain(weights) {
        assert!(len <= elements && (0 < len || plan.batch() == 0));
    }
    assert!(plan.scratch_len() <= elements);
    let wide = |shape: &[usize]| shape.iter().map(|n| *n as u128).product::<u128>();
    let (inputs, outputs) = (wide(&plan.input_shape()), wide(&plan.output_shape()));
    assert!(inputs >= plan.batch() as u128 && outputs <= plan.output_len() as u128);
    let pixels = outputs / plan.out_channels() as u128;
    let of_pixel = plan.depthwise_weights_len() + plan.pointwise_weights_len();
    assert_eq!(plan.macs(), pixels * of_pixel as u128);
}

/// Runs what is small enough, against the plain loops of the two layers one after the other.
fn run(plan: &SeparablePlan, first: &Plan, second: &Plan, tiles: usize) -> bool {
    let lens = [
        plan.input_len(),
        plan.output_len(),
        plan.residual_len(),
        first.output_len(),
        plan.depthwise_packed_len(),
        plan.pointwise_packed_len(),
        plan.scratch_len(),
    ];
    if lens.iter().any(|len| *len > MOST_ELEMENTS) || plan.macs() > MOST_MACS {
        return false;
    }
    let first = first.with_input_strides(plan.input_strides()).unwrap();
    let second = second
        .with_output_strides(plan.output_strides())
        .and_then(|second| second.with_residual_strides(plan.residual_strides()))
        .unwrap();
    let x = fill(plan.input_len(), 1);
    let (w, v) = (fill(first.weights_len(), 2), fill(second.weights_len(), 3));
    let (bias, residual) = (fill(plan.out_channels(), 4), fill(plan.residual_len(), 5));
    let start = Epilogue::new().relu6();
    let end = Epilogue::new().bias(&bias).residual(&residual);
    let mut between = vec![POISON; first.output_len()];
    reference::run(&first, &x, &w, start, &mut between).unwrap();
    let mut expected = vec![POISON; second.output_len()];
    reference::run(&second, &between, &v, end, &mut expected).unwrap();

    let mut packed = vec![POISON; plan.depthwise_packed_len()];
    let mut pointwise_packed = vec![POISON; plan.pointwise_packed_len()];
    let w = plan.pack_depthwise(&w, &mut packed).unwrap();
    let v = plan.pack_pointwise(&v, &mut pointwise_packed).unwrap();
    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        let mut job = plan.job(&x, w, start, v, end, &mut y).unwrap();
        job.tiles(tiles).for_each(|tile| tile.run(&mut scratch).unwrap());
        assert_same_bits(&y, &expected, isa);
    }
    true
}
