//! The phases of a transposed convolution are the layer: every output belongs to one of them, and has
//! the taps of the definition in the order of their inputs.
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
use problem::phases::Phases;
use problem::strides::{Layout, Strides};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LIMIT: usize = isize::MAX as usize;

/// A layer of one channel to one.
fn problem(
    batch: usize,
    input: [usize; 3],
    output: [usize; 3],
    window: [usize; 3],
    [stride, dilation, padding]: [[usize; 3]; 3],
    flipped: bool,
) -> Problem {
    let geometry = Geometry {
        batch,
        in_channels: 1,
        out_channels: 1,
        groups: 1,
        in_per_group: 1,
        out_per_group: 1,
        input,
        output,
        window,
        stride,
        dilation,
        padding,
        padding_mode: PaddingMode::Zeros,
        padded: false,
        operator: Operator::Transposed,
        flipped,
    };
    Problem::dense(geometry, Layout::Nchw, LIMIT).unwrap()
}

fn indices([depth, height, width]: [usize; 3]) -> Vec<[usize; 3]> {
    let mut indices = Vec::new();
    for d in 0..depth {
        for h in 0..height {
            indices.extend((0..width).map(|w| [d, h, w]));
        }
    }
    indices
}

fn place(strides: &Strides, image: usize, [d, h, w]: [usize; 3]) -> usize {
    image * strides.batch + d * strides.depth + h * strides.row + w * strides.pixel
}

/// For each output by number, its inputs and their weights, by the definition: inputs are spread.
fn defined(problem: &Problem) -> Vec<Vec<(usize, usize)>> {
    let geometry = &problem.geometry;
    let mut outputs = vec![Vec::new(); geometry.pixels()];
    for image in 0..geometry.batch {
        for at in indices(geometry.input) {
            for (number, tap) in indices(geometry.window).into_iter().enumerate() {
                let to = |axis: usize| {
                    let spread = at[axis] * geometry.stride[axis];
                    let to = spread + tap[axis] * geometry.dilation[axis];
                    to.checked_sub(geometry.padding[axis]).filter(|to| *to < geometry.output[axis])
                };
                if let (Some(d), Some(h), Some(w)) = (to(0), to(1), to(2)) {
                    let weight =
                        if geometry.flipped { geometry.taps() - 1 - number } else { number };
                    let output = place(&problem.output, image, [d, h, w]);
                    outputs[output].push((place(&problem.input, image, at), weight));
                }
            }
        }
    }
    outputs
}

/// The same, as the phases have it; an output that two of them have, or none, fails.
fn by_phases(problem: &Problem) -> Vec<Vec<(usize, usize)>> {
    let phases = Phases::of(&problem.geometry);
    let mut outputs = vec![None; problem.geometry.pixels()];
    let mut taken = vec![false; problem.geometry.taps()];
    for at in indices(phases.counts()) {
        // The pixels of a phase in their order, and how many of them come before each output.
        let mut pixels = Vec::new();
        let Some(phase) = phases.phase(problem, at) else {
            let [depth, height, width] = phases.outputs(at);
            let first = phases.first_output(problem, at);
            let convolution = phases.convolution(problem, [1; 3], [depth, height, width]);
            for image in 0..problem.geometry.batch {
                for pixel in indices([depth, height, width]) {
                    pixels.push(first + place(&convolution.output, image, pixel));
                }
            }
            pixels.iter().for_each(|pixel| assert!(outputs[*pixel].replace(Vec::new()).is_none()));
            assert_eq!(ranks(problem, &phases, at), pixels);
            continue;
        };
        let Geometry { batch, input, output, window, dilation, padding, .. } =
            phase.problem.geometry;
        assert_eq!(phase.problem.geometry.stride, [1; 3]);
        assert!(!phase.problem.geometry.flipped || problem.geometry.flipped);
        let taps: Vec<_> = indices(window);
        for tap in &taps {
            let weights = &phase.problem.weights;
            taken[weights.first.wrapping_add(weights.tap(*tap))] = true;
        }
        for image in 0..batch {
            for pixel in indices(output) {
                let number =
                    phases.first_output(problem, at) + place(&phase.problem.output, image, pixel);
                pixels.push(number);
                let mut chain = Vec::new();
                for tap in &taps {
                    let from = |axis: usize| {
                        let padded = pixel[axis] + tap[axis] * dilation[axis];
                        padded.checked_sub(padding[axis]).filter(|from| *from < input[axis])
                    };
                    if let (Some(d), Some(h), Some(w)) = (from(0), from(1), from(2)) {
                        let from = place(&phase.problem.input, image, [d, h, w]);
                        let weights = &phase.problem.weights;
                        let weight = weights.first.wrapping_add(weights.tap(*tap));
                        chain.push((phase.first_input + from, weight));
                    }
                }
                assert!(outputs[number].replace(chain).is_none());
            }
        }
        assert_eq!(ranks(problem, &phases, at), pixels);
    }
    outputs.into_iter().map(Option::unwrap).collect()
}

/// The outputs by number before which a phase has more than before the last.
fn ranks(problem: &Problem, phases: &Phases, at: [usize; 3]) -> Vec<usize> {
    let geometry = &problem.geometry;
    let rank = |pixel| phases.rank(geometry, at, pixel);
    (0..geometry.pixels()).filter(|pixel| rank(pixel + 1) > rank(*pixel)).collect()
}

#[test]
fn random_layers() {
    let mut random = StdRng::seed_from_u64(9);
    let (mut several, mut untapped) = (0, 0);
    for _ in 0..5_000 {
        let mut axes = |most: usize| {
            std::array::from_fn::<usize, 3, _>(|_| {
                if random.random() { 1 } else { random.random_range(1..=most) }
            })
        };
        let (window, stride, dilation, input) = (axes(5), axes(6), axes(6), axes(4));
        let (mut padding, more) = (axes(9).map(|n| n - 1), axes(6));
        let mut output = [1; 3];
        for axis in 0..3 {
            let most = more[axis].min(stride[axis].max(dilation[axis])) - 1;
            let spread = (input[axis] - 1) * stride[axis] + (window[axis] - 1) * dilation[axis];
            let whole = spread + 1 + most;
            padding[axis] = padding[axis].min(whole - 1);
            // What is left out before the first output need not be left out behind the last.
            output[axis] = (whole - padding[axis]).min(12);
        }
        let (batch, flipped) = (random.random_range(1..=2), random.random());
        let layer = problem(batch, input, output, window, [stride, dilation, padding], flipped);
        let defined = defined(&layer);
        assert_eq!(by_phases(&layer), defined, "{layer:?}");
        // Taps of all classes are packed one behind the other.
        let phases = Phases::of(&layer.geometry);
        let classes = indices(phases.classes());
        let taps: usize =
            classes.iter().map(|class| phases.window(*class).iter().product::<usize>()).sum();
        assert_eq!(taps, layer.geometry.taps());
        let mut before = 0;
        for class in classes {
            assert_eq!(phases.taps_before(class), before);
            before += phases.window(class).iter().product::<usize>();
        }
        // Pixels of the first phase, by their numbers among all.
        let first = ranks(&layer, &phases, [0; 3]);
        for (rank, pixel) in first.iter().enumerate() {
            assert_eq!(phases.pixel(&layer.geometry, rank), *pixel);
        }
        assert_eq!(phases.pixel(&layer.geometry, first.len()), layer.geometry.pixels());
        several += usize::from(phases.counts().iter().product::<usize>() > 1);
        untapped += usize::from(defined.iter().any(Vec::is_empty));
    }
    assert!(several > 2_000 && untapped > 1_000, "{several} {untapped}");
}

/// Strides and windows of sizes of which there are not so many loops.
#[test]
fn huge_strides() {
    for (stride, dilation) in
        [(1 << 61, 1), (1 << 60, 3), (3 << 40, 1 << 41), (1 << 20, (1 << 20) - 1)]
    {
        let one = [1; 3];
        let axis = |n: usize| [1, 1, n];
        let options = [axis(stride), axis(dilation), [0; 3]];
        let layer = problem(1, one, axis(9), axis(1 << 20), options, false);
        let phases = Phases::of(&layer.geometry);
        assert_eq!(phases.counts(), axis(9.min(stride)));
        for (tap, output) in (0..9).map(|tap| (tap, tap * dilation)).filter(|(_, at)| *at < 9) {
            let Problem { geometry, weights, .. } =
                phases.phase(&layer, [0, 0, output]).unwrap().problem;
            let last = weights.tap(geometry.window.map(|taps| taps - 1));
            assert_eq!(weights.first.wrapping_add(last), tap, "{stride} {dilation}");
        }
    }
}
