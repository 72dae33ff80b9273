//! The kernels: what they are given, and the way into them.

mod channels;
mod copy;
mod dense;
mod finish;
#[cfg(test)]
mod operations;
mod pixels;
mod planes;
pub(crate) mod walk;

pub(crate) use finish::Outputs;

use crate::isa::Isa;
use crate::plan::{KernelId, Plan, Strides};
use crate::simd::{Kernel, OneLane};
use core::ops::Range;

/// One call: a plan with slices that were checked against it. The pointers stand for slices that
/// live as long as the job: `input` for `input_len` elements, `bias` (or null) for one per output
/// channel, and in `outputs` the residual (or null) and the output for `output_len`.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub plan: &'a Plan,
    pub isa: Isa,
    pub input: *const f32,
    /// The plan's, or those of a copy.
    pub input_strides: &'a Strides,
    pub bias: *const f32,
    pub outputs: Outputs,
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

/// Computes a part of the output.
///
/// # Safety
/// As of [`Task::run`].
pub(crate) type KernelBody = unsafe fn(&Task, WeightPanels, Part, &mut [f32]);

/// A plan holds its kernel as a function, so that programs whose plans are constants contain the
/// kernels that these use and no others.
pub(crate) const fn kernel_body(kernel: KernelId) -> KernelBody {
    match kernel {
        KernelId::Dense => run_dense,
        KernelId::Channels => run_channels,
        KernelId::Pixels => run_pixels,
        KernelId::Planes => run_planes,
    }
}

unsafe fn run_dense(task: &Task, weights: WeightPanels, part: Part, scratch: &mut [f32]) {
    if let WeightPanels::Packed { panels, first_panel } = weights {
        let scratch = scratch.as_mut_ptr();
        task.enter(dense::Run { task, panels, first_panel, part, scratch });
    }
}

unsafe fn run_channels(task: &Task, weights: WeightPanels, part: Part, _: &mut [f32]) {
    if let WeightPanels::Packed { panels, first_panel } = weights {
        task.enter(channels::Run { task, panels, first_panel, part });
    }
}

unsafe fn run_pixels(task: &Task, weights: WeightPanels, part: Part, scratch: &mut [f32]) {
    let scratch = scratch.as_mut_ptr();
    task.enter(pixels::Run { task, weights, part, scratch });
}

unsafe fn run_planes(task: &Task, weights: WeightPanels, part: Part, scratch: &mut [f32]) {
    if let WeightPanels::Packed { panels, first_panel } = weights {
        let scratch = scratch.as_mut_ptr();
        task.enter(planes::Run { task, panels, first_panel, part, scratch });
    }
}

impl Task<'_> {
    /// Computes a part of the output.
    ///
    /// # Safety
    /// The pointers are valid as described at [`Task`], `isa` is available, `part` lies inside
    /// the output, no other thread accesses its elements meanwhile, `weights` holds what the
    /// part needs, and `scratch` has `plan.scratch_len` elements.
    pub(crate) unsafe fn run(&self, weights: WeightPanels, part: Part, scratch: &mut [f32]) {
        let body = match weights {
            WeightPanels::Packed { .. } => self.plan.kernel_body,
            WeightPanels::Unpacked(_) => run_pixels,
        };
        // SAFETY: as the caller's.
        unsafe { body(self, weights, part, scratch) };
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
            #[cfg(all(
                feature = "portable",
                any(target_feature = "sse2", target_feature = "simd128")
            ))]
            Isa::Portable => crate::simd::portable::Portable.enter(kernel),
            #[cfg(all(
                target_arch = "aarch64",
                target_endian = "little",
                target_feature = "neon",
                feature = "neon"
            ))]
            Isa::Neon => crate::simd::neon::Neon.enter(kernel),
            #[cfg(any(
                all(target_arch = "x86_64", target_feature = "sse2"),
                all(target_arch = "aarch64", target_feature = "neon")
            ))]
            Isa::Scalar if crate::isa::Features::of_this_machine().has_fma() => {
                // SAFETY: the machine has FMA.
                Simd::enter(unsafe { crate::simd::scalar::ScalarFma::new() }, kernel);
            }
            _ => Simd::enter(OneLane, kernel),
        }
    }
}
