//! The activations that run as a pass behind the kernel: on every path the bits of their definition,
//! which is as near to the functions of mathematics as it says, at every place of an output.

mod support;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeSet;
use support::case::{Case, LAYOUTS};
use support::choices::Choices;
use support::{
    Layer, POISON, Residual, assert_same_bits, fill, hash, paths, run, say, share, to_layout,
};
use tapwise::{
    Activation, Conv2d, Epilogue, Error, Expected, Field, Found, Isa, Layout, Plan, Strides,
    numerics, reference,
};

const ALL: [Activation; 10] = [
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Tanh,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Elu { alpha: 1.0 },
    Activation::Elu { alpha: 1.673_263_2 },
    Activation::Elu { alpha: -1e-30 },
    Activation::Elu { alpha: f32::INFINITY },
];

/// Values at which functions, or numbers, change their ways.
const SPECIALS: [u32; 24] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001, // the least subnormal
    0x8000_0001,
    0x007f_ffff, // the largest
    0x807f_ffff,
    0x7f7f_ffff, // the largest number
    0xff7f_ffff,
    0x7f80_0000, // infinity
    0xff80_0000,
    0x7fc0_0000, // NaN, quiet
    0xffc1_2345,
    0x7f80_0001, // NaN, signalling
    0xffa5_a5a5,
    0x4220_0000, // 40, beyond which a sigmoid is 1
    0x4220_0001,
    0xc2dc_0000, // -110, below which it is 0
    0xc2dc_0001,
    0xc1a0_0000, // -20
    0x4180_0000, // 16
    0xc200_0000, // -32
    0x40c0_0000, // 6
    0xc040_0000, // -3
    0x5f80_0000, // 2^64
];

/// Every exponent, both signs, any fraction; the more often, the more happens there.
fn random(count: usize, seed: usize) -> Vec<f32> {
    let of = |at: usize| {
        let (word, draw) = (hash(at, seed), hash(at, seed + 1));
        let exponent = match draw % 4 {
            0 => draw >> 8 & 0xff,
            _ => 127 - 12 + (draw >> 8) % 19, // from 2^-12 to 2^7
        };
        f32::from_bits(word & 0x807f_ffff | exponent << 23)
    };
    (0..count).map(of).collect()
}

fn specials_and_random(count: usize, seed: usize) -> Vec<f32> {
    let specials = SPECIALS.into_iter().map(f32::from_bits);
    specials.chain(random(count, seed)).collect()
}

/// The outputs of a layer that copies its input.
fn copied(x: &[f32], isa: Isa, epilogue: Epilogue) -> Vec<f32> {
    let plan = Conv2d::new(1, 1, [1, 1]).plan(Layout::Nchw, 1, [1, x.len()]).unwrap();
    run(&plan.with_isa(isa).unwrap(), x, &[1.0], epilogue)
}

#[test]
fn every_path_has_the_bits_of_the_definition() {
    for isa in paths() {
        let count =
            if [Isa::Avx2, Isa::Avx512, Isa::Neon].contains(&isa) { 400_000 } else { 40_000 };
        // A length that leaves a tail on every path.
        let x = specials_and_random(share(count) | 1, 7);
        for activation in ALL {
            let y = copied(&x, isa, Epilogue::new().activation(activation));
            let expected: Vec<f32> =
                x.iter().map(|v| numerics::finish(*v, None, activation)).collect();
            assert_same_bits(&y, &expected, (isa, activation));
        }
    }
}

/// The pass sees what is canonical already.
#[test]
fn canonical_form_before_a_function_changes_nothing() {
    for v in specials_and_random(100_000, 11) {
        for activation in ALL {
            let of = |v| numerics::canonical(numerics::activate(activation, v)).to_bits();
            assert_eq!(of(v), of(numerics::canonical(v)), "{activation:?} of {v:e}");
        }
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() }
}

/// Random layers: kernels, layouts, strides, residuals, tiles.
#[test]
fn every_place_of_an_output() {
    let paths = paths();
    let config = config(share(1_500) as u32);
    let cases = vec(any::<u8>(), 160).prop_map(|bytes| {
        let mut choices = Choices::new(&bytes);
        let activation = choices.choose(&ALL);
        let mut case = Case::of(&mut choices, 20_000);
        case.ending.activation = activation;
        case
    });
    let result =
        TestRunner::new(config).run(&cases, |case| case.check(&paths).map_err(TestCaseError::fail));
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// The same with slopes for each channel, against the plain loops on the same strides.
#[test]
fn slopes_of_channels() {
    let paths = paths();
    let config = config(share(700) as u32);
    let cases = vec(any::<u8>(), 160).prop_map(|bytes| Case::of(&mut Choices::new(&bytes), 20_000));
    let result = TestRunner::new(config).run(&cases, |case| {
        let channels = case.layer.out_channels;
        let mut slopes = fill(channels, 5);
        slopes[channels - 1] = f32::INFINITY;
        for (layout, kernel, plan) in case.plans() {
            let tensors = case.tensors(&plan);
            let mut epilogue = Epilogue::new().prelu(&slopes);
            if case.ending.bias {
                epilogue = epilogue.bias(&tensors.bias);
            }
            epilogue = match case.ending.residual {
                Residual::None => epilogue,
                Residual::Slice => epilogue.residual(&tensors.residual),
                Residual::Output => epilogue.residual_from_output(),
            };
            let before = case.ending.before(case.poison, &tensors.residual);
            let mut wanted = before.clone();
            reference::run(&plan, &tensors.x, &tensors.weights, epilogue, &mut wanted).unwrap();
            let mut packed = vec![POISON; plan.packed_len()];
            let packed = plan.pack(&tensors.weights, &mut packed).unwrap();
            for isa in &paths {
                let plan = plan.with_isa(*isa).unwrap();
                let mut y = before.clone();
                let mut job = plan.job(&tensors.x, packed, epilogue, &mut y).unwrap();
                let mut scratch = vec![POISON; job.scratch_len()];
                let mut tiles: Vec<_> = job.tiles(case.tiles).collect();
                case.shuffle(&mut tiles);
                tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                if let Some(at) = y.iter().zip(&wanted).position(|pair| !same(pair)) {
                    let what = format!("{layout:?} {} {}: at {at}", kernel.name(), isa.name());
                    return Err(TestCaseError::fail(what));
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// One slope is leaky ReLU; slopes that are all the same are, too.
#[test]
fn prelu_is_leaky_relu_by_channels() {
    for layout in LAYOUTS {
        let layer = Layer::new(2, [5, 21], [1, 6, 7], [1, 2, 2]);
        let plan = layer.plan(layout).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let leaky = run(&plan, &x, &w, Epilogue::new().leaky_relu(0.25));
        for slopes in [&[0.25][..], &[0.25; 21]] {
            let y = run(&plan, &x, &w, Epilogue::new().prelu(slopes));
            assert_same_bits(&y, &leaky, (layout, slopes.len()));
        }
        // By PyTorch's formula, with slopes that differ.
        let slopes = fill(21, 3);
        let plain = run(&plan, &x, &w, Epilogue::new());
        let expected: Vec<f32> = (0..21 * 30)
            .map(|at| (at / 30, at))
            .map(|(channel, at)| {
                let v = match layout {
                    Layout::Nchw => plain[at],
                    Layout::Nhwc => plain[at % 30 * 21 + channel],
                };
                if v > 0.0 { v } else { v * slopes[channel] + 0.0 }
            })
            .collect();
        let expected = to_layout(layout, &expected, 21, 30);
        let y = run(&plan, &x, &w, Epilogue::new().prelu(&slopes));
        assert_same_bits(&y, &expected, layout);
    }
}

/// A residual with strides of its own, and the last of several activations holds.
#[test]
fn a_residual_of_one_value_for_each_channel() {
    for layout in LAYOUTS {
        let plan = Conv2d::new(3, 18, [1, 1]).plan(layout, 2, [5, 5]).unwrap();
        let plan = plan.with_residual_strides(Strides::new([0, 1, 0, 0])).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let (residual, slopes) = (fill(18, 3), fill(18, 4));
        let epilogue = Epilogue::new().residual(&residual);
        for epilogue in [epilogue.prelu(&slopes).silu(), epilogue.silu().prelu(&slopes)] {
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, epilogue, &mut expected).unwrap();
            for isa in paths() {
                let y = run(&plan.with_isa(isa).unwrap(), &x, &w, epilogue);
                assert_same_bits(&y, &expected, (layout, isa));
            }
        }
        let last = run(&plan, &x, &w, epilogue.gelu().relu());
        assert_same_bits(&last, &run(&plan, &x, &w, epilogue.relu()), layout);
    }
}

/// A pass writes nothing between the elements of an output, and no element of another tile.
#[test]
fn gaps_stay_as_they_are() {
    for (layout, batch, channel, row, pixel) in [
        (Layout::Nhwc, 200, 1, 40, 7),
        (Layout::Nchw, 400, 70, 14, 2),
        (Layout::Nchw, 900, 3, 90, 17),
    ] {
        let plan = Conv2d::new(2, 5, [3, 3]).padding([1, 1]).plan(layout, 2, [4, 5]).unwrap();
        let plan = plan.with_output_strides(Strides::new([batch, channel, row, pixel])).unwrap();
        let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
        let mut expected = vec![7.5; plan.output_len()];
        reference::run(&plan, &x, &w, Epilogue::new().tanh(), &mut expected).unwrap();
        let gaps = expected.iter().filter(|value| **value == 7.5).count();
        assert_eq!(gaps, plan.output_len() - 2 * 5 * 4 * 5);
        let mut packed = vec![0.0; plan.packed_len()];
        let packed = plan.pack(&w, &mut packed).unwrap();
        for isa in paths() {
            let plan = plan.with_isa(isa).unwrap();
            let mut y = vec![7.5; plan.output_len()];
            let mut scratch = vec![0.0; plan.scratch_len()];
            plan.run(&x, packed, Epilogue::new().tanh(), &mut scratch, &mut y).unwrap();
            assert_same_bits(&y, &expected, (layout, isa));
        }
    }
}

/// The distance of neighbours among `f32` of the size of `y`.
fn ulp(y: f64) -> f64 {
    let exponent = (y.abs().to_bits() >> 52) as i32 - 1023;
    f64::from_bits(((exponent.max(-126) - 23 + 1023) as u64) << 52)
}

fn sigmoid(x: f64) -> f64 {
    if x > 0.0 { 1.0 / (1.0 + libm::exp(-x)) } else { libm::exp(x) / (1.0 + libm::exp(x)) }
}

/// A function as mathematics has it, to the precision of `f64`.
fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => libm::tanh(x),
        Activation::Gelu => 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2),
        Activation::GeluTanh => {
            let argument = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * sigmoid(2.0 * argument)
        }
        Activation::Elu { alpha } if x <= 0.0 => f64::from(alpha) * libm::expm1(x),
        Activation::Elu { .. } => x,
        other => panic!("{other:?} is not among them"),
    }
}

/// In ulp: of the exact value, or of `x`.
fn bound(activation: Activation) -> (f64, bool) {
    match activation {
        Activation::Gelu | Activation::GeluTanh => (4.0, true),
        _ => (2.0, false),
    }
}

/// The largest error, in ulp, and where it is.
fn worst(activation: Activation, x: &[f32], y: &[f32]) -> (f64, f32) {
    let (_, of_x) = bound(activation);
    let error = |(x, y): (&f32, &f32)| {
        let value = exact(activation, f64::from(*x));
        ((f64::from(*y) - value).abs() / ulp(if of_x { f64::from(*x) } else { value }), *x)
    };
    let pairs = x.iter().zip(y).filter(|(x, _)| x.is_finite());
    pairs.map(error).fold((0.0, 0.0), |worst, error| if error.0 <= worst.0 { worst } else { error })
}

#[test]
fn errors_are_small() {
    const EACH: usize = 1_300_000;
    for activation in &ALL[..9] {
        let mut largest = (0.0, 0.0);
        let mut exponents = BTreeSet::new();
        for piece in 0..share(20) {
            let x = random(EACH / 20, 100 + 2 * piece);
            exponents.extend(x.iter().map(|x| x.to_bits() >> 23));
            let y = copied(&x, Isa::detect(), Epilogue::new().activation(*activation));
            let found = worst(*activation, &x, &y);
            largest = if found.0 <= largest.0 { largest } else { found };
        }
        say(&format!("{activation:?}: {:.3} ulp at {:e}", largest.0, largest.1));
        assert!(largest.0 <= bound(*activation).0, "{activation:?}: {largest:?}");
        assert_eq!(exponents.len(), 512, "every exponent and both signs");
    }
}

/// Runs of `f32` from all over, or every one there is with `TAPWISE_EVERY_VALUE=1`, which takes ten
/// minutes. The largest errors of all are these: sigmoid 1.977, SiLU 1.961, tanh 1.981, ELU 0.943 with
/// alpha 1; of `x` GELU 2.769, its tanh form 1.538.
#[test]
fn errors_are_small_everywhere() {
    const RUNS: usize = 1 << 14;
    let every = std::env::var("TAPWISE_EVERY_VALUE").is_ok_and(|all| all == "1");
    // An odd step meets all exponents and mantissas alike.
    let step = if every { 1 } else { (RUNS / share(128)) | 1 };
    say(&format!("one of {step} runs of neighbouring values"));
    for activation in &ALL[..9] {
        let mut largest = (0.0, 0.0);
        for run in (0..RUNS as u32).step_by(step) {
            let x: Vec<f32> = (0..1 << 18).map(|low| f32::from_bits(run << 18 | low)).collect();
            let y = copied(&x, Isa::detect(), Epilogue::new().activation(*activation));
            let found = worst(*activation, &x, &y);
            largest = if found.0 <= largest.0 { largest } else { found };
        }
        say(&format!("{activation:?}: {:.4} ulp at {:e}", largest.0, largest.1));
        assert!(largest.0 <= bound(*activation).0, "{activation:?}: {largest:?}");
    }
}

/// As PyTorch's have them, in eager mode on a processor.
#[test]
fn infinities_and_nan() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let elu = Activation::Elu { alpha: 1.5 };
    for (activation, of_minus_infinity, of_infinity, of_least, of_zero) in [
        (Activation::HardSigmoid, 0.0, 1.0, 0.0, 0.5),
        (Activation::Sigmoid, 0.0, 1.0, 0.0, 0.5),
        (Activation::Silu, nan, inf, 0.0, 0.0),
        (Activation::Tanh, -1.0, 1.0, -1.0, 0.0),
        (Activation::Gelu, nan, inf, 0.0, 0.0),
        (Activation::GeluTanh, nan, inf, 0.0, 0.0),
        (elu, -1.5, inf, -1.5, 0.0),
    ] {
        let x = [-inf, inf, f32::MIN, 0.0, -0.0, nan, -nan, f32::from_bits(0x7f80_0001)];
        let expected = [of_minus_infinity, of_infinity, of_least, of_zero, of_zero, nan, nan, nan];
        let expected = expected.map(|v: f32| if v.is_nan() { numerics::CANONICAL_NAN } else { v });
        for isa in paths() {
            let y = copied(&x, isa, Epilogue::new().activation(activation));
            assert_same_bits(&y, &expected, (activation, isa));
        }
    }
    // Of two numbers that are as far from zero.
    for v in random(100_000, 3) {
        assert_eq!(numerics::tanh(-v).to_bits(), (-numerics::tanh(v)).to_bits(), "tanh of {v:e}");
    }
}

#[test]
fn what_is_refused() {
    let plan = Conv2d::new(2, 6, [1, 1]).plan(Layout::Nhwc, 1, [3, 3]).unwrap();
    let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
    let mut packed = vec![0.0; plan.packed_len()];
    let packed = plan.pack(&w, &mut packed).unwrap();
    let call = |epilogue: Epilogue| -> Result<(), Error> {
        let mut y = vec![POISON; plan.output_len()];
        let mut scratch = vec![0.0; plan.scratch_len()];
        let result = plan.run(&x, packed, epilogue, &mut scratch, &mut y).map(|_| ());
        let of_job = plan.job(&x, packed, epilogue, &mut y.clone()).map(|_| ());
        let of_loops = reference::run(&plan, &x, &w, epilogue, &mut y.clone());
        assert_eq!(text(of_job), text(result));
        assert_eq!(text(of_loops), text(result));
        let untouched = y.iter().all(|value| value.to_bits() == POISON.to_bits());
        assert_eq!(untouched, result.is_err());
        result
    };
    for len in [0, 2, 5, 7, 12] {
        let slopes = vec![0.5; len];
        let error = call(Epilogue::new().prelu(&slopes)).unwrap_err();
        let parts = (error.field(), error.expected(), error.found());
        assert_eq!(parts, (Field::Slopes, Expected::OneOr(6), Found::Count(len)));
        // Slopes of which nothing is asked any more.
        assert_eq!(call(Epilogue::new().prelu(&slopes).relu()), Ok(()));
    }
    let error = call(Epilogue::new().prelu(&[0.5; 7])).unwrap_err();
    assert_eq!(error.to_string(), "length of the slopes: expected 1 or 6, found 7");
    let error = call(Epilogue::new().elu(f32::NAN)).unwrap_err();
    assert_eq!((error.field(), error.expected()), (Field::EluAlpha, Expected::NotNan));
    assert_eq!(error.to_string(), "alpha of the ELU: expected a number, found NaN");
    for epilogue in [
        Epilogue::new().prelu(&[f32::NAN]),
        Epilogue::new().prelu(&[0.5; 6]),
        Epilogue::new().elu(f32::NEG_INFINITY),
        Epilogue::new().elu(f32::NAN).silu(),
    ] {
        assert_eq!(call(epilogue), Ok(()));
    }
}

fn text(result: Result<(), Error>) -> Option<String> {
    result.err().map(|error| error.to_string())
}

/// An epilogue can be a constant, with slopes as well.
#[test]
fn constant_epilogues() {
    const SLOPES: [f32; 3] = [0.5, 0.25, 0.125];
    const EPILOGUE: Epilogue = Epilogue::new().prelu(&SLOPES);
    const PLAN: Plan = match Conv2d::new(1, 3, [1, 1]).plan(Layout::Nhwc, 1, [1, 1]) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    };
    assert_eq!(run(&PLAN, &[-8.0], &[1.0; 3], EPILOGUE), [-4.0, -2.0, -1.0]);
    const SILU: Epilogue = Epilogue::new().silu();
    assert_eq!(run(&PLAN, &[0.0], &[1.0; 3], SILU), [0.0; 3]);
}
