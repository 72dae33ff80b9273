//! Each operation of [`Simd`](simd::Simd) means what it says there, bit for bit, on every path of the
//! machine. Whole layers would not show it all: their last step hides the signs of zeros and NaNs.
//!
//! The files under test are compiled into this one, so that the library need not be compiled twice.

#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../src"]
mod library {
    pub mod activation;
    pub mod fma;
    pub mod isa;
    pub mod numerics;
    pub mod simd;
}

use isa::Isa;
use library::{activation, fma, isa, numerics, simd};
use simd::{Body, MOST_LANES, Simd};
use std::io::Write;

const VALUES: [f32; 17] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -3.7,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::from_bits(1), // the smallest subnormal
    f32::from_bits(0x807f_ffff),
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::from_bits(0xffc0_1234), // a NaN with a sign and a payload
    1.0 + f32::EPSILON,
];

/// Numbers around it are 1 apart; its low bits are 127.
const WHOLE: f32 = 12_583_039.0;

type Lanes = [f32; MOST_LANES];

/// What a lane has to hold: any NaN will do where arithmetic makes one.
enum Expected {
    Bits(f32),
    Result(f32),
}

#[track_caller]
fn check<S: Simd>(simd: S, v: S::V, expected: impl Fn(usize) -> Expected) {
    let mut found = [0.0; MOST_LANES];
    // SAFETY: `found` holds a vector.
    unsafe { simd.store(found.as_mut_ptr(), v) };
    for (lane, found) in found.into_iter().enumerate().take(S::LANES) {
        let (Expected::Bits(value) | Expected::Result(value)) = expected(lane);
        let any_nan = matches!(expected(lane), Expected::Result(_)) && value.is_nan();
        let same = found.to_bits() == value.to_bits() || any_nan && found.is_nan();
        assert!(same, "{} lanes, lane {lane}: {found:e}, expected {value:e}", S::LANES);
    }
}

/// Consecutive values from `first` on.
fn values(first: usize) -> Lanes {
    core::array::from_fn(|lane| VALUES[(first + lane) % VALUES.len()])
}

fn load<S: Simd>(simd: S, lanes: &Lanes) -> S::V {
    // SAFETY: `lanes` holds a vector.
    unsafe { simd.load(lanes.as_ptr()) }
}

struct Operations;

impl Body for Operations {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for first in 0..VALUES.len() {
            for second in 0..VALUES.len() {
                arithmetic(simd, first, second);
            }
            memory(simd, first);
            places(simd, first);
        }
    }
}

fn arithmetic<S: Simd>(simd: S, first: usize, second: usize) {
    use Expected::{Bits, Result};
    let (x, y) = (values(first), values(second));
    let (a, b) = (load(simd, &x), load(simd, &y));
    for third in 0..VALUES.len() {
        let z = values(third);
        let c = load(simd, &z);
        check(simd, simd.fma(a, b, c), |lane| Result(numerics::fma(x[lane], y[lane], z[lane])));
        check(simd, simd.select_less(a, b, c, a), |lane| {
            Bits(if x[lane] < y[lane] { z[lane] } else { x[lane] })
        });
    }
    check(simd, simd.add(a, b), |lane| Result(x[lane] + y[lane]));
    check(simd, simd.mul(a, b), |lane| Result(x[lane] * y[lane]));
    check(simd, simd.div(a, b), |lane| Result(x[lane] / y[lane]));
    check(simd, simd.larger(a, b), |lane| Bits(if x[lane] > y[lane] { x[lane] } else { y[lane] }));
    check(simd, simd.smaller(a, b), |lane| Bits(if x[lane] < y[lane] { x[lane] } else { y[lane] }));
    check(simd, simd.negative(a), |lane| Result(-x[lane]));
    check(simd, simd.low_bits_as_exponent(a), |lane| Bits(f32::from_bits(x[lane].to_bits() << 23)));
    check(simd, simd.canonical(a), |lane| Bits(numerics::canonical(x[lane])));
    check(simd, simd.even_lanes(a, b), |lane| {
        let both = [&x[..S::LANES], &y[..S::LANES]].concat();
        Bits(both[2 * lane])
    });
    for (at, half) in simd.interleaved(a, b).into_iter().enumerate() {
        check(simd, half, |lane| {
            let lane = at * S::LANES + lane;
            Bits(if lane % 2 == 0 { x[lane / 2] } else { y[lane / 2] })
        });
    }
}

fn memory<S: Simd>(simd: S, first: usize) {
    use Expected::Bits;
    let x = values(first);
    for to in 0..=S::LANES {
        for from in 0..=to {
            // SAFETY: `x` holds a vector.
            let v = unsafe { simd.load_range(x.as_ptr(), from, to) };
            check(simd, v, |lane| Bits(if (from..to).contains(&lane) { x[lane] } else { 0.0 }));
            let apart: Vec<f32> = x.iter().flat_map(|value| [*value, 7.0, 7.0]).collect();
            // SAFETY: `apart` holds three elements for each lane.
            let v = unsafe { simd.load_strided(apart.as_ptr(), 3, from, to) };
            check(simd, v, |lane| Bits(if (from..to).contains(&lane) { x[lane] } else { 0.0 }));
        }
        let mut stored = [7.0; MOST_LANES];
        // SAFETY: `stored` holds a vector.
        unsafe { simd.store_first(stored.as_mut_ptr(), load(simd, &x), to) };
        for (lane, stored) in stored.into_iter().enumerate() {
            let expected = if lane < to { x[lane] } else { 7.0 };
            assert_eq!(stored.to_bits(), expected.to_bits(), "{} lanes: {to} stored", S::LANES);
        }
    }
}

fn places<S: Simd>(simd: S, first: usize) {
    use Expected::Bits;
    let x = values(first);
    let v = load(simd, &x);
    check(simd, simd.splat(x[0]), |_| Bits(x[0]));
    for (mask, kept) in [(u32::MAX, true), (0, false)] {
        let of = |value: f32| Bits(if kept { value } else { 0.0 });
        check(simd, simd.keep(v, mask), |lane| of(x[lane]));
        check(simd, simd.splat_kept(x[0], mask), |_| of(x[0]));
    }
    // Powers of two, as exponentials build them: from 2^-126 to 2^127.
    let exponent = |lane: usize| ((first * MOST_LANES + lane) % 254) as i32 - 126;
    let whole: Lanes = core::array::from_fn(|lane| WHOLE + exponent(lane) as f32);
    let powers = simd.low_bits_as_exponent(load(simd, &whole));
    check(simd, powers, |lane| Bits(2.0_f32.powi(exponent(lane))));
    for turn in 0..S::LANES {
        let lanes = core::array::from_fn(|lane| ((lane * 3 + turn) % S::LANES) as u32);
        check(simd, simd.permute(v, simd.index(&lanes)), |lane| Bits(x[lanes[lane] as usize]));
    }
    check(simd, simd.splat_lane::<0>(v), |_| Bits(x[0]));
    if S::LANES >= 4 {
        check(simd, simd.splat_lane::<1>(v), |_| Bits(x[1]));
        check(simd, simd.splat_lane::<2>(v), |_| Bits(x[2]));
        check(simd, simd.splat_lane::<3>(v), |_| Bits(x[3]));
    }
    let square: [Lanes; MOST_LANES] =
        core::array::from_fn(|row| core::array::from_fn(|lane| (row * MOST_LANES + lane) as f32));
    let mut rows = square.map(|row| load(simd, &row));
    simd.transpose(&mut rows);
    for (row, v) in rows.into_iter().enumerate().take(S::LANES) {
        check(simd, v, |lane| Bits(square[lane][row]));
    }
}

#[test]
fn every_operation_means_what_it_says() {
    for isa in Isa::ALL.into_iter().chain(Isa::MODELS.iter().copied()) {
        if isa.is_available() {
            // SAFETY: the machine has it.
            unsafe { simd::enter::enter(isa, Operations) };
        } else {
            let text = format!("SKIPPED: this machine, or this build, has no {}\n", isa.name());
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        }
    }
}

/// Notes on which instruction set it runs.
struct Note<'a>(&'a mut Option<Isa>);

impl Body for Note<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        *self.0 = Some(S::ISA);
    }
}

#[test]
fn the_path_that_is_named_is_the_one_that_runs() {
    let all = Isa::ALL.into_iter().chain(Isa::MODELS.iter().copied());
    for isa in all.filter(|isa| isa.is_available()) {
        let mut ran = None;
        // SAFETY: the machine has it.
        unsafe { simd::enter::enter(isa, Note(&mut ran)) };
        let has_fma = isa::Features::of_this_machine().has_fma();
        let expected = match isa {
            Isa::Scalar if !has_fma && !isa::HAS_VFMA => Isa::ScalarSoft,
            isa => isa,
        };
        assert_eq!(ran, Some(expected), "{}", isa.name());
    }
}
