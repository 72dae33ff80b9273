//! How fast unfolding is beside a copy of as many elements, and folding beside a copy of the columns
//! that it reads, in turns:
//!
//! ```text
//! cargo bench --bench unfold
//! cargo bench --bench unfold -- 56x56
//! ```
//!
//! The copy is `copy_from_slice` between two slices of the output's length. Unfolding with stride 1 has
//! to be at least so many times as fast as it, else the run fails:
//!
//! | columns | in planes | channels last, at least 16 of them |
//! |---|---|---|
//! | up to 256 KiB: in the first two levels of cache | | |
//! | up to 1 MiB | 0.7 | |
//! | above | 0.7 | 0.4 |
//!
//! Without a number, the ratio is printed alone: within the caches a copy takes a few cycles for a cache
//! line, and there is more to a row than its copy, and to a column a transposition.

use std::hint::black_box;
use std::time::Instant;
use tapwise::{Fold2d, Layout, Unfold2d};

/// How many times as fast as the copy unfolding with stride 1 has to be.
fn least(layout: Layout, channels: usize, kib: usize) -> Option<f64> {
    match layout {
        Layout::Nchw if kib >= 256 => Some(0.7),
        Layout::Nhwc if kib >= 1024 && channels >= 16 => Some(0.4),
        _ => None,
    }
}

const ROUNDS: usize = 31;

struct Windows {
    name: &'static str,
    channels: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    dilation: usize,
    padding: usize,
    stride: usize,
}

const fn windows(name: &'static str, channels: usize, size: usize, kernel: usize) -> Windows {
    let padding = kernel / 2;
    let (size, kernel) = ([size; 2], [kernel; 2]);
    Windows { name, channels, size, kernel, dilation: 1, padding, stride: 1 }
}

const CASES: [Windows; 11] = [
    windows("64 56x56 3x3", 64, 56, 3),
    windows("4 56x56 3x3", 4, 56, 3),
    windows("8 28x28 3x3", 8, 28, 3),
    windows("4 14x14 3x3", 4, 14, 3),
    windows("1 28x28 3x3", 1, 28, 3),
    Windows { padding: 0, ..windows("1 28x28 3x3 valid", 1, 28, 3) },
    Windows { padding: 0, ..windows("64 56x56 3x3 valid", 64, 56, 3) },
    windows("256 14x14 3x3", 256, 14, 3),
    windows("32 56x56 5x5", 32, 56, 5),
    Windows { dilation: 2, padding: 2, ..windows("64 56x56 3x3 dilation 2", 64, 56, 3) },
    Windows { stride: 2, ..windows("64 56x56 3x3 stride 2", 64, 56, 3) },
];

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let mut faults = Vec::new();
    println!(
        "{:<26} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "channels, image, kernel", "layout", "KiB", "unfold us", "ratio", "fold us", "ratio"
    );
    for case in &CASES {
        if only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
            continue;
        }
        for (layout_name, layout) in [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)] {
            let unfold = Unfold2d::new(case.kernel)
                .dilation([case.dilation; 2])
                .padding([case.padding; 2])
                .stride([case.stride; 2])
                .plan(layout, 1, case.channels, case.size)
                .expect("the windows are sound");
            let fold = Fold2d::new(case.kernel)
                .dilation([case.dilation; 2])
                .padding([case.padding; 2])
                .stride([case.stride; 2])
                .plan(layout, 1, case.channels, case.size)
                .expect("the windows are sound");
            let x = vec![1.0; unfold.input_len()];
            let from = vec![1.0; unfold.output_len()];
            let mut columns = vec![0.0; unfold.output_len()];
            let mut image = vec![0.0; fold.output_len()];
            let mut run = || {
                let y = unfold.run(black_box(&x), black_box(&mut columns));
                black_box(y.expect("sound slices"));
            };
            let mut again = vec![0.0; unfold.output_len()];
            let mut copy = || black_box(&mut again[..]).copy_from_slice(black_box(&from));
            let (unfold_time, mut unfold_ratio) = beside(&mut run, &mut copy);
            let kib = 4 * from.len() / 1024;
            let least = if case.stride == 1 { least(layout, case.channels, kib) } else { None };
            let least = least.unwrap_or(0.0);
            if unfold_ratio < least {
                // What seems too slow is measured again: the machine may have been busy.
                unfold_ratio = unfold_ratio.max(beside(&mut run, &mut copy).1);
            }
            let mut run = || {
                let y = fold.run(black_box(&from), black_box(&mut image));
                black_box(y.expect("sound slices"));
            };
            let (fold_time, fold_ratio) = beside(&mut run, &mut copy);
            println!(
                "{:<26} {layout_name:<6} {:>9} {unfold_time:>9.2} {unfold_ratio:>9.2} {fold_time:>9.2} {fold_ratio:>9.2}",
                case.name, kib,
            );
            if unfold_ratio < least {
                faults.push(format!("{} {layout_name}: {unfold_ratio:.2}", case.name));
            }
        }
    }
    println!("ratio: how many times as fast as the copy; medians, one thread");
    assert!(faults.is_empty(), "slower than the copy allows: {}", faults.join(", "));
}

/// The median of its microseconds, and of how many times as fast as the copy it is.
fn beside(run: &mut dyn FnMut(), copy: &mut dyn FnMut()) -> (f64, f64) {
    let start = Instant::now();
    run();
    let calls = (200e-6 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 2000.0) as usize;
    let time = |body: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..calls {
            body();
        }
        start.elapsed().as_secs_f64() * 1e6 / calls as f64
    };
    time(run);
    time(copy);
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let of_copy = time(copy);
        let of_run = time(run);
        times.push(of_run);
        ratios.push(of_copy / of_run);
    }
    (median(&mut times), median(&mut ratios))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
