//! Depthwise-separable layers in one pass give the bits of the two layers, one after the other, by the
//! plain loops: by every kernel, chosen or not, on every path, in both layouts, for any caches, tiles and
//! strides, with special values.

#[path = "support/description.rs"]
mod description;
#[path = "support/random.rs"]
mod random;
#[path = "support/separable.rs"]
mod separated;
mod support;

use separated::{SeparableCase, plan};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use support::case::{LAYOUTS, equal};
use support::choices::Choices;
use support::{Layer, POISON, fill, paths, share};
use tapwise::Epilogue;

/// The most multiply-adds of a layer.
const MOST_MACS: usize = 60_000;

#[test]
fn one_pass_equals_two_layers() {
    let paths = paths();
    let count = share(6_000) as u32;
    // How many of the layouts have several pieces, or pieces of a row, the last of which is shorter.
    let (several, of_row, uneven) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let of = |choices: &mut Choices| SeparableCase::of(choices, MOST_MACS);
    let runs = RefCell::new(BTreeMap::<_, u32>::new());
    random::random(6_000, of, |case| {
        for layout in LAYOUTS {
            let plan = case.plan(layout);
            let [_, height, width] = plan.output_size();
            let (pixels, piece) = (plan.batch() * height * width, plan.pixels_in_buffer());
            several.set(several.get() + u32::from(piece < pixels));
            of_row.set(of_row.get() + u32::from(piece < width));
            let row = if piece < width { width } else { pixels };
            uneven.set(uneven.get() + u32::from(row % piece > 0));
        }
        for plan in case.plans() {
            for (layer, kernel) in plan.kernel_names().into_iter().enumerate() {
                let kind =
                    (["depthwise", "pointwise"][layer], format!("{:?}", plan.layout()), kernel);
                *runs.borrow_mut().entry(kind).or_default() += 1;
            }
        }
        case.check(&paths)
    });
    let counts = [several, of_row, uneven].map(Cell::into_inner);
    eprintln!("{count} layers in both layouts; several pieces, of a row, uneven: {counts:?}");
    assert!(counts.into_iter().all(|kind| kind > count / 10), "{counts:?}");
    let runs = runs.into_inner();
    eprintln!("runs: {runs:?}");
    assert!(runs.len() == 16 && runs.values().all(|runs| *runs > count / 10), "{runs:?}");
}

/// Whatever is asked for, there is a plan or an error.
#[test]
fn absurd_descriptions() {
    random::absurd_descriptions(240, separated::describe);
}

/// Layers as large as MobileNet's, for the caches that a plan assumes: of several pieces, too.
#[test]
fn whole_blocks() {
    for ([channels, out_channels], size, stride) in
        [([32, 16], [112, 112], 1), ([96, 24], [113, 111], 2), ([3, 40], [9, 20_000], 1)]
    {
        let depthwise = Layer {
            groups: channels,
            stride: [1, stride, stride],
            before: [0, 1, 1],
            after: [0, 1, 1],
            ..Layer::new(2, [channels, channels], [1, size[0], size[1]], [1, 3, 3])
        };
        let pointwise = Layer::new(2, [channels, out_channels], depthwise.output(), [1; 3]);
        let [bias, pointwise_bias] = [fill(channels, 3), fill(out_channels, 4)];
        let [w, v] = [fill(9 * channels, 1), fill(channels * out_channels, 2)];
        let first = Epilogue::new().bias(&bias).relu6();
        let second = Epilogue::new().bias(&pointwise_bias).relu();
        for layout in LAYOUTS {
            let plans = [depthwise, pointwise].map(|layer| layer.plan(layout).unwrap());
            let x = fill(plans[0].input_len(), 0);
            let between = support::run(&plans[0], &x, &w, first);
            let wanted = support::run(&plans[1], &between, &v, second);
            let plan = plan(&depthwise, &pointwise, layout);
            let [_, height, width] = plan.output_size();
            assert!(plan.pixels_in_buffer() < height * width);
            assert!(plan.scratch_len() < between.len() / 2);
            // Blobs of the layers are those of the plan.
            let blobs = plans.map(|plan| vec![0.0; plan.packed_len()]);
            let [mut packed, mut pointwise_packed] = blobs;
            plans[0].pack(&w, &mut packed).unwrap();
            plans[1].pack(&v, &mut pointwise_packed).unwrap();
            let w = plan.depthwise_weights(&packed).unwrap();
            let v = plan.pointwise_weights(&pointwise_packed).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                let mut y = vec![MaybeUninit::uninit(); plan.output_len()];
                let y = plan.run(&x, w, first, v, second, &mut scratch, &mut y).unwrap();
                assert_eq!(equal(y.unwrap(), &wanted), Ok(()), "{layout:?} {}", isa.name());
            }
        }
    }
}
