//! Layers that are valid, and any data: every path, in both layouts, with packed and with unpacked
//! weights, has the bits of the plain loops.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use tapwise::{Layout, Weights, reference};
use tapwise_fuzz::support::{Residual, assert_same_bits, from_layout, paths, to_layout};
use tapwise_fuzz::{LAYOUTS, POISONS, Values, caches, ending, layer, with_caches};

fuzz_target!(|data: &[u8]| -> Corpus {
    match compare(&mut Unstructured::new(data)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn compare(u: &mut Unstructured) -> Result<()> {
    let layer = layer(u)?;
    let caches = caches(u)?;
    let ending = ending(u)?;
    let poison = *u.choose(&POISONS)?;
    let values = Values::of(u)?;

    let plan = layer.plan(Layout::Nchw).unwrap();
    let x = values.tensor(plan.input_len(), 1);
    let weights = values.finite(plan.weights_len(), 2);
    let bias = values.tensor(layer.out_channels, 3);
    let residual = values.tensor(plan.output_len(), 4);
    let mut expected = residual.clone();
    let epilogue = ending.epilogue(&bias, &residual);
    reference::run(&plan, &x, &weights, epilogue, &mut expected).unwrap();

    for layout in LAYOUTS {
        let plan = with_caches(layer.plan(layout).unwrap(), caches);
        let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
        let residual = to_layout(layout, &residual, layer.out_channels, layer.pixels_out());
        let epilogue = ending.epilogue(&bias, &residual);
        let mut packed = vec![poison; plan.packed_len()];
        let packed = plan.pack(&weights, &mut packed).unwrap();
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            for (weights, scratch_len) in [
                (Weights::Packed(packed), plan.scratch_len()),
                (Weights::Unpacked(&weights), plan.scratch_len_unpacked()),
            ] {
                let mut scratch = vec![poison; scratch_len];
                let mut y = match ending.residual {
                    Residual::Output => residual.clone(),
                    _ => vec![poison; residual.len()],
                };
                plan.run(&x, weights, epilogue, &mut scratch, &mut y).unwrap();
                let y = from_layout(layout, &y, layer.out_channels, layer.pixels_out());
                assert_same_bits(&y, &expected, (&layer, layout, isa));
            }
        }
    }
    Ok(())
}
