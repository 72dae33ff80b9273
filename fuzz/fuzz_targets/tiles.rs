//! Tensors with any strides, outputs in any number of tiles, run in any order: each element has
//! the bits that it has when all are computed at once, and what lies between is not touched.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise::{Kernel, Weights, reference};
use tapwise_fuzz::MOST;
use tapwise_fuzz::support::case::Case;
use tapwise_fuzz::support::{assert_same_bits, choices::Choices, paths};

fuzz_target!(|data: &[u8]| compare(&mut Choices::new(data)));

fn compare(choices: &mut Choices) {
    let splits = [choices.number_in(0..=9), choices.number_in(0..=200), choices.number()];
    let which = choices.number_in(0..=2 * Kernel::ALL.len() - 1);
    let case = Case::of(choices, MOST);

    // One of the kernels that can run the layer, in one of the layouts.
    let mut plans = case.plans();
    let (layout, kernel, plan) = plans.swap_remove(which % plans.len());
    let tensors = case.tensors(&plan);
    let (x, w) = (&tensors.x, &tensors.weights);
    let before = case.values.tensor(plan.output_len(), 5);
    let epilogue = case.ending.epilogue(&tensors.bias, &tensors.residual);
    let mut expected = before.clone();
    reference::run(&plan, x, w, epilogue, &mut expected).unwrap();
    let mut packed = vec![case.poison; plan.packed_len()];
    let packed = plan.pack(w, &mut packed).unwrap();

    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        let unpacked = (plan.unpacked().unwrap(), Weights::Unpacked(w));
        for (plan, weights) in [(plan, Weights::Packed(packed)), unpacked] {
            let mut scratch = vec![case.poison; plan.scratch_len()];
            let mut y = before.clone();
            plan.run(x, weights, epilogue, &mut scratch, &mut y).unwrap();
            assert_same_bits(&y, &expected, (&case, layout, kernel, isa, "at once"));
            for count in splits {
                let mut y = before.clone();
                // Half of the tiles, then the others.
                for half in 0..2 {
                    let mut job = plan.job(x, weights, epilogue, &mut y).unwrap();
                    let mut tiles: Vec<_> = job.tiles(count).collect();
                    assert!(!tiles.is_empty() && tiles.len() <= count.max(1));
                    case.shuffle(&mut tiles);
                    let middle = tiles.len() / 2;
                    let first_half = tiles.drain(..middle);
                    if half == 0 {
                        first_half.for_each(|tile| tile.run(&mut scratch).unwrap());
                        assert_old_or_new(&y, &before, &expected);
                    } else {
                        drop(first_half);
                        tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                    }
                }
                assert_same_bits(&y, &expected, (&case, layout, kernel, isa, count));
            }
        }
    }
}

/// Each element is what it was, or what it has to become.
fn assert_old_or_new(y: &[f32], before: &[f32], expected: &[f32]) {
    let bits = |value: &f32| value.to_bits();
    let either = |(now, (old, new))| [bits(old), bits(new)].contains(&bits(now));
    assert!(y.iter().zip(before.iter().zip(expected)).all(either));
}
