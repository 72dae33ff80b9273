//! How channels meet: all of them, in groups, one by one.

use crate::layers::{counting, mixed, run};
use crate::print::{Block, beside, checked, count, equal, prose, row, same_bits, space, table};
use tapwise::{Conv2d, Epilogue, Error, Layout, Separable2d};

/// Groups as layers of their own, and their weights.
pub fn groups() -> Result<(), Error> {
    prose(
        "With g groups, each output channel sees the input channels of its group alone. \
         Weights are out_channels x in_channels / g x taps. From 64 to 64 channels with a 3x3 \
         kernel:",
    );
    let mut rows = vec![row([&"groups", &"inputs of an output", &"weights"])];
    for groups in [1, 2, 4, 8, 16, 32, 64] {
        let weights = Conv2d::new(64, 64, [3, 3]).groups(groups).parameters(false)?;
        assert_eq!(weights, 64 * (64 / groups) * 9);
        rows.push(row([&groups, &(64 / groups), &count(weights)]));
    }
    table(&rows);
    checked("Conv2d::parameters gives the weights of the formula");
    space();
    prose(
        "Two groups are two layers side by side, and nothing else. From 4 to 4 channels of \
         3x3:",
    );
    let (x, w) = (mixed(4 * 9, 1), mixed(4 * 2 * 4, 2));
    let grouped = run(&Conv2d::new(4, 4, [2, 2]).groups(2), [3, 3], &x, &w)?;
    let half = Conv2d::new(2, 2, [2, 2]);
    let first = run(&half, [3, 3], &x[..18], &w[..16])?;
    let second = run(&half, [3, 3], &x[18..], &w[16..])?;
    beside(&[
        Block::of("y[0]", 2, &grouped[..4]),
        Block::of("y[1]", 2, &grouped[4..8]),
        Block::of("y[2]", 2, &grouped[8..12]),
        Block::of("y[3]", 2, &grouped[12..]),
    ]);
    same_bits(
        "groups(2) is a layer on each half of the channels",
        &grouped,
        &[first, second].concat(),
    );
    Ok(())
}

/// Depthwise and pointwise against dense.
pub fn separable() -> Result<(), Error> {
    prose(
        "A depthwise layer (as many groups as channels) looks at each channel by itself, a \
         pointwise one (1x1) mixes the channels of a pixel. Together they do the work of a \
         dense layer for less:",
    );
    let dense = Conv2d::new(128, 256, [3, 3]).padding_same();
    let depthwise = Conv2d::new(128, 128, [3, 3]).padding_same().groups(128);
    let pointwise = Conv2d::new(128, 256, [1, 1]);
    let numbers = |layer: &Conv2d| -> Result<(usize, u128), Error> {
        Ok((layer.parameters(false)?, layer.macs(1, [28, 28])?))
    };
    let (of_dense, of_depthwise, of_pointwise) =
        (numbers(&dense)?, numbers(&depthwise)?, numbers(&pointwise)?);
    let both = (of_depthwise.0 + of_pointwise.0, of_depthwise.1 + of_pointwise.1);
    let mut rows = vec![row([&"128 to 256 channels, 28x28", &"weights", &"multiply-adds"])];
    for (name, (weights, macs)) in [
        ("depthwise 3x3", of_depthwise),
        ("pointwise", of_pointwise),
        ("both", both),
        ("dense 3x3", of_dense),
    ] {
        rows.push(row([&name, &count(weights), &count(macs)]));
    }
    table(&rows);
    equal(
        "their share of the dense layer is 1/256 + 1/9: both / dense = (9 + 256) / (9 * 256)",
        both.1 * (9 * 256),
        of_dense.1 * (9 + 256),
    );
    space();
    prose(
        "The pair is a dense layer whose kernels are products: weight[out][in][tap] = \
         pointwise[out][in] * depthwise[in][tap]. With 2 input and 2 output channels:",
    );
    let (x, each, mix) = (counting(2 * 16), mixed(2 * 9, 4), mixed(2 * 2, 3));
    let between = run(&Conv2d::new(2, 2, [3, 3]).groups(2), [4, 4], &x, &each)?;
    let pair = run(&Conv2d::new(2, 2, [1, 1]), [2, 2], &between, &mix)?;
    let products: Vec<f32> = (0..2 * 2 * 9).map(|at| mix[at / 9] * each[at % 18]).collect();
    let whole = run(&Conv2d::new(2, 2, [3, 3]), [4, 4], &x, &products)?;
    beside(&[
        Block::of("depthwise[0]", 3, &each[..9]),
        Block::of("depthwise[1]", 3, &each[9..]),
        Block::of("pointwise", 2, &mix),
        Block::of("y[0]", 2, &pair[..4]),
        Block::of("y[1]", 2, &pair[4..]),
    ]);
    same_bits("depthwise, then pointwise, is the dense layer of these products", &pair, &whole);
    space();
    prose(
        "Separable2d computes the pair in one pass: of what lies between the layers there are never \
         more than a few rows.",
    );
    let block = Separable2d::new(Conv2d::new(2, 2, [3, 3]).groups(2), Conv2d::new(2, 2, [1, 1]));
    let plan = block.plan(Layout::Nchw, 1, [4, 4])?;
    let mut packed = vec![0.0; plan.depthwise_packed_len()];
    let mut pointwise_packed = vec![0.0; plan.pointwise_packed_len()];
    let each = plan.pack_depthwise(&each, &mut packed)?;
    let mix = plan.pack_pointwise(&mix, &mut pointwise_packed)?;
    let none = Epilogue::new();
    let (mut scratch, mut y) = (vec![0.0; plan.scratch_len()], vec![0.0; plan.output_len()]);
    plan.run(&x, each, none, mix, none, &mut scratch, &mut y)?;
    same_bits("in one pass as one after the other", &y, &pair);
    Ok(())
}

/// The block of ResNet-50 against a plain 3x3.
pub fn bottleneck() -> Result<(), Error> {
    prose(
        "A 1x1 layer takes 256 channels to 64, the 3x3 works on those, another 1x1 brings 256 \
         back:",
    );
    let layers = [
        ("1x1, 256 to 64", Conv2d::new(256, 64, [1, 1])),
        ("3x3, 64 to 64", Conv2d::new(64, 64, [3, 3])),
        ("1x1, 64 to 256", Conv2d::new(64, 256, [1, 1])),
    ];
    let mut sum = 0;
    let mut rows = vec![row([&"", &"weights"])];
    for (name, layer) in layers {
        let weights = layer.parameters(false)?;
        sum += weights;
        rows.push(row([&name, &count(weights)]));
    }
    let plain = Conv2d::new(256, 256, [3, 3]).parameters(false)?;
    rows.push(row([&"the three of them", &count(sum)]));
    rows.push(row([&"3x3, 256 to 256", &count(plain)]));
    table(&rows);
    equal("589,824 weights against 69,632: 8.5 times fewer", (plain, sum), (589_824, 69_632));
    Ok(())
}
