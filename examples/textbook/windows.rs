//! What windows see: padding, dilation, and through several layers.

use crate::layers::{counting, run, run_plan};
use crate::print::{Block, beside, checked, count, equal, prose, row, same_bits, space, table};
use tapwise::{Conv1d, Conv2d, Error, Layout, PaddingMode, ReceptiveField};

/// `a b c d` with three more on either side, in each mode.
pub fn padding_modes() -> Result<(), Error> {
    prose(
        "A kernel of one tap, 1, copies the padded input. So a layer shows what it sees of a \
         b c d, with a padding of 3:",
    );
    let letters = |row: &[f32]| -> String {
        let letters: Vec<_> =
            row.iter().map(|at| ["0", "a", "b", "c", "d"][*at as usize]).collect();
        [&letters[..3], &letters[3..7], &letters[7..]].map(|side| side.join(" ")).join(" | ")
    };
    let mut rows = Vec::new();
    for (mode, name, expected) in [
        (PaddingMode::Zeros, "Zeros", [0, 0, 0, 1, 2, 3, 4, 0, 0, 0]),
        (PaddingMode::Reflect, "Reflect", [4, 3, 2, 1, 2, 3, 4, 3, 2, 1]),
        (PaddingMode::Replicate, "Replicate", [1, 1, 1, 1, 2, 3, 4, 4, 4, 4]),
        (PaddingMode::Circular, "Circular", [2, 3, 4, 1, 2, 3, 4, 1, 2, 3]),
    ] {
        let layer = Conv1d::new(1, 1, [1]).padding([3]).padding_mode(mode);
        let seen = run_plan(&layer.plan(Layout::NCL, 1, [4])?, &counting(4), &[1.0])?;
        assert_eq!(seen, expected.map(|at| at as f32), "{name}");
        rows.push(row([&name, &letters(&seen)]));
    }
    table(&rows);
    checked("each row is that of torch.nn.functional.pad");
    Ok(())
}

/// Which places of a 7x7 the middle output of a dilated layer sees.
pub fn dilation() -> Result<(), Error> {
    prose(
        "With dilation 2 neighbouring taps are two pixels apart: a 3x3 kernel spans 5x5, and \
         still has nine weights. A 1 at one place of a 7x7 and zeros elsewhere gives the \
         weight by which an output sees that place. For the output in the middle, with \
         weights from 1 to 9:",
    );
    let seen = |dilation: usize| -> Result<Vec<f32>, Error> {
        let layer = Conv2d::new(1, 1, [3, 3]).dilation([dilation; 2]).padding([dilation; 2]);
        let middle = |place: usize| {
            let mut x = [0.0; 49];
            x[place] = 1.0;
            Ok(run(&layer, [7, 7], &x, &counting(9))?[24])
        };
        (0..49).map(middle).collect()
    };
    let (plain, dilated) = (seen(1)?, seen(2)?);
    beside(&[Block::sparse("dilation 1", 7, &plain), Block::sparse("dilation 2", 7, &dilated)]);
    let mut expected = [0.0; 49];
    for tap in 0..9 {
        let (row, column) = (1 + 2 * (tap / 3), 1 + 2 * (tap % 3));
        expected[7 * row + column] = (tap + 1) as f32;
    }
    same_bits(
        "dilation 2 sees rows 1, 3, 5 and columns 1, 3, 5, counted from 0",
        &dilated,
        &expected,
    );
    Ok(())
}

/// Three layers of 3x3, and the 7x7 that one output of them sees.
pub fn receptive_field() -> Result<(), Error> {
    prose(
        "Each 3x3 layer sees one pixel more on either side. Three of them see as much as one \
         of 7x7, with fewer weights (here for 64 channels) and two activations more between \
         them:",
    );
    let layer = Conv2d::new(64, 64, [3, 3]);
    let mut field = ReceptiveField::INPUT;
    let mut rows = vec![row([&"", &"sees", &"weights"])];
    for number in 1..=3 {
        field = field.then(&layer)?;
        let [height, width] = field.size;
        let weights = number * layer.parameters(false)?;
        let name = format!("{number} of 3x3");
        rows.push(row([&name, &format!("{height}x{width}"), &count(weights)]));
    }
    let large = Conv2d::new(64, 64, [7, 7]);
    rows.push(row([&"1 of 7x7", &"7x7", &count(large.parameters(false)?)]));
    table(&rows);
    equal(
        "three layers of 3x3 have the field of one of 7x7",
        field.size,
        ReceptiveField::INPUT.then(&large)?.size,
    );
    space();
    prose(
        "On how many ways a number reaches the output through three layers (weights of 1): \
         those in the middle count most, those at the border are seen once.",
    );
    let one = Conv2d::new(1, 1, [3, 3]);
    let ways = |place: usize| {
        let mut x = vec![0.0; 49];
        x[place] = 1.0;
        for size in [7, 5, 3] {
            x = run(&one, [size; 2], &x, &[1.0; 9])?;
        }
        Ok(x[0])
    };
    let ways = (0..49).map(ways).collect::<Result<Vec<f32>, Error>>()?;
    beside(&[Block::of("7x7", 7, &ways)]);
    let along = [1.0, 3.0, 6.0, 7.0, 6.0, 3.0, 1.0];
    let expected: Vec<f32> = along.iter().flat_map(|a| along.map(|b| a * b)).collect();
    same_bits(
        "the ways along the height times those along the width: 1 3 6 7 6 3 1",
        &ways,
        &expected,
    );
    space();
    prose("Dilations of 1, 2 and 4 let the field grow faster, with the same weights:");
    let mut field = ReceptiveField::INPUT;
    for dilation in [1, 2, 4] {
        field = field.then(&Conv2d::new(64, 64, [3, 3]).dilation([dilation; 2]))?;
    }
    equal("they see 15x15", field.size, [15, 15]);
    Ok(())
}
