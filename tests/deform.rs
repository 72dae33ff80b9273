//! Deformable convolutions: bits of the plain loops by every kernel on every path, those of an ordinary
//! convolution where nothing is moved, and what offsets of any kind mean.

mod support;

#[path = "support/random.rs"]
mod cases;
#[path = "support/deform.rs"]
mod deformable;

use deformable::{DeformCase, DeformTensors, Moves, deform};
use std::cell::RefCell;
use std::collections::BTreeMap;
use support::choices::Choices;
use support::{Layer, POISON, assert_same_bits, bits, fill, paths, share, to_layout};
use tapwise::numerics::{bilinear, deformed};
use tapwise::{
    Conv2d, DeformConv2d, DeformPlan, Epilogue, Kernel, Layout, PackedWeights, Weights, reference,
};

/// The most multiply-adds of a layer.
const MOST_MACS: usize = 50_000;

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// Runs `check` on random layers.
fn random(count: usize, check: impl Fn(DeformCase) -> Result<(), String>) {
    cases::random(count, |choices| DeformCase::of(choices, MOST_MACS), check);
}

#[test]
fn every_path_equals_the_plain_loops() {
    let paths = paths();
    let counts = RefCell::new(BTreeMap::<_, usize>::new());
    random(3_000, |case| {
        for (layout, kernel, plan) in case.plans() {
            let chosen = case.plan(layout).unwrap().kernel_name() == plan.kernel_name();
            let key = (format!("{layout:?}"), kernel.name(), chosen);
            *counts.borrow_mut().entry(key).or_default() += 1;
        }
        case.check(&paths)
    });
    let counts = counts.into_inner();
    for layout in LAYOUTS.map(|layout| format!("{layout:?}")) {
        for kernel in Kernel::ALL {
            let runs = [true, false].map(|chosen| {
                counts.get(&(layout.clone(), kernel.name(), chosen)).copied().unwrap_or(0)
            });
            assert!(runs.iter().sum::<usize>() > share(300), "{kernel:?}: {counts:?}");
            let is_chosen = matches!(kernel, Kernel::Dense | Kernel::Channels);
            assert_eq!(runs[0] > 0, is_chosen, "{kernel:?}: {counts:?}");
        }
    }
}

/// Layers of which blocks are several, so that rows are held that others were copied before, on planes
/// of many rows, with offsets that stay near, and some that do not.
#[test]
fn many_blocks() {
    for (seed, (channels, size, stride)) in
        [([3, 20], [40, 9], 1), ([17, 5], [61, 5], 2), ([8, 8], [23, 30], 3), ([2, 33], [90, 2], 1)]
            .into_iter()
            .enumerate()
    {
        for (groups, distance) in [(1, 2.0), (1, 9.0), (channels[0].min(8), 5.0)] {
            let channels = if groups == 1 { channels } else { [groups, 2 * groups] };
            let layer = Layer::new(2, channels, [1, size[0], size[1]], [1, 3, 2]);
            let case = DeformCase {
                layer: Layer {
                    groups,
                    batch: 2,
                    stride: [1, stride, 1],
                    before: [0, 1, 1],
                    after: [0, 1, 1],
                    ..layer
                },
                offset_groups: 1,
                modulated: true,
                moves: Moves::Quarters(distance),
                caches: [512, 512],
                order: seed + 1,
                ..DeformCase::of(&mut Choices::new(&[]), MOST_MACS)
            };
            case.check(&paths()).unwrap();
            let case = DeformCase { caches: [32 << 10, 1 << 20], tiles: 7, ..case };
            case.check(&paths()).unwrap();
        }
    }
}

/// A layer of which nothing is moved, and everything is finite, is the convolution: the same bits from
/// the same blob.
#[test]
fn without_offsets_it_is_a_convolution() {
    random(500, |case| {
        let case = DeformCase { moves: Moves::Not, ..case };
        let DeformTensors { x, offsets, mask, weights, bias, residual } = case.tensors();
        let tame = |values: Vec<f32>| -> Vec<f32> {
            values.into_iter().map(|value| if value.is_finite() { value } else { 2.5 }).collect()
        };
        let mask = mask.map(|mask| vec![1.0; mask.len()]);
        let tensors = DeformTensors { x: tame(x), offsets, mask, weights, bias, residual };
        for layout in LAYOUTS {
            let tensors = case.in_layout(layout, &tensors);
            let DeformTensors { x, offsets, mask, weights, bias, residual } = &tensors;
            let (conv, plan) = (case.layer.plan(layout).unwrap(), case.plan(layout).unwrap());
            assert_eq!((conv.output_shape(), conv.macs()), (plan.output_shape(), plan.macs()));
            let mut blob = vec![POISON; conv.packed_len()];
            let packed = conv.pack(weights, &mut blob).unwrap();
            let epilogue = case.ending.epilogue(bias, residual);
            let before = || residual.clone();
            let (mut y, mut scratch) = (before(), vec![POISON; conv.scratch_len()]);
            conv.run(x, packed, epilogue, &mut scratch, &mut y).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let packed = plan.packed_from_slice(&blob).unwrap();
                let (mut deformed, mut scratch) = (before(), vec![POISON; plan.scratch_len()]);
                plan.run(
                    x,
                    offsets,
                    mask.as_deref(),
                    packed,
                    epilogue,
                    &mut scratch,
                    &mut deformed,
                )
                .unwrap();
                if bits(&deformed) != bits(&y) {
                    return Err(format!("{case:?} {layout:?} {}", isa.name()));
                }
            }
        }
        Ok(())
    });
}

/// The first of two kinds of groups is that of the weights, the second that of the offsets: each offset
/// group of the input is moved by itself.
#[test]
fn offset_groups_move_their_channels() {
    // Four channels of one row, groups of two, offset groups of two: the first pair of channels moves
    // to the right, the second to the left.
    let layer = Layer::new(2, [4, 4], [1, 1, 5], [1, 1, 1]);
    let layer = Layer { groups: 4, ..layer };
    let x: Vec<f32> = (0..20).map(|at| (at / 5 * 100 + at % 5) as f32).collect();
    let [down, right, left] = [[0.0; 5], [1.0; 5], [-1.0; 5]];
    let offsets = [down, right, down, left].concat();
    let mask = [[2.0; 5], [3.0; 5]].concat();
    let row = |channel: usize, factor: f32, moved: [Option<usize>; 5]| {
        moved.map(|at| at.map_or(0.0, |at| factor * (channel * 100 + at) as f32))
    };
    let ahead = [Some(1), Some(2), Some(3), Some(4), None];
    let behind = [None, Some(0), Some(1), Some(2), Some(3)];
    let expected =
        [row(0, 2.0, ahead), row(1, 2.0, ahead), row(2, 3.0, behind), row(3, 3.0, behind)].concat();
    for layout in LAYOUTS {
        let plan = deform(&layer, 2, true).plan(layout, 1, [1, 5]).unwrap();
        let of = |values: &[f32], channels: usize| to_layout(layout, values, channels, 5);
        let (x, offsets, mask) = (of(&x, 4), of(&offsets, 4), of(&mask, 2));
        assert_eq!(*plan.offsets_shape(), [1, 4, 1, 5].map_order(layout));
        assert_eq!(*plan.mask_shape(), [1, 2, 1, 5].map_order(layout));
        let y = run_plan(&plan, &x, &offsets, Some(&mask), &[1.0; 4]);
        assert_same_bits(&y, &of(&expected, 4), layout);
    }
}

trait MapOrder {
    fn map_order(self, layout: Layout) -> [usize; 4];
}

impl MapOrder for [usize; 4] {
    /// From PyTorch's order to that of the layout.
    fn map_order(self, layout: Layout) -> [usize; 4] {
        let [batch, channels, height, width] = self;
        if layout == Layout::Nchw { self } else { [batch, height, width, channels] }
    }
}

/// With just as much memory as the plan asks for.
fn run_plan(
    plan: &DeformPlan,
    x: &[f32],
    offsets: &[f32],
    mask: Option<&[f32]>,
    weights: &[f32],
) -> Vec<f32> {
    let mut packed = vec![POISON; plan.packed_len()];
    let packed = plan.pack(weights, &mut packed).unwrap();
    let mut scratch = vec![POISON; plan.scratch_len()];
    let mut y = vec![POISON; plan.output_len()];
    plan.run(x, offsets, mask, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
    y
}

/// What a position on two rows of three reads.
#[test]
fn positions_of_every_kind() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let below = |value: f32| f32::from_bits(value.to_bits() - 1);
    let x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
    let outside: Option<f32> = None;
    let table = [
        ([0.0, 0.0], Some(1.0)),
        ([1.0, 2.0], Some(32.0)),
        ([0.5, 0.5], Some(6.75)),
        ([0.25, 1.75], Some(0.75 * 3.5 + 0.25 * 28.0)),
        // Half outside, and just not outside.
        ([-0.5, 0.0], Some(0.5)),
        ([0.0, -0.25], Some(0.75)),
        ([1.5, 2.0], Some(16.0)),
        ([1.0, 2.5], Some(16.0)),
        ([1.75, 2.75], Some(2.0)),
        ([below(2.0), 0.0], Some(8.0 * f32::EPSILON)),
        ([0.0, below(3.0)], Some(8.0 * f32::EPSILON)),
        ([-below(1.0), 0.0], Some(f32::EPSILON / 2.0)),
        // Less than nothing: from the row above, all but nothing of it.
        ([-1e-30, 0.0], Some(1.0)),
        ([-0.0, -0.0], Some(1.0)),
        // Outside.
        ([-1.0, 0.0], outside),
        ([0.0, -1.0], outside),
        ([2.0, 0.0], outside),
        ([0.0, 3.0], outside),
        ([-7.5, 9.25], outside),
        ([nan, 0.0], outside),
        ([0.0, nan], outside),
        ([-nan, nan], outside),
        ([inf, 0.0], outside),
        ([-inf, 0.0], outside),
        ([0.0, inf], outside),
        ([0.0, -inf], outside),
        ([1e38, 1.0], outside),
        ([1.0, f32::MIN], outside),
        ([2_147_483_648.0, 0.0], outside),
        ([0.0, -9.3e18], outside),
    ];
    for (position, expected) in table {
        let found = bilinear([2, 3], position, |row, column| x[row * 3 + column]);
        assert_eq!(found, expected, "{position:?}");
    }

    // All of them at once, each the offset of an output whose tap is at the position 0, or not far.
    let layer = DeformConv2d::new(1, 1, [1, 1]).modulated();
    for (batch, modulation) in [(table.len(), nan), (table.len(), 1.0)] {
        let x = x.repeat(batch);
        let spread = |axis: usize, at: usize| {
            let place = if axis == 0 { at / 3 } else { at % 3 };
            move |(position, _): &([f32; 2], _)| position[axis] - place as f32
        };
        let mut offsets = Vec::new();
        for row in &table {
            for axis in 0..2 {
                offsets.extend((0..6).map(|at| spread(axis, at)(row)));
            }
        }
        let mask = vec![modulation; 6 * batch];
        for layout in LAYOUTS {
            let plan = layer.plan(layout, batch, [2, 3]).unwrap();
            let of = |values: &[f32], channels: usize| to_layout(layout, values, channels, 6);
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let y = run_plan(&plan, &of(&x, 1), &of(&offsets, 2), Some(&of(&mask, 1)), &[1.0]);
                for (image, (position, expected)) in y.chunks(6).zip(table) {
                    // A mask that is NaN shows where it is read.
                    let expected = expected.map_or(0.0, |sample| sample * modulation);
                    let same = image[0].to_bits() == expected.to_bits()
                        || image[0].is_nan() && expected.is_nan();
                    assert!(same, "{position:?}: {image:?}, expected {expected}");
                }
            }
        }
    }
}

/// Corners that are inside are read and multiplied, even by zero; those outside are not.
#[test]
fn corners_of_no_weight() {
    let plane = |infinite: usize| {
        let mut x = [1.0; 4];
        x[infinite] = f32::INFINITY;
        x
    };
    let sample =
        |x: [f32; 4], position| bilinear([2, 2], position, |row, column| x[2 * row + column]);
    for corner in 1..4 {
        assert!(sample(plane(corner), [0.0, 0.0]).unwrap().is_nan(), "{corner}");
    }
    assert_eq!(sample(plane(0), [0.0, 0.0]).unwrap().to_bits(), f32::INFINITY.to_bits());
    // From the last row and column on there is none.
    for corner in 0..3 {
        assert_eq!(sample(plane(corner), [1.0, 1.0]), Some(1.0), "{corner}");
    }
}

/// A place is rounded before the offset is added to it, and the sum is rounded once.
#[test]
fn places_are_rounded() {
    let exact = 1 << 24;
    for (place, offset, expected) in [
        (exact, 0.0, 16_777_216.0),
        (exact + 1, 0.0, 16_777_216.0), // of two, the even one
        (exact + 2, 0.0, 16_777_218.0),
        (exact + 3, 0.0, 16_777_220.0),
        (exact + 1, 1.0, 16_777_216.0), // and so is the sum
        (exact + 1, 1.5, 16_777_218.0),
        (-exact - 1, -1.0, -16_777_216.0),
        (3, 0.1, 3.1),
        (1, 1e-8, 1.0),
        (isize::MAX, f32::NEG_INFINITY, f32::NEG_INFINITY),
    ] {
        assert_eq!(deformed(place, offset).to_bits(), f32::to_bits(expected), "{place} {offset}");
    }
    assert!(deformed(0, f32::NAN).is_nan());

    // A line so long that its last places are none that an `f32` has: taps there meet the even ones.
    let width = exact as usize + 8;
    let layer = DeformConv2d::new(1, 1, [1, 1]).stride([1, exact as usize + 3]);
    let plan = layer.plan(Layout::Nchw, 1, [1, width]).unwrap();
    let mut x = vec![0.0; width];
    for (at, x) in x.iter_mut().enumerate().skip(exact as usize) {
        *x = (at - exact as usize) as f32;
    }
    assert_eq!(plan.offsets_len(), 4);
    let y = run_plan(&plan, &x, &[0.0; 4], None, &[1.0]);
    assert_eq!(y, [0.0, 4.0]);
}

/// Blobs of either layer serve the other.
#[test]
fn weights_are_those_of_the_convolution() {
    let conv = Conv2d::new(6, 20, [3, 2]).groups(2);
    let layer = DeformConv2d::new(6, 20, [3, 2]).groups(2).offset_groups(3);
    let w = fill(layer.parameters(false).unwrap(), 2);
    assert_eq!(layer.parameters(true), conv.parameters(true));
    assert_eq!(layer.packed_len(), conv.packed_len());
    let mut of_conv = vec![POISON; conv.packed_len().unwrap()];
    conv.pack(&w, &mut of_conv).unwrap();
    let mut of_layer = vec![POISON; layer.packed_len().unwrap()];
    let packed = layer.pack(&w, &mut of_layer).unwrap();
    assert_same_bits(packed.as_slice(), &of_conv, "packed");
    let plan = conv.plan(Layout::Nhwc, 1, [5, 5]).unwrap();
    assert!(PackedWeights::from_slice(&plan, &of_layer).is_ok());
    let bytes: Vec<u8> = of_conv.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let plan = layer.plan(Layout::Nhwc, 1, [5, 5]).unwrap();
    // Aligned somewhere.
    let mut memory = vec![0; bytes.len() + 3];
    let skipped = memory.as_ptr().align_offset(4);
    memory[skipped..][..bytes.len()].copy_from_slice(&bytes);
    let packed = plan.packed_from_bytes(&memory[skipped..][..bytes.len()]).unwrap();
    assert_same_bits(packed.as_slice(), &of_conv, "bytes");
}

/// Threads share a job, and the reference is the same in both layouts.
#[test]
fn threads_and_layouts() {
    let layer = DeformConv2d::new(20, 40, [3, 3]).padding([1, 1]).offset_groups(5).modulated();
    let mut outputs = Vec::new();
    for layout in LAYOUTS {
        let plan =
            layer.plan(layout, 2, [13, 11]).unwrap().assume_caches(1 << 10, 1 << 14).unwrap();
        let of = |values: &[f32], channels: usize| to_layout(layout, values, channels, 13 * 11);
        let x = of(&fill(plan.input_len(), 1), 20);
        let moves: Vec<f32> =
            fill(plan.offsets_len(), 2).into_iter().map(|offset| 3.0 * offset).collect();
        let (offsets, mask) = (of(&moves, 90), of(&fill(plan.mask_len(), 3), 45));
        let w = fill(plan.weights_len(), 4);
        let mut expected = vec![POISON; plan.output_len()];
        let epilogue = Epilogue::new().relu();
        reference::deform_conv2d(&plan, &x, &offsets, Some(&mask), &w, epilogue, &mut expected)
            .unwrap();
        let mut packed = vec![POISON; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        let unpacked = plan.unpacked().unwrap();
        for (plan, weights) in [(plan, Weights::Packed(packed)), (unpacked, Weights::Unpacked(&w))]
        {
            let is_packed = matches!(weights, Weights::Packed(_));
            let mut y = vec![POISON; plan.output_len()];
            let mut job = plan.job(&x, &offsets, Some(&mask), weights, epilogue, &mut y).unwrap();
            // Packing takes as long as many pixels.
            assert_eq!(job.tiles(6).len(), if is_packed { 6 } else { 1 });
            std::thread::scope(|threads| {
                for tile in job.tiles(6) {
                    threads.spawn(move || tile.run(&mut vec![POISON; plan.scratch_len()]).unwrap());
                }
            });
            assert_same_bits(&y, &expected, layout);
        }
        outputs.push(support::from_layout(layout, &expected, 40, 13 * 11));
    }
    assert_same_bits(&outputs[0], &outputs[1], "layouts");
}

#[test]
fn a_batch_of_nothing() {
    for layout in LAYOUTS {
        let plan = DeformConv2d::new(3, 5, [3, 3]).padding([1, 1]).plan(layout, 0, [4, 4]).unwrap();
        assert_eq!((plan.input_len(), plan.offsets_len(), plan.output_len()), (0, 0, 0));
        assert_eq!(run_plan(&plan, &[], &[], None, &fill(plan.weights_len(), 1)), []);
        let w = fill(plan.weights_len(), 2);
        let mut packed = vec![POISON; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        let y: &mut [f32] = &mut [];
        let mut job = plan.job(&[], &[], None, packed, Epilogue::new(), y).unwrap();
        assert_eq!(job.tiles(4).len(), 0);
    }
}
