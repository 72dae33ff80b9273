//! The promise: every path, layout, tiling, cache size and form of weights gives the bits of the
//! plain loops, for random layers and data with every kind of special value.
//!
//! `TAPWISE_CASES` sets the number of random layers (without it 20,000, or a share of them).

mod support;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use support::case::{Case, LAYOUTS};
use support::choices::Choices;
use support::{paths, share};
use tapwise::Layout;

/// The most multiply-adds of an ordinary layer.
const MOST_MACS: usize = 50_000;
/// More than the choices of a case take; the others become data.
const BYTES: usize = 140;

#[test]
fn every_path_equals_the_plain_loops() {
    let count = std::env::var("TAPWISE_CASES").map_or(share(20_000) as u32, |n| n.parse().unwrap());
    let paths = paths();
    let mut runner = TestRunner::new(Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let counted = RefCell::new((0, BTreeMap::new()));
    let cases =
        vec(any::<u8>(), BYTES).prop_map(|bytes| Case::of(&mut Choices::new(&bytes), MOST_MACS));
    let result = runner.run(&cases, |case| {
        let (macs, kernels) = &mut *counted.borrow_mut();
        *macs += case.plan(Layout::Nchw).macs();
        for layout in LAYOUTS {
            let name = case.plan(layout).kernel_name();
            *kernels.entry((format!("{layout:?}"), name)).or_insert(0) += 1;
        }
        case.check(&paths).map_err(TestCaseError::fail)
    });
    let (macs, kernels) = counted.into_inner();
    eprintln!("{count} layers, {} multiply-adds each, {kernels:?}", macs / u128::from(count));
    if let Err(error) = result {
        panic!("{error}");
    }
    // In NCHW dense, pixels and planes, in NHWC channels and dense.
    let few = |chosen: &u32| *chosen < count / 100;
    assert!(kernels.len() == 5 && !kernels.values().any(few), "hardly chosen: {kernels:?}");
}
