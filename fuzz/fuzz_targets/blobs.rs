//! Packed weights from anywhere: what is accepted is harmless, whatever it holds. It runs on every
//! path, for every plan of the layer, and where it holds numbers all of them agree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise::{Epilogue, Field, PackedWeights, Plan};
use tapwise_fuzz::MOST;
use tapwise_fuzz::support::case::LAYOUTS;
use tapwise_fuzz::support::choices::Choices;
use tapwise_fuzz::support::layers::{caches, layer};
use tapwise_fuzz::support::values::Values;
use tapwise_fuzz::support::{Layer, POISON, assert_same_bits, from_layout, paths, to_layout};

/// Words before the panels.
const HEADER: usize = 16;

fuzz_target!(|data: &[u8]| accept(&mut Choices::new(data)));

fn accept(choices: &mut Choices) {
    let layer = layer(choices, MOST);
    let plan = layer.plan(choices.choose(&LAYOUTS)).unwrap();
    let mut other = Layer { batch: choices.number_in(1..=3), ..layer };
    let more = [(); 2].map(|()| choices.number_in(0..=4));
    if layer.transposed {
        other.size[2] += more[0]; // padding could leave no output
    } else {
        (other.before[2], other.after[2]) = (layer.before[2] + more[0], layer.after[2] + more[1]);
    }
    let other_caches = caches(choices);
    let stranger = self::layer(choices, MOST);
    let edits = edits(choices);
    let resized = choices.choose(&[0, 0, 0, 0, 1, 3, 20, -1, -4, -20]);
    let misalignment = choices.choose(&[0, 0, 0, 0, 0, 0, 4, 4, 1, 2, 3]);
    let made = !choices.one_in(8);
    let any_bytes = if made { &[] } else { choices.take(400) };
    let values = Values::of(choices);

    // A blob of the layer with a few other words and panels full of anything, or any bytes.
    let mut bytes = if made {
        let mut blob = vec![0.0; plan.packed_len()];
        plan.pack(&vec![0.0; plan.weights_len()], &mut blob).unwrap();
        let len = blob.len();
        blob[HEADER..].copy_from_slice(&values.tensor(len - HEADER, 2));
        for (place, word) in edits {
            blob[place % len] = f32::from_bits(word);
        }
        blob.iter().flat_map(|word| word.to_ne_bytes()).collect()
    } else {
        any_bytes.to_vec()
    };
    bytes.resize(bytes.len().saturating_add_signed(resized), 0x41);

    // Memory for the bytes that begins at any place.
    let mut memory = vec![0_u64; bytes.len() / 8 + 2];
    // SAFETY: the bytes of the vector, all of which are initialised and borrowed with it.
    let memory = unsafe {
        core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), memory.len() * 8)
    };
    let bytes = {
        let place = &mut memory[misalignment..][..bytes.len()];
        place.copy_from_slice(&bytes);
        &*place
    };
    let packed = match PackedWeights::from_bytes(&plan, bytes) {
        Ok(packed) => packed,
        Err(error) => {
            let misaligned = error.field() == Field::PackedAlignment;
            assert_eq!(misaligned, misalignment % 4 > 0);
            return;
        }
    };
    assert_eq!(packed.as_slice().len(), plan.packed_len());
    assert_eq!(packed.as_slice().as_ptr().cast(), bytes.as_ptr());
    run(&layer, &packed, &values, [1 << 15, 1 << 19]);
    run(&other, &packed, &values, other_caches);
    refused(&stranger, &layer, &packed);
}

/// Places and words to put there, most of them in the header.
fn edits(choices: &mut Choices) -> Vec<(usize, u32)> {
    let count = choices.choose(&[0, 0, 1, 2, 3]);
    let mut edit = || {
        let place = if choices.flag() { choices.number() } else { choices.number_in(0..=HEADER) };
        (place, choices.word())
    };
    (0..count).map(|_| edit()).collect()
}

fn run(layer: &Layer, packed: &PackedWeights, values: &Values, [l1, l2]: [usize; 2]) {
    let dense = layer.plan(LAYOUTS[0]).unwrap();
    let x = values.tensor(dense.input_len(), 1);
    let bias = values.tensor(layer.out_channels, 3);
    let epilogue = Epilogue::new().bias(&bias);
    let finite = packed.as_slice()[HEADER..].iter().all(|weight| weight.is_finite());
    let mut expected: Option<Vec<f32>> = None;
    for layout in LAYOUTS {
        let plan = layer.plan(layout).unwrap().assume_caches(l1, l2).unwrap();
        let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
        // Any plan of the layer accepts what another one did.
        PackedWeights::from_slice(&plan, packed.as_slice()).unwrap();
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            let mut scratch = vec![POISON; plan.scratch_len()];
            let mut y = vec![POISON; plan.output_len()];
            plan.run(&x, packed, epilogue, &mut scratch, &mut y).unwrap();
            let y = from_layout(layout, &y, layer.out_channels, layer.pixels_out());
            assert!(y.iter().all(|value| value.to_bits() != POISON.to_bits()));
            match &expected {
                None => expected = Some(y),
                Some(expected) if finite => assert_same_bits(&y, expected, (layer, layout, isa)),
                Some(_) => {}
            }
        }
    }
}

/// Another layer does not take them.
fn refused(stranger: &Layer, layer: &Layer, packed: &PackedWeights) {
    let signature = |layer: &Layer| {
        let channels = [layer.in_channels, layer.out_channels, layer.groups];
        let apart = layer.transposed.then(|| taps_apart(layer));
        (channels, layer.kernel, layer.flipped, apart)
    };
    if signature(stranger) == signature(layer) {
        return;
    }
    for layout in LAYOUTS {
        let plan: Plan = stranger.plan(layout).unwrap();
        assert!(PackedWeights::from_slice(&plan, packed.as_slice()).is_err());
        let x = vec![0.5; plan.input_len()];
        let mut scratch = vec![POISON; plan.scratch_len()];
        let mut y = vec![POISON; plan.output_len()];
        assert!(plan.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).is_err());
        assert!(y.iter().all(|value| value.to_bits() == POISON.to_bits()));
    }
}

/// From a tap that meets an output of a transposed layer to the next one that does, along each axis.
fn taps_apart(layer: &Layer) -> [usize; 3] {
    std::array::from_fn(|axis| {
        let stride = layer.stride[axis];
        let dilation = if layer.kernel[axis] == 1 { 1 } else { layer.dilation[axis] };
        (1..=stride).find(|taps| taps * dilation % stride == 0).unwrap()
    })
}
