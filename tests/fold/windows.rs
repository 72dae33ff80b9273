//! Windows over images: random ones, and typical ones.

#![allow(dead_code)] // each test uses a part

use super::support::choices::Choices;
use tapwise::{Fold2d, FoldPlan, Layout, Unfold2d, UnfoldPlan};

pub const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// A number whose products wrap.
pub const HUGE: usize = 1 << (usize::BITS - 3);

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

    pub fn of(choices: &mut Choices) -> Windows {
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
        windows
    }

    pub fn unfold(&self, layout: Layout) -> UnfoldPlan {
        let unfold = Unfold2d::new(self.kernel).dilation(self.dilation);
        let unfold = unfold.padding(self.padding).stride(self.stride);
        unfold.plan(layout, self.batch, self.channels, self.size).unwrap()
    }

    pub fn fold(&self, layout: Layout) -> FoldPlan {
        let fold = Fold2d::new(self.kernel).dilation(self.dilation);
        let fold = fold.padding(self.padding).stride(self.stride);
        fold.plan(layout, self.batch, self.channels, self.size).unwrap()
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
