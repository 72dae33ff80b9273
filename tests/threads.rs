//! Threads that compute tiles at the same time: the bits are those of the plain loops, and the shares
//! are about equal. `.ci/threads` runs this under ThreadSanitizer, which finds tiles that touch each
//! other's elements.

mod support;

use std::sync::Barrier;
use support::{Layer, POISON, assert_same_bits, fill, from_layout, paths, share, to_layout};
use tapwise::{Epilogue, Layout, Plan, Weights, reference};

const THREADS: usize = 4;
/// How many times the threads set off together on each layer and path.
const ROUNDS: usize = 12;

/// A layer for each kernel in each layout, as far as the layout has it.
fn layers() -> [Layer; 8] {
    let padded = |layer: Layer| {
        let pad = layer.kernel.map(|taps| taps / 2);
        Layer { before: pad, after: pad, ..layer }
    };
    let spread = |[row, column]: [usize; 2], layer| {
        padded(Layer { stride: [1, row, column], transposed: true, ..layer })
    };
    [
        padded(Layer { batch: 2, ..Layer::new(2, [20, 40], [1, 9, 7], [1, 3, 3]) }),
        // Long rows: pixels in the lanes.
        padded(Layer::new(2, [18, 33], [1, 8, 64], [1, 3, 3])),
        padded(Layer { groups: 6, ..Layer::new(2, [12, 30], [1, 9, 10], [1, 3, 3]) }),
        padded(Layer { groups: 40, ..Layer::new(2, [40, 40], [1, 20, 17], [1, 3, 3]) }),
        padded(Layer { groups: 18, ..Layer::new(1, [18, 36], [1, 1, 150], [1, 1, 5]) }),
        // Tiles that end within rows of phases, woven and not.
        spread([2, 2], Layer::new(2, [20, 33], [1, 7, 20], [1, 3, 3])),
        spread([3, 2], Layer { batch: 2, ..Layer::new(2, [9, 5], [1, 5, 30], [1, 4, 3]) }),
        spread([1, 3], Layer { groups: 6, ..Layer::new(2, [12, 18], [1, 9, 10], [1, 3, 2]) }),
    ]
}

/// Runs the tiles of a job on threads that start together, each with scratch memory of its own.
fn run(plan: &Plan, x: &[f32], weights: Weights, epilogue: Epilogue, tiles: usize, y: &mut [f32]) {
    let mut job = plan.job(x, weights, epilogue, y).unwrap();
    let scratch_len = job.scratch_len();
    // Dealt out beforehand, as cards are: neighbours go to different threads.
    let mut hands = [(); THREADS].map(|()| Vec::new());
    for (at, tile) in job.tiles(tiles).enumerate() {
        hands[at % THREADS].push(tile);
    }
    let start = &Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads = hands.map(|hand| {
            scope.spawn(move || {
                let mut scratch = vec![POISON; scratch_len];
                start.wait();
                hand.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
            })
        });
        // Joined one by one, which a sanitizer sees.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn tiles_at_the_same_time() {
    let mut kernels = std::collections::BTreeSet::new();
    for layer in layers() {
        let dense = layer.plan(Layout::Nchw).unwrap();
        let x = fill(dense.input_len(), 1);
        let w = fill(dense.weights_len(), 2);
        let bias = fill(layer.out_channels, 3);
        let residual = fill(dense.output_len(), 4);
        let epilogue = Epilogue::new().bias(&bias).relu();
        let mut expected = vec![POISON; dense.output_len()];
        reference::run(&dense, &x, &w, epilogue.residual(&residual), &mut expected).unwrap();
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let plan = layer.plan(layout).unwrap();
            let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
            let residual = to_layout(layout, &residual, layer.out_channels, layer.pixels_out());
            for plan in [plan, plan.assume_caches(512, 8 << 10).unwrap()] {
                kernels.insert((format!("{layout:?}"), plan.kernel_name()));
                let mut packed = vec![POISON; plan.packed_len()];
                let packed = plan.pack(&w, &mut packed).unwrap();
                for isa in paths() {
                    let plan = plan.with_isa(isa).unwrap();
                    for round in 0..share(ROUNDS) {
                        let (plan, weights) = match round % 3 {
                            0 => (plan.unpacked().unwrap(), Weights::Unpacked(&w)),
                            _ => (plan, Weights::Packed(packed)),
                        };
                        // As many as threads, several for each, one for each row or panel.
                        let tiles = [THREADS, 3 * THREADS + 1, 100][round % 3];
                        // The residual is what the output holds, every second time.
                        let (mut y, epilogue) = if round % 2 == 0 {
                            (vec![POISON; plan.output_len()], epilogue.residual(&residual))
                        } else {
                            (residual.clone(), epilogue.residual_from_output())
                        };
                        run(&plan, &x, weights, epilogue, tiles, &mut y);
                        let y = from_layout(layout, &y, layer.out_channels, layer.pixels_out());
                        assert_same_bits(&y, &expected, (&layer, layout, isa, tiles));
                    }
                }
            }
        }
    }
    let all = [("Nchw", "dense"), ("Nchw", "pixels"), ("Nchw", "planes")];
    let all = all.into_iter().chain([("Nhwc", "channels"), ("Nhwc", "dense")]);
    assert!(all.map(|(layout, kernel)| (layout.to_owned(), kernel)).eq(kernels));
}

/// Cut for threads, the output falls into about equal shares, and the tiles are as many as they say.
#[test]
fn tiles_of_equal_work() {
    let many_rows = [
        Layer::new(2, [3, 20], [1, 50, 6], [1, 1, 1]),
        Layer::new(3, [3, 20], [6, 10, 5], [1, 1, 1]),
        Layer { groups: 24, ..Layer::new(2, [24, 24], [1, 50, 6], [1, 3, 3]) },
        Layer::new(1, [8, 16], [1, 1, 500], [1, 1, 1]),
        // More weights than input: panels are cut first.
        Layer::new(2, [40, 320], [1, 20, 3], [1, 3, 3]),
        Layer {
            stride: [1, 2, 2],
            transposed: true,
            ..Layer::new(2, [3, 20], [1, 50, 6], [1, 3, 3])
        },
    ];
    for layer in many_rows {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let plan = layer.plan(layout).unwrap();
            let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
            let mut packed = vec![POISON; plan.packed_len()];
            let packed = plan.pack(&w, &mut packed).unwrap();
            let mut scratch = vec![POISON; plan.scratch_len()];
            // What a tile writes, and how many there are.
            let mut written = |count: usize, which: usize| {
                let mut y = vec![POISON; plan.output_len()];
                let mut job = plan.job(&x, packed, Epilogue::new(), &mut y).unwrap();
                let mut tiles = job.tiles(count);
                let len = tiles.len();
                for left in (len - which..=len).rev() {
                    assert_eq!((tiles.len(), tiles.size_hint()), (left, (left, Some(left))));
                    let tile = tiles.next().unwrap();
                    if left == len - which {
                        tile.run(&mut scratch).unwrap();
                    }
                }
                let left = len - which - 1;
                assert_eq!((tiles.len(), tiles.size_hint()), (left, (left, Some(left))));
                assert_eq!(tiles.count(), left);
                (y.iter().filter(|value| value.to_bits() != POISON.to_bits()).count(), len)
            };
            for count in 2..=16 {
                let (_, len) = written(count, 0);
                assert!(len <= count && len > 1, "{layer:?} {layout:?}: {len} of {count}");
                let shares: Vec<usize> = (0..len).map(|which| written(count, which).0).collect();
                assert_eq!(shares.iter().sum::<usize>(), plan.output_len());
                let most = 2 * plan.output_len() / len;
                let fair = shares.iter().all(|share| (1..=most).contains(share));
                assert!(fair, "{layer:?} {layout:?} in {count}: {shares:?}");
            }
        }
    }
}

/// One plan, one blob of weights and one input serve jobs that run at the same time.
#[test]
fn jobs_at_the_same_time() {
    let layer = layers()[0];
    let plan = layer.plan(Layout::Nhwc).unwrap();
    let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
    let mut packed = vec![POISON; plan.packed_len()];
    let packed = plan.pack(&w, &mut packed).unwrap();
    let mut expected = vec![POISON; plan.output_len()];
    reference::run(&plan, &x, &w, Epilogue::new(), &mut expected).unwrap();
    let paths = paths();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|thread: usize| {
            let (paths, start, x, expected) = (&paths, &start, &x, &expected);
            scope.spawn(move || {
                let plan = plan.with_isa(paths[thread % paths.len()]).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                start.wait();
                for _ in 0..ROUNDS {
                    let mut y = vec![POISON; plan.output_len()];
                    plan.run(x, packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
                    assert_same_bits(&y, expected, plan.isa());
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
