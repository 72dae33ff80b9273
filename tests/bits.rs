//! The promise: every path, layout, tiling, cache size and form of weights gives the bits of the
//! plain loops, for random layers and data with every kind of special value.
//!
//! `TAPWISE_CASES` sets the number of random layers (without it 20,000, or a share of them).

mod common;
mod support;

use common::{Case, POISONS, cases, places, scatter};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use support::{Residual, paths, share};
use tapwise::{Isa, Kernel, Layout, Plan, Weights, reference};

#[test]
fn every_path_equals_the_plain_loops() {
    let count = std::env::var("TAPWISE_CASES").map_or(share(20_000) as u32, |n| n.parse().unwrap());
    let paths = paths();
    let mut kernels = BTreeMap::new();
    let mut runner = TestRunner::new(Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let counted = std::cell::RefCell::new(&mut kernels);
    let result = runner.run(&cases(), |case| {
        let [x, weights, bias, residual] = case.data();
        let plan = case.plan(Layout::Nchw);
        let mut expected = residual.clone();
        reference::run(&plan, &x, &weights, case.ending.epilogue(&bias, &residual), &mut expected)
            .unwrap();
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for kernel in Kernel::ALL {
                let Ok(plan) = case.odd_plan(layout).with_kernel(kernel) else { continue };
                let mut counted = counted.borrow_mut();
                let count: &mut [usize; 2] = counted.entry(kernel.name()).or_default();
                count[0] += 1;
                count[1] += usize::from(case.odd_plan(layout).kernel_name() == kernel.name());
                for &isa in &paths {
                    check(&case, plan, isa, &expected)?;
                }
            }
        }
        Ok(())
    });
    eprintln!("{count} layers, {kernels:?}");
    result.unwrap();
    assert!(kernels.len() == 4, "a kernel was never chosen: {kernels:?}");
}

/// Packed weights tile by tile in any order, then unpacked ones at once.
fn check(case: &Case, plan: Plan, isa: Isa, expected: &[f32]) -> Result<(), TestCaseError> {
    let [x, weights, bias, residual] = case.data();
    let plan = plan.with_isa(isa).unwrap();
    let poison = POISONS[case.seed as usize % 2];
    let input = places(&plan.input_strides(), case.batch, case.in_channels(), case.size);
    let output =
        places(&plan.output_strides(), case.batch, case.out_channels(), plan.output_size());
    let x = scatter(&x, &input, plan.input_len(), poison);
    let residual = scatter(&residual, &output, plan.output_len(), poison);
    let before = match case.ending.residual {
        Residual::Output => residual.clone(),
        _ => vec![poison; plan.output_len()],
    };
    let wanted = scatter(expected, &output, plan.output_len(), poison);
    let epilogue = case.ending.epilogue(&bias, &residual);

    let mut packed = vec![poison; plan.packed_len()];
    let packed = plan.pack(&weights, &mut packed).unwrap();
    let mut y = before.clone();
    let mut job = plan.job(&x, packed, epilogue, &mut y).unwrap();
    let mut scratch = vec![poison; job.scratch_len()];
    let mut tiles: Vec<_> = job.tiles(case.tiles).collect();
    tiles.shuffle(&mut StdRng::seed_from_u64(case.seed));
    for tile in tiles {
        tile.run(&mut scratch).unwrap();
    }
    equal(&y, &wanted, &plan, "packed")?;

    let mut y = before;
    let plan = plan.unpacked().unwrap();
    let mut scratch = vec![poison; plan.scratch_len()];
    plan.run(&x, Weights::Unpacked(&weights), epilogue, &mut scratch, &mut y).unwrap();
    equal(&y, &wanted, &plan, "unpacked")
}

fn equal(y: &[f32], wanted: &[f32], plan: &Plan, how: &str) -> Result<(), TestCaseError> {
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    match y.iter().zip(wanted).position(differs) {
        None => Ok(()),
        Some(place) => Err(TestCaseError::fail(format!(
            "{:?} {} {} {how}: at {place} of {}: {:e} ({:#010x}), expected {:e} ({:#010x})",
            plan.layout(),
            plan.isa().name(),
            plan.kernel_name(),
            y.len(),
            y[place],
            y[place].to_bits(),
            wanted[place],
            wanted[place].to_bits(),
        ))),
    }
}
