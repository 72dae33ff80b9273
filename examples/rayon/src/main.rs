//! One layer on the threads of rayon: the same bits as on one.
//!
//! ```text
//! cargo run --release --manifest-path examples/rayon/Cargo.toml
//! ```

use rayon::prelude::*;
use std::time::{Duration, Instant};
use tapwise::{Conv2d, Epilogue, Error, Layout};

fn main() -> Result<(), Error> {
    let plan = Conv2d::new(64, 64, [3, 3]).padding([1, 1]).plan(Layout::Nhwc, 1, [56, 56])?;
    let x: Vec<f32> = (0..plan.input_len()).map(|at| (at as f32).sin()).collect();
    let w: Vec<f32> = (0..plan.weights_len()).map(|at| (at as f32).cos()).collect();
    let mut packed = vec![0.0; plan.packed_len()];
    let weights = plan.pack(&w, &mut packed)?;
    let epilogue = Epilogue::new().relu();

    let mut scratch = vec![0.0; plan.scratch_len()];
    let mut expected = vec![0.0; plan.output_len()];
    let alone =
        best_of_50(|| plan.run(&x, weights, epilogue, &mut scratch, &mut expected).map(|_| ()))?;

    let threads = rayon::current_num_threads();
    let mut y = vec![0.0; plan.output_len()];
    let together = best_of_50(|| {
        let mut job = plan.job(&x, weights, epilogue, &mut y)?;
        let tiles: Vec<_> = job.tiles(4 * threads).collect(); // four each even the work out
        tiles.into_par_iter().try_for_each_init(
            || vec![0.0; plan.scratch_len()],
            |scratch, tile| tile.run(scratch).map_err(Error::from),
        )
    })?;

    let same = y.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "rayon's threads computed other bits than one thread");
    println!("3x3, 64 to 64 channels, 56x56, on the path {}", plan.isa().name());
    println!("alone:            {:>7.1} us", alone.as_secs_f64() * 1e6);
    println!(
        "rayon, {threads:>2} threads: {:>7.1} us, the same bits",
        together.as_secs_f64() * 1e6
    );
    Ok(())
}

fn best_of_50(mut call: impl FnMut() -> Result<(), Error>) -> Result<Duration, Error> {
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        call()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}
