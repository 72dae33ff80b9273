//! Correlation of a search region with a template, as trackers do it.

use crate::layers::{mixed, run};
use crate::print::{Block, beside, equal, prose, same_bits};
use tapwise::{Conv2d, Correlation2d, CorrelationPlan, Epilogue, Error, Layout};

const CHANNELS: usize = 2;
const SIDE: usize = 6;
const REGION: usize = CHANNELS * SIDE * SIDE;
const TEMPLATE: usize = CHANNELS * 9;

fn correlate(plan: &CorrelationPlan, x: &[f32], kernels: &[f32]) -> Result<Vec<f32>, Error> {
    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut y = vec![0.0; plan.output_len()];
    plan.run(x, kernels, Epilogue::new(), &mut scratch, &mut y)?;
    Ok(y)
}

/// The 3x3 of a region whose first pixel is at that place.
fn cut(region: &[f32], row: usize, column: usize) -> Vec<f32> {
    let place = |at: usize| at / 9 * SIDE * SIDE + (row + at / 3 % 3) * SIDE + column + at % 3;
    (0..TEMPLATE).map(|at| region[place(at)]).collect()
}

/// One template on one region, as in SiamFC and as in SiamRPN++.
pub fn dense_and_depthwise() -> Result<(), Error> {
    prose(
        "A tracker compares a template, what it looks for, with a search region. Both are \
         features that a network has just computed, so the kernel comes with the call and \
         nothing is packed. Here the template was cut from row 1, column 2 of the region:",
    );
    let region = mixed(REGION, 2);
    let template = cut(&region, 1, 2);
    beside(&[
        Block::of("region[0]", SIDE, &region[..REGION / 2]),
        Block::of("region[1]", SIDE, &region[REGION / 2..]),
        Block::of("template[0]", 3, &template[..9]),
        Block::of("template[1]", 3, &template[9..]),
    ]);
    let dense = Correlation2d::dense(CHANNELS, [3, 3]).plan(Layout::Nchw, 1, [SIDE; 2])?;
    let depthwise = Correlation2d::depthwise(CHANNELS, [3, 3]).plan(Layout::Nchw, 1, [SIDE; 2])?;
    let response = correlate(&dense, &region, &template)?;
    let by_channel = correlate(&depthwise, &region, &template)?;
    prose("SiamFC adds all channels up to one response. SiamRPN++ keeps one for each channel:");
    beside(&[
        Block::of("dense", 4, &response),
        Block::of("depthwise[0]", 4, &by_channel[..16]),
        Block::of("depthwise[1]", 4, &by_channel[16..]),
    ]);
    let best = (0..16).max_by(|a, b| response[*a].total_cmp(&response[*b]));
    equal("the response is largest at row 1, column 2", best, Some(4 + 2));
    let sums: Vec<f32> =
        by_channel[..16].iter().zip(&by_channel[16..]).map(|(a, b)| a + b).collect();
    same_bits("the depthwise responses add up to the dense one", &sums, &response);
    let layer = run(&Conv2d::new(CHANNELS, 1, [3, 3]), [SIDE; 2], &region, &template)?;
    same_bits("it is the Conv2d whose weights are the template", &response, &layer);
    let of_siamfc = Correlation2d::dense(128, [6, 6]).output_size([22, 22])?;
    equal("SiamFC's own sizes, 6x6 on 22x22 features, give 17x17", of_siamfc, [17, 17]);
    Ok(())
}

/// Each sample of a batch with a template of its own.
pub fn batch() -> Result<(), Error> {
    prose(
        "In a batch each sample has a template of its own. A convolution has one set of \
         weights for all samples, so PyTorch users lay the samples side by side as groups: \
         (B, C, H, W) is read as (1, B * C, H, W), and the templates are its weights. \
         Correlation2d takes the batch as it is.",
    );
    const BATCH: usize = 2;
    let regions = [mixed(REGION, 2), mixed(REGION, 5)].concat();
    let templates = [cut(&regions[..REGION], 1, 2), cut(&regions[REGION..], 3, 0)].concat();

    let dense = Correlation2d::dense(CHANNELS, [3, 3]).plan(Layout::Nchw, BATCH, [SIDE; 2])?;
    let responses = correlate(&dense, &regions, &templates)?;
    beside(&[
        Block::of("first sample", 4, &responses[..16]),
        Block::of("second sample", 4, &responses[16..]),
    ]);
    let as_groups = Conv2d::new(BATCH * CHANNELS, BATCH, [3, 3]).groups(BATCH);
    let as_groups = run(&as_groups, [SIDE; 2], &regions, &templates)?;
    same_bits("dense: a group for each sample", &responses, &as_groups);

    let depthwise = Correlation2d::depthwise(CHANNELS, [3, 3]);
    let depthwise = depthwise.plan(Layout::Nchw, BATCH, [SIDE; 2])?;
    let responses = correlate(&depthwise, &regions, &templates)?;
    let all = BATCH * CHANNELS;
    let as_groups = Conv2d::new(all, all, [3, 3]).groups(all);
    let as_groups = run(&as_groups, [SIDE; 2], &regions, &templates)?;
    same_bits("depthwise: a group for each sample and channel", &responses, &as_groups);
    Ok(())
}
