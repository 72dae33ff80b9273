//! The promise: every kernel that can run a layer, chosen or not, on every path, in every layout,
//! tiling, cache size and form of weights, gives the bits of the plain loops, for random layers and
//! data with every kind of special value.
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
use tapwise::{Kernel, Layout};

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
    let counted = RefCell::new((0, BTreeMap::<_, [u32; 2]>::new()));
    let cases =
        vec(any::<u8>(), BYTES).prop_map(|bytes| Case::of(&mut Choices::new(&bytes), MOST_MACS));
    let result = runner.run(&cases, |case| {
        let (macs, kernels) = &mut *counted.borrow_mut();
        *macs += case.plan(Layout::Nchw).macs();
        for (layout, kernel, plan) in case.plans() {
            let [runs, chosen] = kernels.entry((format!("{layout:?}"), kernel.name())).or_default();
            *runs += 1;
            *chosen += u32::from(case.plan(layout).kernel_name() == plan.kernel_name());
        }
        case.check(&paths).map_err(TestCaseError::fail)
    });
    let (macs, kernels) = counted.into_inner();
    eprintln!(
        "{count} layers, {} multiply-adds each; run and chosen: {kernels:?}",
        macs / u128::from(count)
    );
    if let Err(error) = result {
        panic!("{error}");
    }
    // Every kernel in both layouts; chosen are dense, pixels and planes in NCHW, channels, dense and planes
    // in NHWC.
    let few = |layers: u32| layers < count / 100;
    assert!(kernels.len() == LAYOUTS.len() * Kernel::ALL.len(), "never run: {kernels:?}");
    assert!(!kernels.values().any(|[runs, _]| few(*runs)), "hardly run: {kernels:?}");
    let chosen = kernels.values().filter(|[_, chosen]| !few(*chosen)).count();
    assert!(chosen == 6, "hardly chosen: {kernels:?}");
}
