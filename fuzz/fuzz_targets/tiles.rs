//! Tensors with any strides, outputs in any number of tiles, run in any order: each element has
//! the bits that it has when all are computed at once, and what lies between is not touched.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use tapwise::{Strides, Weights, reference};
use tapwise_fuzz::support::{assert_same_bits, paths};
use tapwise_fuzz::{
    LAYOUTS, Values, caches, disjoint_strides, ending, layer, shuffle, strides, with_caches,
};

/// The longest slice of a tensor with strides.
const MOST_ELEMENTS: usize = 1 << 16;

fuzz_target!(|data: &[u8]| -> Corpus {
    match compare(&mut Unstructured::new(data)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

/// An input may repeat elements, or have any strides at all.
fn input_strides(u: &mut Unstructured, extents: [usize; 5]) -> Result<Strides> {
    if u.ratio(3, 4)? {
        return disjoint_strides(u, extents);
    }
    let mut any = [0; 5];
    for (stride, extent) in any.iter_mut().zip(extents) {
        *stride = if extent == 1 { u.arbitrary()? } else { u.int_in_range(0..=300)? };
    }
    Ok(strides(any))
}

fn compare(u: &mut Unstructured) -> Result<()> {
    let layer = layer(u)?;
    let caches = caches(u)?;
    let ending = ending(u)?;
    let [depth, height, width] = layer.size;
    let input = input_strides(u, [layer.batch, layer.in_channels, depth, height, width])?;
    let [depth, height, width] = layer.output();
    let output = disjoint_strides(u, [layer.batch, layer.out_channels, depth, height, width])?;
    let plan = layer.plan(*u.choose(&LAYOUTS)?).unwrap();
    let Ok(plan) = plan.with_input_strides(input) else { return Ok(()) };
    let plan = with_caches(plan.with_output_strides(output).unwrap(), caches);
    if plan.input_len().max(plan.output_len()) > MOST_ELEMENTS {
        return Ok(());
    }
    let splits: [usize; 3] = [u.int_in_range(0..=9)?, u.int_in_range(0..=200)?, u.arbitrary()?];
    // Tiles are shuffled by the same bytes again and again.
    let order = u.bytes(u.len().min(64))?;
    let values = Values::of(u)?;

    let x = values.tensor(plan.input_len(), 1);
    let w = values.finite(plan.weights_len(), 2);
    let bias = values.tensor(layer.out_channels, 3);
    let residual = values.tensor(plan.output_len(), 4);
    let before = values.tensor(plan.output_len(), 5);
    let epilogue = ending.epilogue(&bias, &residual);
    let mut expected = before.clone();
    reference::run(&plan, &x, &w, epilogue, &mut expected).unwrap();
    let mut packed = vec![0.0; plan.packed_len()];
    let packed = plan.pack(&w, &mut packed).unwrap();

    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        for (weights, scratch_len) in [
            (Weights::Packed(packed), plan.scratch_len()),
            (Weights::Unpacked(&w), plan.scratch_len_unpacked()),
        ] {
            let mut scratch = vec![f32::NAN; scratch_len];
            let mut y = before.clone();
            plan.run(&x, weights, epilogue, &mut scratch, &mut y).unwrap();
            assert_same_bits(&y, &expected, (&layer, plan, "at once"));
            for count in splits {
                let mut y = before.clone();
                // Half of the tiles, then the others.
                for half in 0..2 {
                    let mut job = plan.job(&x, weights, epilogue, &mut y).unwrap();
                    let mut tiles: Vec<_> = job.tiles(count).collect();
                    assert!(!tiles.is_empty() && tiles.len() <= count.max(1));
                    shuffle(&mut Unstructured::new(order), &mut tiles)?;
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
                assert_same_bits(&y, &expected, (&layer, plan, count));
            }
        }
    }
    Ok(())
}

/// Each element is what it was, or what it has to become.
fn assert_old_or_new(y: &[f32], before: &[f32], expected: &[f32]) {
    let bits = |value: &f32| value.to_bits();
    let either = |(now, (old, new))| [bits(old), bits(new)].contains(&bits(now));
    assert!(y.iter().zip(before.iter().zip(expected)).all(either));
}
