//! Layers on small tensors: planned, packed and run in one go, as a book may.

use tapwise::{Conv2d, Epilogue, Error, Layout, Plan};

/// Runs a layer on one image of that size.
pub fn run(layer: &Conv2d, size: [usize; 2], x: &[f32], w: &[f32]) -> Result<Vec<f32>, Error> {
    run_plan(&layer.plan(Layout::Nchw, 1, size)?, x, w)
}

/// Packs weights and runs a plan, without a bias.
pub fn run_plan(plan: &Plan, x: &[f32], w: &[f32]) -> Result<Vec<f32>, Error> {
    let mut packed = vec![0.0; plan.packed_len()];
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut y = vec![0.0; plan.output_len()];
    let weights = plan.pack(w, &mut packed)?;
    plan.run(x, weights, Epilogue::new(), &mut scratch, &mut y)?;
    Ok(y)
}

/// The numbers from 1 on.
pub fn counting(len: usize) -> Vec<f32> {
    (1..=len).map(|number| number as f32).collect()
}

/// Small whole numbers from -4 to 4 without an order that the eye sees.
pub fn mixed(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * at + 5 * at + 3 * seed * (at + 1)) % 23 % 9) as f32 - 4.0).collect()
}

/// A matrix product, row-major: `rows x inner` times `inner x columns`.
pub fn product(left: &[f32], right: &[f32], inner: usize) -> Vec<f32> {
    let columns = right.len() / inner;
    let sum = |row: &[f32], column: usize| {
        let pairs = row.iter().zip(right.iter().skip(column).step_by(columns));
        pairs.fold(0.0, |sum, (a, b)| sum + a * b)
    };
    left.chunks(inner).flat_map(|row| (0..columns).map(move |column| sum(row, column))).collect()
}
