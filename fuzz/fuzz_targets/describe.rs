//! Descriptions, sensible and absurd: a plan or an error, never a panic or an overflow; and every
//! size of a plan fits the others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise::{conv_transpose1d, conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d};
use tapwise_fuzz::description::{Description, number};
use tapwise_fuzz::support::choices::Choices;

fuzz_target!(|data: &[u8]| {
    let choices = &mut Choices::new(data);
    let tame = choices.flag();
    let description = Description::of(choices, tame);
    description.check();
    call_at_once(choices, &description);
});

/// The functions that plan for themselves, with slices that are long enough only for a few.
fn call_at_once(choices: &mut Choices, description: &Description) {
    let Description { batch, channels: [in_channels, out_channels], groups, .. } = *description;
    let Description { size: [d, h, w], kernel: [kd, kh, kw], stride, before, dilation, .. } =
        *description;
    let per_group = number(choices);
    let values = [0.5; 64];
    let (x, mut y) = (&values[..choices.number_in(0..=64)], [0.0; 64]);
    // All weights but those of the last dimensions, as absurd as they come, or of a fitting length.
    let fitting = [out_channels, per_group, kd, kh, kw]
        .iter()
        .try_fold(1, |len: usize, n| len.checked_mul(*n));
    let weights = &values[..fitting.unwrap_or(1).min(64)];
    let bias = Some(&values[..out_channels.min(64)]);
    let [sd, sh, sw] = stride;
    let [pd, ph, pw] = before;
    let [ld, lh, lw] = dilation;
    let _ = conv1d(
        [batch, in_channels, w],
        x,
        [out_channels, per_group, kw],
        weights,
        bias,
        [sw],
        [pw],
        [lw],
        groups,
        &mut y,
    );
    let _ = conv2d(
        [batch, in_channels, h, w],
        x,
        [out_channels, per_group, kh, kw],
        weights,
        bias,
        [sh, sw],
        [ph, pw],
        [lh, lw],
        groups,
        &mut y,
    );
    let _ = conv3d(
        [batch, in_channels, d, h, w],
        x,
        [out_channels, per_group, kd, kh, kw],
        weights,
        bias,
        [sd, sh, sw],
        [pd, ph, pw],
        [ld, lh, lw],
        groups,
        &mut y,
    );
    transpose_at_once(choices, description, per_group, x);
}

/// The same of those that are transposed.
fn transpose_at_once(
    choices: &mut Choices,
    description: &Description,
    per_group: usize,
    x: &[f32],
) {
    let Description { batch, channels: [in_channels, _], groups, .. } = *description;
    let Description { size: [d, h, w], kernel: [kd, kh, kw], stride, before, dilation, .. } =
        *description;
    let (values, mut y) = ([0.5; 64], [0.0; 64]);
    let filters = if choices.one_in(4) { number(choices) } else { in_channels };
    let fitting =
        [filters, per_group, kd, kh, kw].iter().try_fold(1, |len: usize, n| len.checked_mul(*n));
    let weights = &values[..fitting.unwrap_or(1).min(64)];
    let bias = per_group.checked_mul(groups).map(|len| &values[..len.min(64)]);
    let [sd, sh, sw] = stride;
    let [pd, ph, pw] = before;
    let [ld, lh, lw] = dilation;
    let [od, oh, ow] = [(); 3].map(|()| number(choices));
    let _ = conv_transpose1d(
        [batch, in_channels, w],
        x,
        [filters, per_group, kw],
        weights,
        bias,
        [sw],
        [pw],
        [ow],
        groups,
        [lw],
        &mut y,
    );
    let _ = conv_transpose2d(
        [batch, in_channels, h, w],
        x,
        [filters, per_group, kh, kw],
        weights,
        bias,
        [sh, sw],
        [ph, pw],
        [oh, ow],
        groups,
        [lh, lw],
        &mut y,
    );
    let _ = conv_transpose3d(
        [batch, in_channels, d, h, w],
        x,
        [filters, per_group, kd, kh, kw],
        weights,
        bias,
        [sd, sh, sw],
        [pd, ph, pw],
        [od, oh, ow],
        groups,
        [ld, lh, lw],
        &mut y,
    );
}
