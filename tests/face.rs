//! What a client meets: layers that pack without a plan, outputs that need not be initialised,
//! residuals with strides of their own, empty batches, tiles that come back, errors in words.

mod support;

use std::mem::MaybeUninit;
use support::{POISON, assert_same_bits, fill, paths, run};
use tapwise::{
    Activation, Conv1d, Conv2d, Conv3d, Epilogue, Expected, Field, Found, Isa, Kernel, Layout,
    PackedWeights, Plan, Strides, Weights, reference,
};

const CONV: Conv2d = Conv2d::new(8, 16, [3, 3]).padding([1, 1]);
const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

fn plan(layout: Layout, batch: usize) -> Plan {
    CONV.plan(layout, batch, [5, 6]).unwrap()
}

#[test]
fn a_layer_packs_without_a_plan() {
    const LEN: usize = match CONV.packed_len() {
        Ok(len) => len,
        Err(error) => error.panic(),
    };
    let w = fill(CONV.parameters(false).unwrap(), 2);
    let mut of_layer = [POISON; LEN];
    let weights = CONV.pack(&w, &mut of_layer).unwrap();
    for layout in LAYOUTS {
        let plan = plan(layout, 2);
        assert_eq!(plan.packed_len(), LEN);
        let mut of_plan = vec![POISON; LEN];
        plan.pack(&w, &mut of_plan).unwrap();
        assert_same_bits(weights.as_slice(), &of_plan, layout);
        let x = fill(plan.input_len(), 1);
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![0.0; plan.scratch_len()];
        plan.run(&x, weights, Epilogue::new(), &mut scratch, &mut y).unwrap();
        assert_same_bits(&y, &run(&plan, &x, &w, Epilogue::new()), layout);
    }
    let short = CONV.pack(&w, &mut of_plan_too_short(LEN)).unwrap_err();
    assert_eq!((short.field(), short.found()), (Field::Packed, Found::Count(LEN - 1)));
    // Far apart, taps need an input that is larger than any padding says.
    let far = Conv2d::new(3, 5, [4, 3]).dilation([7, 9]).padding_same().groups(1);
    assert_eq!(far.packed_len(), far.plan(Layout::Nchw, 1, [2, 2]).map(|plan| plan.packed_len()));
    assert_eq!(Conv2d::new(0, 1, [1, 1]).packed_len().unwrap_err().field(), Field::InChannels);
    assert_eq!(CONV.groups(3).packed_len().unwrap_err().field(), Field::Groups);
    let huge = Conv1d::new(1 << (usize::BITS / 2 - 1), 1 << (usize::BITS / 2 - 1), [1]);
    assert_eq!(huge.packed_len().unwrap_err().field(), Field::WeightElements);
}

fn of_plan_too_short(len: usize) -> Vec<f32> {
    vec![0.0; len - 1]
}

#[test]
fn weights_have_to_be_finite() {
    let plan = plan(Layout::Nhwc, 1);
    for (place, value) in [(0, f32::NAN), (7, f32::INFINITY), (1151, f32::NEG_INFINITY)] {
        let mut w = fill(plan.weights_len(), 2);
        w[place] = value;
        let mut packed = vec![POISON; plan.packed_len()];
        for error in [plan.pack(&w, &mut packed).err(), CONV.pack(&w, &mut packed.clone()).err()] {
            let error = error.unwrap();
            assert_eq!((error.field(), error.expected()), (Field::Weight(place), Expected::Finite));
            assert!(
                matches!(error.found(), Found::Number(found) if found.to_bits() == value.to_bits())
            );
        }
        assert!(packed.iter().all(|word| word.to_bits() == POISON.to_bits()));
    }
    let mut w = fill(plan.weights_len(), 2);
    w[3] = f32::INFINITY;
    let error = plan.pack(&w, &mut vec![0.0; plan.packed_len()]).unwrap_err();
    assert_eq!(error.to_string(), "weights[3]: expected a finite number, found inf");
}

#[test]
fn outputs_come_back_initialised() {
    for layout in LAYOUTS {
        let plan = plan(layout, 2);
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let expected = run(&plan, &x, &w, Epilogue::new());
        let mut packed = vec![0.0; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        let mut scratch = vec![0.0; plan.scratch_len()];
        let mut y = vec![MaybeUninit::uninit(); plan.output_len() + 3];
        let written = plan.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
        assert_same_bits(written.unwrap(), &expected, layout);
        let mut y = vec![POISON; plan.output_len() + 3];
        let written = plan.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
        assert_same_bits(written, &expected, layout);

        // Gaps are not written, so they are not given back.
        let strides = Strides::dense(layout, 16, [5, 7]).unwrap();
        let gaps = plan.with_output_strides(strides).unwrap();
        let mut scratch = vec![0.0; gaps.scratch_len()];
        let mut y = vec![MaybeUninit::uninit(); gaps.output_len()];
        assert!(gaps.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap().is_none());
        let mut y = vec![POISON; gaps.output_len()];
        let written = gaps.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
        assert_eq!(written.len(), gaps.output_len());
    }
}

const EMPTY: Plan = match CONV.plan(Layout::Nchw, 0, [5, 6]) {
    Ok(plan) => plan,
    Err(error) => error.panic(),
};

#[test]
fn a_batch_of_nothing() {
    let w = fill(EMPTY.weights_len(), 2);
    let mut packed = [0.0; EMPTY.packed_len()];
    let packed = EMPTY.pack(&w, &mut packed).unwrap();
    let of_nhwc = plan(Layout::Nhwc, 0);
    for plan in [EMPTY, of_nhwc, of_nhwc.with_input_strides(Strides::new([9, 1, 7, 2])).unwrap()] {
        assert_eq!((plan.input_len(), plan.output_len(), plan.macs()), (0, 0, 0));
        assert_eq!(*plan.output_shape(), [0, 16, 5, 6].map_order(plan.layout()));
        for kernel in Kernel::ALL {
            let Ok(plan) = plan.with_kernel(kernel) else { continue };
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![0.0; plan.scratch_len()];
                plan.run(&[], packed, Epilogue::new(), &mut scratch, &mut [0.0_f32; 0]).unwrap();
                let mut job = plan.job(&[], packed, Epilogue::new(), &mut [0.0_f32; 0]).unwrap();
                assert_eq!(job.tiles(4).len(), 0);
                let plan = plan.unpacked().unwrap();
                let mut scratch = vec![0.0; plan.scratch_len()];
                let w = Weights::Unpacked(&w);
                plan.run(&[], w, Epilogue::new(), &mut scratch, &mut [0.0_f32; 0]).unwrap();
            }
        }
        reference::run(&plan, &[], &w, Epilogue::new(), &mut []).unwrap();
    }
    let one = [1; 2];
    let shape =
        tapwise::conv2d([0, 8, 5, 6], &[], [16, 8, 3, 3], &w, None, one, one, one, 1, &mut []);
    assert_eq!(shape, Ok([0, 16, 5, 6]));
}

trait MapOrder {
    fn map_order(self, layout: Layout) -> [usize; 4];
}

impl MapOrder for [usize; 4] {
    /// From PyTorch's order to that of the layout.
    fn map_order(self, layout: Layout) -> [usize; 4] {
        let [batch, channels, height, width] = self;
        match layout {
            Layout::Nchw => self,
            Layout::Nhwc => [batch, height, width, channels],
        }
    }
}

#[test]
fn residuals_with_strides_of_their_own() {
    let bias = fill(16, 3);
    for layout in LAYOUTS {
        let plan = plan(layout, 2);
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let other = if layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        let transposed = Strides { batch: 16 * 30, ..Strides::dense(other, 16, [5, 6]).unwrap() };
        let for_each_channel = Strides::new([0, 1, 0, 0]);
        for strides in [transposed, for_each_channel, Strides::new([0; 4])] {
            let apart = plan.with_residual_strides(strides).unwrap();
            assert_eq!(
                (apart.residual_strides(), apart.output_strides()),
                (strides, plan.output_strides())
            );
            let residual = fill(apart.residual_len(), 4);
            // The same residual where the output lies.
            let to = plan.output_strides();
            let mut in_place = vec![0.0; plan.output_len()];
            for (image, channel, row, column) in places([2, 16, 5, 6]) {
                let at = |s: Strides| {
                    image * s.batch + channel * s.channel + row * s.row + column * s.pixel
                };
                in_place[at(to)] = residual[at(strides)];
            }
            let epilogue = Epilogue::new().bias(&bias).relu();
            let expected = run(&plan, &x, &w, epilogue.residual(&in_place));
            let mut by_loops = vec![POISON; plan.output_len()];
            reference::run(&apart, &x, &w, epilogue.residual(&residual), &mut by_loops).unwrap();
            assert_same_bits(&by_loops, &expected, strides);
            for isa in paths() {
                let apart = apart.with_isa(isa).unwrap();
                let epilogue = epilogue.residual(&residual);
                assert_same_bits(&run(&apart, &x, &w, epilogue), &expected, (isa, strides));
                let mut packed = vec![0.0; apart.packed_len()];
                let packed = apart.pack(&w, &mut packed).unwrap();
                let mut y = vec![POISON; apart.output_len()];
                let mut job = apart.job(&x, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![0.0; job.scratch_len()];
                for tile in job.tiles(7) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, (isa, strides, "tiles"));
            }
            // One that the output holds lies where the output does.
            let y = from_output(&apart, &x, &w, epilogue, &in_place);
            assert_same_bits(&y, &expected, (strides, "from the output"));
            let short = &residual[1..];
            let mut y = vec![POISON; plan.output_len()];
            let error =
                reference::run(&apart, &x, &w, epilogue.residual(short), &mut y).unwrap_err();
            assert_eq!(error.field(), Field::Residual);
        }
        let error = plan.with_residual_strides(Strides::new([usize::MAX; 4])).unwrap_err();
        assert_eq!(error.field(), Field::ResidualElements);
    }
}

fn from_output(plan: &Plan, x: &[f32], w: &[f32], epilogue: Epilogue, before: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; plan.packed_len()];
    let packed = plan.pack(w, &mut packed).unwrap();
    let mut y = before.to_vec();
    let mut scratch = vec![0.0; plan.scratch_len()];
    plan.run(x, packed, epilogue.residual_from_output(), &mut scratch, &mut y).unwrap();
    y
}

fn places([batch, channels, height, width]: [usize; 4]) -> Vec<(usize, usize, usize, usize)> {
    let mut all = Vec::new();
    for image in 0..batch {
        for channel in 0..channels {
            for row in 0..height {
                all.extend((0..width).map(|column| (image, channel, row, column)));
            }
        }
    }
    all
}

#[test]
fn strides_by_rank_and_by_shape() {
    let line = Strides::new([100, 1, 4]);
    assert_eq!((line.batch, line.channel, line.pixel), (100, 1, 4));
    let volume = Strides::new([5, 4, 3, 2, 1]);
    let fields = (volume.batch, volume.channel, volume.depth, volume.row, volume.pixel);
    assert_eq!(fields, (5, 4, 3, 2, 1));
    for layout in LAYOUTS {
        let plan = Conv3d::new(3, 4, [1; 3]).plan(layout, 2, [2, 5, 7]).unwrap();
        assert_eq!(Strides::dense(layout, 3, [2, 5, 7]), Ok(plan.input_strides()));
        assert_eq!(Strides::dense(layout, 4, [2, 5, 7]), Ok(plan.output_strides()));
        assert!(plan.input_strides().same_places(&plan.input_strides(), [2, 3, 2, 5, 7]));
    }
    assert_eq!(Strides::dense(Layout::Nhwc, usize::MAX, [2]).unwrap_err().found(), Found::Overflow);
    let (a, b) = (Strides::new([9, 1, 8]), Strides::new([7, 1, 8]));
    assert!(a.same_places(&b, [1, 8, 8]) && !a.same_places(&b, [2, 8, 8]));
    assert!(!a.same_places(&Strides::new([9, 1, 7]), [1, 8, 8]));
}

#[test]
fn what_a_plan_tells() {
    let conv = Conv2d::new(6, 12, [3, 2]).groups(3).stride([2, 1]);
    assert_eq!((conv.in_channels(), conv.out_channels(), conv.kernel_size()), (6, 12, [3, 2]));
    assert_eq!(conv.group_count(), 3);
    let plan = conv.plan(Layout::Nhwc, 4, [9, 8]).unwrap();
    let channels = (plan.in_channels(), plan.out_channels(), plan.groups());
    assert_eq!((plan.batch(), channels), (4, (6, 12, 3)));
    assert_eq!(*plan.input_shape(), [4, 9, 8, 6]);
    assert_eq!(*plan.output_shape(), [4, 4, 7, 12]);
    let line = Conv1d::new(2, 3, [1]).plan(Layout::NCL, 5, [7]).unwrap();
    assert_eq!((&*line.input_shape(), &*line.output_shape()), (&[5, 2, 7][..], &[5, 3, 7][..]));
    let volume = Conv3d::new(2, 3, [1; 3]).plan(Layout::NDHWC, 1, [4, 5, 6]).unwrap();
    assert_eq!(*volume.input_shape(), [1, 4, 5, 6, 2]);
    assert_eq!(Activation::RELU6, Activation::Clamp { lower: 0.0, upper: 6.0 });
    assert_eq!(Activation::HARD_TANH, Activation::Clamp { lower: -1.0, upper: 1.0 });
}

/// The fastest path, unless another one is asked for.
#[test]
fn a_plan_takes_the_fastest_path() {
    for layout in LAYOUTS {
        assert_eq!(plan(layout, 1).isa(), Isa::detect());
        assert_eq!(EMPTY.isa(), Isa::detect());
        for isa in paths() {
            assert_eq!(plan(layout, 1).with_isa(isa).unwrap().isa(), isa);
        }
        // And so do its calls.
        let plan = plan(layout, 1);
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let mut packed = vec![0.0; plan.packed_len()];
        let weights = plan.pack(&w, &mut packed).unwrap();
        let mut y = vec![POISON; plan.output_len()];
        assert_eq!(plan.job(&x, weights, Epilogue::new(), &mut y).unwrap().isa(), Isa::detect());
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            assert_eq!(plan.job(&x, weights, Epilogue::new(), &mut y).unwrap().isa(), isa);
        }
    }
}

#[test]
fn a_tile_without_memory_comes_back() {
    let plan = plan(Layout::Nhwc, 2).assume_caches(512, 512).unwrap();
    assert!(plan.scratch_len() > 0);
    let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
    let mut packed = vec![0.0; plan.packed_len()];
    let packed = plan.pack(&w, &mut packed).unwrap();
    let mut y = vec![POISON; plan.output_len()];
    let mut job = plan.job(&x, packed, Epilogue::new(), &mut y).unwrap();
    for tile in job.tiles(5) {
        let refused = tile.run(&mut []).unwrap_err();
        let expected = (Field::Scratch, Expected::AtLeast(plan.scratch_len()), Found::Count(0));
        let error = refused.error;
        assert_eq!((error.field(), error.expected(), error.found()), expected);
        assert_eq!(refused.to_string(), error.to_string());
        refused.tile.run(&mut vec![0.0; plan.scratch_len()]).unwrap();
    }
    assert_same_bits(&y, &run(&plan, &x, &w, Epilogue::new()), "tiles");
}

#[test]
fn the_form_of_the_weights_is_the_plans() {
    let packed_plan = plan(Layout::Nhwc, 1);
    let unpacked_plan = packed_plan.unpacked().unwrap();
    let (x, w) = (fill(packed_plan.input_len(), 1), fill(packed_plan.weights_len(), 2));
    let mut packed = vec![0.0; packed_plan.packed_len()];
    let packed = packed_plan.pack(&w, &mut packed).unwrap();
    let mut scratch = vec![0.0; unpacked_plan.scratch_len()];
    let mut y = vec![POISON; packed_plan.output_len()];
    let error = packed_plan
        .run(&x, Weights::Unpacked(&w), Epilogue::new(), &mut scratch, &mut y)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "form of the weights: expected packed weights, found unpacked ones"
    );
    let error = unpacked_plan.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap_err();
    assert_eq!(
        error.to_string(),
        "form of the weights: expected unpacked weights, found packed ones"
    );
    assert!(y.iter().all(|value| value.to_bits() == POISON.to_bits()));
    // In planes they are read as they lie; channels last there is room to pack them.
    let planes = plan(Layout::Nchw, 1).unpacked().unwrap();
    assert_eq!((planes.kernel_name(), planes.scratch_len()), ("pixels", 0));
    let panels = packed_plan.packed_len() - 16;
    assert_eq!(unpacked_plan.scratch_len(), packed_plan.scratch_len() + panels);
}

#[test]
fn a_kernel_that_cannot_run_a_layer_is_refused() {
    let narrow = Conv2d::new(4, 4, [3, 3]).groups(2).plan(Layout::Nhwc, 1, [8, 8]).unwrap();
    let error = narrow.with_kernel(Kernel::Dense).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel asked for: expected one that can run the layer, found one that cannot"
    );
    assert_eq!(error.field(), Field::ForcedKernel);
}

#[test]
fn errors_in_words() {
    let plan = plan(Layout::Nhwc, 1);
    let other = Conv2d::new(8, 16, [3, 2]).plan(Layout::Nhwc, 1, [5, 6]).unwrap();
    let mut packed = vec![0.0; other.packed_len().max(plan.packed_len())];
    let weights = other.pack(&fill(other.weights_len(), 2), &mut packed).unwrap();
    let text = "layer of the packed weights: expected that of the plan, found another one";
    let (x, mut y) = (fill(plan.input_len(), 1), vec![0.0; plan.output_len()]);
    let run = plan.run(&x, weights, Epilogue::new(), &mut [], &mut y).map(|_| ());
    assert_eq!(run.map_err(|error| error.to_string()), Err(text.to_owned()));
    let of = |blob: &[f32]| PackedWeights::from_slice(&plan, blob).map(|_| ());
    assert_eq!(of(&packed).unwrap_err().to_string(), text);
    let reversed: Vec<f32> =
        packed.iter().map(|word| f32::from_bits(word.to_bits().swap_bytes())).collect();
    assert_eq!(
        of(&reversed).unwrap_err().to_string(),
        "beginning of the packed weights: expected a blob that a plan of the layer has packed, found \
         one in the other byte order"
    );
    assert_eq!(
        of(&vec![0.5; packed.len()]).unwrap_err().to_string(),
        "beginning of the packed weights: expected a blob that a plan of the layer has packed, found \
         other words"
    );
}

/// Steps between windows that, times the elements of a pixel, are more than a number holds.
#[test]
fn windows_too_far_apart_to_multiply() {
    let huge = 1 << (usize::BITS - 3);
    for stride in [huge, (1 << (usize::BITS - 2)) - 200] {
        let conv = Conv2d::new(32, 8, [1, 1]).stride([1, stride]).padding_sides([0, 0], [0, huge]);
        let conv = [conv, conv.padding_sides([0, huge], [0, huge])];
        for plan in conv.map(|conv| conv.plan(Layout::Nhwc, 1, [8, 5])).into_iter().flatten() {
            let plan = plan.assume_caches(32 << 10, 4096).unwrap();
            let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, Epilogue::new(), &mut expected).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                assert_same_bits(&run(&plan, &x, &w, Epilogue::new()), &expected, (isa, stride));
            }
        }
    }
}

/// Where the input is copied, as elsewhere, scratch memory has to be possible.
#[test]
fn scratch_memory_within_the_limit() {
    let conv = Conv2d::new(64, 32, [1, 1]);
    let plan = conv.plan(Layout::Nchw, 1, [16, 32]).unwrap();
    let plan = plan.with_kernel(Kernel::Pixels).unwrap();
    assert!(plan.scratch_len() > 131_072 / 4, "it copies its input: {}", plan.scratch_len());
    let within = |limit: usize| {
        let plan = conv.plan_within(Layout::Nchw, 1, [16, 32], limit)?;
        plan.with_kernel(Kernel::Pixels)
    };
    let error = within(131_072).unwrap_err();
    let expected = (Field::Scratch, Expected::AtMost(131_072 / 4), Found::Overflow);
    assert_eq!((error.field(), error.expected(), error.found()), expected);
    assert_eq!(within(4 * plan.scratch_len()).unwrap().scratch_len(), plan.scratch_len());
}
