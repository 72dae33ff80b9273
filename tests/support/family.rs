//! What PyTorch, torchvision and scipy give for the operators beside the ordinary convolution: the
//! cases of `golden/family.txt`, with their tensors and what is stored of their outputs.

#![allow(dead_code)] // each test uses a part

use crate::support::{Layer, fill, hash};
use std::collections::HashMap;

/// How far an output may be from the exact one where data are no integers, in `f32::EPSILON` times
/// the sum of the magnitudes of what it adds up: as in `golden.rs`.
const K: f64 = 2.0;

/// A line of `family.txt`. A case of fewer than three dimensions uses the last entries of arrays.
pub struct Case {
    pub name: &'static str,
    /// The seeds of its tensors are eight times that, and the next ones.
    number: usize,
    pub operator: Operator,
    /// The layer as PyTorch's documentation names its numbers. Of an unfolding or folding both
    /// channels are those of the image, and `size` is the image's; of a separable layer it is the
    /// depthwise one.
    pub layer: Layer,
    /// Of the output; of an unfolding or folding the blocks along each axis.
    pub out_size: [usize; 3],
    pub has_bias: bool,
    /// Whether its data are integers.
    integer: bool,
    /// Whether an output is just what is stored, in whatever order it was added up.
    exact: bool,
    /// Which elements of the flat output are stored.
    step: usize,
    expected: Vec<f32>,
}

/// What a case has that an ordinary layer lacks.
#[derive(Debug)]
pub enum Operator {
    ConvTranspose,
    /// The window turned around along every axis.
    Flipped,
    DeformConv {
        offset_groups: usize,
        has_mask: bool,
        /// What offsets by formula are multiplied by.
        offset_scale: f32,
        /// Offsets that are listed instead.
        listed: Option<Vec<f32>>,
        /// One element of the input of so many is infinite, from the first on; 0: none.
        infinite: usize,
    },
    /// Each image has weights of its own, one after the other.
    Correlation,
    PaddingMode(PaddingMode),
    Unfold,
    Fold,
    /// The layer, ReLU6, a pointwise one with so many outputs, ReLU.
    Separable {
        out_channels: usize,
        /// What depthwise weights by formula are multiplied by, if they are no integers.
        weights_scale: f32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PaddingMode {
    Reflect,
    Replicate,
    Circular,
}

/// A function on single values.
pub struct ActivationCase {
    pub name: &'static str,
    /// PyTorch's name of the function.
    pub function: &'static str,
    /// `alpha` of `elu`, the weight of `prelu`.
    pub parameter: f32,
    pub inputs: Vec<f32>,
    /// The exact values, rounded.
    pub expected: Vec<f32>,
    /// What PyTorch gives in `f32` for the first of the inputs: those are the special values.
    pub torch: Vec<f32>,
}

/// An output in `f64`.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub value: f64,
    /// The sum of the magnitudes of all that it adds up.
    pub magnitude: f64,
}

impl Sum {
    pub fn of(value: f64) -> Sum {
        Sum { value, magnitude: value.abs() }
    }

    pub fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
    }

    /// As outputs are: one NaN, one zero.
    fn rounded(&self) -> f32 {
        if self.value.is_nan() { f32::from_bits(0x7fc0_0000) } else { self.value as f32 + 0.0 }
    }
}

impl Case {
    pub fn taps(&self) -> usize {
        self.layer.kernel.iter().product()
    }

    /// Places of the output, or blocks.
    pub fn places(&self) -> usize {
        self.out_size.iter().product()
    }

    pub fn input(&self) -> Vec<f32> {
        let layer = &self.layer;
        let per_channel = match self.operator {
            Operator::Fold => self.taps() * self.places(),
            _ => layer.pixels_in(),
        };
        let mut x = self.data(layer.batch * layer.in_channels * per_channel, 0);
        if let Operator::DeformConv { infinite: infinite @ 1.., .. } = self.operator {
            x.iter_mut().step_by(infinite).for_each(|x| *x = f32::INFINITY);
        }
        x
    }

    /// In PyTorch's order: (in, out / groups, window) of a transposed convolution, (batch, out,
    /// in / groups, window) of a correlation, (out, in / groups, window) otherwise.
    pub fn weights(&self) -> Vec<f32> {
        let layer = &self.layer;
        let len = layer.out_channels * (layer.in_channels / layer.groups) * self.taps();
        match self.operator {
            Operator::Correlation => self.data(layer.batch * len, 1),
            Operator::Separable { weights_scale, .. } if !self.integer => {
                self.data(len, 1).into_iter().map(|weight| weight * weights_scale).collect()
            }
            _ => self.data(len, 1),
        }
    }

    /// Zeros where the case has none.
    pub fn bias(&self) -> Vec<f32> {
        self.bias_of(self.layer.out_channels, 2)
    }

    /// (batch, offset groups, taps, 2, out_size), rows before columns.
    pub fn offsets(&self) -> Vec<f32> {
        let Operator::DeformConv { offset_groups, offset_scale, ref listed, .. } = self.operator
        else {
            panic!("{} has no offsets", self.name)
        };
        let len = self.layer.batch * offset_groups * self.taps() * 2 * self.places();
        match listed {
            Some(listed) => listed.clone(),
            None => self.data(len, 3).into_iter().map(|offset| offset * offset_scale).collect(),
        }
    }

    /// (batch, offset groups, taps, out_size), if it has one.
    pub fn mask(&self) -> Option<Vec<f32>> {
        let Operator::DeformConv { offset_groups, has_mask: true, .. } = self.operator else {
            return None;
        };
        let len = self.layer.batch * offset_groups * self.taps() * self.places();
        let values = self.data(len, 4).into_iter();
        Some(match self.integer {
            true => values.map(|value| (value + 4.0) / 8.0).collect(),
            false => values.map(|value| (value + 1.0) / 2.0).collect(),
        })
    }

    /// (out, channels of the depthwise layer).
    pub fn pointwise_weights(&self) -> Vec<f32> {
        self.data(self.output_channels() * self.layer.out_channels, 5)
    }

    /// Zeros where the case has none.
    pub fn pointwise_bias(&self) -> Vec<f32> {
        self.bias_of(self.output_channels(), 6)
    }

    fn output_channels(&self) -> usize {
        match self.operator {
            Operator::Separable { out_channels, .. } => out_channels,
            Operator::Unfold => self.layer.in_channels * self.taps(),
            _ => self.layer.out_channels,
        }
    }

    pub fn output_len(&self) -> usize {
        let places = match self.operator {
            Operator::Fold => self.layer.pixels_in(),
            _ => self.places(),
        };
        self.layer.batch * self.output_channels() * places
    }

    fn bias_of(&self, len: usize, tensor: usize) -> Vec<f32> {
        if self.has_bias { self.data(len, tensor) } else { vec![0.0; len] }
    }

    fn data(&self, len: usize, tensor: usize) -> Vec<f32> {
        let seed = 8 * self.number + tensor;
        match self.integer {
            true => (0..len).map(|at| (hash(at, seed) >> 8) as f32 % 9.0 - 4.0).collect(),
            false => fill(len, seed),
        }
    }

    /// That plain loops in `f64` give what is stored.
    pub fn check_sums(&self, sums: &[Sum]) {
        self.visit_stored(sums.len(), |at, expected| {
            let value = sums[at].value;
            let half_ulp = f64::from(f32::EPSILON) / 2.0 * value.abs();
            let near = (value - f64::from(expected)).abs() <= half_ulp;
            let same = sums[at].rounded().to_bits() == expected.to_bits();
            assert!(
                same || near && !self.exact,
                "{}: y[{at}] = {value:e}, {expected:e}",
                self.name
            );
        });
    }

    /// Compares an output in PyTorch's order with what is stored, and all of it with `sums`.
    #[track_caller]
    pub fn check(&self, y: &[f32], sums: &[Sum]) {
        assert_eq!(y.len(), sums.len(), "{}", self.name);
        for (at, (y, sum)) in y.iter().zip(sums).enumerate() {
            self.check_one(at, *y, sum.rounded(), sum.magnitude);
        }
        self.visit_stored(y.len(), |at, expected| {
            self.check_one(at, y[at], expected, sums[at].magnitude);
        });
    }

    #[track_caller]
    fn check_one(&self, at: usize, y: f32, expected: f32, magnitude: f64) {
        let tolerance = K * f64::from(f32::EPSILON) * magnitude;
        let near = (f64::from(y) - f64::from(expected)).abs() <= tolerance;
        let fine = if self.exact { y.to_bits() == expected.to_bits() } else { near };
        assert!(fine, "{}: y[{at}] = {y:e}, expected {expected:e}", self.name);
    }

    fn visit_stored(&self, len: usize, mut visit: impl FnMut(usize, f32)) {
        assert_eq!(len, self.output_len(), "{}", self.name);
        let places = (0..len).step_by(self.step);
        assert_eq!(places.len(), self.expected.len(), "{}", self.name);
        places.zip(&self.expected).for_each(|(at, expected)| visit(at, *expected));
    }
}

/// The fields of a line.
struct Fields(HashMap<&'static str, &'static str>);

impl Fields {
    fn of(line: &'static str) -> Fields {
        Fields(line.split(' ').map(|field| field.split_once('=').unwrap()).collect())
    }

    fn text(&self, key: &str) -> &'static str {
        self.0.get(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.0))
    }

    fn one(&self, key: &str) -> usize {
        self.text(key).parse().unwrap()
    }

    fn flag(&self, key: &str) -> bool {
        match self.text(key) {
            "0" => false,
            "1" => true,
            other => panic!("{key}={other}"),
        }
    }

    fn real(&self, key: &str) -> f32 {
        self.text(key).parse().unwrap()
    }

    fn list(&self, key: &str) -> Vec<usize> {
        self.text(key).split(',').map(|entry| entry.parse().unwrap()).collect()
    }

    /// The axes that a case lacks come first.
    fn axes(&self, entries: &[usize], lacking: usize) -> [usize; 3] {
        let rank = self.one("rank");
        assert_eq!(entries.len(), rank);
        std::array::from_fn(|axis| match (axis + rank).checked_sub(3) {
            Some(entry) => entries[entry],
            None => lacking,
        })
    }

    fn layer(&self) -> Layer {
        let (before, after): (Vec<_>, Vec<_>) =
            self.list("pad").chunks(2).map(|sides| (sides[0], sides[1])).unzip();
        let channels = [self.one("in"), self.one("out")];
        let [size, kernel] = ["size", "kernel"].map(|key| self.axes(&self.list(key), 1));
        Layer {
            batch: self.one("n"),
            groups: self.one("groups"),
            stride: self.axes(&self.list("stride"), 1),
            dilation: self.axes(&self.list("dilation"), 1),
            before: self.axes(&before, 0),
            after: self.axes(&after, 0),
            ..Layer::new(self.one("rank"), channels, size, kernel)
        }
    }

    fn operator(&self) -> Operator {
        match self.text("op") {
            "conv_transpose" => Operator::ConvTranspose,
            "flipped" => Operator::Flipped,
            "deform_conv" => Operator::DeformConv {
                offset_groups: self.one("offset_groups"),
                has_mask: self.flag("mask"),
                offset_scale: self.real("offset_scale"),
                listed: self.0.get("offsets").map(|listed| {
                    listed.split(',').map(|offset| offset.parse().unwrap()).collect()
                }),
                infinite: self.one("infinite"),
            },
            "correlation" => Operator::Correlation,
            "padding_mode" => Operator::PaddingMode(match self.text("mode") {
                "reflect" => PaddingMode::Reflect,
                "replicate" => PaddingMode::Replicate,
                "circular" => PaddingMode::Circular,
                other => panic!("padding mode {other}"),
            }),
            "unfold" => Operator::Unfold,
            "fold" => Operator::Fold,
            "separable" => Operator::Separable {
                out_channels: self.one("out"),
                weights_scale: self.real("w_scale"),
            },
            other => panic!("operator {other}"),
        }
    }

    fn case(&self, number: usize, expected: Vec<f32>) -> Case {
        let (operator, mut layer) = (self.operator(), self.layer());
        match operator {
            Operator::ConvTranspose => {
                layer.transposed = true;
                layer.output_padding = self.axes(&self.list("output_pad"), 0);
            }
            Operator::Flipped => layer.flipped = true,
            Operator::Separable { .. } => {
                layer.groups = layer.in_channels;
                layer.out_channels = layer.in_channels * self.one("multiplier");
            }
            _ => {}
        }
        let out_size = self.axes(&self.list("out_size"), 1);
        assert_eq!(out_size, layer.output());
        Case {
            name: self.text("name"),
            number,
            operator,
            layer,
            out_size,
            has_bias: self.flag("bias"),
            integer: self.flag("integer"),
            exact: self.flag("exact"),
            step: self.one("step"),
            expected,
        }
    }

    fn activation(&self, values: Vec<f32>) -> ActivationCase {
        let (inputs, rest) = values.split_at(self.one("inputs"));
        let (expected, torch) = rest.split_at(inputs.len());
        assert_eq!(torch.len(), self.one("specials"));
        ActivationCase {
            name: self.text("name"),
            function: self.text("function"),
            parameter: self.real("parameter"),
            inputs: inputs.to_vec(),
            expected: expected.to_vec(),
            torch: torch.to_vec(),
        }
    }
}

/// All that both files hold.
pub fn family() -> (Vec<Case>, Vec<ActivationCase>) {
    let lines = include_str!("../golden/family.txt").lines().filter(|line| !line.starts_with('#'));
    let (values, rest) = include_bytes!("../golden/family.bin").as_chunks();
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let (mut cases, mut activations, mut offset) = (Vec::new(), Vec::new(), 0);
    for (number, line) in lines.enumerate() {
        let fields = Fields::of(line);
        assert_eq!(fields.one("offset"), offset);
        let end = offset + fields.one("count");
        let part = values[offset..end].to_vec();
        offset = end;
        match fields.text("op") {
            "activation" => activations.push(fields.activation(part)),
            _ => cases.push(fields.case(number, part)),
        }
    }
    assert_eq!((values.len(), rest.len()), (offset, 0));
    (cases, activations)
}

/// The cases of some operators: so many.
pub fn cases(count: usize, which: impl Fn(&Operator) -> bool) -> Vec<Case> {
    let (mut cases, _) = family();
    cases.retain(|case| which(&case.operator));
    assert_eq!(cases.len(), count);
    cases
}
