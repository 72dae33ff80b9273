//! Descriptions, sensible and absurd: a plan or an error, never a panic or an overflow; and every
//! size of a plan fits the others.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use tapwise::{Layout, conv1d, conv2d, conv3d};
use tapwise_fuzz::description::Description;

fuzz_target!(|data: &[u8]| -> Corpus {
    match describe(&mut Unstructured::new(data)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn describe(u: &mut Unstructured) -> Result<()> {
    let description = description(u)?;
    description.check();
    call_at_once(u, &description)
}

/// Small numbers, numbers next to those where something may overflow, and any.
fn number(u: &mut Unstructured) -> Result<usize> {
    let near = |center: usize, step: u8| center.wrapping_add(step as usize).wrapping_sub(3);
    let step = u.int_in_range(0..=7)?;
    Ok(match u.int_in_range(0..=12)? {
        0..=5 => step.into(),
        6 => u.int_in_range(8..=100)?,
        7 => near(1 << u.int_in_range(0..=usize::BITS - 1)?, step),
        8 => near(usize::MAX, step),
        9 => near(isize::MAX as usize, step),
        10 => near(isize::MAX as usize / 4, step),
        11 => near(i32::MAX as usize / 4, step),
        _ => u.arbitrary()?,
    })
}

fn numbers<const N: usize>(u: &mut Unstructured) -> Result<[usize; N]> {
    let mut numbers = [0; N];
    for place in &mut numbers {
        *place = number(u)?;
    }
    Ok(numbers)
}

fn description(u: &mut Unstructured) -> Result<Description> {
    let groups = number(u)?;
    let whole_groups = u.arbitrary()?;
    let channels = numbers(u)?;
    Ok(Description {
        rank: u.int_in_range(1..=3)?,
        layout: if u.arbitrary()? { Layout::Nchw } else { Layout::Nhwc },
        batch: number(u)?,
        channels: if whole_groups {
            channels.map(|n: usize| n.wrapping_mul(groups))
        } else {
            channels
        },
        groups,
        size: numbers(u)?,
        kernel: numbers(u)?,
        stride: numbers(u)?,
        dilation: numbers(u)?,
        padding: u.int_in_range(0..=3)?,
        before: numbers(u)?,
        after: numbers(u)?,
        caches: numbers(u)?,
        input_strides: numbers(u)?,
        output_strides: numbers(u)?,
        limit: number(u)?,
    })
}

/// The functions that plan for themselves, with slices that are long enough only for a few.
fn call_at_once(u: &mut Unstructured, description: &Description) -> Result<()> {
    let Description { batch, channels: [in_channels, out_channels], groups, .. } = *description;
    let Description { size: [d, h, w], kernel: [kd, kh, kw], stride, before, dilation, .. } =
        *description;
    let per_group = number(u)?;
    let values = [0.5; 64];
    let (x, mut y) = (&values[..u.int_in_range(0..=64)?], [0.0; 64]);
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
    Ok(())
}
