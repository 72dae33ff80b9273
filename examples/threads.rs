//! One layer on one thread, on two, and so on: the same bits, sooner.
//!
//! ```text
//! cargo run --release --example threads
//! ```

use std::time::{Duration, Instant};
use tapwise::{Conv2d, Epilogue, Error, Layout, PackedWeights, Plan};

fn main() -> Result<(), Error> {
    let plan = Conv2d::new(64, 64, [3, 3]).padding([1, 1]).plan(Layout::Nhwc, 1, [56, 56])?;
    let x: Vec<f32> = (0..plan.input_len()).map(|at| (at as f32).sin()).collect();
    let w: Vec<f32> = (0..plan.weights_len()).map(|at| (at as f32).cos()).collect();
    let mut packed = vec![0.0; plan.packed_len()];
    let weights = plan.pack(&w, &mut packed)?;

    let mut expected = vec![0.0; plan.output_len()];
    plan.run(
        &x,
        weights,
        Epilogue::new().relu(),
        &mut vec![0.0; plan.scratch_len()],
        &mut expected,
    )?;
    println!("3x3, 64 to 64 channels, 56x56, on the path {}", plan.isa().name());

    let most = std::thread::available_parallelism().map_or(1, usize::from).max(2);
    for threads in 1..=most {
        let mut y = vec![0.0; plan.output_len()];
        let mut best = Duration::MAX;
        for _ in 0..50 {
            let start = Instant::now();
            run_on(threads, &plan, &x, weights, &mut y)?;
            best = best.min(start.elapsed());
        }
        let same = y.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{threads} threads computed other bits than one");
        println!("threads: {threads}  {:>7.1} us, the same bits", best.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// A tile for each thread. Threads that live on from call to call would save their start.
fn run_on(
    threads: usize,
    plan: &Plan,
    x: &[f32],
    weights: PackedWeights,
    y: &mut [f32],
) -> Result<(), Error> {
    let mut job = plan.job(x, weights, Epilogue::new().relu(), y)?;
    std::thread::scope(|scope| {
        let run = |tile: tapwise::Tile<'_>| -> Result<(), Error> {
            Ok(tile.run(&mut vec![0.0; plan.scratch_len()])?)
        };
        let mut tiles = job.tiles(threads);
        let own = tiles.next();
        let others: Vec<_> = tiles.map(|tile| scope.spawn(move || run(tile))).collect();
        own.map_or(Ok(()), run)?;
        others.into_iter().try_for_each(|other| other.join().expect("no tile panics"))
    })
}
