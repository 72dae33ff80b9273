//! Running a plan: at once, or as disjoint pieces that any threads compute in any order.

use crate::epilogue::{Epilogue, Residual};
use crate::error::{Error, Expected, Field, Found};
use crate::kernel::{Outputs, Part, Task, WeightPanels};
use crate::pack::{LANES_PER_PANEL, Weights, pack_panels};
use crate::plan::{Plan, panels};
use crate::shape::Layout;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// What an output slice can hold: `f32`, or `MaybeUninit<f32>` that a run initialises.
pub trait OutputElement: sealed::Sealed {}

mod sealed {
    /// # Safety
    /// Only for types with the layout of `f32`.
    pub unsafe trait Sealed {
        const INITIALISED: bool;
    }
    // SAFETY: it is `f32`.
    unsafe impl Sealed for f32 {
        const INITIALISED: bool = true;
    }
    // SAFETY: `MaybeUninit<T>` has the layout of `T`.
    unsafe impl Sealed for core::mem::MaybeUninit<f32> {
        const INITIALISED: bool = false;
    }
}

impl OutputElement for f32 {}
impl OutputElement for MaybeUninit<f32> {}

/// A call that was checked: all that can still fail is a scratch slice that is too short.
///
/// ```
/// use tapwise::{Conv2d, Epilogue, Layout};
/// let plan = Conv2d::new(8, 16, [3, 3]).padding_same().plan(Layout::Nhwc, 1, [12, 12])?;
/// let (x, w) = (vec![1.0; plan.input_len()], vec![0.5; plan.weights_len()]);
/// let (mut packed, mut y) = (vec![0.0; plan.packed_len()], vec![0.0; plan.output_len()]);
/// let weights = plan.pack(&w, &mut packed)?;
/// let mut job = plan.job(&x, &weights, Epilogue::new(), &mut y)?;
/// std::thread::scope(|threads| {
///     for tile in job.tiles(4) {
///         threads.spawn(move || tile.run(&mut vec![0.0; plan.scratch_len()]));
///     }
/// });
/// assert_eq!(y[0], 2.0 * 2.0 * 8.0 * 0.5);
/// # Ok::<(), tapwise::Error>(())
/// ```
pub struct Job<'a> {
    task: Task<'a>,
    weights: Weights<'a>,
    borrows: PhantomData<(&'a [f32], &'a mut [f32])>,
}

// SAFETY: the pointers of the task stand for shared and exclusive borrows of `f32` slices, which
// may go to other threads.
unsafe impl Send for Job<'_> {}
// SAFETY: a shared job gives no access to the output; `tiles` needs it exclusively.
unsafe impl Sync for Job<'_> {}

impl Plan {
    /// Computes the whole output: `activation(conv(x) + bias + residual)`.
    ///
    /// `x`, `y` and the residual are in the plan's layout and strides, and may be longer than
    /// [`input_len`](Plan::input_len) and [`output_len`](Plan::output_len). `scratch` has
    /// [`scratch_len`](Plan::scratch_len) elements, with unpacked weights
    /// [`scratch_len_unpacked`](Plan::scratch_len_unpacked); what it holds does not matter. The
    /// bits of the result are those that [`crate::numerics`] defines.
    ///
    /// # Errors
    /// Slices that are too short, weights of another layer, bounds of a clamp that are NaN or out
    /// of order, a residual from an output that is not initialised. The output is then untouched.
    pub fn run<'a, T: OutputElement>(
        &'a self,
        x: &'a [f32],
        weights: impl Into<Weights<'a>>,
        epilogue: Epilogue<'a>,
        scratch: &mut [f32],
        y: &'a mut [T],
    ) -> Result<(), Error> {
        let weights = weights.into();
        self.check(x.len(), &weights, &epilogue, y.len(), T::INITIALISED)?;
        let task = self.task(x, &epilogue, y.as_mut_ptr().cast());
        // SAFETY: checked with these weights; the call holds `y` exclusively.
        unsafe { task.run_part(&weights, self.whole(), scratch) }
    }

    /// Checks a call as [`Plan::run`] does, for threads to share its work.
    ///
    /// # Errors
    /// As of [`Plan::run`], but for the scratch memory.
    pub fn job<'a, T: OutputElement>(
        &'a self,
        x: &'a [f32],
        weights: impl Into<Weights<'a>>,
        epilogue: Epilogue<'a>,
        y: &'a mut [T],
    ) -> Result<Job<'a>, Error> {
        let weights = weights.into();
        self.check(x.len(), &weights, &epilogue, y.len(), T::INITIALISED)?;
        let task = self.task(x, &epilogue, y.as_mut_ptr().cast());
        Ok(Job { task, weights, borrows: PhantomData })
    }

    /// All of the output.
    fn whole(&self) -> Part {
        Part { pixels: 0..self.geometry.pixels(), panels: 0..panels(&self.geometry) }
    }

    /// The checks of a call, in a function that has returned, and left the stack, when kernels run.
    #[inline(never)]
    fn check(
        &self,
        input_len: usize,
        weights: &Weights,
        epilogue: &Epilogue,
        output_len: usize,
        initialised: bool,
    ) -> Result<(), Error> {
        Error::check_len(Field::Input, self.input_len(), input_len)?;
        Error::check_len(Field::Output, self.output_len(), output_len)?;
        match weights {
            Weights::Packed(packed) => {
                packed.panels_for(self)?;
            }
            Weights::Unpacked(weights) => self.check_unpacked(weights)?,
        }
        epilogue.check(self.geometry.out_channels, self.output_len())?;
        match epilogue.residual {
            Residual::Output if !initialised => Err(Error::new(
                Field::ResidualFromOutput,
                Expected::Initialised,
                Found::Uninitialised,
            )),
            _ => Ok(()),
        }
    }

    /// A call that was checked.
    fn task<'a>(&'a self, x: &'a [f32], epilogue: &Epilogue<'a>, output: *mut f32) -> Task<'a> {
        let residual = match epilogue.residual {
            Residual::None => core::ptr::null(),
            Residual::Slice(residual) => residual.as_ptr(),
            Residual::Output => output.cast_const(),
        };
        Task {
            plan: self,
            isa: self.isa(),
            input: x.as_ptr(),
            input_strides: &self.input,
            bias: epilogue.bias.map_or(core::ptr::null(), <[f32]>::as_ptr),
            outputs: Outputs::new(self, output, residual, epilogue.activation),
        }
    }
}

impl<'a> Job<'a> {
    /// Cuts the output into at most `count` disjoint tiles (at least 1) of about equal work. The
    /// cut does not change a bit.
    pub fn tiles(&mut self, count: usize) -> Tiles<'_> {
        let geometry = &self.task.plan.geometry;
        let whole = self.task.plan.whole();
        let (pixels, panels) = (whole.pixels.len(), whole.panels.len());
        let count = count.max(1);
        // The operand that is larger is the one that tiles should not have to share.
        let by_panels_first = self.task.plan.weights_len() > self.task.plan.input_len();
        let (pixel_parts, panel_parts) = if by_panels_first {
            let panel_parts = count.min(panels);
            ((count / panel_parts).min(pixels), panel_parts)
        } else {
            let pixel_parts = count.min(pixels);
            (pixel_parts, (count / pixel_parts).min(panels))
        };
        let rows = pixels / geometry.output[2];
        let pixel_unit = if rows >= pixel_parts { geometry.output[2] } else { 1 };
        Tiles { job: self, pixel_parts, panel_parts, pixel_unit, next: 0 }
    }

    /// The elements of scratch memory that each tile needs while it runs.
    pub fn scratch_len(&self) -> usize {
        scratch_len(self.task.plan, &self.weights)
    }
}

fn scratch_len(plan: &Plan, weights: &Weights) -> usize {
    match weights {
        Weights::Packed(_) => plan.scratch_len(),
        Weights::Unpacked(_) => plan.scratch_len_unpacked(),
    }
}

/// The tiles of a [`Job`]: together they are the output, and no two share an element.
pub struct Tiles<'a> {
    job: &'a Job<'a>,
    pixel_parts: usize,
    panel_parts: usize,
    /// Cuts are at multiples of this many pixels: rows, where there are enough.
    pixel_unit: usize,
    next: usize,
}

impl<'a> Iterator for Tiles<'a> {
    type Item = Tile<'a>;

    fn next(&mut self) -> Option<Tile<'a>> {
        if self.next == self.pixel_parts * self.panel_parts {
            return None;
        }
        let (pixel_part, panel_part) = (self.next / self.panel_parts, self.next % self.panel_parts);
        self.next += 1;
        let whole = self.job.task.plan.whole();
        let units = whole.pixels.end / self.pixel_unit;
        let pixels = |part| cut(units, self.pixel_parts, part) * self.pixel_unit;
        let panels = |part| cut(whole.panels.end, self.panel_parts, part);
        let part = Part {
            pixels: pixels(pixel_part)..pixels(pixel_part + 1),
            panels: panels(panel_part)..panels(panel_part + 1),
        };
        Some(Tile { job: self.job, part })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.pixel_parts * self.panel_parts - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Tiles<'_> {}

/// Where part `part` of `parts` equal ones of `count` begins; without overflow.
fn cut(count: usize, parts: usize, part: usize) -> usize {
    count / parts * part + (count % parts).min(part)
}

/// A piece of the output that one thread computes.
pub struct Tile<'a> {
    job: &'a Job<'a>,
    part: Part,
}

impl Tile<'_> {
    /// Computes the tile.
    ///
    /// # Errors
    /// Scratch memory of fewer than [`Job::scratch_len`] elements; the output is then untouched.
    pub fn run(self, scratch: &mut [f32]) -> Result<(), Error> {
        // SAFETY: `Plan::job` checked the task with these weights; the job holds the output exclusively,
        // and its tiles are disjoint, as are the elements that the plan's output strides tell apart.
        unsafe { self.job.task.run_part(&self.job.weights, self.part, scratch) }
    }
}

impl Task<'_> {
    /// Computes a part of the output, if the scratch memory will do.
    ///
    /// # Safety
    /// [`Plan::check`] has accepted the task with these weights, `part` lies inside the output, and no other
    /// thread accesses its elements meanwhile.
    unsafe fn run_part(
        &self,
        weights: &Weights,
        part: Part,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        let plan = self.plan;
        Error::check_len(Field::Scratch, scratch_len(plan, weights), scratch.len())?;
        let (panels, sums): (_, &mut [f32]) = match weights {
            Weights::Packed(packed) => {
                (WeightPanels::Packed { panels: packed.panels_for(plan)?, first_panel: 0 }, scratch)
            }
            Weights::Unpacked(weights) => match plan.layout {
                Layout::Nchw => (WeightPanels::Unpacked(weights), &mut []),
                Layout::Nhwc => {
                    let first_panel = part.panels.start;
                    let len = part.panels.len() * plan.geometry.chain() * LANES_PER_PANEL;
                    let (sums, blob) = scratch.split_at_mut(plan.scratch_len());
                    let panels = &mut blob[..len];
                    pack_panels(&plan.geometry, weights, part.panels.clone(), panels);
                    (WeightPanels::Packed { panels, first_panel }, sums)
                }
            },
        };
        // SAFETY: `Plan::check` checked slices, weights and bounds against the plan, whose `isa` is
        // available; scratch memory was checked above.
        unsafe { self.run(panels, part, sums) };
        Ok(())
    }
}
