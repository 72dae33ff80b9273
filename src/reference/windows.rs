//! Which element of an image is which element of its columns.

use crate::op::windows::Windows;
use crate::problem::geometry::Geometry;
use crate::problem::strides::Layout;

/// Calls `found` for each element of the columns with its place and that of the element of the
/// image, if it is not in the padding: the taps of a channel ascending, for each all windows.
pub(super) fn visit(windows: &Windows, mut found: impl FnMut(usize, Option<usize>)) {
    let Geometry { batch, in_channels: channels, .. } = windows.geometry;
    let [_, window_rows, window_columns] = windows.geometry.output;
    let [_, kernel_height, kernel_width] = windows.geometry.window;
    let [_, height, width] = windows.geometry.input;
    let (rows, count) = (channels * kernel_height * kernel_width, window_rows * window_columns);
    for image in 0..batch {
        for channel in 0..channels {
            for kh in 0..kernel_height {
                for kw in 0..kernel_width {
                    let row = (channel * kernel_height + kh) * kernel_width + kw;
                    for down in 0..window_rows {
                        for across in 0..window_columns {
                            let column = down * window_columns + across;
                            let at = match windows.layout {
                                Layout::Nchw => (image * rows + row) * count + column,
                                Layout::Nhwc => (image * count + column) * rows + row,
                            };
                            let h = coordinate(&windows.geometry, 1, down, kh);
                            let w = coordinate(&windows.geometry, 2, across, kw);
                            let pixel = h.zip(w).map(|(h, w)| match windows.layout {
                                Layout::Nchw => {
                                    ((image * channels + channel) * height + h) * width + w
                                }
                                Layout::Nhwc => {
                                    ((image * height + h) * width + w) * channels + channel
                                }
                            });
                            found(at, pixel);
                        }
                    }
                }
            }
        }
    }
}

/// Where a window's tap lies along an axis, if inside.
fn coordinate(geometry: &Geometry, axis: usize, window: usize, tap: usize) -> Option<usize> {
    let padded = window * geometry.stride[axis] + tap * geometry.dilation[axis];
    padded.checked_sub(geometry.padding[axis]).filter(|at| *at < geometry.input[axis])
}
