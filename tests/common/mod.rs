//! Random layers with data to the point of nastiness, and tensors laid out with gaps.

use crate::support::{Ending, Residual};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tapwise::{Activation, Conv, Error, Layout, Plan, Strides};

/// The most multiply-adds of a random layer.
pub const MOST_MACS: usize = 50_000;

/// What surrounds and precedes results: one is a NaN, so that it spreads if it is ever read.
pub const POISONS: [f32; 2] = [f32::from_bits(0xffc5_a5a5), 12_345.5];

/// A layer, its input size, and how it is run.
#[derive(Clone, Debug)]
pub struct Case {
    pub rank: usize,
    pub batch: usize,
    pub groups: usize,
    pub in_per_group: usize,
    pub out_per_group: usize,
    pub size: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub dilation: [usize; 3],
    pub before: [usize; 3],
    pub after: [usize; 3],
    pub ending: Ending,
    /// Assumed caches.
    pub caches: [usize; 2],
    pub tiles: usize,
    /// Elements left free after each channel, row and so on.
    pub gap: usize,
    /// One value of so many is NaN, an infinity, a zero of either sign or a subnormal; 0: none.
    pub specials: u32,
    pub seed: u64,
}

/// 1 to `most`, with as many small numbers as large ones.
fn log_uniform(most: usize) -> impl Strategy<Value = usize> {
    (0.0..1.0_f64).prop_map(move |u| ((most as f64 + 1.0).powf(u) as usize).clamp(1, most))
}

fn axes(most: usize) -> impl Strategy<Value = [usize; 3]> {
    [log_uniform(most), log_uniform(most), log_uniform(most)]
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clamp { lower: 0.0, upper: 6.0 }),
        Just(Activation::Clamp { lower: -0.0, upper: f32::INFINITY }),
        Just(Activation::Clamp { lower: -0.25, upper: 0.5 }),
        Just(Activation::LeakyRelu { slope: 0.01 }),
        Just(Activation::LeakyRelu { slope: -2.0 }),
        Just(Activation::HardSwish),
    ]
}

/// Layers whose planes are a multiple of 2 KiB, with channels enough for kernels to mind.
fn colliding() -> impl Strategy<Value = Case> {
    (cases_of_any_size(), 16..24_usize, 32..40_usize, any::<bool>(), 1..3_usize).prop_map(
        |(mut case, in_channels, out_channels, one_row, taps)| {
            (case.rank, case.batch, case.groups) = (2, case.batch.min(2), 1);
            (case.in_per_group, case.out_per_group) = (in_channels, out_channels);
            case.size = if one_row { [1, 1, 512] } else { [1, 8, 64] };
            case.kernel = [1, if one_row { 1 } else { taps }, taps];
            case.stride = [1; 3];
            case.dilation[0] = 1;
            (case.before[0], case.after[0]) = (0, 0);
            if one_row {
                (case.before[1], case.after[1]) = (0, 0);
            }
            case
        },
    )
}

/// Depthwise layers with rows longer than a band.
fn long_rows() -> impl Strategy<Value = Case> {
    (cases_of_any_size(), 65..300_usize, 2..4_usize, 1..3_usize).prop_map(
        |(mut case, width, channels, outputs)| {
            (case.rank, case.batch, case.groups) = (1, case.batch.min(2), channels);
            (case.in_per_group, case.out_per_group) = (1, outputs);
            case.size = [1, 1, width];
            case.kernel = [1, 1, 4 + case.kernel[2] % 4];
            (case.stride[0], case.stride[1]) = (1, 1);
            (case.dilation[0], case.dilation[1]) = (1, 1);
            (case.before, case.after) = ([0, 0, case.before[2]], [0, 0, case.after[2]]);
            case
        },
    )
}

/// Layers of every kind, a few of them larger.
pub fn cases() -> impl Strategy<Value = Case> {
    prop_oneof![
        198 => cases_of_any_size().prop_map(|mut case| {
            case.cut_down();
            case
        }),
        1 => colliding(),
        1 => long_rows(),
    ]
}

/// Layers of every kind, of up to any size: they are to be cut down, rather than thrown away.
fn cases_of_any_size() -> impl Strategy<Value = Case> {
    let channels = (
        log_uniform(2),
        prop_oneof![3 => Just(1), 2 => log_uniform(20)],
        prop_oneof![1 => Just(1), 3 => log_uniform(70)],
        prop_oneof![1 => Just(1), 3 => log_uniform(70)],
    );
    let shape = (
        1..=3_usize,
        axes(40),
        axes(7),
        axes(3),
        axes(3),
        [0..4_usize, 0..4, 0..4],
        [0..4_usize, 0..4, 0..4],
        any::<bool>(),
    );
    let run = (
        any::<bool>(),
        prop_oneof![3 => Just(Residual::None), 1 => Just(Residual::Slice), 1 => Just(Residual::Output)],
        activations(),
        prop_oneof![
            Just([32 << 10, 512 << 10]),
            Just([512, 512]),
            Just([512, 8 << 10]),
            Just([4 << 10, 64 << 10])
        ],
        log_uniform(12),
        prop_oneof![2 => Just(0), 1 => 1..4_usize],
        prop_oneof![2 => Just(0), 1 => Just(40), 1 => Just(4)],
        any::<u64>(),
    );
    (channels, shape, run).prop_map(|(channels, shape, run)| {
        let (batch, groups, in_per_group, out_per_group) = channels;
        let (rank, size, kernel, stride, dilation, before, after, padded) = shape;
        let (bias, residual, activation, caches, tiles, gap, specials, seed) = run;
        let sides = |sides: [usize; 3]| if padded { sides } else { [0; 3] };
        Case {
            rank,
            batch,
            groups,
            in_per_group,
            out_per_group,
            size,
            kernel,
            stride,
            dilation,
            before: sides(before),
            after: sides(after),
            ending: Ending { bias, residual, activation },
            caches,
            tiles,
            gap,
            specials,
            seed,
        }
    })
}

impl Case {
    /// Clears unused axes, makes the window fit, halves what is largest until the layer is small.
    fn cut_down(&mut self) {
        for axis in 0..3 - self.rank {
            self.size[axis] = 1;
            self.kernel[axis] = 1;
            self.stride[axis] = 1;
            self.dilation[axis] = 1;
            (self.before[axis], self.after[axis]) = (0, 0);
        }
        loop {
            for axis in 0..3 {
                let padded = self.size[axis] + self.before[axis] + self.after[axis];
                while (self.kernel[axis] - 1) * self.dilation[axis] + 1 > padded {
                    if self.dilation[axis] > 1 {
                        self.dilation[axis] -= 1;
                    } else {
                        self.kernel[axis] -= 1;
                    }
                }
            }
            if self.macs() <= MOST_MACS && self.elements() <= MOST_MACS {
                return;
            }
            let dims = [&mut self.groups, &mut self.in_per_group, &mut self.out_per_group]
                .into_iter()
                .chain(self.size.iter_mut());
            let largest = dims.max_by_key(|dim| **dim).unwrap();
            *largest = (*largest / 2).max(1);
            if self.size == [1; 3] && self.macs() > MOST_MACS {
                self.groups = 1;
                self.batch = 1;
            }
        }
    }

    fn output(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let window = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            (self.size[axis] + self.before[axis] + self.after[axis] - window) / self.stride[axis]
                + 1
        })
    }

    fn macs(&self) -> usize {
        let outputs = self.batch * self.out_channels() * self.output().iter().product::<usize>();
        outputs * self.in_per_group * self.kernel.iter().product::<usize>()
    }

    fn elements(&self) -> usize {
        self.batch * self.in_channels() * self.size.iter().product::<usize>()
    }

    pub fn in_channels(&self) -> usize {
        self.groups * self.in_per_group
    }

    pub fn out_channels(&self) -> usize {
        self.groups * self.out_per_group
    }

    fn plan_of_rank<const D: usize>(&self, layout: Layout) -> Result<Plan, Error> {
        let axes =
            |all: [usize; 3]| -> [usize; D] { std::array::from_fn(|axis| all[3 - D + axis]) };
        Conv::<D>::new(self.in_channels(), self.out_channels(), axes(self.kernel))
            .stride(axes(self.stride))
            .padding_sides(axes(self.before), axes(self.after))
            .dilation(axes(self.dilation))
            .groups(self.groups)
            .plan(layout, self.batch, axes(self.size))
    }

    /// With dense strides and the usual caches.
    pub fn plan(&self, layout: Layout) -> Plan {
        match self.rank {
            1 => self.plan_of_rank::<1>(layout),
            2 => self.plan_of_rank::<2>(layout),
            _ => self.plan_of_rank::<3>(layout),
        }
        .unwrap()
    }

    /// With the case's gaps and caches.
    pub fn odd_plan(&self, layout: Layout) -> Plan {
        let dense = self.plan(layout);
        let input = with_gaps(layout, self.in_channels(), self.size, self.gap);
        let output = with_gaps(layout, self.out_channels(), self.output(), self.gap);
        let [l1, l2] = self.caches;
        dense
            .with_input_strides(input)
            .and_then(|plan| plan.with_output_strides(output))
            .and_then(|plan| plan.assume_caches(l1, l2))
            .unwrap()
    }

    /// Input, weights, bias and residual in PyTorch's order, the same at every call.
    pub fn data(&self) -> [Vec<f32>; 4] {
        let mut random = StdRng::seed_from_u64(self.seed);
        let plan = self.plan(Layout::Nchw);
        let lens = [plan.input_len(), plan.weights_len(), self.out_channels(), plan.output_len()];
        std::array::from_fn(|tensor| {
            let may_be_infinite = tensor != 1; // weights are finite, by the promise
            (0..lens[tensor]).map(|_| self.value(&mut random, may_be_infinite)).collect()
        })
    }

    fn value(&self, random: &mut StdRng, may_be_infinite: bool) -> f32 {
        if self.specials == 0 || random.random_range(0..self.specials) > 0 {
            return random.random_range(-1.0..1.0);
        }
        let negative = if random.random() { -1.0 } else { 1.0 };
        negative
            * match random.random_range(0..if may_be_infinite { 8 } else { 6 }) {
                0 | 1 => 0.0,
                2 => f32::from_bits(random.random_range(1..0x0080_0000)), // subnormal
                3 => f32::MIN_POSITIVE,
                4 => random.random_range(1e-30..1e-20),
                5 => random.random_range(1e18..1e20),
                6 => f32::INFINITY,
                _ => f32::from_bits(random.random_range(0x7f80_0001..0x8000_0000)), // any NaN
            }
    }
}

/// Strides that leave `gap` elements free after the innermost dimension, twice as many after the
/// next, and so on; with a gap of 3, also between neighbours of the innermost one.
fn with_gaps(layout: Layout, channels: usize, size: [usize; 3], gap: usize) -> Strides {
    let [depth, height, width] = size;
    let inner = if gap == 3 { 2 } else { 1 };
    match layout {
        Layout::Nchw => {
            let pixel = inner;
            let row = width * pixel + gap;
            let plane = height * row + gap;
            let channel = depth * plane + 2 * gap;
            Strides { batch: channels * channel + gap, channel, depth: plane, row, pixel }
        }
        Layout::Nhwc => {
            let channel = inner;
            let pixel = channels * channel + gap;
            let row = width * pixel + gap;
            let plane = height * row + gap;
            Strides { batch: depth * plane + 3 * gap, channel, depth: plane, row, pixel }
        }
    }
}

/// The places of a tensor's elements, in NCHW order.
pub fn places(strides: &Strides, batch: usize, channels: usize, size: [usize; 3]) -> Vec<usize> {
    let mut places = Vec::new();
    for image in 0..batch {
        for channel in 0..channels {
            for d in 0..size[0] {
                for h in 0..size[1] {
                    for w in 0..size[2] {
                        places.push(
                            image * strides.batch
                                + channel * strides.channel
                                + d * strides.depth
                                + h * strides.row
                                + w * strides.pixel,
                        );
                    }
                }
            }
        }
    }
    places
}

/// `values`, in NCHW order, put at their places; `fill` elsewhere.
pub fn scatter(values: &[f32], places: &[usize], len: usize, fill: f32) -> Vec<f32> {
    let mut tensor = vec![fill; len];
    for (&value, &place) in values.iter().zip(places) {
        tensor[place] = value;
    }
    tensor
}
