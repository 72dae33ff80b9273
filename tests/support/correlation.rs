//! A correlation with kernels given at run time, how it is run and on what data, and that it gives the
//! bits of the plain loops; and descriptions, absurd or not, and what has to hold for them.

#![allow(dead_code)] // each test uses a part

use crate::description::{self, Description, LARGEST, MOST_ELEMENTS, MOST_MACS, number};
use crate::support::case::{POISONS, equal, of_all_kernels, scatter, shuffle};
use crate::support::choices::Choices;
use crate::support::layers::{caches, ending, extents, not_transposed, places, with_gaps};
use crate::support::values::Values;
use crate::support::{Ending, Layer, POISON, assert_same_bits, fill, last_axes, paths};
use tapwise::{
    Correlation, CorrelationPlan, Epilogue, Error, Isa, Kernel, Layout, Strides, reference,
};

/// A layer and how it is run.
#[derive(Clone, Debug)]
pub struct CorrelationCase {
    pub layer: Layer,
    /// Whether all samples have the same kernels.
    pub shared: bool,
    pub ending: Ending,
    /// Assumed caches.
    pub caches: [usize; 2],
    /// Elements left free in input, kernels and output; 0: none.
    pub gaps: [usize; 3],
    pub tiles: usize,
    /// By which tiles are brought out of order; 0: they are not.
    pub order: usize,
    pub poison: f32,
    pub values: Values,
}

/// The plan of a layer of any rank.
pub fn plan(layer: &Layer, layout: Layout) -> Result<CorrelationPlan, Error> {
    match layer.rank {
        1 => plan_of_rank::<1>(layer, layout),
        2 => plan_of_rank::<2>(layer, layout),
        _ => plan_of_rank::<3>(layer, layout),
    }
}

fn plan_of_rank<const D: usize>(layer: &Layer, layout: Layout) -> Result<CorrelationPlan, Error> {
    let axes = last_axes::<D>;
    let described =
        Correlation::<D>::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
            .stride(axes(layer.stride))
            .padding_sides(axes(layer.before), axes(layer.after))
            .dilation(axes(layer.dilation))
            .groups(layer.groups);
    let described = if layer.flipped { described.flipped() } else { described };
    described.plan(layout, layer.batch, axes(layer.size))
}

impl CorrelationCase {
    /// With at most so many multiply-adds, but for a few.
    pub fn of(choices: &mut Choices, most: usize) -> CorrelationCase {
        CorrelationCase {
            layer: not_transposed(choices, most),
            shared: choices.one_in(8),
            ending: ending(choices),
            caches: caches(choices),
            gaps: [(); 3].map(|()| choices.number_in(0..=5).saturating_sub(2)),
            tiles: if choices.one_in(16) { choices.number() } else { choices.small_in(12) },
            order: choices.number_in(0..=0xff),
            poison: choices.choose(&POISONS),
            values: Values::of(choices),
        }
    }

    /// Kernels of a sample: an output channel's for each input channel of its group.
    fn kernels_per_sample(&self) -> usize {
        self.layer.out_channels * (self.layer.in_channels / self.layer.groups)
    }

    /// With the case's strides and caches.
    pub fn plan(&self, layout: Layout) -> CorrelationPlan {
        let layer = &self.layer;
        let [input, kernels, output] = self.gaps;
        let mut plan = plan(layer, layout).unwrap();
        if input > 0 {
            let strides = with_gaps(layout, layer.in_channels, layer.size, input);
            plan = plan.with_input_strides(strides).unwrap();
        }
        let [l1, l2] = self.caches;
        plan = plan.assume_caches(l1, l2).unwrap();
        let mut strides = match kernels {
            0 => plan.kernel_strides(),
            gap => with_gaps(layout, self.kernels_per_sample(), layer.kernel, gap),
        };
        if self.shared {
            strides.batch = 0;
        }
        plan = plan.with_kernel_strides(strides).unwrap();
        if output > 0 {
            let strides = with_gaps(layout, layer.out_channels, layer.output(), output);
            plan = plan.with_output_strides(strides).unwrap();
        }
        plan
    }

    /// A plan of each kernel that can run the layer, in both layouts.
    pub fn plans(&self) -> Vec<(Layout, Kernel, CorrelationPlan)> {
        let plan = |layout| self.plan(layout);
        of_all_kernels(plan, |plan, kernel| plan.with_kernel(kernel).ok())
    }

    /// Whether all kernels that can run the layer, on all paths, in both layouts, give the bits of
    /// the plain loops: at once, and tile by tile in any order.
    pub fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let Self { layer, values, ending, poison, .. } = self;
        let dense = plan(layer, Layout::Nchw).unwrap();
        let x = values.tensor(dense.input_len(), 1);
        let mut kernels = values.finite(dense.kernels_len(), 2);
        if self.shared {
            let of_sample = kernels.len() / layer.batch;
            kernels = kernels[..of_sample].repeat(layer.batch);
        }
        let bias = values.tensor(layer.out_channels, 3);
        let residual = values.tensor(dense.output_len(), 4);
        let mut expected = self.ending.before(self.poison, &residual);
        let epilogue = ending.epilogue(&bias, &residual);
        reference::correlation(&dense, &x, &kernels, epilogue, &mut expected).unwrap();

        let of_input = extents(layer, layer.in_channels, layer.size);
        let of_kernels = extents(layer, self.kernels_per_sample(), layer.kernel);
        let of_output = extents(layer, layer.out_channels, layer.output());
        for (layout, kernel, plan) in self.plans() {
            let at = |values: &[f32], extents: [usize; 5], strides: Strides, len: usize| {
                scatter(values, &places(extents, strides), *poison, len)
            };
            let sizes = plan.sizes();
            let x = at(&x, of_input, sizes.input_strides(), plan.input_len());
            let kernels = at(&kernels, of_kernels, plan.kernel_strides(), plan.kernels_len());
            let at_output =
                |values: &[f32]| at(values, of_output, sizes.output_strides(), plan.output_len());
            let (wanted, residual) = (at_output(&expected), at_output(&residual));
            let epilogue = ending.epilogue(&bias, &residual);
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let name = format!("{layout:?} {} {}", kernel.name(), isa.name());
                let mut scratch = vec![*poison; plan.scratch_len()];
                let mut y = self.ending.before(self.poison, &residual);
                plan.run(&x, &kernels, epilogue, &mut scratch, &mut y).unwrap();
                equal(&y, &wanted).map_err(|place| format!("{name} at once: {place}"))?;

                let mut y = self.ending.before(self.poison, &residual);
                scratch.fill(*poison);
                let mut job = plan.job(&x, &kernels, epilogue, &mut y).unwrap();
                let mut tiles: Vec<_> = job.tiles(self.tiles).collect();
                shuffle(&mut tiles, self.order);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                equal(&y, &wanted).map_err(|place| format!("{name} in tiles: {place}"))?;
            }
        }
        Ok(())
    }
}

/// Checks a description, everything of it absurd, or tensors small and the rest absurd: of how many
/// plans runs were compared.
pub fn describe(choices: &mut Choices, tame: bool) -> usize {
    let mut description = Description::of(choices, tame);
    if tame && description.padding < 2 {
        description.pad(choices, 4);
    }
    match description.rank {
        1 => describe_rank::<1>(choices, &description),
        2 => describe_rank::<2>(choices, &description),
        _ => describe_rank::<3>(choices, &description),
    }
}

fn describe_rank<const D: usize>(choices: &mut Choices, description: &Description) -> usize {
    let axes = last_axes::<D>;
    let Description { layout, batch, groups, caches, limit, .. } = *description;
    let [in_channels, out_channels] = description.channels;
    let kernel = axes(description.kernel);
    let layer = match choices.number_in(0..=3) {
        0 => Correlation::dense(in_channels, kernel),
        1 => Correlation::depthwise(in_channels, kernel),
        _ => Correlation::new(in_channels, out_channels, kernel).groups(groups),
    };
    let layer = layer
        .stride(axes(description.stride))
        .padding_sides(axes(description.before), axes(description.after))
        .dilation(axes(description.dilation));
    let layer = if description.flipped { layer.flipped() } else { layer };
    let kernel_strides = description::strides([(); 5].map(|()| number(choices)));
    let input_strides = description::strides(description.input_strides);
    let output_strides = description::strides(description.output_strides);
    let tiles = choices.number();

    let size = axes(description.size);
    let plan = layer.plan(layout, batch, size);
    let narrow = layer.plan_within(layout, batch, size, limit);
    // What a small machine accepts, a large one does.
    assert!(plan.is_ok() || narrow.is_err());
    assert!(layer.output_size(size).is_ok() || plan.is_err());
    let mut runs = 0;
    for (plan, limit) in [(plan, LARGEST), (narrow, limit)] {
        let Ok(plan) = plan else { continue };
        consistent(&plan, batch, limit);
        let shared = Strides { batch: 0, ..plan.kernel_strides() };
        let others = [
            plan.assume_caches(caches[0], caches[1]),
            plan.with_kernel_strides(kernel_strides),
            plan.with_kernel_strides(shared),
            plan.with_input_strides(input_strides),
            plan.with_output_strides(output_strides),
        ];
        for plan in others.into_iter().flatten().chain([plan]) {
            consistent(&plan, batch, limit.max(caches[1]));
            runs += usize::from(run(&plan, tiles));
        }
    }
    runs
}

fn consistent(plan: &CorrelationPlan, batch: usize, limit: usize) {
    let elements = limit / 4;
    for len in [plan.input_len(), plan.output_len(), plan.kernels_len()] {
        assert!(len <= elements && (0 < len || batch == 0));
    }
    assert!(plan.scratch_len() <= elements);
    let wide = |shape: &[usize]| shape.iter().map(|n| *n as u128).product::<u128>();
    let sizes = plan.sizes();
    assert!(wide(&sizes.output_shape()) <= plan.output_len() as u128);
    if batch > 0 {
        let of_output = wide(&plan.kernels_shape()) / batch as u128 / sizes.out_channels() as u128;
        assert_eq!(sizes.macs(), wide(&sizes.output_shape()) * of_output);
    }
}

/// Runs what is small enough, against the plain loops.
fn run(plan: &CorrelationPlan, tiles: usize) -> bool {
    let bias_len = plan.sizes().out_channels(); // of no images, too
    let lens =
        [plan.input_len(), plan.output_len(), plan.kernels_len(), plan.scratch_len(), bias_len];
    if lens.iter().any(|len| *len > MOST_ELEMENTS) || plan.sizes().macs() > MOST_MACS {
        return false;
    }
    let (x, kernels) = (fill(plan.input_len(), 1), fill(plan.kernels_len(), 2));
    let bias = fill(bias_len, 3);
    let epilogue = Epilogue::new().bias(&bias);
    let mut expected = vec![POISON; plan.output_len()];
    reference::correlation(plan, &x, &kernels, epilogue, &mut expected).unwrap();
    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        let mut job = plan.job(&x, &kernels, epilogue, &mut y).unwrap();
        job.tiles(tiles).for_each(|tile| tile.run(&mut scratch).unwrap());
        assert_same_bits(&y, &expected, isa);
    }
    true
}
