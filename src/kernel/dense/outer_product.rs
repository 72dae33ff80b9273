//! The steps of a tile: outer products of the weights of a step and the inputs of its pixels.

use crate::panels::LANES_PER_PANEL;
use crate::simd::Simd;

/// Steps as the table holds them.
pub(super) struct TableRun {
    pub offsets: *const isize,
    pub count: usize,
    /// Whether each four of them read neighbours.
    pub in_fours: bool,
    pub panel_len: usize,
}

impl TableRun {
    /// All steps. Where the weights of the next ones are.
    ///
    /// # Safety
    /// The panels hold the steps from `weights` on. For each of them `at` is where the pixel reads the input;
    /// for a pixel that is masked, any place with as many steps behind it.
    #[inline(always)]
    pub unsafe fn all<S: Simd, const VECTORS: usize, const PIXELS: usize, const MASKED: bool>(
        &self,
        simd: S,
        mut weights: *const f32,
        at: &[*const f32; PIXELS],
        masks: &[isize; PIXELS],
        sums: &mut [[S::V; VECTORS]; PIXELS],
    ) -> *const f32 {
        let Self { mut offsets, count, panel_len, .. } = *self;
        let end = offsets.wrapping_add(count);
        if S::FACTS.takes_a_lane && !MASKED && self.in_fours {
            let end = offsets.wrapping_add(count - count % 4);
            while offsets < end {
                // SAFETY: as below, for four steps whose inputs adjoin.
                unsafe { four_steps(simd, weights, panel_len, at, *offsets, sums) };
                weights = weights.wrapping_add(4 * LANES_PER_PANEL);
                offsets = offsets.wrapping_add(4);
            }
        }
        while offsets < end {
            // SAFETY: the table holds as many steps, the panels hold all, and the caller vouches for
            // the places of the input.
            unsafe {
                step::<S, VECTORS, PIXELS, MASKED>(
                    simd, weights, panel_len, at, *offsets, masks, sums,
                );
            }
            weights = weights.wrapping_add(LANES_PER_PANEL);
            offsets = offsets.wrapping_add(1);
        }
        weights
    }
}

/// One step of every chain of the tile: an outer product.
///
/// # Safety
/// The panels hold the step at `weights`, the input that of each pixel at `offset` from `at`.
#[inline(always)]
unsafe fn step<S: Simd, const VECTORS: usize, const PIXELS: usize, const MASKED: bool>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    at: &[*const f32; PIXELS],
    offset: isize,
    masks: &[isize; PIXELS],
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    // SAFETY: the panels of the tile hold this step.
    let w: [S::V; VECTORS] = unsafe { load_weights(simd, weights, panel_len) };
    let mut pixel = 0;
    while pixel < PIXELS {
        // SAFETY: the input holds this channel of the tap of the pixel.
        let value = unsafe { *at[pixel].wrapping_offset(offset) };
        let x =
            if MASKED { simd.splat_kept(value, masks[pixel] as u32) } else { simd.splat(value) };
        let mut vector = 0;
        while vector < VECTORS {
            sums[pixel][vector] = simd.fma(x, w[vector], sums[pixel][vector]);
            vector += 1;
        }
        pixel += 1;
    }
}

/// The weights of a step.
///
/// # Safety
/// The panels hold the step at `weights`.
#[inline(always)]
unsafe fn load_weights<S: Simd, const VECTORS: usize>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
) -> [S::V; VECTORS] {
    let mut w = [simd.splat(0.0); VECTORS];
    let mut vector = 0;
    while vector < VECTORS {
        let channel = vector * S::LANES;
        let (panel, lane) = (channel / LANES_PER_PANEL, channel % LANES_PER_PANEL);
        // SAFETY: the caller vouches that the panels of the tile hold this step.
        w[vector] = unsafe { simd.load(weights.wrapping_add(panel * panel_len + lane)) };
        vector += 1;
    }
    w
}

/// Four steps whose inputs adjoin, in this order: a vector of them for each pixel.
///
/// # Safety
/// As of [`step`], for four steps; and a vector has no more than four lanes.
#[inline(always)]
unsafe fn four_steps<S: Simd, const VECTORS: usize, const PIXELS: usize>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    at: &[*const f32; PIXELS],
    offset: isize,
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let mut x = [simd.splat(0.0); PIXELS];
    let mut pixel = 0;
    while pixel < PIXELS {
        // SAFETY: the input holds these channels of the tap of the pixel.
        x[pixel] = unsafe { simd.load(at[pixel].wrapping_offset(offset)) };
        pixel += 1;
    }
    // SAFETY: the panels of the tile hold these steps. No loop: a compiler may not unroll it.
    unsafe {
        step_of_four::<S, VECTORS, PIXELS, 0>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 1>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 2>(simd, weights, panel_len, &x, sums);
        step_of_four::<S, VECTORS, PIXELS, 3>(simd, weights, panel_len, &x, sums);
    }
}

/// One of four steps.
///
/// # Safety
/// The panels hold the four steps from `weights` on.
#[inline(always)]
unsafe fn step_of_four<S: Simd, const VECTORS: usize, const PIXELS: usize, const STEP: i32>(
    simd: S,
    weights: *const f32,
    panel_len: usize,
    x: &[S::V; PIXELS],
    sums: &mut [[S::V; VECTORS]; PIXELS],
) {
    let weights = weights.wrapping_add(STEP as usize * LANES_PER_PANEL);
    // SAFETY: the panels of the tile hold this step.
    let w: [S::V; VECTORS] = unsafe { load_weights(simd, weights, panel_len) };
    let mut pixel = 0;
    while pixel < PIXELS {
        let x = simd.splat_lane::<STEP>(x[pixel]);
        let mut vector = 0;
        while vector < VECTORS {
            sums[pixel][vector] = simd.fma(x, w[vector], sums[pixel][vector]);
            vector += 1;
        }
        pixel += 1;
    }
}
