//! A convolution whose padding is not zeros, how it is run and on what data: it gives the bits of the
//! plain loops, and of a convolution without padding on an input that was padded first. And descriptions,
//! absurd or not.

#![allow(dead_code)] // each test uses a part

use crate::description::{Description, Operator};
use crate::support::case::{POISONS, equal, of_all_kernels, scatter, shuffle};
use crate::support::choices::Choices;
use crate::support::layers::{caches, ending, extents, not_transposed, places, with_gaps};
use crate::support::values::Values;
use crate::support::{Ending, Layer, last_axes};
use tapwise::{Conv, Error, Isa, Kernel, Layout, PaddingMode, Plan, Weights, reference};

pub const MODES: [PaddingMode; 3] =
    [PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];

/// A layer and how it is run.
#[derive(Clone, Debug)]
pub struct PaddedCase {
    pub layer: Layer,
    pub mode: PaddingMode,
    pub ending: Ending,
    /// Assumed caches.
    pub caches: [usize; 2],
    /// Elements left free in input and output; 0: none.
    pub gaps: [usize; 2],
    pub tiles: usize,
    /// By which tiles are brought out of order; 0: they are not.
    pub order: usize,
    pub poison: f32,
    pub values: Values,
}

/// The plan of a layer of any rank.
fn plan(layer: &Layer, mode: PaddingMode, layout: Layout) -> Plan {
    match layer.rank {
        1 => plan_of_rank::<1>(layer, mode, layout),
        2 => plan_of_rank::<2>(layer, mode, layout),
        _ => plan_of_rank::<3>(layer, mode, layout),
    }
    .unwrap()
}

fn plan_of_rank<const D: usize>(
    layer: &Layer,
    mode: PaddingMode,
    layout: Layout,
) -> Result<Plan, Error> {
    let axes = last_axes::<D>;
    let described = Conv::<D>::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
        .stride(axes(layer.stride))
        .padding_sides(axes(layer.before), axes(layer.after))
        .padding_mode(mode)
        .dilation(axes(layer.dilation))
        .groups(layer.groups);
    let described = if layer.flipped { described.flipped() } else { described };
    described.plan(layout, layer.batch, axes(layer.size))
}

/// Where the element of a padded axis comes from, by PyTorch's description of the modes.
fn source(mode: PaddingMode, padded: usize, before: usize, size: usize) -> usize {
    let (place, size) = (padded as isize - before as isize, size as isize);
    let source = match mode {
        PaddingMode::Reflect if place < 0 => -place,
        PaddingMode::Reflect if place >= size => size - 1 - (place - (size - 1)),
        PaddingMode::Replicate => place.clamp(0, size - 1),
        PaddingMode::Circular => place.rem_euclid(size),
        _ => place,
    };
    usize::try_from(source).unwrap()
}

/// The input with its padding, in PyTorch's order.
fn padded(layer: &Layer, mode: PaddingMode, x: &[f32]) -> (Layer, Vec<f32>) {
    let mut wider = *layer;
    for axis in 0..3 {
        wider.size[axis] += layer.before[axis] + layer.after[axis];
    }
    (wider.before, wider.after) = ([0; 3], [0; 3]);
    let mut values = Vec::new();
    for plane in x.chunks(layer.pixels_in()) {
        for d in 0..wider.size[0] {
            for h in 0..wider.size[1] {
                for w in 0..wider.size[2] {
                    let of = |axis: usize, place| {
                        source(mode, place, layer.before[axis], layer.size[axis])
                    };
                    let row = of(0, d) * layer.size[1] + of(1, h);
                    values.push(plane[row * layer.size[2] + of(2, w)]);
                }
            }
        }
    }
    (wider, values)
}

/// As much padding as the mode has, and windows that fit.
fn fit(layer: &mut Layer, mode: PaddingMode) {
    for axis in 0..3 {
        let most = match mode {
            PaddingMode::Reflect => layer.size[axis] - 1,
            PaddingMode::Circular => layer.size[axis],
            _ => usize::MAX,
        };
        layer.before[axis] = layer.before[axis].min(most);
        layer.after[axis] = layer.after[axis].min(most);
        let padded = layer.size[axis] + layer.before[axis] + layer.after[axis];
        while (layer.kernel[axis] - 1) * layer.dilation[axis] + 1 > padded {
            if layer.dilation[axis] > 1 {
                layer.dilation[axis] -= 1;
            } else {
                layer.kernel[axis] -= 1;
            }
        }
    }
}

impl PaddedCase {
    /// With at most so many multiply-adds, but for a few.
    pub fn of(choices: &mut Choices, most: usize) -> PaddedCase {
        let mut layer = not_transposed(choices, most);
        let mode = choices.choose(&MODES);
        fit(&mut layer, mode);
        PaddedCase {
            layer,
            mode,
            ending: ending(choices),
            caches: caches(choices),
            gaps: [(); 2].map(|()| choices.number_in(0..=5).saturating_sub(2)),
            tiles: if choices.one_in(16) { choices.number() } else { choices.small_in(12) },
            order: choices.number_in(0..=0xff),
            poison: choices.choose(&POISONS),
            values: Values::of(choices),
        }
    }

    /// With the case's strides and caches.
    pub fn plan(&self, layout: Layout) -> Plan {
        let layer = &self.layer;
        let mut plan = plan(layer, self.mode, layout);
        let [input, output] = self.gaps;
        if input > 0 {
            let strides = with_gaps(layout, layer.in_channels, layer.size, input);
            plan = plan.with_input_strides(strides).unwrap();
        }
        if output > 0 {
            let strides = with_gaps(layout, layer.out_channels, layer.output(), output);
            plan = plan.with_output_strides(strides).unwrap();
        }
        let [l1, l2] = self.caches;
        plan.assume_caches(l1, l2).unwrap()
    }

    /// A plan of each kernel that can run the layer, in both layouts.
    pub fn plans(&self) -> Vec<(Layout, Kernel, Plan)> {
        let plan = |layout| self.plan(layout);
        of_all_kernels(plan, |plan, kernel| plan.with_kernel(kernel).ok())
    }

    /// Whether the plain loops agree on the input and on one that was padded first, and all kernels
    /// that can run the layer, on all paths, in both layouts, have their bits: with packed weights tile
    /// by tile in any order, then with unpacked ones at once.
    pub fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let Self { layer, mode, values, ending, poison, .. } = self;
        let dense = plan(layer, *mode, Layout::Nchw);
        let x = values.tensor(dense.input_len(), 1);
        let weights = values.finite(dense.weights_len(), 2);
        let bias = values.tensor(layer.out_channels, 3);
        let residual = values.tensor(dense.output_len(), 4);
        let epilogue = ending.epilogue(&bias, &residual);
        let mut expected = self.ending.before(self.poison, &residual);
        reference::run(&dense, &x, &weights, epilogue, &mut expected).unwrap();

        let (wider, wide) = padded(layer, *mode, &x);
        let unpadded = wider.plan(Layout::Nchw).unwrap();
        assert_eq!(unpadded.output_size(), dense.output_size());
        let mut on_padded = self.ending.before(self.poison, &residual);
        reference::run(&unpadded, &wide, &weights, epilogue, &mut on_padded).unwrap();
        equal(&expected, &on_padded).map_err(|place| format!("padded first: {place}"))?;

        let input = extents(layer, layer.in_channels, layer.size);
        let output = extents(layer, layer.out_channels, layer.output());
        for (layout, kernel, plan) in self.plans() {
            let x = scatter(&x, &places(input, plan.input_strides()), *poison, plan.input_len());
            let of_output = places(output, plan.output_strides());
            let wanted = scatter(&expected, &of_output, *poison, plan.output_len());
            let residual = scatter(&residual, &of_output, *poison, plan.output_len());
            let epilogue = ending.epilogue(&bias, &residual);
            let mut packed = vec![*poison; plan.packed_len()];
            let packed = plan.pack(&weights, &mut packed).unwrap();
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let name = format!("{layout:?} {} {}", kernel.name(), isa.name());
                let mut y = self.ending.before(self.poison, &residual);
                let mut job = plan.job(&x, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![*poison; job.scratch_len()];
                let mut tiles: Vec<_> = job.tiles(self.tiles).collect();
                shuffle(&mut tiles, self.order);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                equal(&y, &wanted).map_err(|place| format!("{name} packed: {place}"))?;

                let mut y = self.ending.before(self.poison, &residual);
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![*poison; plan.scratch_len()];
                let weights = Weights::Unpacked(&weights);
                plan.run(&x, weights, epilogue, &mut scratch, &mut y).unwrap();
                equal(&y, &wanted).map_err(|place| format!("{name} unpacked: {place}"))?;
            }
        }
        Ok(())
    }
}

/// A description of a convolution with a padding mode, everything of it absurd, or tensors small and the
/// rest absurd: `check` says what has to hold.
pub fn describe(choices: &mut Choices, tame: bool) -> Description {
    let mut description = Description::of(choices, tame);
    description.operator = Operator::Convolution;
    description.padding_mode = choices.choose(&MODES);
    if tame && choices.flag() {
        // Near the most that the mode takes.
        description.padding = 2;
        description.pad(choices, 4);
    }
    description
}
