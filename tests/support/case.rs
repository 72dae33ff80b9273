//! A layer, how it is run and on what data; and that it gives the bits of the plain loops.

use super::choices::Choices;
use super::layers::{self, Placing, caches, extents, places, with_gaps};
use super::values::Values;
use super::{Ending, Layer, hash};
use tapwise::{Isa, Kernel, Layout, Plan, Weights, reference};

/// What memory holds before a call: one is a NaN, so that it spreads if it is ever read.
pub const POISONS: [f32; 2] = [f32::from_bits(0xffc5_a5a5), 12_345.5];

pub const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// A layer and how it is run.
#[derive(Clone, Debug)]
pub struct Case {
    pub layer: Layer,
    pub ending: Ending,
    /// Assumed caches.
    pub caches: [usize; 2],
    pub placing: Placing,
    pub tiles: usize,
    /// By which tiles are brought out of order; 0: they are not.
    pub order: usize,
    pub poison: f32,
    pub values: Values,
}

/// Tensors of one call, in the places of its plan.
pub struct Tensors {
    pub x: Vec<f32>,
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub residual: Vec<f32>,
    /// Where the elements of input and output lie, in PyTorch's order.
    input: Vec<usize>,
    output: Vec<usize>,
}

impl Case {
    /// With at most so many multiply-adds, but for a few.
    pub fn of(choices: &mut Choices, most: usize) -> Case {
        let layer = layers::layer(choices, most);
        Case::of_layer(layer, choices)
    }

    pub fn of_layer(layer: Layer, choices: &mut Choices) -> Case {
        Case {
            layer,
            ending: layers::ending(choices),
            caches: caches(choices),
            placing: layers::placing(choices, &layer),
            tiles: if choices.one_in(16) { choices.number() } else { choices.small_in(12) },
            order: choices.number_in(0..=0xff),
            poison: choices.choose(&POISONS),
            values: Values::of(choices),
        }
    }

    /// With the case's strides and caches.
    pub fn plan(&self, layout: Layout) -> Plan {
        let Layer { in_channels, out_channels, size, .. } = self.layer;
        let plan = self.layer.plan(layout).unwrap();
        let plan = match self.placing {
            Placing::Dense => Ok(plan),
            Placing::Gaps(gap) => {
                let output = with_gaps(layout, out_channels, self.layer.output(), gap);
                plan.with_input_strides(with_gaps(layout, in_channels, size, gap))
                    .and_then(|plan| plan.with_output_strides(output))
            }
            Placing::Anywhere { input, output } => {
                plan.with_input_strides(input).and_then(|plan| plan.with_output_strides(output))
            }
        };
        let [l1, l2] = self.caches;
        plan.and_then(|plan| plan.assume_caches(l1, l2)).unwrap()
    }

    /// The tensors of a plan, the same elements for each; `poison` lies between them.
    pub fn tensors(&self, plan: &Plan) -> Tensors {
        let layer = &self.layer;
        let input = extents(layer, layer.in_channels, layer.size);
        let output = extents(layer, layer.out_channels, layer.output());
        let input = places(input, plan.input_strides());
        let output = places(output, plan.output_strides());
        let residual = self.values.tensor(output.len(), 4);
        Tensors {
            x: scatter(&self.values.tensor(input.len(), 1), &input, self.poison, plan.input_len()),
            weights: self.values.finite(plan.weights_len(), 2),
            bias: self.values.tensor(layer.out_channels, 3),
            residual: scatter(&residual, &output, self.poison, plan.output_len()),
            input,
            output,
        }
    }

    /// The outputs in PyTorch's order, by the plain loops on tensors without gaps.
    pub fn expected(&self) -> Vec<f32> {
        self.expected_of(|x| (self.layer, x))
    }

    /// The same of another layer, on what is made of the input.
    pub fn expected_of(&self, other: impl Fn(Vec<f32>) -> (Layer, Vec<f32>)) -> Vec<f32> {
        let tensors = self.tensors(&self.plan(Layout::Nchw));
        let gather = |tensor: &[f32], places: &[usize]| -> Vec<f32> {
            places.iter().map(|place| tensor[*place]).collect()
        };
        let (layer, x) = other(gather(&tensors.x, &tensors.input));
        let residual = gather(&tensors.residual, &tensors.output);
        let epilogue = self.ending.epilogue(&tensors.bias, &residual);
        let plan = layer.plan(Layout::Nchw).unwrap();
        let mut y = self.ending.before(self.poison, &residual);
        reference::run(&plan, &x, &tensors.weights, epilogue, &mut y).unwrap();
        y
    }

    /// A plan of each kernel that can run the layer, in both layouts.
    pub fn plans(&self) -> Vec<(Layout, Kernel, Plan)> {
        let plan = |layout| self.plan(layout);
        of_all_kernels(plan, |plan, kernel| plan.with_kernel(kernel).ok())
    }

    /// Whether all kernels that can run the layer, on all paths, in both layouts, give the bits of
    /// the plain loops: with packed weights tile by tile in any order, then with unpacked ones at
    /// once.
    pub fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let expected = self.expected();
        for (layout, kernel, plan) in self.plans() {
            let tensors = self.tensors(&plan);
            let wanted = scatter(&expected, &tensors.output, self.poison, plan.output_len());
            let before = self.ending.before(self.poison, &tensors.residual);
            let epilogue = self.ending.epilogue(&tensors.bias, &tensors.residual);
            let mut packed = vec![self.poison; plan.packed_len()];
            let packed = plan.pack(&tensors.weights, &mut packed).unwrap();
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let name = format!("{layout:?} {} {}", kernel.name(), isa.name());
                let mut y = before.clone();
                let mut job = plan.job(&tensors.x, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![self.poison; job.scratch_len()];
                let mut tiles: Vec<_> = job.tiles(self.tiles).collect();
                self.shuffle(&mut tiles);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                equal(&y, &wanted).map_err(|place| format!("{name} packed: {place}"))?;

                let mut y = before.clone();
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![self.poison; plan.scratch_len()];
                let weights = Weights::Unpacked(&tensors.weights);
                plan.run(&tensors.x, weights, epilogue, &mut scratch, &mut y).unwrap();
                equal(&y, &wanted).map_err(|place| format!("{name} unpacked: {place}"))?;
            }
        }
        Ok(())
    }

    /// Brings tiles out of order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        shuffle(items, self.order);
    }
}

/// A plan of each kernel that can run the layer, in both layouts.
pub fn of_all_kernels<P>(
    plan: impl Fn(Layout) -> P,
    with_kernel: impl Fn(&P, Kernel) -> Option<P>,
) -> Vec<(Layout, Kernel, P)> {
    let mut plans = Vec::new();
    for layout in LAYOUTS {
        let plan = plan(layout);
        let of = |kernel: Kernel| Some((layout, kernel, with_kernel(&plan, kernel)?));
        plans.extend(Kernel::ALL.into_iter().filter_map(of));
    }
    plans
}

/// A tensor with `values`, in PyTorch's order, at their places; `poison` elsewhere.
pub fn scatter(values: &[f32], places: &[usize], poison: f32, len: usize) -> Vec<f32> {
    let mut tensor = vec![poison; len];
    for (value, place) in values.iter().zip(places) {
        tensor[*place] = *value;
    }
    tensor
}

/// Brings them into the order of that number; 0: as they are.
pub fn shuffle<T>(items: &mut [T], order: usize) {
    if order > 0 {
        for at in 1..items.len() {
            items.swap(at, hash(at, order) as usize % (at + 1));
        }
    }
}

/// Where they differ, if they do.
pub fn equal(y: &[f32], wanted: &[f32]) -> Result<(), String> {
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    match y.iter().zip(wanted).position(differs) {
        None => Ok(()),
        Some(at) => Err(format!(
            "at {at} of {}: {:e} ({:#010x}), expected {:e} ({:#010x})",
            y.len(),
            y[at],
            y[at].to_bits(),
            wanted[at],
            wanted[at].to_bits(),
        )),
    }
}
