//! A deformable layer, how it is run and on what data; and that it gives the bits of the plain loops.

#![allow(dead_code)] // each test uses a part

use crate::support::case::{LAYOUTS, POISONS, equal, of_all_kernels, shuffle};
use crate::support::choices::Choices;
use crate::support::layers::{caches, ending};
use crate::support::values::Values;
use crate::support::{Ending, Layer, hash, to_layout};
use tapwise::{DeformConv2d, DeformPlan, Error, Isa, Kernel, Layout, Weights, reference};

/// How far taps are moved.
#[derive(Clone, Copy, Debug)]
pub enum Moves {
    Not,
    /// To anywhere within so much.
    Anywhere(f32),
    /// By quarters: to the middles of elements, and to the borders.
    Quarters(f32),
    /// As [`Moves::Anywhere`], and some by values that are special.
    Special(f32),
}

/// A layer and how it is run.
#[derive(Clone, Debug)]
pub struct DeformCase {
    pub layer: Layer,
    pub offset_groups: usize,
    pub modulated: bool,
    pub moves: Moves,
    pub ending: Ending,
    /// Assumed caches.
    pub caches: [usize; 2],
    pub tiles: usize,
    /// By which tiles are brought out of order; 0: they are not.
    pub order: usize,
    pub poison: f32,
    pub values: Values,
}

/// Tensors of one call.
pub struct DeformTensors {
    pub x: Vec<f32>,
    pub offsets: Vec<f32>,
    pub mask: Option<Vec<f32>>,
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub residual: Vec<f32>,
}

/// The description of a layer of two dimensions.
pub fn deform(layer: &Layer, offset_groups: usize, modulated: bool) -> DeformConv2d {
    let axes = |all: [usize; 3]| [all[1], all[2]];
    let deform = DeformConv2d::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
        .stride(axes(layer.stride))
        .padding(axes(layer.before))
        .dilation(axes(layer.dilation))
        .groups(layer.groups)
        .offset_groups(offset_groups);
    if modulated { deform.modulated() } else { deform }
}

/// A layer that takes a moment to run: with at most so many multiply-adds, and elements of tensors.
fn layer(choices: &mut Choices, most: usize) -> Layer {
    let mut layer = Layer::new(2, [1; 2], [1; 3], [1; 3]);
    layer.groups = match choices.number_in(0..=5) {
        0..=2 => 1,
        3 | 4 => choices.small_in(9),
        _ => choices.choose(&[8, 17]),
    };
    let mut per_group = [(); 2].map(|()| match choices.number_in(0..=3) {
        0 => 1,
        _ => choices.small_in(40),
    });
    layer.batch = choices.choose(&[1, 1, 1, 2, 3]);
    for axis in 1..3 {
        layer.size[axis] = choices.small_in(30);
        layer.kernel[axis] = choices.small_in(4);
        layer.stride[axis] = choices.small_in(3);
        layer.dilation[axis] = choices.small_in(3);
        layer.before[axis] = choices.number_in(0..=3);
        layer.after[axis] = layer.before[axis];
    }
    loop {
        for axis in 1..3 {
            let padded = layer.size[axis] + 2 * layer.before[axis];
            layer.kernel[axis] = layer.kernel[axis].min(padded);
            while (layer.kernel[axis] - 1) * layer.dilation[axis] + 1 > padded {
                layer.dilation[axis] -= 1;
            }
        }
        [layer.in_channels, layer.out_channels] = per_group.map(|n| layer.groups * n);
        let taps: usize = layer.kernel.iter().product();
        let outputs = layer.batch * layer.out_channels * layer.pixels_out();
        let elements = layer.batch * layer.in_channels * layer.pixels_in();
        let samples = layer.batch * layer.in_channels * layer.pixels_out() * taps;
        if (outputs * per_group[0] * taps).max(elements).max(outputs).max(samples) <= most {
            return layer;
        }
        let extents = layer.size.iter_mut().chain(&mut layer.kernel);
        let all = extents.chain(&mut per_group).chain([&mut layer.groups]);
        let largest = all.max_by_key(|extent| **extent).unwrap();
        *largest = (*largest / 2).max(1);
    }
}

impl DeformCase {
    pub fn of(choices: &mut Choices, most: usize) -> DeformCase {
        let layer = layer(choices, most);
        let divisors: Vec<usize> =
            (1..=layer.in_channels).filter(|n| layer.in_channels.is_multiple_of(*n)).collect();
        let distance = choices.choose(&[0.5, 1.0, 2.0, 5.0, 12.0, 40.0]);
        DeformCase {
            layer,
            offset_groups: choices.choose(&divisors),
            modulated: choices.flag(),
            moves: match choices.number_in(0..=7) {
                0 => Moves::Not,
                1..=3 => Moves::Anywhere(distance),
                4 | 5 => Moves::Quarters(distance),
                _ => Moves::Special(distance),
            },
            ending: ending(choices),
            caches: caches(choices),
            tiles: if choices.one_in(16) { choices.number() } else { choices.small_in(12) },
            order: choices.number_in(0..=0xff),
            poison: choices.choose(&POISONS),
            values: Values::of(choices),
        }
    }

    /// With the case's caches.
    pub fn plan(&self, layout: Layout) -> Result<DeformPlan, Error> {
        let Layer { batch, size: [_, height, width], .. } = self.layer;
        let deform = deform(&self.layer, self.offset_groups, self.modulated);
        let [l1, l2] = self.caches;
        deform.plan(layout, batch, [height, width])?.assume_caches(l1, l2)
    }

    /// In PyTorch's order.
    pub fn tensors(&self) -> DeformTensors {
        let plan = self.plan(Layout::Nchw).unwrap();
        let values = &self.values;
        let some = |number: usize, scale: f32, round: f32| -> Vec<f32> {
            let value = |at: usize| crate::support::value(at, 7 * number) * scale;
            (0..plan.offsets_len()).map(|at| (value(at) / round).round() * round).collect()
        };
        let offsets = match self.moves {
            Moves::Not => vec![0.0; plan.offsets_len()],
            Moves::Anywhere(scale) => some(self.order, scale, 1.0 / 1024.0),
            Moves::Quarters(scale) => some(self.order, scale, 0.25),
            Moves::Special(scale) => {
                let special = values.tensor(plan.offsets_len(), 6);
                let special = special.into_iter().map(|value| value * scale);
                some(self.order, scale, 0.25)
                    .into_iter()
                    .zip(special)
                    .enumerate()
                    .map(|(at, (move_, special))| match hash(at, self.order) % 16 {
                        0 => f32::NAN,
                        1 => f32::INFINITY,
                        2 => f32::NEG_INFINITY,
                        3 => 1e20,
                        4 => -3e9,
                        5 | 6 => special,
                        _ => move_,
                    })
                    .collect()
            }
        };
        DeformTensors {
            x: values.tensor(plan.input_len(), 1),
            offsets,
            mask: self.modulated.then(|| values.tensor(plan.mask_len(), 5)),
            weights: values.finite(plan.weights_len(), 2),
            bias: values.tensor(self.layer.out_channels, 3),
            residual: values.tensor(plan.output_len(), 4),
        }
    }

    /// A plan of each kernel that can run the layer, in both layouts.
    pub fn plans(&self) -> Vec<(Layout, Kernel, DeformPlan)> {
        let plan = |layout| self.plan(layout).unwrap();
        of_all_kernels(plan, |plan, kernel| plan.with_kernel(kernel).ok())
    }

    /// Whether all kernels that can run the layer, on all paths, in both layouts, give the bits of
    /// the plain loops: with packed weights tile by tile in any order, then with unpacked ones at
    /// once.
    pub fn check(&self, paths: &[Isa]) -> Result<(), String> {
        let tensors = self.tensors();
        let DeformTensors { x, offsets, mask, weights, bias, residual } = &tensors;
        let epilogue = self.ending.epilogue(bias, residual);
        let mut expected = self.ending.before(self.poison, residual);
        let plan = self.plan(Layout::Nchw).unwrap();
        let mask = mask.as_deref();
        reference::deform_conv2d(&plan, x, offsets, mask, weights, epilogue, &mut expected)
            .unwrap();

        let tensors = LAYOUTS.map(|layout| self.in_layout(layout, &tensors));
        let expected = LAYOUTS.map(|layout| self.output_in_layout(layout, &expected));
        for (layout, kernel, plan) in self.plans() {
            let number = LAYOUTS.iter().position(|other| *other == layout).unwrap();
            let (tensors, expected) = (&tensors[number], &expected[number]);
            let DeformTensors { x, offsets, mask, weights, bias, residual } = tensors;
            let mask = mask.as_deref();
            let epilogue = self.ending.epilogue(bias, residual);
            let before = self.ending.before(self.poison, residual);
            let mut packed = vec![self.poison; plan.packed_len()];
            let packed = plan.pack(weights, &mut packed).unwrap();
            for isa in paths {
                let plan = plan.with_isa(*isa).unwrap();
                let name = format!("{layout:?} {} {}", kernel.name(), isa.name());
                let mut y = before.clone();
                let mut job = plan.job(x, offsets, mask, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![self.poison; job.scratch_len()];
                let mut tiles: Vec<_> = job.tiles(self.tiles).collect();
                self.shuffle(&mut tiles);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                equal(&y, expected).map_err(|place| format!("{name} packed: {place}"))?;

                let mut y = before.clone();
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![self.poison; plan.scratch_len()];
                let weights = Weights::Unpacked(weights);
                plan.run(x, offsets, mask, weights, epilogue, &mut scratch, &mut y).unwrap();
                equal(&y, expected).map_err(|place| format!("{name} unpacked: {place}"))?;
            }
        }
        Ok(())
    }

    /// Brings tiles out of order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        shuffle(items, self.order);
    }

    /// Tensors in PyTorch's order, brought into that of the layout.
    pub fn in_layout(&self, layout: Layout, tensors: &DeformTensors) -> DeformTensors {
        let Layer { in_channels, kernel, .. } = self.layer;
        let sets = self.offset_groups * kernel.iter().product::<usize>();
        let pixels = self.layer.pixels_out();
        DeformTensors {
            x: to_layout(layout, &tensors.x, in_channels, self.layer.pixels_in()),
            offsets: to_layout(layout, &tensors.offsets, 2 * sets, pixels),
            mask: tensors.mask.as_ref().map(|mask| to_layout(layout, mask, sets, pixels)),
            weights: tensors.weights.clone(),
            bias: tensors.bias.clone(),
            residual: self.output_in_layout(layout, &tensors.residual),
        }
    }

    fn output_in_layout(&self, layout: Layout, y: &[f32]) -> Vec<f32> {
        to_layout(layout, y, self.layer.out_channels, self.layer.pixels_out())
    }
}
