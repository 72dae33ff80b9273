//! Windows over images, random, typical or absurd ones: unfolding and folding have the bits of the plain
//! loops, at once and in tiles; and what has to hold for descriptions.

#![allow(dead_code)] // each test uses a part

use crate::description::{LARGEST, LARGEST_32, MOST_ELEMENTS, number};
use crate::support::case::shuffle;
use crate::support::choices::Choices;
use crate::support::values::Values;
use crate::support::{POISON, assert_same_bits, bits, from_layout, paths, to_layout};
use tapwise::{Fold2d, FoldPlan, Layout, Unfold2d, UnfoldPlan, fold, reference, unfold};

pub const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// A number whose products wrap.
pub const HUGE: usize = 1 << (usize::BITS - 3);
/// Elements behind an output, which are left alone.
pub const SPARE: usize = 5;

/// Windows over images.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub batch: usize,
    pub channels: usize,
    pub size: [usize; 2],
    pub kernel: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: [usize; 2],
    pub stride: [usize; 2],
}

impl Windows {
    pub const fn new(
        batch: usize,
        channels: usize,
        size: [usize; 2],
        kernel: [usize; 2],
    ) -> Windows {
        let ones = [1; 2];
        Windows { batch, channels, size, kernel, dilation: ones, padding: [0; 2], stride: ones }
    }

    /// With at most so many elements in their columns, unless an image of one channel and a kernel of one
    /// tap have more.
    pub fn of(choices: &mut Choices, most: usize) -> Windows {
        let few = |choices: &mut Choices, most: usize, rarely: usize| {
            let most = if choices.one_in(8) { rarely } else { most };
            choices.small_in(most)
        };
        let batch = if choices.one_in(16) { 0 } else { choices.small_in(3) };
        let mut windows = Windows::new(batch, few(choices, 6, 40), [1; 2], [1; 2]);
        let same = choices.one_in(3);
        for axis in 0..2 {
            windows.kernel[axis] = few(choices, 4, 9);
            windows.dilation[axis] = choices.small_in(4);
            windows.stride[axis] = if same { 1 } else { choices.small_in(5) };
            let reach = (windows.kernel[axis] - 1) * windows.dilation[axis];
            windows.padding[axis] = if same { reach / 2 } else { choices.small_in(reach + 3) - 1 };
            let least = (reach + 1).saturating_sub(2 * windows.padding[axis]).max(1);
            windows.size[axis] = least + few(choices, 12, 40) - 1;
            if choices.one_in(64) {
                windows.stride[axis] = choices.number().max(1);
            }
        }
        while windows.batch * windows.rows() * windows.count() > most {
            let Windows { channels, kernel: [height, width], .. } = &mut windows;
            let largest = [channels, height, width].into_iter().max_by_key(|extent| **extent);
            match largest {
                Some(extent) if *extent > 1 => *extent /= 2,
                _ => break,
            }
        }
        windows
    }

    /// Everything absurd, or the image small and the rest absurd.
    pub fn absurd(choices: &mut Choices, tame: bool) -> Windows {
        let size = |choices: &mut Choices| if tame { choices.small_in(7) } else { number(choices) };
        let two = |choices: &mut Choices| [(); 2].map(|()| number(choices));
        let (batch, channels) = (size(choices), size(choices));
        let [height, width, kernel_height, kernel_width] = [(); 4].map(|()| size(choices));
        let mut windows =
            Windows::new(batch, channels, [height, width], [kernel_height, kernel_width]);
        windows.stride = two(choices);
        windows.dilation = two(choices);
        windows.padding = two(choices);
        if tame {
            for axis in 0..2 {
                // Mostly windows that fit.
                if choices.flag() {
                    windows.kernel[axis] = windows.kernel[axis].min(windows.size[axis]);
                    windows.dilation[axis] %= 4;
                }
                if choices.flag() {
                    windows.padding[axis] %= 9;
                }
            }
        }
        windows
    }

    fn unfold_of(&self) -> Unfold2d {
        let unfold = Unfold2d::new(self.kernel).dilation(self.dilation);
        unfold.padding(self.padding).stride(self.stride)
    }

    fn fold_of(&self) -> Fold2d {
        let fold = Fold2d::new(self.kernel).dilation(self.dilation);
        fold.padding(self.padding).stride(self.stride)
    }

    pub fn unfold(&self, layout: Layout) -> UnfoldPlan {
        self.unfold_of().plan(layout, self.batch, self.channels, self.size).unwrap()
    }

    pub fn fold(&self, layout: Layout) -> FoldPlan {
        self.fold_of().plan(layout, self.batch, self.channels, self.size).unwrap()
    }

    pub fn rows(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// By the formula of PyTorch's documentation.
    pub fn count(&self) -> usize {
        let along = |axis: usize| {
            let padded = self.size[axis] + 2 * self.padding[axis];
            (padded - self.dilation[axis] * (self.kernel[axis] - 1) - 1) / self.stride[axis] + 1
        };
        along(0) * along(1)
    }

    pub fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Windows that are typical, or at an edge of some loop.
    pub fn examples() -> Vec<Windows> {
        let image = Windows::new(2, 3, [7, 9], [3, 3]);
        let long = Windows::new(1, 2, [3, 70], [1, 3]);
        vec![
            image,
            Windows { padding: [1, 1], ..image },
            Windows { padding: [1, 1], channels: 33, ..image },
            Windows { padding: [2, 2], dilation: [2, 2], ..image },
            Windows { stride: [2, 2], padding: [1, 1], ..image },
            Windows { stride: [3, 3], ..image },
            Windows { stride: [2, 1], dilation: [1, 2], kernel: [2, 4], ..image },
            Windows { stride: [1, 2], dilation: [2, 1], kernel: [2, 4], ..image },
            Windows { kernel: [1, 1], ..image },
            Windows { kernel: [7, 9], ..image },
            Windows { kernel: [1, 1], padding: [4, 5], ..image },
            Windows { size: [1, 1], padding: [1, 1], ..image },
            Windows { batch: 0, ..image },
            // Steps that are never taken may be of any size.
            Windows { kernel: [7, 1], stride: [HUGE, 1], dilation: [1, HUGE], ..image },
            // Of more rows, and of a longer one, than are added up at once.
            Windows { batch: 1, channels: 1, size: [70, 75], ..image },
            Windows { batch: 1, channels: 1, size: [2, 4099], kernel: [2, 1], ..image },
            long,
            Windows { padding: [0, 1], ..long },
            Windows { padding: [0, 1], stride: [1, 2], ..long },
            Windows { padding: [0, 64], dilation: [1, 64], ..long },
        ]
    }
}

/// Windows and how they are run.
#[derive(Clone, Debug)]
pub struct WindowsCase {
    pub windows: Windows,
    pub tiles: usize,
    /// By which tiles are brought out of order; 0: they are not.
    pub order: usize,
    pub values: Values,
}

impl WindowsCase {
    /// With at most so many elements in their columns, but for a few.
    pub fn of(choices: &mut Choices, most: usize) -> WindowsCase {
        WindowsCase {
            windows: Windows::of(choices, most),
            tiles: if choices.one_in(16) { choices.number() } else { choices.small_in(12) },
            order: choices.number_in(0..=0xff),
            values: Values::of(choices),
        }
    }

    /// Both operations, at once and tile by tile, against the plain loops.
    pub fn check(&self) {
        let WindowsCase { windows, tiles, order, values } = self;
        let (pixels, columns) = (windows.pixels(), windows.count());
        let image_len = windows.batch * windows.channels * pixels;
        let columns_len = windows.batch * windows.rows() * columns;
        let mut of_layouts: Vec<[Vec<f32>; 2]> = Vec::new();
        for layout in LAYOUTS {
            let what = (windows, layout, tiles, order);
            let x = to_layout(layout, &values.tensor(image_len, 1), windows.channels, pixels);
            let plan = windows.unfold(layout);
            assert_eq!((plan.input_len(), plan.output_len()), (image_len, columns_len), "{what:?}");
            let mut expected = vec![POISON; columns_len];
            reference::unfold(&plan, &x, &mut expected).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                assert_same_bits(&unfolded(&plan, &x), &expected, (what, isa));
                let mut y = vec![POISON; columns_len + SPARE];
                let in_turn = plan.tiles(&x, &mut y, *tiles).unwrap();
                shuffled(in_turn, *tiles, *order, |tile| tile.run());
                assert_same_bits(&split(y, columns_len), &expected, (what, isa));
            }
            let unfolded = from_layout(layout, &expected, windows.rows(), columns);

            let x = to_layout(layout, &values.tensor(columns_len, 2), windows.rows(), columns);
            let plan = windows.fold(layout);
            assert_eq!((plan.input_len(), plan.output_len()), (columns_len, image_len), "{what:?}");
            let mut expected = vec![POISON; image_len];
            reference::fold(&plan, &x, &mut expected).unwrap();
            assert_same_bits(&folded(&plan, &x), &expected, what);
            let mut y = vec![POISON; image_len + SPARE];
            let in_turn = plan.tiles(&x, &mut y, *tiles).unwrap();
            shuffled(in_turn, *tiles, *order, |tile| tile.run());
            assert_same_bits(&split(y, image_len), &expected, what);
            of_layouts.push([unfolded, from_layout(layout, &expected, windows.channels, pixels)]);
        }
        for (nchw, nhwc) in of_layouts[0].iter().zip(&of_layouts[1]) {
            assert_same_bits(nhwc, nchw, windows);
        }
    }
}

/// Behind the output lies what lay there before.
#[track_caller]
pub fn split(y: Vec<f32>, len: usize) -> Vec<f32> {
    assert_eq!(y.len(), len + SPARE);
    let poison = [POISON.to_bits(); SPARE];
    assert_eq!(bits(&y[len..]), poison, "written beyond the end");
    y[..len].to_vec()
}

pub fn unfolded(plan: &UnfoldPlan, x: &[f32]) -> Vec<f32> {
    let mut y = vec![POISON; plan.output_len() + SPARE];
    assert_eq!(plan.run(x, &mut y).unwrap().len(), plan.output_len());
    split(y, plan.output_len())
}

pub fn folded(plan: &FoldPlan, x: &[f32]) -> Vec<f32> {
    let mut y = vec![POISON; plan.output_len() + SPARE];
    assert_eq!(plan.run(x, &mut y).unwrap().len(), plan.output_len());
    split(y, plan.output_len())
}

/// Runs tiles in another order.
fn shuffled<T>(
    tiles: impl ExactSizeIterator<Item = T>,
    most: usize,
    order: usize,
    run: impl Fn(T),
) {
    let count = tiles.len();
    assert!(count <= most.max(1));
    let mut tiles: Vec<T> = tiles.collect();
    assert_eq!(tiles.len(), count);
    shuffle(&mut tiles, order);
    tiles.into_iter().for_each(run);
}

/// Checks descriptions of both operations with the same numbers, everything absurd, or the image small
/// and the rest absurd; whether what they plan was compared.
pub fn describe(choices: &mut Choices, tame: bool) -> bool {
    let windows = Windows::absurd(choices, tame);
    let Windows { batch, channels, size, .. } = windows;
    let limit = if choices.one_in(4) { number(choices).min(LARGEST) } else { LARGEST_32 };
    call_at_once(choices, &windows);
    let mut small = false;
    for layout in LAYOUTS {
        let (of_unfold, of_fold) = (windows.unfold_of(), windows.fold_of());
        for limit in [LARGEST, limit] {
            let unfold = of_unfold.plan_within(layout, batch, channels, size, limit);
            let fold = of_fold.plan_within(layout, batch, channels, size, limit);
            // What one of them accepts, the other does.
            assert_eq!(unfold.is_ok(), fold.is_ok());
            let (Ok(unfold), Ok(fold)) = (unfold, fold) else { continue };
            // What a small machine accepts, a large one does.
            assert!(of_unfold.plan(layout, batch, channels, size).is_ok());
            let wide = |shape: &[usize]| shape.iter().map(|n| *n as u128).product::<u128>();
            let (image, columns) = (unfold.input_len(), unfold.output_len());
            assert!(image.max(columns) <= limit / 4);
            assert_eq!(wide(&unfold.input_shape()), image as u128);
            assert_eq!(wide(&unfold.output_shape()), columns as u128);
            assert_eq!((fold.input_shape(), fold.input_len()), (unfold.output_shape(), columns));
            assert_eq!((fold.output_shape(), fold.output_len()), (unfold.input_shape(), image));
            small |= image.max(columns) <= MOST_ELEMENTS;
        }
    }
    if small {
        let (tiles, order) = (choices.small_in(12), choices.number_in(0..=0xff));
        WindowsCase { windows, tiles, order, values: Values::of(choices) }.check();
    }
    small
}

/// The functions that plan for themselves, with slices that are long enough only for a few.
fn call_at_once(choices: &mut Choices, windows: &Windows) {
    let Windows { batch, channels, size, kernel, dilation, padding, stride } = *windows;
    let values = [0.5; 64];
    let (x, mut y) = (&values[..choices.number_in(0..=64)], [0.0; 64]);
    let shape = [batch, channels, size[0], size[1]];
    let unfolded = unfold(shape, x, kernel, dilation, padding, stride, &mut y);
    let [rows, columns] = match unfolded {
        Ok([_, rows, columns]) => [rows, columns],
        Err(_) => [(); 2].map(|()| number(choices)),
    };
    let folded =
        fold([batch, rows, columns], &values, size, kernel, dilation, padding, stride, &mut y);
    // 64 elements are enough for either.
    assert!(unfolded.is_err() || folded == Ok(shape));
}
