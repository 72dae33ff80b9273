//! The simplest form of a problem is an equal one: every output lies at the same place and sums up the
//! same inputs in the same order.
//!
//! The files under test are compiled into this one: their types are not public.

#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../src"]
mod library {
    pub mod element;
    pub mod error;
    pub mod isa;
    pub mod problem;
}

use library::{element, error, isa, problem};
use problem::Problem;
use problem::geometry::{Geometry, Operator, PaddingMode};
use problem::strides::{Layout, Strides};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LIMIT: usize = isize::MAX as usize;

/// A layer of one channel to one, with dense tensors; channels are not an axis that changes.
fn problem(
    layout: Layout,
    batch: usize,
    input: [usize; 3],
    window: [usize; 3],
    [stride, dilation, padding]: [[usize; 3]; 3],
    after: [usize; 3],
) -> Problem {
    let mut geometry = Geometry {
        batch,
        in_channels: 2,
        out_channels: 3,
        groups: 1,
        in_per_group: 2,
        out_per_group: 3,
        input,
        output: [1; 3],
        window,
        stride,
        dilation,
        padding,
        padding_mode: PaddingMode::Zeros,
        padded: false,
        operator: Operator::Convolution,
        flipped: false,
    };
    for axis in 0..3 {
        let padded = input[axis] + padding[axis] + after[axis];
        geometry.output[axis] = (padded - geometry.reach(axis) - 1) / stride[axis] + 1;
        geometry.padded |= geometry.is_padded(axis);
    }
    Problem::dense(geometry, layout, LIMIT).unwrap()
}

const PLAIN: [[usize; 3]; 3] = [[1; 3], [1; 3], [0; 3]];

/// What a kernel is told: for each pixel by number, where its output lies, and where each tap by
/// number reads the input, if it lies inside, and its weight.
fn told(problem: &Problem) -> Vec<(usize, Vec<Option<(usize, usize)>>)> {
    let geometry = &problem.geometry;
    let mut pixels = Vec::new();
    for image in 0..geometry.batch {
        for at in indices(geometry.output) {
            let taps = indices(geometry.window).into_iter().map(|tap| {
                let mut place = [0; 3];
                for axis in 0..3 {
                    let padded =
                        at[axis] * geometry.stride[axis] + tap[axis] * geometry.dilation[axis];
                    place[axis] = padded.checked_sub(geometry.padding[axis])?;
                    if place[axis] >= geometry.input[axis] {
                        return None;
                    }
                }
                let weight = problem.weights.first.wrapping_add(problem.weights.tap(tap));
                Some((offset(&problem.input, image, place), weight))
            });
            pixels.push((offset(&problem.output, image, at), taps.collect()));
        }
    }
    pixels
}

fn indices([depth, height, width]: [usize; 3]) -> Vec<[usize; 3]> {
    let mut all = Vec::new();
    for d in 0..depth {
        for h in 0..height {
            all.extend((0..width).map(|w| [d, h, w]));
        }
    }
    all
}

fn offset(strides: &Strides, image: usize, [d, h, w]: [usize; 3]) -> usize {
    image * strides.batch + d * strides.depth + h * strides.row + w * strides.pixel
}

/// Images and the extents of the output, and of the window, in the simplest form.
#[track_caller]
fn is_simplified_to(problem: &Problem, batch: usize, output: [usize; 3], window: [usize; 3]) {
    let simplest = problem.simplest();
    let Geometry { batch: found, output: found_output, window: found_window, .. } =
        simplest.geometry;
    assert_eq!((found, found_output, found_window), (batch, output, window));
    assert_eq!(told(&simplest), told(problem));
}

#[test]
fn pointwise_layers_are_one_row() {
    let pointwise = |layout, batch| problem(layout, batch, [1, 5, 7], [1; 3], PLAIN, [0; 3]);
    is_simplified_to(&pointwise(Layout::Nhwc, 1), 1, [1, 1, 35], [1; 3]);
    is_simplified_to(&pointwise(Layout::Nhwc, 4), 1, [1, 1, 140], [1; 3]);
    is_simplified_to(&pointwise(Layout::Nchw, 1), 1, [1, 1, 35], [1; 3]);
    is_simplified_to(&pointwise(Layout::Nchw, 4), 4, [1, 1, 35], [1; 3]);
    // Rows of the output with gaps between them.
    let mut gaps = pointwise(Layout::Nhwc, 4);
    gaps.output.row += 1;
    is_simplified_to(&gaps, 4, [1, 5, 7], [1; 3]);
    // Images of one pixel are pixels.
    let linear = problem(Layout::Nchw, 9, [1; 3], [1; 3], PLAIN, [0; 3]);
    is_simplified_to(&linear, 1, [1, 1, 9], [1; 3]);
}

#[test]
fn strides_of_pointwise_layers_are_the_inputs() {
    let strided = [[1, 2, 3], [1; 3], [0; 3]];
    let layer = problem(Layout::Nhwc, 2, [1, 5, 7], [1; 3], strided, [0; 3]);
    is_simplified_to(&layer, 2, [1, 3, 3], [1; 3]);
    assert_eq!(layer.simplest().geometry.stride, [1; 3]);
    assert_eq!(layer.simplest().geometry.input, [1, 3, 3]);
}

#[test]
fn axes_of_one_element_drop_out() {
    // A series along the height.
    let layer = problem(Layout::Nhwc, 2, [1, 30, 1], [1, 3, 1], PLAIN, [0; 3]);
    is_simplified_to(&layer, 2, [1, 1, 28], [1, 1, 3]);
    // A window as large as the image is one row of taps.
    let layer = problem(Layout::Nchw, 1, [2, 4, 6], [2, 4, 6], PLAIN, [0; 3]);
    is_simplified_to(&layer, 1, [1; 3], [1, 1, 48]);
    // Padding keeps an axis.
    let padded = [[1; 3], [1; 3], [0, 1, 0]];
    let layer = problem(Layout::Nhwc, 1, [1, 4, 4], [1; 3], padded, [0, 1, 0]);
    is_simplified_to(&layer, 1, [1, 6, 4], [1; 3]);
    // Padding that no output reads does not.
    let layer = problem(Layout::Nhwc, 1, [1, 3, 3], [1; 3], [[1, 2, 2], [1; 3], [0; 3]], [0, 1, 1]);
    is_simplified_to(&layer, 1, [1, 2, 2], [1; 3]);
    assert!(!layer.simplest().geometry.padded);
}

#[test]
fn random_problems() {
    let mut random = StdRng::seed_from_u64(8);
    let (mut merged, mut dropped) = (0, 0);
    for _ in 0..20_000 {
        let mut axes = |most: usize| {
            std::array::from_fn::<usize, 3, _>(|_| {
                if random.random() { 1 } else { random.random_range(1..=most) }
            })
        };
        let (mut window, dilation, input) = (axes(3), axes(3), axes(5));
        let (stride, padding, after) = (axes(3), axes(3), axes(3));
        let [padding, after] = [padding, after].map(|sides| sides.map(|side| side - 1));
        for axis in 0..3 {
            while (window[axis] - 1) * dilation[axis] >= input[axis] + padding[axis] + after[axis] {
                window[axis] -= 1;
            }
        }
        let layout = if random.random() { Layout::Nchw } else { Layout::Nhwc };
        let batch = random.random_range(1..=3);
        let options = [stride, dilation, padding];
        let mut layer = problem(layout, batch, input, window, options, after);
        if random.random_range(0..4) == 0 {
            let any = |random: &mut StdRng| Strides {
                batch: random.random_range(0..50),
                channel: 1,
                depth: random.random_range(0..20),
                row: random.random_range(0..10),
                pixel: random.random_range(0..3),
            };
            (layer.input, layer.output) = (any(&mut random), any(&mut random));
        }
        if random.random_range(0..4) == 0 {
            layer.weights.taps = std::array::from_fn(|_| random.random_range(0..20));
        }
        let simplest = layer.simplest();
        assert_eq!(told(&simplest), told(&layer), "{layer:?} {simplest:?}");
        let axes = |problem: &Problem| {
            let Geometry { batch, output, window, .. } = problem.geometry;
            let axes = output.iter().zip(window).filter(|(n, taps)| **n > 1 || *taps > 1).count();
            axes + usize::from(batch > 1)
        };
        merged += usize::from(axes(&simplest) < axes(&layer));
        dropped += usize::from(simplest.geometry.output != layer.geometry.output);
        assert!(axes(&simplest) <= axes(&layer));
        assert_eq!(simplest.simplest().geometry, simplest.geometry, "{layer:?}");
    }
    assert!(merged > 500 && dropped > 5000, "{merged} {dropped}");
}
