//! Descriptions of deformable layers, absurd or not, and what has to hold for them: nothing panics, and
//! a plan that is accepted has sizes that fit each other and the target, and runs.

use crate::description::{Description, number};
use crate::support::choices::Choices;
use crate::support::{POISON, assert_same_bits, fill, paths};
use tapwise::{
    DeformConv2d, DeformPlan, Epilogue, Weights, deform_conv2d, deform_conv2d_scratch_len,
    reference,
};

/// The most multiply-adds of a plan that is also run, and the longest slice.
const MOST_MACS: u128 = 20_000;
const MOST_ELEMENTS: usize = 1 << 14;

/// Everything absurd, or the tensors small and the rest absurd; of how many plans runs were compared.
pub fn check(choices: &mut Choices, tame: bool) -> usize {
    let description = Description::of(choices, tame);
    let offset_groups =
        if tame || choices.flag() { choices.number_in(1..=4) } else { number(choices) };
    let Description { layout, batch, channels, groups, caches, limit, .. } = description;
    let axes = |all: [usize; 3]| [all[1], all[2]];
    let (size, kernel) = (axes(description.size), axes(description.kernel));
    let [stride, dilation] = [description.stride, description.dilation].map(axes);
    let padding = if choices.flag() { [1, 1] } else { axes(description.before) };
    let layer = DeformConv2d::new(channels[0], channels[1], kernel)
        .stride(stride)
        .padding(padding)
        .dilation(dilation)
        .groups(groups)
        .offset_groups(offset_groups);
    let layer = if choices.flag() { layer.modulated() } else { layer };
    let plan = layer.plan(layout, batch, size);
    let narrow = layer.plan_within(layout, batch, size, limit);
    // What a small machine accepts, a large one does.
    assert!(plan.is_ok() || narrow.is_err());
    assert!(layer.output_size(size).is_ok() || plan.is_err());
    let mut runs = 0;
    for (plan, limit) in [(plan, isize::MAX as usize), (narrow, limit)] {
        let Ok(plan) = plan else { continue };
        let other_caches = plan.assume_caches(caches[0], caches[1]);
        for plan in [Ok(plan), other_caches, plan.unpacked()].into_iter().flatten() {
            consistent(&plan, batch, limit.max(caches[1]));
        }
        runs += usize::from(run(&plan));
    }
    call_at_once(choices, &description, &layer);
    runs
}

fn consistent(plan: &DeformPlan, batch: usize, limit: usize) {
    let elements = limit / 4;
    let lens = [plan.input_len(), plan.output_len(), plan.offsets_len(), plan.packed_len()];
    assert!(lens.into_iter().all(|len| len <= elements && (0 < len || batch == 0)));
    assert!(plan.scratch_len() <= elements);
    let wide = |shape: &[usize]| shape.iter().map(|n| *n as u128).product::<u128>();
    assert_eq!(wide(&plan.input_shape()), plan.input_len() as u128);
    assert_eq!(wide(&plan.output_shape()), plan.output_len() as u128);
    assert_eq!(wide(&plan.offsets_shape()), plan.offsets_len() as u128);
    let mask_len = if plan.is_modulated() { wide(&plan.mask_shape()) } else { 0 };
    assert_eq!(mask_len, plan.mask_len() as u128);
}

/// Runs what is small enough, against the plain loops.
fn run(plan: &DeformPlan) -> bool {
    let lens = [
        plan.input_len(),
        plan.output_len(),
        plan.offsets_len(),
        plan.packed_len(),
        plan.scratch_len(),
    ];
    if lens.iter().any(|len| *len > MOST_ELEMENTS) || plan.macs() > MOST_MACS {
        return false;
    }
    let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
    let offsets: Vec<f32> =
        fill(plan.offsets_len(), 3).into_iter().map(|offset| 1.5 * offset).collect();
    let mask = plan.is_modulated().then(|| fill(plan.mask_len(), 4));
    let (mask, epilogue) = (mask.as_deref(), Epilogue::new());
    let mut expected = vec![POISON; plan.output_len()];
    reference::deform_conv2d(plan, &x, &offsets, mask, &w, epilogue, &mut expected).unwrap();
    let mut packed = vec![POISON; plan.packed_len()];
    let packed = plan.pack(&w, &mut packed).unwrap();
    for isa in paths() {
        let plan = plan.with_isa(isa).unwrap();
        let unpacked = plan.unpacked().map(|plan| (plan, Weights::Unpacked(&w)));
        for (plan, weights) in [Ok((plan, Weights::Packed(packed))), unpacked].into_iter().flatten()
        {
            let mut y = vec![POISON; plan.output_len()];
            let mut scratch = vec![POISON; plan.scratch_len()];
            let mut job = plan.job(&x, &offsets, mask, weights, epilogue, &mut y).unwrap();
            job.tiles(3).for_each(|tile| tile.run(&mut scratch).unwrap());
            assert_same_bits(&y, &expected, (plan, isa));
        }
    }
    true
}

/// The function that plans for itself, with slices that are long enough only for a few.
fn call_at_once(choices: &mut Choices, description: &Description, layer: &DeformConv2d) {
    let values = [0.5; 64];
    let [out_height, out_width] = [(); 2].map(|()| number(choices));
    let [kernel_height, kernel_width] = layer.kernel_size();
    let taps = kernel_height.wrapping_mul(kernel_width);
    let sets = layer.offset_group_count().wrapping_mul(taps);
    let Description { batch, size: [_, height, width], stride, dilation, .. } = *description;
    let x_shape = [batch, layer.in_channels(), height, width];
    let per_group = number(choices);
    let weight_shape = [layer.out_channels(), per_group, kernel_height, kernel_width];
    let fitting = layer.output_size([height, width]).unwrap_or([out_height, out_width]);
    let [out_height, out_width] = if choices.flag() { fitting } else { [out_height, out_width] };
    let offset_shape = [batch, sets.wrapping_mul(2), out_height, out_width];
    let mask_shape = [batch, sets, out_height, out_width];
    let mask = choices.flag().then_some((mask_shape, &values[..]));
    let [stride, dilation] = [stride, dilation].map(|all| [all[1], all[2]]);
    let padding = [1, 1];
    let len =
        deform_conv2d_scratch_len(x_shape, offset_shape, weight_shape, stride, padding, dilation);
    let mut scratch = vec![POISON; len.unwrap_or(0).min(MOST_ELEMENTS)];
    let all = [layer.out_channels(), per_group, kernel_height, kernel_width];
    let weights = all.iter().try_fold(1, |len: usize, n| len.checked_mul(*n));
    let weights = &values[..weights.unwrap_or(1).min(64)];
    let result = deform_conv2d(
        x_shape,
        &values,
        offset_shape,
        &values,
        weight_shape,
        weights,
        None,
        stride,
        padding,
        dilation,
        mask,
        &mut scratch,
        &mut [0.0; 64],
    );
    assert!(len.is_ok() || result.is_err());
}
