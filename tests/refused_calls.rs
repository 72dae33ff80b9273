//! Calls that are refused: by which error, and that the output is then untouched.

mod support;

use std::mem::MaybeUninit;
use support::{POISON, bits, fill};
use tapwise::{
    CHANNEL_BLOCK, Conv1d, Conv2d, ConvTranspose2d, Epilogue, Error, Expected, Field, Found,
    Layout, OutputElement, PackedWeights, Plan, Weights, conv1d, conv2d, conv3d,
};

/// Elements that every slice is longer than it has to be, unless it is cut short.
const SPARE: usize = 3;

fn too_short(field: Field, needed: usize) -> (Field, Expected, Found) {
    (field, Expected::AtLeast(needed), Found::Count(needed - 1))
}

fn parts(error: Error) -> (Field, Expected, Found) {
    (error.field(), error.expected(), error.found())
}

/// A layer of each kernel, with and without partial sums in scratch memory.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for (in_channels, groups) in [(20, 20), (20, 1), (512, 1), (12, 4)] {
            let conv = Conv2d::new(in_channels, 20, [3, 3]).padding([1, 1]).groups(groups);
            let plan = conv.plan(layout, 2, [4, 5]).unwrap();
            plans.extend([plan, plan.assume_caches(512, 512).unwrap()]);
            let up = ConvTranspose2d::new(in_channels, 20, [3, 2]).stride([2, 3]).groups(groups);
            plans.push(up.plan(layout, 2, [2, 3]).unwrap());
        }
    }
    assert!(
        ["dense", "channels", "pixels", "planes"]
            .iter()
            .all(|name| { plans.iter().any(|plan| plan.kernel_name() == *name) })
    );
    assert!(plans.iter().any(|plan| plan.scratch_len() > 0));
    plans
}

/// The slices of a call: each long enough, but the one that a test cuts short.
struct Call {
    plan: Plan,
    x: Vec<f32>,
    weights: Vec<f32>,
    packed: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    scratch: Vec<f32>,
    output_len: usize,
}

impl Call {
    fn new(plan: Plan) -> Call {
        let weights = fill(plan.weights_len(), 2);
        let mut packed = vec![0.0; plan.packed_len() + SPARE];
        plan.pack(&weights, &mut packed).unwrap();
        Call {
            plan,
            x: fill(plan.input_len() + SPARE, 1),
            weights,
            packed,
            bias: fill(20 + SPARE, 3),
            residual: fill(plan.output_len() + SPARE, 4),
            scratch: vec![POISON; scratch_len(&plan, true).max(scratch_len(&plan, false)) + SPARE],
            output_len: plan.output_len() + SPARE,
        }
    }

    fn epilogue(&self) -> Epilogue<'_> {
        Epilogue::new().bias(&self.bias).residual(&self.residual).relu()
    }

    /// The errors of `run`, and of `job` or of its tiles, in this order. Asserts that a refusal
    /// leaves the output as it was, and that otherwise it is written.
    fn errors(&mut self, unpacked: bool, epilogue: Option<Epilogue>) -> [Option<Error>; 2] {
        let mut scratch = std::mem::take(&mut self.scratch);
        let epilogue = epilogue.unwrap_or(self.epilogue());
        let packed = PackedWeights::from_slice(&self.plan, &self.packed).unwrap();
        let (plan, weights) = if unpacked {
            (self.plan.unpacked().unwrap(), Weights::Unpacked(&self.weights))
        } else {
            (self.plan, Weights::Packed(packed))
        };

        let mut y = vec![POISON; self.output_len];
        let of_run = plan.run(&self.x, weights, epilogue, &mut scratch, &mut y).err();
        assert_eq!(is_untouched(&y), of_run.is_some());

        let mut y = vec![POISON; self.output_len];
        let of_job = match plan.job(&self.x, weights, epilogue, &mut y) {
            Err(error) => Some(error),
            Ok(mut job) => {
                let errors = job.tiles(5).map(|tile| tile.run(&mut scratch).err().map(Error::from));
                let errors: Vec<_> = errors.collect();
                assert!(!errors.is_empty() && errors.iter().all(|error| *error == errors[0]));
                errors[0]
            }
        };
        assert_eq!(is_untouched(&y), of_job.is_some());
        self.scratch = scratch;
        [of_run, of_job]
    }

    #[track_caller]
    fn is_refused(&mut self, unpacked: bool, expected: (Field, Expected, Found)) {
        let errors = self.errors(unpacked, None);
        assert_eq!(errors.map(|error| error.map(parts)), [Some(expected); 2]);
    }
}

fn scratch_len(plan: &Plan, unpacked: bool) -> usize {
    if unpacked { plan.unpacked().unwrap().scratch_len() } else { plan.scratch_len() }
}

fn is_untouched(y: &[f32]) -> bool {
    y.iter().all(|value| value.to_bits() == POISON.to_bits())
}

#[test]
fn slices_that_are_too_short() {
    for plan in plans() {
        for unpacked in [false, true] {
            let call = || Call::new(plan);
            assert_eq!(call().errors(unpacked, None), [None; 2]);

            let mut broken = call();
            broken.x.truncate(plan.input_len() - 1);
            broken.is_refused(unpacked, too_short(Field::Input, plan.input_len()));

            let mut broken = call();
            broken.output_len = plan.output_len() - 1;
            broken.is_refused(unpacked, too_short(Field::Output, plan.output_len()));

            let mut broken = call();
            broken.bias.truncate(19);
            broken.is_refused(unpacked, too_short(Field::Bias, 20));

            let mut broken = call();
            broken.residual.truncate(plan.output_len() - 1);
            broken.is_refused(unpacked, too_short(Field::Residual, plan.output_len()));

            let scratch_len = scratch_len(&plan, unpacked);
            let mut exact = call();
            exact.scratch.truncate(scratch_len);
            assert_eq!(exact.errors(unpacked, None), [None; 2]);
            if scratch_len > 0 {
                exact.scratch.truncate(scratch_len - 1);
                exact.is_refused(unpacked, too_short(Field::Scratch, scratch_len));
                exact.scratch.clear();
                let empty = (Field::Scratch, Expected::AtLeast(scratch_len), Found::Count(0));
                exact.is_refused(unpacked, empty);
            }
        }
    }
}

#[test]
fn weights_of_the_wrong_length() {
    for plan in plans() {
        let needed = plan.weights_len();
        let mut packed = vec![POISON; plan.packed_len()];
        for len in [0, needed - 1, needed + 1] {
            let expected = (Field::Weights, Expected::Exactly(needed), Found::Count(len));
            let mut call = Call::new(plan);
            call.weights = fill(len, 2);
            call.is_refused(true, expected);
            let error = plan.pack(&fill(len, 2), &mut packed).unwrap_err();
            assert_eq!(parts(error), expected);
        }
        let short = &mut packed[..plan.packed_len() - 1];
        let error = plan.pack(&fill(needed, 2), short).unwrap_err();
        assert_eq!(parts(error), too_short(Field::Packed, plan.packed_len()));
        assert!(is_untouched(&packed));
    }
}

#[test]
fn bounds_of_a_clamp() {
    let mut call = Call::new(plans()[0]);
    let mut refused = |lower, upper, unpacked| {
        let errors = call.errors(unpacked, Some(Epilogue::new().clamp(lower, upper)));
        assert_eq!(errors[0].map(Error::field), errors[1].map(Error::field));
        errors[0].map(|error| (error.field(), error.expected(), error.to_string()))
    };
    for unpacked in [false, true] {
        let text = "lower bound of the clamp: expected a number, found NaN";
        let nan = Some((Field::ClampLower, Expected::NotNan, text.to_owned()));
        assert_eq!(refused(f32::NAN, 1.0, unpacked), nan);
        assert_eq!(refused(-f32::NAN, f32::NAN, unpacked), nan);
        let text = "upper bound of the clamp: expected a number, found NaN";
        let nan = Some((Field::ClampUpper, Expected::NotNan, text.to_owned()));
        assert_eq!(refused(0.0, f32::NAN, unpacked), nan);
        let text = "lower bound of the clamp: expected at most 1.5, found 2";
        let order = Some((Field::ClampLower, Expected::AtMostNumber(1.5), text.to_owned()));
        assert_eq!(refused(2.0, 1.5, unpacked), order);
        for (lower, upper) in [(0.0, 0.0), (0.0, -0.0), (f32::NEG_INFINITY, f32::INFINITY)] {
            assert_eq!(refused(lower, upper, unpacked), None);
        }
    }
}

#[test]
fn a_residual_from_nothing() {
    for plan in plans() {
        let call = Call::new(plan);
        let packed = PackedWeights::from_slice(&plan, &call.packed).unwrap();
        let epilogue = Epilogue::new().residual_from_output();
        let expected = (Field::ResidualFromOutput, Expected::Initialised, Found::Uninitialised);
        let mut y = vec![MaybeUninit::new(POISON); plan.output_len()];
        let error = plan.job(&call.x, packed, epilogue, &mut y).err().unwrap();
        assert_eq!(parts(error), expected);
        let mut scratch = call.scratch;
        let error = plan.run(&call.x, packed, epilogue, &mut scratch, &mut y).unwrap_err();
        assert_eq!(parts(error), expected);
        // SAFETY: every element was initialised above, and `MaybeUninit<f32>` is as `f32`.
        let y: Vec<f32> = y.iter().map(|value| unsafe { value.assume_init() }).collect();
        assert!(is_untouched(&y));
        accepts(&plan, packed, epilogue, &mut vec![1.0; plan.output_len()]);
        let mut y = vec![MaybeUninit::uninit(); plan.output_len()];
        accepts(&plan, packed, Epilogue::new(), &mut y);
    }
}

fn accepts<T: OutputElement>(plan: &Plan, packed: PackedWeights, epilogue: Epilogue, y: &mut [T]) {
    let (x, mut scratch) = (fill(plan.input_len(), 1), vec![0.0; plan.scratch_len()]);
    plan.run(&x, packed, epilogue, &mut scratch, y).unwrap();
}

#[test]
fn packed_weights_of_another_layer() {
    let base = Conv2d::new(16, 32, [3, 2]);
    let size = [6, 6];
    let plan = base.plan(Layout::Nhwc, 1, size).unwrap();
    let weights = fill(plan.weights_len(), 2);
    let mut packed = vec![0.0; plan.packed_len()];
    let packed = plan.pack(&weights, &mut packed).unwrap();
    let x = fill(32 * 36, 1);

    // The same layer, elsewhere.
    let same = base.stride([2, 1]).dilation([1, 2]).padding([1, 1]);
    let same = same.plan(Layout::Nchw, 2, [4, 3]).unwrap();
    let mut y = vec![POISON; same.output_len()];
    let mut scratch = vec![POISON; same.scratch_len()];
    same.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();

    for other in [
        Conv2d::new(32, 16, [3, 2]),
        Conv2d::new(16, 32, [2, 3]),
        Conv2d::new(16, 32, [1, 6]),
        Conv2d::new(8, 32, [3, 4]),
        Conv2d::new(16, 16, [3, 2]),
        Conv2d::new(15, 32, [3, 2]),
        base.groups(2),
        base.groups(16),
    ] {
        let other = other.plan(Layout::Nhwc, 1, size).unwrap();
        let mut blob = vec![0.0; other.packed_len()];
        let blob = other.pack(&fill(other.weights_len(), 2), &mut blob).unwrap();
        assert_ne!(bits(&blob.as_slice()[3..5]), bits(&packed.as_slice()[3..5]));
        let expected = (Field::PackedSignature, Expected::LayerOfThePlan, Found::AnotherLayer);
        let mut y = vec![POISON; other.output_len()];
        let mut scratch = vec![POISON; other.scratch_len()];
        let error = other.job(&x, packed, Epilogue::new(), &mut y).err().unwrap();
        assert_eq!(parts(error), expected);
        let error = other.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap_err();
        assert_eq!(parts(error), expected);
        assert!(is_untouched(&y));
    }
}

/// A layer whose signature is that of another one, by chance: its weights are still refused, for
/// they are fewer.
#[cfg(target_pointer_width = "64")]
#[test]
fn packed_weights_with_the_signature_of_another_layer() {
    const TAPS: usize = 0x0039_731b_d145_d88a; // found by search
    let small = Conv2d::new(8, 2, [3, 3]).plan(Layout::Nhwc, 1, [3, 3]).unwrap();
    let mut blob = vec![0.0; small.packed_len()];
    let packed = small.pack(&fill(small.weights_len(), 2), &mut blob).unwrap();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        // One element, and all taps but one on padding.
        let large = Conv1d::new(1, 1, [TAPS]).padding_sides([TAPS - 1], [0]);
        let large = large.plan(layout, 1, [1]).unwrap();
        assert_eq!((large.input_len(), large.output_len()), (1, 1));
        let found = Found::Count(small.packed_len());
        let expected = (Field::Packed, Expected::AtLeast(16 + 16 * TAPS), found);
        assert_eq!(
            parts(PackedWeights::from_slice(&large, packed.as_slice()).unwrap_err()),
            expected
        );
        let expected = (Field::PackedSignature, Expected::LayerOfThePlan, Found::AnotherLayer);
        let (x, mut y) = ([1.0], [POISON]);
        let error = large.job(&x, packed, Epilogue::new(), &mut y).err();
        assert_eq!(error.map(parts), Some(expected));
        let mut scratch = vec![POISON; large.scratch_len()];
        let error = large.run(&x, packed, Epilogue::new(), &mut scratch, &mut y).err();
        assert_eq!(error.map(parts), Some(expected));
        assert!(is_untouched(&y));
    }
}

#[test]
fn blobs_that_are_damaged() {
    let plan = Conv2d::new(5, 18, [2, 2]).plan(Layout::Nchw, 1, [4, 4]).unwrap();
    let mut blob = vec![0.0; plan.packed_len()];
    plan.pack(&fill(plan.weights_len(), 2), &mut blob).unwrap();
    assert!(PackedWeights::from_slice(&plan, &blob).is_ok());

    let fields = [
        Field::PackedMagic,
        Field::PackedVersion,
        Field::PackedChannelBlock,
        Field::PackedSignature,
        Field::PackedSignature,
    ];
    for (word, field) in fields.into_iter().enumerate() {
        for bit in 0..30 {
            let mut damaged = blob.clone();
            let (right, wrong) = (blob[word].to_bits(), blob[word].to_bits() ^ 1 << bit);
            damaged[word] = f32::from_bits(wrong);
            let error = PackedWeights::from_slice(&plan, &damaged).unwrap_err();
            let expected = match field {
                Field::PackedMagic => (Expected::Blob, Found::OtherWords),
                Field::PackedSignature => (Expected::LayerOfThePlan, Found::AnotherLayer),
                _ => (Expected::Exactly(right as usize), Found::Count(wrong as usize)),
            };
            assert_eq!(parts(error), (field, expected.0, expected.1));
            let bytes = bytemuck::cast_slice(&damaged);
            assert_eq!(PackedWeights::from_bytes(&plan, bytes).unwrap_err(), error);
        }
    }
    let text = |word: usize| {
        let mut damaged = blob.clone();
        damaged[word] = f32::from_bits(7);
        PackedWeights::from_slice(&plan, &damaged).unwrap_err().to_string()
    };
    assert_eq!(text(1), "format version of the packed weights: expected 1, found 7");
    assert_eq!(
        text(2),
        format!("channel block of the packed weights: expected {CHANNEL_BLOCK}, found 7")
    );
}

/// What a machine of the other byte order wrote is refused, and accepted with its words reversed.
#[test]
fn blobs_in_the_other_byte_order() {
    let plan = Conv2d::new(5, 18, [2, 2]).plan(Layout::Nchw, 1, [4, 4]).unwrap();
    let mut blob = vec![0.0; plan.packed_len()];
    plan.pack(&fill(plan.weights_len(), 2), &mut blob).unwrap();

    let words: Vec<u32> = blob.iter().map(|word| word.to_bits().swap_bytes()).collect();
    let error = PackedWeights::from_bytes(&plan, bytemuck::cast_slice(&words)).unwrap_err();
    assert_eq!(parts(error), (Field::PackedMagic, Expected::Blob, Found::ReversedBytes));

    let words: Vec<u32> = words.iter().map(|word| word.swap_bytes()).collect();
    let packed = PackedWeights::from_bytes(&plan, bytemuck::cast_slice(&words)).unwrap();
    assert_eq!(bits(packed.as_slice()), bits(&blob));

    // Little-endian bytes, as they lie in files, on whatever machine.
    let file: Vec<u8> = blob.iter().flat_map(|word| word.to_bits().to_le_bytes()).collect();
    assert_eq!(&file[..4], b"tapw");
    let words: Vec<u32> =
        file.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let packed = PackedWeights::from_bytes(&plan, bytemuck::cast_slice(&words)).unwrap();
    assert_eq!(bits(packed.as_slice()), bits(&blob));
}

#[test]
fn blobs_that_are_truncated_or_misaligned() {
    let plan = Conv2d::new(5, 18, [2, 2]).plan(Layout::Nchw, 1, [4, 4]).unwrap();
    let needed = plan.packed_len();
    let mut blob = vec![0.0; needed + 1];
    plan.pack(&fill(plan.weights_len(), 2), &mut blob).unwrap();
    let bytes: &[u8] = bytemuck::cast_slice(&blob);

    let header = Expected::AtLeast(16);
    for (len, expected) in [(0, header), (15, header)] {
        let expected = (Field::Packed, expected, Found::Count(len));
        assert_eq!(parts(PackedWeights::from_slice(&plan, &blob[..len]).unwrap_err()), expected);
        let bytes = &bytes[..4 * len + 3];
        assert_eq!(parts(PackedWeights::from_bytes(&plan, bytes).unwrap_err()), expected);
    }
    for len in [16, needed - 1] {
        let expected = (Field::Packed, Expected::AtLeast(needed), Found::Count(len));
        assert_eq!(parts(PackedWeights::from_slice(&plan, &blob[..len]).unwrap_err()), expected);
        let bytes = &bytes[..4 * len + 3];
        assert_eq!(parts(PackedWeights::from_bytes(&plan, bytes).unwrap_err()), expected);
    }
    for len in [4 * needed, 4 * needed + 3, 4 * needed + 4] {
        let whole = PackedWeights::from_bytes(&plan, &bytes[..len]).unwrap();
        assert_eq!(bits(whole.as_slice()), bits(&blob[..needed]));
    }

    let original: Vec<u8> = bytes[..4 * needed].to_vec();
    for misalignment in 1..4 {
        let mut moved = vec![0.0_f32; needed + 1];
        let moved: &mut [u8] = bytemuck::cast_slice_mut(&mut moved);
        let moved = &mut moved[misalignment..][..4 * needed];
        moved.copy_from_slice(&original);
        let error = PackedWeights::from_bytes(&plan, moved).unwrap_err();
        let expected = (Field::PackedAlignment, Expected::Exactly(0), Found::Count(misalignment));
        assert_eq!(parts(error), expected);
    }
}

#[test]
fn shapes_that_do_not_fit_each_other() {
    let (x, w) = (fill(4 * 27, 1), fill(6 * 4 * 27, 2));
    let mut y = vec![POISON; 6 * 27];
    let wrong =
        |expected, found| (Field::InChannels, Expected::Exactly(expected), Found::Count(found));
    let mut of_groups = |in_per_group: usize, groups: usize| {
        let weight = &w[..6 * in_per_group];
        let errors = [
            conv1d(
                [1, 4, 3],
                &x,
                [6, in_per_group, 1],
                weight,
                None,
                [1],
                [0],
                [1],
                groups,
                &mut y,
            )
            .unwrap_err(),
            conv2d(
                [1, 4, 3, 3],
                &x,
                [6, in_per_group, 1, 1],
                weight,
                None,
                [1; 2],
                [0; 2],
                [1; 2],
                groups,
                &mut y,
            )
            .unwrap_err(),
            conv3d(
                [1, 4, 3, 3, 3],
                &x,
                [6, in_per_group, 1, 1, 1],
                weight,
                None,
                [1; 3],
                [0; 3],
                [1; 3],
                groups,
                &mut y,
            )
            .unwrap_err(),
        ];
        assert!(errors.iter().all(|error| *error == errors[0]));
        assert!(is_untouched(&y));
        parts(errors[0])
    };
    assert_eq!(of_groups(3, 1), wrong(3, 4));
    assert_eq!(of_groups(0, 1), wrong(0, 4));
    assert_eq!(of_groups(4, 2), wrong(8, 4));
    assert_eq!(of_groups(1, 2), wrong(2, 4));
    let three = (Field::Groups, Expected::DivisorOf(4), Found::Count(3));
    assert_eq!(of_groups(4, 3), three);
    assert_eq!(of_groups(4, 0), (Field::Groups, Expected::AtLeast(1), Found::Count(0)));
}

#[test]
fn one_call_with_short_slices() {
    let (x, w, bias) = (fill(4 * 9, 1), fill(6 * 4, 2), fill(6, 3));
    let mut y = vec![POISON; 6 * 9];
    let mut call = |x: &[f32], w: &[f32], bias: &[f32], y_len: usize| {
        let (x_shape, w_shape) = ([1, 4, 3, 3], [6, 4, 1, 1]);
        let (ones, y) = ([1; 2], &mut y[..y_len]);
        let error = conv2d(x_shape, x, w_shape, w, Some(bias), ones, [0; 2], ones, 1, y).err();
        assert_eq!(is_untouched(y), error.is_some());
        error.map(parts)
    };
    assert_eq!(call(&x[1..], &w, &bias, 54), Some(too_short(Field::Input, 36)));
    assert_eq!(call(&x, &w, &bias[1..], 54), Some(too_short(Field::Bias, 6)));
    assert_eq!(call(&x, &w, &bias, 53), Some(too_short(Field::Output, 54)));
    let exactly = (Field::Weights, Expected::Exactly(24), Found::Count(23));
    assert_eq!(call(&x, &w[1..], &bias, 54), Some(exactly));
    assert_eq!(call(&x, &w, &bias, 54), None);
}
