//! The kernels: what they are given, and the way into them.

mod channels;
mod copy;
mod dense;
mod finish;
mod pixels;
mod walk;

use crate::epilogue::Activation;
use crate::isa::Isa;
use crate::plan::{KernelId, Plan};
use crate::simd::{Kernel, scalar};
use core::ops::Range;

/// One call: a plan with slices that were checked against it. The pointers stand for slices that
/// live as long as the job: `input` for `input_len` elements, `bias` (or null) for one per output
/// channel, `residual` (or null) and `output` for `output_len`.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub plan: Plan,
    pub isa: Isa,
    pub input: *const f32,
    pub bias: *const f32,
    pub residual: *const f32,
    pub activation: Activation,
    pub output: *mut f32,
}

/// The weights as a kernel reads them.
#[derive(Clone, Copy)]
pub(crate) enum WeightPanels<'a> {
    /// All panels of the layer, or all from `first_panel` on.
    Packed { panels: &'a [f32], first_panel: usize },
    /// PyTorch's order; only the pixels kernel reads it.
    Unpacked(&'a [f32]),
}

/// A part of the output: pixels (counted through all images) times panels of output channels.
#[derive(Clone)]
pub(crate) struct Part {
    pub pixels: Range<usize>,
    pub panels: Range<usize>,
}

impl Task {
    /// Computes a part of the output.
    ///
    /// # Safety
    /// The pointers are valid as described at [`Task`], `isa` is available, `part` lies inside
    /// the output, no other thread accesses its elements meanwhile, `weights` holds what the
    /// part needs, and `scratch` has `plan.scratch_len` elements.
    pub(crate) unsafe fn run(&self, weights: WeightPanels, part: Part, scratch: &mut [f32]) {
        match (self.plan.kernel, weights) {
            (_, WeightPanels::Unpacked(_)) | (KernelId::Pixels, _) => {
                let scratch = scratch.as_mut_ptr();
                self.enter(pixels::Run { task: self, weights, part, scratch });
            }
            (KernelId::Dense, WeightPanels::Packed { panels, first_panel }) => {
                let scratch = scratch.as_mut_ptr();
                self.enter(dense::Run { task: self, panels, first_panel, part, scratch });
            }
            (KernelId::Channels, WeightPanels::Packed { panels, first_panel }) => {
                self.enter(channels::Run { task: self, panels, first_panel, part });
            }
        }
    }

    /// Runs a body on the task's instruction set.
    #[inline]
    fn enter<K: Kernel>(&self, kernel: K) {
        use crate::simd::Simd;
        match self.isa {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            // SAFETY: the caller of `Task::run` vouches that `isa` is available.
            Isa::Avx512 => unsafe { crate::simd::avx512::Avx512::new() }.enter(kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { crate::simd::avx2::Avx2::new() }.enter(kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Isa::Scalar if crate::isa::Features::of_this_machine().has_fma() => {
                // SAFETY: the machine has FMA.
                Simd::enter(unsafe { scalar::ScalarFma::new() }, kernel);
            }
            _ => Simd::enter(scalar::ScalarSoft, kernel),
        }
    }
}
