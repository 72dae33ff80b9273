//! Taps at other places: the kernel turned round, and taps that offsets move.

use crate::layers::{counting, run, run_plan};
use crate::print::{Block, beside, prose, same_bits, space};
use tapwise::{Conv1d, Conv2d, DeformConv2d, DeformPlan, Epilogue, Error, Layout};

/// Flipped against unflipped, on an image and as polynomials.
pub fn flipped() -> Result<(), Error> {
    prose(
        "What networks call convolution does not turn the kernel round; mathematics, and \
         scipy.signal, do. The difference shows where a single 1 meets a kernel that has no \
         symmetry:",
    );
    let mut x = [0.0; 25];
    x[12] = 1.0;
    let w = counting(9);
    let layer = Conv2d::new(1, 1, [3, 3]).padding([1, 1]);
    let plain = run(&layer, [5, 5], &x, &w)?;
    let flipped = run(&layer.flipped(), [5, 5], &x, &w)?;
    beside(&[
        Block::sparse("input", 5, &x),
        Block::of("kernel", 3, &w),
        Block::sparse("Conv2d", 5, &plain),
        Block::sparse("Conv2d, .flipped()", 5, &flipped),
    ]);
    prose("Flipped, the 1 becomes the kernel: a system's answer to an impulse.");
    let turned: Vec<f32> = w.iter().rev().copied().collect();
    same_bits(
        ".flipped() is the layer with the kernel turned round",
        &flipped,
        &run(&layer, [5, 5], &x, &turned)?,
    );
    space();
    prose("Flipped, with full padding, it multiplies polynomials: (1 + 2x + 4x^2) (1 + 10x)");
    let plan = Conv1d::new(1, 1, [2]).padding([1]).flipped().plan(Layout::NCL, 1, [3])?;
    let product = run_plan(&plan, &[1.0, 2.0, 4.0], &[1.0, 10.0])?;
    beside(&[Block::of("coefficients of the product", 4, &product)]);
    same_bits("1 + 12x + 24x^2 + 40x^3", &product, &[1.0, 12.0, 24.0, 40.0]);
    Ok(())
}

fn deform(plan: &DeformPlan, x: &[f32], offsets: &[f32], w: &[f32]) -> Result<Vec<f32>, Error> {
    let mut packed = vec![0.0; plan.packed_len()];
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut y = vec![0.0; plan.output_len()];
    let weights = plan.pack(w, &mut packed)?;
    plan.run(x, offsets, None, weights, Epilogue::new(), &mut scratch, &mut y)?;
    Ok(y)
}

/// Zero offsets, and one tap that is moved.
pub fn deformable() -> Result<(), Error> {
    prose(
        "A deformable layer has two more inputs for each output and tap: how far down and how \
         far to the right the tap reads, in pixels and parts of them. Between pixels it \
         interpolates.",
    );
    let (x, w) = (counting(25), [1.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 100.0]);
    let plain = run(&Conv2d::new(1, 1, [3, 3]), [5, 5], &x, &w)?;
    let plan = DeformConv2d::new(1, 1, [3, 3]).plan(Layout::Nchw, 1, [5, 5])?;
    let mut offsets = vec![0.0; plan.offsets_len()];
    let unmoved = deform(&plan, &x, &offsets, &w)?;
    beside(&[
        Block::of("input", 5, &x),
        Block::of("kernel", 3, &w),
        Block::of("zero offsets", 3, &unmoved),
    ]);
    same_bits("with zero offsets it is the Conv2d", &unmoved, &plain);
    space();
    prose(
        "Now the tap in the middle, of weight 10, is moved by half a pixel to the right, for \
         the output in the middle alone. Instead of 13 it reads (13 + 14) / 2 = 13.5, and the \
         output grows by 10 / 2.",
    );
    // Offsets are [2 * taps, 3, 3]: of each tap a plane of steps down, then one of steps to the right.
    let (tap, output) = (4, 4);
    offsets[(2 * tap + 1) * 9 + output] = 0.5;
    let moved = deform(&plan, &x, &offsets, &w)?;
    beside(&[Block::of("unmoved", 3, &unmoved), Block::of("moved", 3, &moved)]);
    let mut expected = unmoved.clone();
    expected[output] = 7.0 + 10.0 * 13.5 + 100.0 * 19.0;
    same_bits("one output has changed, to 7 + 10 * 13.5 + 100 * 19", &moved, &expected);
    Ok(())
}
