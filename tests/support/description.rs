//! A description of a layer, absurd or not, and everything that has to hold for it: nothing
//! panics, and a plan that is accepted has sizes that fit each other and the target.

#![allow(dead_code)] // each test uses a part

use crate::support::choices::Choices;
use crate::support::{self, POISON, assert_same_bits, fill, paths};
use tapwise::{
    Conv, ConvTranspose, Epilogue, Error, Layout, PaddingMode, Plan, Strides, Weights, reference,
};

/// The most multiply-adds of a plan that is also run.
pub const MOST_MACS: u128 = 20_000;
/// The longest slice of a plan that is also run.
pub const MOST_ELEMENTS: usize = 1 << 14;

/// The bytes of the largest object.
pub const LARGEST: usize = isize::MAX as usize;
/// The same on targets of 32 bits.
pub const LARGEST_32: usize = i32::MAX as usize;

/// What a caller may ask for, sensible or not. `padding` of 0 and 1 is PyTorch's and TensorFlow's
/// `same`; strides are in the order batch, channel, depth, row, pixel.
#[derive(Clone, Debug)]
pub struct Description {
    pub rank: usize,
    pub layout: Layout,
    pub batch: usize,
    pub channels: [usize; 2],
    pub groups: usize,
    pub size: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub dilation: [usize; 3],
    pub padding: usize,
    pub before: [usize; 3],
    pub after: [usize; 3],
    pub caches: [usize; 2],
    pub input_strides: [usize; 5],
    pub output_strides: [usize; 5],
    /// The bytes that the largest object of a smaller target may have.
    pub limit: usize,
    pub operator: Operator,
    pub flipped: bool,
    /// Of a convolution.
    pub padding_mode: PaddingMode,
}

#[derive(Clone, Copy, Debug)]
pub enum Operator {
    Convolution,
    /// With outputs behind the last one.
    Transposed([usize; 3]),
    TransposedTo([usize; 3]),
}

/// What a layer answers before it is run; sizes in three dimensions.
struct Answers {
    parameters: [Result<usize, Error>; 2],
    packed_len: Result<usize, Error>,
    output: Result<[usize; 3], Error>,
    plan: Result<Plan, Error>,
    narrow: Result<Plan, Error>,
}

macro_rules! answers {
    ($layer:expr, $description:expr) => {{
        let Description { layout, batch, limit, .. } = *$description;
        let layer = $layer;
        let size = support::last_axes($description.size);
        Answers {
            parameters: [layer.parameters(false), layer.parameters(true)],
            packed_len: layer.packed_len(),
            output: layer.output_size(size).map(in_three),
            plan: layer.plan(layout, batch, size),
            narrow: layer.plan_within(layout, batch, size, limit),
        }
    }};
}

/// Small numbers, numbers next to those where something may overflow, and any.
pub fn number(choices: &mut Choices) -> usize {
    let kind = choices.number_in(0..=15);
    let center = match kind {
        0..=5 => return choices.choose(&[1, 2, 0, 3, 4]),
        6 => return choices.number_in(5..=100),
        7 => return choices.number(),
        8..=10 => 1 << choices.number_in(0..=usize::BITS as usize - 1),
        11 => usize::MAX,
        12 => LARGEST,
        13 => LARGEST / 4,
        14 => LARGEST_32,
        _ => LARGEST_32 / 4,
    };
    if kind < 10 {
        return center; // a power of two itself, more often than those next to it
    }
    center.wrapping_add(choices.number_in(0..=6)).wrapping_sub(3)
}

/// Mostly a few.
fn small(choices: &mut Choices) -> usize {
    if choices.one_in(9) { choices.number_in(5..=19) } else { choices.number_in(1..=4) }
}

fn several<const N: usize>(
    choices: &mut Choices,
    one: impl Fn(&mut Choices) -> usize,
) -> [usize; N] {
    [(); N].map(|()| one(choices))
}

impl Description {
    /// Everything absurd, or the tensors small and the rest absurd.
    pub fn of(choices: &mut Choices, tame: bool) -> Description {
        let size = if tame { small } else { number };
        let rank = choices.number_in(1..=3);
        let layout = choices.choose(&[Layout::Nchw, Layout::Nhwc]);
        let (batch, groups) = (size(choices), size(choices));
        let mut channels: [usize; 2] = several(choices, size);
        if tame || choices.flag() {
            channels = channels.map(|per_group| per_group.wrapping_mul(groups));
        }
        let (extents, mut kernel) = (several(choices, size), several(choices, size));
        let (stride, mut dilation) = (several(choices, number), several(choices, number));
        let padding = choices.number_in(0..=3);
        if tame {
            for axis in 0..3 {
                // Mostly windows that fit; padding and stride stay absurd.
                kernel[axis] = kernel[axis].min(extents[axis]);
                if padding == 0 {
                    dilation[axis] = 1 + dilation[axis] % 3;
                }
            }
        }
        let mut description = Description {
            rank,
            layout,
            batch,
            channels,
            groups,
            size: extents,
            kernel,
            stride,
            dilation,
            padding,
            before: several(choices, number),
            after: several(choices, number),
            caches: several(choices, number),
            input_strides: several(choices, number),
            output_strides: several(choices, number),
            limit: if choices.one_in(4) { number(choices).min(LARGEST) } else { LARGEST_32 },
            operator: Operator::Convolution,
            flipped: choices.one_in(4),
            padding_mode: PaddingMode::Zeros,
        };
        let kind = choices.number_in(0..=4);
        if kind > 2 {
            description.transpose(choices, tame, kind == 3);
        }
        description
    }

    /// At most so much padding on each side.
    pub fn pad(&mut self, choices: &mut Choices, most: usize) {
        for side in self.before.iter_mut().chain(&mut self.after) {
            *side = choices.number_in(0..=most);
        }
    }

    /// Makes it transposed, with an output padding or to a size; a tame one may have any stride where
    /// there is one input.
    fn transpose(&mut self, choices: &mut Choices, tame: bool, padded: bool) {
        let mut more: [usize; 3] = several(choices, number);
        if tame {
            for (axis, more) in more.iter_mut().enumerate() {
                if self.size[axis] > 1 {
                    self.stride[axis] = 1 + self.stride[axis] % 4;
                }
                if self.padding < 2 {
                    (self.before[axis], self.after[axis]) = (self.padding, 0);
                }
                if choices.flag() {
                    *more %= self.stride[axis].max(self.dilation[axis]).max(1);
                }
            }
        }
        self.operator = if padded {
            Operator::Transposed(more)
        } else if choices.flag() {
            Operator::TransposedTo(more)
        } else {
            // Near what can be reached.
            let least = |axis: usize| {
                let reach = self.kernel[axis].wrapping_sub(1).wrapping_mul(self.dilation[axis]);
                let steps = self.size[axis].wrapping_sub(1).wrapping_mul(self.stride[axis]);
                let padding = self.before[axis].wrapping_add(self.after[axis]);
                steps.wrapping_add(reach).wrapping_add(1).wrapping_sub(padding)
            };
            Operator::TransposedTo([0, 1, 2].map(|axis| least(axis).wrapping_add(more[axis])))
        };
    }

    fn answers<const D: usize>(&self) -> Answers {
        let axes = support::last_axes::<D>;
        let [in_channels, out_channels] = self.channels;
        if let Operator::Transposed(more) | Operator::TransposedTo(more) = self.operator {
            let layer = ConvTranspose::<D>::new(in_channels, out_channels, axes(self.kernel))
                .stride(axes(self.stride))
                .padding_sides(axes(self.before), axes(self.after))
                .dilation(axes(self.dilation))
                .groups(self.groups);
            let layer = match self.operator {
                Operator::TransposedTo(_) => layer.to_output_size(axes(more)),
                _ => layer.output_padding(axes(more)),
            };
            return answers!(if self.flipped { layer.flipped() } else { layer }, self);
        }
        let layer = Conv::<D>::new(in_channels, out_channels, axes(self.kernel))
            .stride(axes(self.stride))
            .dilation(axes(self.dilation))
            .groups(self.groups);
        let layer = match self.padding {
            0 => layer.padding_same(),
            1 => layer.padding_same_tensorflow(),
            _ => layer.padding_sides(axes(self.before), axes(self.after)),
        };
        let layer = layer.padding_mode(self.padding_mode);
        answers!(if self.flipped { layer.flipped() } else { layer }, self)
    }

    fn check_rank<const D: usize>(&self) -> usize {
        let Answers { parameters, packed_len, output, plan, narrow } = self.answers::<D>();
        let [parameters, with_bias] = parameters;
        assert!(parameters.is_ok() || with_bias.is_err());
        // What a small machine accepts, a large one does.
        assert!(plan.is_ok() || narrow.is_err());
        assert!(output.is_ok() || plan.is_err());
        let mut runs = 0;
        for (plan, limit) in [(plan, LARGEST), (narrow, self.limit)] {
            let Ok(plan) = plan else { continue };
            assert_eq!(Ok(plan.output_size()), output);
            assert_eq!(Ok(plan.weights_len()), parameters);
            assert_eq!(Ok(plan.packed_len()), packed_len);
            self.consistent(&plan, limit);
            let [l1, l2] = self.caches;
            let other_caches = plan.assume_caches(l1, l2);
            if let Ok(plan) = other_caches {
                self.consistent(&plan, limit.max(l2));
            }
            let input = strides(self.input_strides);
            let output = strides(self.output_strides);
            let strided = [
                other_caches,
                plan.with_input_strides(input),
                plan.with_output_strides(output),
                plan.with_input_strides(input).and_then(|plan| plan.with_output_strides(output)),
            ];
            for plan in strided.into_iter().flatten() {
                self.consistent(&plan, limit.max(l2));
                runs += usize::from(self.runs(&plan));
            }
            runs += usize::from(self.runs(&plan));
        }
        runs
    }

    fn consistent(&self, plan: &Plan, limit: usize) {
        let elements = limit / 4;
        for len in [plan.input_len(), plan.output_len(), plan.weights_len(), plan.packed_len()] {
            assert!(len <= elements && (0 < len || self.batch == 0));
        }
        assert!(plan.scratch_len() <= elements);
        let wide = |factors: &[usize]| factors.iter().map(|n| *n as u128).product::<u128>();
        let [in_channels, out_channels] = self.channels;
        let axes = 3 - self.rank..3;
        let weights = wide(&[in_channels / self.groups, wide_kernel(self, axes.clone())]);
        assert_eq!(plan.weights_len() as u128, weights * out_channels as u128);
        assert!(plan.packed_len() > plan.weights_len());
        let outputs = wide(&plan.output_size()) * wide(&[self.batch, out_channels]);
        let macs = match self.operator {
            Operator::Convolution => outputs * weights,
            _ => wide(&self.size[axes.clone()]) * wide(&[self.batch, out_channels]) * weights,
        };
        assert_eq!(plan.macs(), macs);
        assert!(plan.output_len() as u128 >= outputs);
        for axis in axes {
            assert!(plan.output_size()[axis] > 0);
            self.reaches(axis, plan.output_size()[axis]);
        }
    }

    /// Whether a transposed layer may have such an output, by the formula of PyTorch's documentation.
    fn reaches(&self, axis: usize, output: usize) {
        let [size, kernel, stride, dilation] =
            [self.size, self.kernel, self.stride, self.dilation].map(|of| of[axis] as i128);
        let padding = self.before[axis] as i128 + self.after[axis] as i128;
        let least = (size - 1) * stride - padding + dilation * (kernel - 1) + 1;
        let more = output as i128 - least;
        match self.operator {
            Operator::Convolution => {}
            Operator::Transposed(padding) => {
                assert_eq!(more, padding[axis] as i128);
                assert!(more < stride.max(dilation));
            }
            Operator::TransposedTo(size) => {
                assert_eq!(output, size[axis]);
                assert!((0..stride).contains(&more));
            }
        }
    }

    /// Runs what is small enough, against the plain loops.
    fn runs(&self, plan: &Plan) -> bool {
        let lens = [plan.input_len(), plan.output_len(), plan.packed_len(), plan.scratch_len()];
        let pixels = plan.output_size().iter().product::<usize>() as u128 * self.batch as u128;
        if lens.iter().any(|len| *len > MOST_ELEMENTS) || plan.macs() * 16 + pixels > MOST_MACS * 16
        {
            return false;
        }
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let bias = fill(self.channels[1], 3);
        let epilogue = Epilogue::new().bias(&bias);
        let mut expected = vec![POISON; plan.output_len()];
        reference::run(plan, &x, &w, epilogue, &mut expected).unwrap();
        let mut packed = vec![POISON; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            let unpacked = plan.unpacked().map(|plan| (plan, Weights::Unpacked(&w)));
            for (plan, weights) in
                [Ok((plan, Weights::Packed(packed))), unpacked].into_iter().flatten()
            {
                let mut y = vec![POISON; plan.output_len()];
                let mut job = plan.job(&x, weights, epilogue, &mut y).unwrap();
                let mut scratch = vec![POISON; job.scratch_len()];
                for tile in job.tiles(self.caches[0]).take(MOST_ELEMENTS) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, isa);
            }
        }
        true
    }

    /// Checks plans of every kind; of how many of them runs were compared.
    pub fn check(&self) -> usize {
        match self.rank {
            1 => self.check_rank::<1>(),
            2 => self.check_rank::<2>(),
            _ => self.check_rank::<3>(),
        }
    }
}

fn wide_kernel(description: &Description, mut axes: std::ops::Range<usize>) -> usize {
    axes.try_fold(1, |taps: usize, axis| taps.checked_mul(description.kernel[axis])).unwrap()
}

/// Ones for the axes that a layer lacks.
fn in_three<const D: usize>(size: [usize; D]) -> [usize; 3] {
    std::array::from_fn(|axis| (axis + D).checked_sub(3).map_or(1, |axis| size[axis]))
}

pub fn strides([batch, channel, depth, row, pixel]: [usize; 5]) -> Strides {
    Strides { batch, channel, depth, row, pixel }
}
