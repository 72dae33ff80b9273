//! A call as disjoint pieces that any threads compute in any order.

use super::task::Task;
use crate::compute::layer::Extra;
use crate::element::Element;
use crate::error::Error;
use crate::isa::Isa;
use crate::kernel::part::{Cut, Part, Wanted};
use crate::panels::PIXELS_WORTH_PACKING;
use core::fmt;
use core::marker::PhantomData;

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
///         threads.spawn(move || tile.run(&mut vec![0.0; plan.scratch_len()]).unwrap());
///     }
/// });
/// assert_eq!(y[0], 2.0 * 2.0 * 8.0 * 0.5);
/// # Ok::<(), tapwise::Error>(())
/// ```
#[must_use = "a job computes nothing by itself: run its tiles"]
pub struct Job<'a> {
    task: Task<'a>,
    extra: Extra<'a>,
    borrows: PhantomData<(&'a [Element], &'a mut [Element])>,
}

// SAFETY: the pointers of the task stand for shared and exclusive borrows of slices, which
// may go to other threads.
unsafe impl Send for Job<'_> {}
// SAFETY: a shared job gives no access to the output; `tiles` needs it exclusively.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    /// # Safety
    /// The slices of both are borrowed for as long as the job lives, its output exclusively.
    pub(crate) unsafe fn new(task: Task<'a>, extra: Extra<'a>) -> Job<'a> {
        Job { task, extra, borrows: PhantomData }
    }

    /// Cuts the output into at most `count` disjoint tiles (at least 1) of about equal work: fewer
    /// where more would only repeat each other's work. The cut does not change a bit.
    ///
    /// Tiles may be asked for again, and computed again: the output is then the same, unless the
    /// residual is [what it held](crate::Epilogue::residual_from_output), which is added once more.
    pub fn tiles(&mut self, count: usize) -> Tiles<'_> {
        let plan = self.task.plan();
        let whole = self.task.whole();
        let cut = if whole.pixels.is_empty() {
            Cut::NONE
        } else {
            // A part that packs its weights first takes as long for that as for many pixels.
            let least_pixels =
                if plan.layer.pack_panels.is_some() { PIXELS_WORTH_PACKING } else { 1 };
            let wanted = Wanted { parts: count.max(1), least_pixels };
            plan.layer.cut(&whole, wanted)
        };
        Tiles { job: self, cut, next: 0 }
    }

    /// The path that its tiles take.
    pub fn isa(&self) -> Isa {
        self.task.isa()
    }

    /// The elements of scratch memory that each tile needs while it runs.
    pub fn scratch_len(&self) -> usize {
        self.task.plan().scratch_len()
    }
}

/// The tiles of a [`Job`]: together they are the output, and no two share an element.
#[must_use = "tiles that are not run are not computed"]
pub struct Tiles<'a> {
    job: &'a Job<'a>,
    cut: Cut,
    next: usize,
}

impl<'a> Iterator for Tiles<'a> {
    type Item = Tile<'a>;

    fn next(&mut self) -> Option<Tile<'a>> {
        if self.next == self.cut.len() {
            return None;
        }
        let part = self.job.task.plan().layer.part(&self.cut, self.next);
        self.next += 1;
        Some(Tile { job: self.job, part })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.cut.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Tiles<'_> {}

/// A piece of the output that one thread computes.
#[must_use = "a tile that is not run is not computed"]
pub struct Tile<'a> {
    job: &'a Job<'a>,
    part: Part,
}

impl<'a> Tile<'a> {
    /// Computes the tile.
    ///
    /// # Errors
    /// Scratch memory of fewer than [`Job::scratch_len`] elements; the output is then untouched, and
    /// the tile comes back with the error.
    pub fn run(self, scratch: &mut [Element]) -> Result<(), Refused<'a>> {
        // SAFETY: the job holds the output exclusively, and its tiles are disjoint, as are the
        // elements that the plan's output strides tell apart.
        let outcome =
            unsafe { self.job.task.run_part(&self.job.extra, self.part.clone(), scratch) };
        outcome.map_err(|error| Refused { tile: self, error })
    }
}

/// A tile that was not computed, and why.
pub struct Refused<'a> {
    /// It can be run again.
    pub tile: Tile<'a>,
    /// Why it was not.
    pub error: Error,
}

impl From<Refused<'_>> for Error {
    fn from(refused: Refused) -> Error {
        refused.error
    }
}

impl fmt::Debug for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl core::error::Error for Refused<'_> {}
