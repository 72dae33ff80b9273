//! Convolutions whose padding is not zeros: they give the bits of a convolution without padding on an input
//! that was padded first. And descriptions, absurd or not.

#![allow(dead_code)] // each test uses a part

use crate::description::{Description, Operator};
use crate::support::Layer;
use crate::support::case::{Case, equal};
use crate::support::choices::Choices;
use crate::support::layers::{fit, not_transposed};
use tapwise::{Isa, PaddingMode};

pub const MODES: [PaddingMode; 3] =
    [PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];

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

/// A layer without padding, and the input with its padding, in PyTorch's order.
fn padded(layer: &Layer, x: &[f32]) -> (Layer, Vec<f32>) {
    let mut wider = *layer;
    for axis in 0..3 {
        wider.size[axis] += layer.before[axis] + layer.after[axis];
    }
    (wider.before, wider.after, wider.padding_mode) = ([0; 3], [0; 3], PaddingMode::Zeros);
    let of = |axis: usize, place| {
        source(layer.padding_mode, place, layer.before[axis], layer.size[axis])
    };
    let mut values = Vec::new();
    for plane in x.chunks(layer.pixels_in()) {
        for d in 0..wider.size[0] {
            for h in 0..wider.size[1] {
                for w in 0..wider.size[2] {
                    let row = of(0, d) * layer.size[1] + of(1, h);
                    values.push(plane[row * layer.size[2] + of(2, w)]);
                }
            }
        }
    }
    (wider, values)
}

/// With at most so many multiply-adds, but for a few.
pub fn padded_case(choices: &mut Choices, most: usize) -> Case {
    let mut layer = not_transposed(choices, most);
    layer.padding_mode = choices.choose(&MODES);
    (0..3).for_each(|axis| fit(&mut layer, axis));
    Case::of_layer(layer, choices)
}

/// Whether the plain loops agree on the input and on one that was padded first, and all else that holds
/// for a case.
pub fn check(case: &Case, paths: &[Isa]) -> Result<(), String> {
    let on_padded = case.expected_of(|x| padded(&case.layer, &x));
    equal(&case.expected(), &on_padded).map_err(|place| format!("padded first: {place}"))?;
    case.check(paths)
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
