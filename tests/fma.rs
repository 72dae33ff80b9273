//! The fused multiply-add in software, and that of every path, has the bits of the instruction, on
//! millions of operands that are chosen to be hard.

mod support;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Once;
use support::share;
use tapwise::{Conv1d, Epilogue, Layout, Weights, numerics};

type Triple = [f32; 3];

/// Triples of each kind, and how many of them are made at once.
const EACH: usize = 8_000_000;
const AT_ONCE: usize = 10_000;

/// The machine's instruction, or what `std` has where there is none.
fn expected(triples: &[Triple]) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "fma")]
        fn with_fma(triples: &[Triple]) -> Vec<f32> {
            triples.iter().map(|[x, w, acc]| x.mul_add(*w, *acc)).collect()
        }
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the machine has FMA.
            return unsafe { with_fma(triples) };
        }
    }
    if !cfg!(target_arch = "aarch64") {
        static ONCE: Once = Once::new();
        let text = "SKIPPED: no fused multiply-add in hardware, comparing with that of std";
        ONCE.call_once(|| support::say(text));
    }
    triples.iter().map(|[x, w, acc]| x.mul_add(*w, *acc)).collect()
}

type Fma = fn(f32, f32, f32) -> f32;

/// Every way there is, whichever this machine takes.
const SOFTWARE: [(&str, Fma); 3] = [
    ("fma", numerics::fma),
    ("fma_in_f64", numerics::fma_in_f64),
    ("fma_in_integers", numerics::fma_in_integers),
];

/// Two roundings instead of one: what a careless implementation computes.
fn rounded_twice([x, w, acc]: Triple) -> f32 {
    (f64::from(x) * f64::from(w) + f64::from(acc)) as f32
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Compares all triples; how many of them two roundings would get wrong.
fn check(triples: &[Triple]) -> usize {
    let mut hard = 0;
    let expected = expected(triples);
    check_paths(triples, &expected);
    check_alone(&triples[..triples.len().div_ceil(STEP)]);
    for (triple, expected) in triples.iter().zip(expected) {
        let [x, w, acc] = *triple;
        for (name, fma) in SOFTWARE {
            let found = fma(x, w, acc);
            assert!(
                same(found, expected),
                "{name}({x:e}, {w:e}, {acc:e}) = {found:e}, expected {expected:e}; bits {:08x?}",
                triple.map(f32::to_bits)
            );
        }
        hard += usize::from(!same(rounded_twice(*triple), expected));
    }
    hard
}

/// A layer that is nothing but multiply-adds: one pixel, one tap, a channel for each triple.
fn check_paths(triples: &[Triple], expected: &[f32]) {
    let channels = triples.len();
    let conv = Conv1d::new(channels, channels, [1]).groups(channels);
    // Unpacked, since there are infinite ones and NaN among them.
    let plan = conv.plan(Layout::Nhwc, 1, [1]).unwrap().unpacked().unwrap();
    let mut scratch = vec![0.0; plan.scratch_len()];
    let [x, w, acc] = [0, 1, 2].map(|at| triples.iter().map(|t| t[at]).collect::<Vec<f32>>());
    for isa in support::paths() {
        let plan = plan.with_isa(isa).unwrap();
        let mut y = vec![0.0; channels];
        plan.run(&x, Weights::Unpacked(&w), Epilogue::new().bias(&acc), &mut scratch, &mut y)
            .unwrap();
        for ((triple, found), expected) in triples.iter().zip(y).zip(expected) {
            assert_eq!(
                found.to_bits(),
                numerics::canonical(*expected).to_bits(),
                "{}: {triple:?} gives {found:e}, expected {expected:e}; bits {:08x?}",
                isa.name(),
                triple.map(f32::to_bits)
            );
        }
    }
}

/// Far enough for a vector to hold one triple, at any of its lanes in turn.
const STEP: usize = 17;

/// The same with simple triples between: a path that treats hard lanes apart has to find each.
fn check_alone(triples: &[Triple]) {
    let mut among = vec![[1.5, 2.0, 0.25]; triples.len() * STEP];
    for (place, triple) in among.iter_mut().step_by(STEP).zip(triples) {
        *place = *triple;
    }
    check_paths(&among, &expected(&among));
}

fn check_random(seed: u64, mut draw: impl FnMut(&mut StdRng) -> Triple) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut triples = Vec::with_capacity(AT_ONCE);
    let mut hard = 0;
    for _ in 0..share(EACH).div_ceil(AT_ONCE) {
        triples.clear();
        triples.extend((0..AT_ONCE).map(|_| draw(&mut random)));
        hard += check(&triples);
    }
    hard
}

/// `±significand * 2^exponent`, exactly, for up to 24 bits of significand.
fn scaled(significand: u32, exponent: i32, negative: bool) -> f32 {
    assert!(significand < 1 << 24);
    let value = f64::from(significand) * f64::from(exponent).exp2();
    assert!(f64::from(value as f32) == value);
    if negative { -value as f32 } else { value as f32 }
}

/// A significand of `bits` bits.
fn significand(random: &mut StdRng, bits: u32) -> u32 {
    random.random_range(1 << (bits - 1)..1 << bits)
}

/// A normal number with an exponent in the range.
fn normal(random: &mut StdRng, exponents: std::ops::Range<i32>) -> f32 {
    let exponent = random.random_range(exponents);
    let (fraction, negative): (u32, bool) = (random.random(), random.random());
    let bits = ((exponent + 127) as u32) << 23 | fraction >> 9 | u32::from(negative) << 31;
    f32::from_bits(bits)
}

#[test]
fn any_bits() {
    check_random(1, |random| [(); 3].map(|()| f32::from_bits(random.random())));
}

#[test]
fn sums_that_cancel() {
    check_random(2, |random| {
        let (x, w) = (normal(random, -40..40), normal(random, -40..40));
        let product = -(x * w);
        let step = random.random_range(0..5);
        [x, w, f32::from_bits(product.to_bits() - 2 + step)]
    });
}

/// Exponents of all distances between product and addend.
#[test]
fn addends_of_any_distance() {
    check_random(3, |random| {
        let (x, w) = (normal(random, -30..30), normal(random, -30..30));
        let exponent = random.random_range(-60..60) + (x * w).abs().log2() as i32;
        [x, w, normal(random, exponent.clamp(-126, 126)..exponent.clamp(-126, 126) + 1)]
    });
}

/// The addend has 24 bits; the product is half a unit of its last place, or one part in 2^24
/// more or less.
#[test]
fn ties_broken_by_the_product() {
    let hard = check_random(4, |random| {
        let exponent = random.random_range(-70..70);
        let acc = scaled(significand(random, 24), exponent, random.random());
        let split = random.random_range(-20..20);
        let near_1 = [(1 << 23) - 1, 1 << 23, (1 << 23) + 1];
        let x = near_1[random.random_range(0..3)];
        let w = near_1[random.random_range(0..3)];
        let x = scaled(x, split - 23, random.random());
        let w = scaled(w, exponent - 1 - split - 23, random.random());
        [x, w, acc]
    });
    assert!(hard > share(EACH) / 10, "{hard}");
}

/// The product has 25 bits, so that it lies between two numbers; the addend is tiny.
#[test]
fn ties_broken_by_the_addend() {
    let hard = check_random(5, |random| {
        let (x, w) = loop {
            let bits = random.random_range(2..24);
            let (x, w) = (significand(random, bits) | 1, significand(random, 26 - bits) | 1);
            if x * w < 1 << 25 {
                break (x, w);
            }
        };
        let exponent = random.random_range(-60..60);
        let x = scaled(x, exponent, random.random());
        let w = scaled(w, random.random_range(-20..20), random.random());
        let below = random.random_range(10..90);
        let acc = exponent - below;
        [x, w, normal(random, acc.clamp(-126, 127)..acc.clamp(-126, 127) + 1)]
    });
    assert!(hard > share(EACH) / 10, "{hard}");
}

/// Results that are subnormal, or nearly.
#[test]
fn subnormal_results() {
    check_random(6, |random| {
        let exponent = random.random_range(-100..-20);
        let x = normal(random, exponent..exponent + 1);
        let other = random.random_range(-175..-120) - exponent;
        let w = normal(random, other.max(-126)..other.max(-126) + 1);
        let acc = f32::from_bits(random.random_range(0..0x0180_0000));
        [x, w, if random.random() { acc } else { -acc }]
    });
}

/// Ties between two subnormal numbers, broken by bits that an f64 drops.
#[test]
fn subnormal_ties() {
    let hard = check_random(7, |random| {
        let acc = f32::from_bits(random.random_range(0..0x0100_0000));
        let near_1 = [(1 << 23) - 1, 1 << 23, (1 << 23) + 1];
        let split = random.random_range(-20..20);
        let x = scaled(near_1[random.random_range(0..3)], -75 + split - 23, random.random());
        let w = scaled(near_1[random.random_range(0..3)], -75 - split - 23, random.random());
        [x, w, if random.random() { acc } else { -acc }]
    });
    assert!(hard > share(EACH) / 100, "{hard}");
}

/// On both sides of the largest number.
#[test]
fn results_that_overflow() {
    check_random(8, |random| {
        let exponent = random.random_range(0..127);
        let x = normal(random, exponent..exponent + 1);
        let w = normal(random, 126 - exponent..129 - exponent.max(1));
        [x, w, normal(random, 95..128)]
    });
    // Half a unit of the last place above the largest number becomes infinity, less does not.
    let half = 2_f32.powi(103);
    let near_1 = [1.0 - f32::EPSILON, 1.0 - f32::EPSILON / 2.0, 1.0, 1.0 + f32::EPSILON];
    let tiny = [0.0, f32::from_bits(1), 1e-30, 1.0, 1e20];
    let mut triples = Vec::new();
    for sign in [1.0, -1.0] {
        for x in near_1 {
            triples.extend(near_1.map(|w| [x * half, w * sign, f32::MAX * sign]));
        }
        // 31 * 1082401 = 2^25 - 1, which is half a unit above 2^25 - 2.
        let w = scaled(1_082_401, 103, false);
        triples
            .extend(tiny.iter().flat_map(|acc| [[31.0 * sign, w, *acc], [31.0 * sign, w, -acc]]));
    }
    assert!(check(&triples) > 0);
}

#[test]
fn zeros_infinities_and_all_that() {
    let mut values = vec![
        0.0,
        f32::from_bits(1),
        f32::from_bits(2),
        f32::from_bits(0x007f_ffff),
        f32::MIN_POSITIVE,
        f32::from_bits(0x0080_0001),
        f32::EPSILON,
        f32::EPSILON / 2.0,
        1.0 - f32::EPSILON / 2.0,
        1.0,
        1.0 + f32::EPSILON,
        1.5,
        2.0,
        3.0,
        8_388_609.0,
        16_777_215.0,
        16_777_216.0,
        2_f32.powi(-75),
        2_f32.powi(-63),
        2_f32.powi(-64),
        2_f32.powi(63),
        2_f32.powi(64),
        2_f32.powi(103),
        2_f32.powi(104),
        2_f32.powi(127),
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        f32::from_bits(0x7f80_0001),
    ];
    values.extend(values.clone().iter().map(|value| -value));
    let mut triples = Vec::new();
    for x in &values {
        for w in &values {
            triples.extend(values.iter().map(|acc| [*x, *w, *acc]));
        }
    }
    let hard = check(&triples);
    assert!(hard > 0);
}
