//! Random cases from bytes, shrunk where one fails.

#![allow(dead_code)] // each test uses a part

use crate::support::choices::Choices;
use crate::support::share;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::Cell;
use std::fmt::Debug;
use tapwise::Kernel;

/// More bytes than the choices of a case take; the others become data.
const BYTES: usize = 140;

/// Runs `check` on so many cases.
pub fn random<C: Debug>(
    cases: usize,
    of: impl Fn(&mut Choices) -> C,
    check: impl Fn(C) -> Result<(), String>,
) {
    of_bytes(cases, BYTES, of, check);
}

/// The same, of each case by all kernels that can run it: each of them runs an eighth, at least.
pub fn random_by_all_kernels<C: Debug>(
    cases: usize,
    of: impl Fn(&mut Choices) -> C,
    kernels: impl Fn(&C) -> Vec<Kernel>,
    check: impl Fn(C) -> Result<(), String>,
) {
    let ran = Cell::new([0; 4]);
    random(cases, of, |case| {
        let mut counts = ran.get();
        kernels(&case).into_iter().for_each(|kernel| counts[kernel as usize] += 1);
        ran.set(counts);
        check(case)
    });
    assert!(ran.get().iter().all(|count| *count > share(cases) / 8), "{ran:?}");
}

/// Descriptions, absurd ones and tame ones: `describe` checks one and tells how many plans ran.
pub fn absurd_descriptions(bytes: usize, describe: impl Fn(&mut Choices, bool) -> usize) {
    let runs = Cell::new(0);
    for tame in [false, true] {
        let describe = |bytes: Vec<u8>| {
            runs.set(runs.get() + describe(&mut Choices::new(&bytes), tame));
            Ok(())
        };
        of_bytes(20_000, bytes, |choices| choices.rest().to_vec(), describe);
    }
    assert!(runs.get() > share(2_000), "{}", runs.get());
}

fn of_bytes<C: Debug>(
    cases: usize,
    bytes: usize,
    of: impl Fn(&mut Choices) -> C,
    check: impl Fn(C) -> Result<(), String>,
) {
    let mut runner = TestRunner::new(Config {
        cases: share(cases) as u32,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let cases = vec(any::<u8>(), bytes).prop_map(|bytes| of(&mut Choices::new(&bytes)));
    if let Err(error) = runner.run(&cases, |case| check(case).map_err(TestCaseError::fail)) {
        panic!("{error}");
    }
}
