//! Residuals with strides of their own: kernels read a residual where the output lies, so such a one
//! is copied there first.

use super::part::Part;
use super::walk::Pixel;
use crate::element::Element;
use crate::panels;
use crate::problem::Problem;
use crate::problem::strides::Strides;

/// Copies a part of a residual with these strides to the output.
///
/// # Safety
/// The residual has as many elements as its strides reach, the output as those of the problem do; the
/// part lies inside, and nobody else accesses its elements meanwhile.
type CopyPart =
    unsafe fn(&Problem, &Strides, residual: *const Element, output: *mut Element, part: &Part);

/// A plan holds the copy as a function, so that programs without such residuals do without it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResidualApart {
    pub strides: Strides,
    pub copy: CopyPart,
}

impl ResidualApart {
    pub const fn new(strides: Strides) -> ResidualApart {
        ResidualApart { strides, copy }
    }
}

/// # Safety
/// As of [`CopyPart`].
unsafe fn copy(
    problem: &Problem,
    from: &Strides,
    residual: *const Element,
    output: *mut Element,
    part: &Part,
) {
    let Problem { geometry, output: to, .. } = problem;
    let columns = 0..geometry.output[2];
    let mut pixel = Pixel::of(geometry, part.pixels.start);
    for _ in part.pixels.clone() {
        let (source, target) = (pixel.output_offset(from), pixel.output_offset(to));
        for panel in part.panels.clone() {
            let (first, count) = panels::channels(geometry, panel);
            for channel in first..first + count {
                // SAFETY: the caller vouches for the elements of the part.
                unsafe {
                    *output.wrapping_add(target + channel * to.channel) =
                        *residual.wrapping_add(source + channel * from.channel);
                }
            }
        }
        pixel.next(geometry, &columns);
    }
}
