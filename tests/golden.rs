//! What PyTorch gives: every layer of `golden/layers.txt`, on every path, in both layouts.

mod support;

use std::collections::HashMap;
use support::{Layer, assert_same_bits, bits, fill, from_layout, paths, run, to_layout, value};
use tapwise::{Epilogue, Layout, Weights};

/// How far an output may be from the exact one, in `f32::EPSILON` times the sum of the magnitudes
/// of what it adds up.
///
/// For any data that takes half the length of the chain, half an epsilon for each rounding. But
/// roundings of both signs cancel; and since an output has the same bits on every machine, the
/// worst of these is a constant: 1.9, a chain of 33 roundings.
const K: f64 = 2.0;

/// A line of `layers.txt`.
struct Golden {
    name: &'static str,
    /// Its number: the seeds of its tensors are three times that, and the next two.
    number: usize,
    layer: Layer,
    has_bias: bool,
    /// Which elements of the flat output are stored.
    step: usize,
    expected: Vec<f32>,
}

impl Golden {
    fn bias(&self) -> Vec<f32> {
        if self.has_bias {
            fill(self.layer.out_channels, 3 * self.number + 2)
        } else {
            vec![0.0; self.layer.out_channels]
        }
    }

    /// Compares an output, in PyTorch's order, with what is stored of it.
    fn check(&self, y: &[f32], magnitudes: &[f64]) {
        let places = (0..y.len()).step_by(self.step);
        assert_eq!(places.len(), self.expected.len(), "{}", self.name);
        for ((at, expected), magnitude) in places.zip(&self.expected).zip(magnitudes) {
            let deviation = (f64::from(y[at]) - f64::from(*expected)).abs();
            let tolerance = K * f64::from(f32::EPSILON) * magnitude;
            assert!(
                deviation <= tolerance,
                "{}: y[{at}] = {:e}, expected {expected:e} within {tolerance:e}",
                self.name,
                y[at]
            );
        }
    }
}

fn goldens() -> Vec<Golden> {
    let lines = include_str!("golden/layers.txt").lines().filter(|line| !line.starts_with('#'));
    let outputs = include_bytes!("golden/outputs.bin").chunks_exact(4);
    let mut outputs = outputs.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    let mut offset = 0;
    let goldens: Vec<Golden> = lines
        .enumerate()
        .map(|(number, line)| {
            let fields: HashMap<_, _> =
                line.split(' ').map(|field| field.split_once('=').unwrap()).collect();
            let one = |key: &str| -> usize { fields[key].parse().unwrap() };
            let list = |key: &str| -> Vec<usize> {
                fields[key].split(',').map(|entry| entry.parse().unwrap()).collect()
            };
            let rank = one("rank");
            // The axes that a layer lacks come first.
            let axes = |entries: &[usize], lacking: usize| -> [usize; 3] {
                assert_eq!(entries.len(), rank);
                std::array::from_fn(|axis| match (axis + rank).checked_sub(3) {
                    Some(entry) => entries[entry],
                    None => lacking,
                })
            };
            let (before, after): (Vec<_>, Vec<_>) =
                list("pad").chunks(2).map(|sides| (sides[0], sides[1])).unzip();
            let layer = Layer {
                rank,
                batch: one("n"),
                in_channels: one("in"),
                out_channels: one("out"),
                groups: one("groups"),
                size: axes(&list("size"), 1),
                kernel: axes(&list("kernel"), 1),
                stride: axes(&list("stride"), 1),
                dilation: axes(&list("dilation"), 1),
                before: axes(&before, 0),
                after: axes(&after, 0),
                ..Layer::new(1, [1; 2], [1; 3], [1; 3])
            };
            let plan = layer.plan(Layout::Nchw).unwrap();
            assert_eq!(plan.output_size(), axes(&list("out_size"), 1), "{}", fields["name"]);
            assert_eq!(one("offset"), offset);
            offset += one("count");
            Golden {
                name: fields["name"],
                number,
                layer,
                has_bias: one("bias") == 1,
                step: one("step"),
                expected: outputs.by_ref().take(one("count")).collect(),
            }
        })
        .collect();
    assert_eq!(goldens.len(), 404);
    assert_eq!((outputs.count(), offset), (0, 19_168));
    goldens
}

#[test]
fn every_layer() {
    for golden in goldens().iter().filter(|golden| golden.name != "textbook_127") {
        let layer = &golden.layer;
        let nchw = layer.plan(Layout::Nchw).unwrap();
        let x = fill(nchw.input_len(), 3 * golden.number);
        let w = fill(nchw.weights_len(), 3 * golden.number + 1);
        let bias = golden.bias();
        let magnitudes: Vec<f64> = (0..nchw.output_len())
            .step_by(golden.step)
            .map(|element| {
                let (image, channel, at) = layer.output_place(element);
                let mut sum = f64::from(bias[channel]).abs();
                layer.visit_taps(image, channel, at, |x_at, w_at| {
                    sum += (f64::from(x[x_at]) * f64::from(w[w_at])).abs();
                });
                sum
            })
            .collect();
        let epilogue = if golden.has_bias { Epilogue::new().bias(&bias) } else { Epilogue::new() };
        let mut first: Option<Vec<f32>> = None;
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
            for isa in paths() {
                let plan = layer.plan(layout).unwrap().with_isa(isa).unwrap();
                let y = run(&plan, &x, &w, epilogue);
                let y = from_layout(layout, &y, layer.out_channels, layer.pixels_out());
                golden.check(&y, &magnitudes);
                let first = first.get_or_insert_with(|| y.clone());
                assert_same_bits(&y, first, (golden.name, layout, isa));
            }
        }
    }
}

/// One image of 255 x 255 pixels and 256 channels under one filter of 127 x 127: four million
/// multiply-adds an output. Only those that are stored are computed, each from its own window.
#[test]
fn the_filter_of_127_by_127() {
    let goldens = goldens();
    let golden = goldens.iter().find(|golden| golden.name == "textbook_127").unwrap();
    let [_, height, width] = golden.layer.size;
    let [_, _, columns] = golden.layer.output();
    assert_eq!(golden.layer.output(), [1, 129, 129]);

    let window = Layer { size: golden.layer.kernel, ..golden.layer };
    let (channels, pixels) = (window.in_channels, window.pixels_in());
    let w = fill(channels * pixels, 3 * golden.number + 1);
    let nhwc = window.plan(Layout::Nhwc).unwrap();
    let mut packed = vec![0.0; nhwc.packed_len()];
    let packed = nhwc.pack(&w, &mut packed).unwrap();
    let mut scratch = vec![0.0; nhwc.scratch_len()];

    let outputs = golden.layer.pixels_out();
    let (mut y, mut magnitudes) = (vec![0.0; outputs], Vec::new());
    for at in (0..outputs).step_by(golden.step) {
        let (row, column) = (at / columns, at % columns);
        let mut x = Vec::with_capacity(w.len());
        for channel in 0..channels {
            for in_row in row..row + window.size[1] {
                let start = (channel * height + in_row) * width + column;
                let seed = 3 * golden.number;
                x.extend((start..start + window.size[2]).map(|index| value(index, seed)));
            }
        }
        let products = x.iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        magnitudes.push(products.map(f64::abs).sum());
        let x_nhwc = to_layout(Layout::Nhwc, &x, channels, pixels);
        let mut results = Vec::new();
        for isa in paths() {
            let (mut planes, mut last) = ([0.0], [0.0]);
            let plan = window.plan(Layout::Nchw).unwrap().with_isa(isa).unwrap();
            let plan = plan.unpacked().unwrap();
            let weights = Weights::Unpacked(&w);
            plan.run(&x, weights, Epilogue::new(), &mut [], &mut planes).unwrap();
            let plan = nhwc.with_isa(isa).unwrap();
            plan.run(&x_nhwc, packed, Epilogue::new(), &mut scratch, &mut last).unwrap();
            results.extend([planes[0], last[0]]);
        }
        assert!(bits(&results).iter().all(|bits| *bits == results[0].to_bits()), "{results:?}");
        y[at] = results[0];
    }
    golden.check(&y, &magnitudes);
}
