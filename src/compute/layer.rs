//! A layer with the kernel that runs it.

use super::operands::Operands;
use super::pieces::Pieces;
use crate::activation::Activation;
use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::kernel::activate::{Activate, Parameter};
use crate::kernel::part::{Cut, Part, Wanted};
use crate::kernel::{Caches, Entry, Kernel, Schedule};
use crate::panels::{self, HEADER, PackPanels, PackedFormat};
use crate::problem::Problem;
use crate::problem::arithmetic::tri;
use crate::problem::geometry::Geometry;
use core::ops::Range;

/// A layer, and everything that computing it depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer {
    /// As it was described.
    pub problem: Problem,
    /// As the kernel sees it: an equal one with as few axes as possible, or one that stands for those
    /// of which it consists. Outputs are cut in its pixels.
    pub simplest: Problem,
    pub schedule: Schedule,
    pub entry: Entry,
    /// What a part packs weights by, into scratch memory, if it does. A function, so that programs
    /// without unpacked weights do without it.
    pub pack_panels: Option<PackPanels>,
    /// `None`: the kernel is called at once, on all of the part.
    pub compute: Option<ComputePart>,
    /// How kernels plan what is planned part by part; a function, so that programs in which nothing is
    /// do without it.
    pub scheduler: Option<Scheduler>,
    /// The number of an output, from that of a pixel of the simplest form, where they differ; behind
    /// the last pixel, that behind the last output.
    pub pixel: Option<fn(&Geometry, usize) -> usize>,
    /// How an output is cut, where that is not the kernel's affair.
    pub cutter: Option<Cutter>,
    /// If parts have all panels: of how many pixels they are made.
    pub grain: Option<usize>,
    pub options: Options,
    /// The elements that a part needs.
    pub scratch_len: usize,
}

/// Computes a part of a layer.
///
/// # Safety
/// The operands are as long as the problem's sizes, the scratch memory as the layer says. The part lies
/// inside the output, and nobody else accesses its elements meanwhile.
pub(crate) type ComputePart = unsafe fn(&Layer, &Operands, &Extra, &Part, &mut [Element]);

/// Cuts an output into parts.
pub(crate) type Cutter = fn(&Layer, whole: &Part, Wanted) -> Cut;

/// The schedule of the kernel of a layer for another problem.
pub(crate) type Scheduler = fn(&Problem, &Caches, unpacked: bool) -> Schedule;

/// What only some operators are computed from. Apart, so that it is on the stack of no other.
#[derive(Clone, Copy)]
pub(crate) struct Extra<'a> {
    /// Of a deformable convolution, otherwise null.
    pub offsets: *const Element,
    /// Of a deformable convolution that is modulated, otherwise null.
    pub mask: *const Element,
    /// Of two layers in one pass: the first one.
    pub before: Option<Before<'a>>,
}

impl Extra<'_> {
    pub const NONE: Extra<'static> =
        Extra { offsets: core::ptr::null(), mask: core::ptr::null(), before: None };
}

/// The layer whose outputs are the inputs: they never exist all at once, but piece by piece.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    /// With outputs where those of a piece lie.
    pub layer: &'a Layer,
    pub pieces: &'a Pieces,
    /// Panels.
    pub weights: &'a [Element],
    /// A value for each of its output channels, or null.
    pub bias: *const Element,
    pub activation: Activation,
    /// What is applied to the outputs of a piece when they are written.
    pub pass: Option<(Activate, Parameter)>,
}

/// What a schedule depends on, besides the problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub caches: Caches,
    /// `None`: the one that suits the problem best.
    pub forced: Option<Kernel>,
    pub unpacked: bool,
    /// Whether sums may wait in scratch memory for rows of several phases to be woven.
    pub weaves: bool,
}

impl Options {
    /// Packed weights, and the kernel that suits them.
    pub const USUAL: Options =
        Options { caches: Caches::USUAL, forced: None, unpacked: false, weaves: true };

    /// The kernel of a problem in its simplest form.
    ///
    /// # Errors
    /// One that is forced and cannot run it.
    pub const fn kernel(&self, simplest: &Problem) -> Result<Kernel, Error> {
        match self.forced {
            Some(kernel) if !kernel.can_run(simplest, self.unpacked) => {
                let (expected, found) = (Expected::FittingKernel, Found::UnfitKernel);
                Err(Error::new(Field::ForcedKernel, expected, found))
            }
            Some(kernel) => Ok(kernel),
            None => Ok(Kernel::choose(simplest, self.unpacked)),
        }
    }
}

impl Layer {
    /// `simplest` is what the kernel will see of the problem, and `compute` shows it.
    pub const fn new(
        problem: Problem,
        simplest: Problem,
        compute: Option<ComputePart>,
        options: Options,
    ) -> Result<Layer, Error> {
        let Options { caches, unpacked, .. } = &options;
        let kernel = tri!(options.kernel(&simplest));
        let packs = *unpacked && !kernel.reads_unpacked();
        let schedule = kernel.schedule(&simplest, caches, *unpacked);
        Ok(Layer {
            problem,
            simplest,
            schedule,
            entry: kernel.entry(),
            pack_panels: if packs { Some(panels::pack_panels) } else { None },
            compute,
            scheduler: None,
            pixel: None,
            cutter: None,
            grain: None,
            options,
            scratch_len: schedule.scratch_len(&simplest.geometry),
        })
    }

    /// Cuts an output into parts.
    pub fn cut(&self, whole: &Part, wanted: Wanted) -> Cut {
        if let Some(cutter) = self.cutter {
            return cutter(self, whole, wanted);
        }
        if let Some(grain) = self.grain {
            return Cut::pixels_first(whole, wanted, whole.panels.end, grain);
        }
        let Layer { simplest, .. } = self;
        let whole = if self.pixel.is_some() {
            &Part { pixels: 0..simplest.geometry.pixels(), panels: whole.panels.clone() }
        } else {
            whole
        };
        self.schedule.cut(simplest, whole, wanted)
    }

    /// One of the parts of a cut.
    pub fn part(&self, cut: &Cut, number: usize) -> Part {
        let mut part = cut.part(number);
        if let Some(pixel) = self.pixel {
            let Range { start, end } = part.pixels;
            let geometry = &self.problem.geometry;
            part.pixels = pixel(geometry, start)..pixel(geometry, end);
        }
        part
    }

    /// With room for the panels that a part packs.
    pub const fn with_room_to_pack(mut self, format: &PackedFormat) -> Result<Layer, Error> {
        let packing = if self.pack_panels.is_some() { format.len - HEADER } else { 0 };
        self.scratch_len = self.scratch_len.saturating_add(packing);
        let elements = self.problem.most_elements();
        if self.scratch_len > elements {
            return Err(Error::overflow(Field::Scratch, elements));
        }
        Ok(self)
    }
}
