//! From a problem to the kernel that runs it, its schedule, and every size; nothing of the machine.

use crate::error::{Error, Expected, Field, Found};
use crate::isa::Isa;
use crate::kernel::residual::ResidualApart;
use crate::kernel::{Caches, Entry, Kernel, Schedule};
use crate::panels::{self, HEADER, PackPanels, PackedFormat};
use crate::problem::Problem;
use crate::problem::arithmetic::tri;
use crate::problem::geometry::Geometry;
use crate::problem::shape::Shape;
use crate::problem::strides::{Layout, Strides};

/// A layer on inputs of one shape and layout, ready to pack weights and to run.
///
/// A plan is made by [`Conv::plan`](crate::Conv::plan), is plain data, and can be a `const`. Each
/// of its sizes depends on shape, layout and strides alone, never on the machine. Making one takes
/// less than a microsecond, so there is no need to keep plans in a cache.
#[must_use = "a plan does nothing until it runs"]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// As it was described.
    pub(crate) problem: Problem,
    /// As the kernel sees it: an equal one with as few axes as possible.
    pub(crate) simplest: Problem,
    pub(crate) schedule: Schedule,
    pub(crate) entry: Entry,
    /// What a run packs weights by, into scratch memory, if it does. A function, so that programs
    /// without unpacked weights do without it.
    pub(crate) pack_panels: Option<PackPanels>,
    pub(crate) format: PackedFormat,
    /// Of the layer: 1, 2 or 3.
    dimensions: usize,
    /// If they are not those of the output.
    pub(crate) residual_apart: Option<ResidualApart>,
    options: Options,
    /// `None`: the fastest there is.
    isa: Option<Isa>,
    input_len: usize,
    output_len: usize,
    residual_len: usize,
    weights_len: usize,
    scratch_len: usize,
}

/// What a schedule depends on, besides the problem.
#[derive(Clone, Copy, Debug)]
struct Options {
    caches: Caches,
    /// `None`: the one that suits the problem best.
    forced: Option<Kernel>,
    unpacked: bool,
}

impl Plan {
    pub(crate) const fn new(problem: Problem, dimensions: usize) -> Result<Plan, Error> {
        let elements = problem.most_elements();
        let input_len = tri!(problem.input_len());
        let output_len = tri!(problem.output_len(&problem.output, Field::OutputElements));
        let weights_len = tri!(problem.geometry.weights_len(elements));
        let format = tri!(PackedFormat::of(&problem.geometry, elements));
        // Of a shape that is known to be possible: taps can be counted.
        let simplest = problem.simplest();
        let options = Options { caches: Caches::USUAL, forced: None, unpacked: false };
        let kernel = Kernel::choose(&simplest, false);
        let plan = Plan {
            problem,
            simplest,
            schedule: kernel.schedule(&simplest, &options.caches, false),
            entry: kernel.entry(),
            pack_panels: None,
            format,
            dimensions,
            residual_apart: None,
            options,
            isa: None,
            input_len,
            output_len,
            residual_len: output_len,
            weights_len,
            scratch_len: 0,
        };
        plan.with_scratch_len()
    }

    /// With the simplest form, the kernel and the schedule that follow from everything else.
    const fn scheduled(mut self) -> Result<Plan, Error> {
        let Options { caches, forced, unpacked } = &self.options;
        self.simplest = self.problem.simplest();
        let kernel = match forced {
            Some(kernel) if !kernel.can_run(&self.simplest, *unpacked) => {
                let (expected, found) = (Expected::FittingKernel, Found::UnfitKernel);
                return Err(Error::new(Field::ForcedKernel, expected, found));
            }
            Some(kernel) => *kernel,
            None => Kernel::choose(&self.simplest, *unpacked),
        };
        self.schedule = kernel.schedule(&self.simplest, caches, *unpacked);
        self.entry = kernel.entry();
        self.with_scratch_len()
    }

    const fn with_scratch_len(mut self) -> Result<Plan, Error> {
        let packs = self.options.unpacked && !self.schedule.kernel().reads_unpacked();
        self.pack_panels = if packs { Some(panels::pack_panels) } else { None };
        let packing = if packs { self.format.len - HEADER } else { 0 };
        self.scratch_len =
            self.schedule.scratch_len(&self.simplest.geometry).saturating_add(packing);
        let elements = self.problem.most_elements();
        if self.scratch_len > elements {
            return Err(Error::overflow(Field::Scratch, elements));
        }
        Ok(self)
    }

    /// Whether calls bring weights in PyTorch's order.
    pub(crate) const fn takes_unpacked(&self) -> bool {
        self.options.unpacked
    }

    /// The same plan for weights that are not packed: [`Plan::run`] then takes a slice in PyTorch's
    /// order, for weights that are known only at run time. Channels last, each part of the output
    /// packs the panels that it needs into scratch memory first, so each [`Tile`](crate::Tile) does;
    /// that pays for itself after a few dozen pixels. In planes they are read as they lie.
    ///
    /// # Errors
    /// Scratch memory that the target cannot address.
    pub const fn unpacked(mut self) -> Result<Plan, Error> {
        self.options.unpacked = true;
        self.scheduled()
    }

    /// The same plan with its loops cut for caches of these sizes, in bytes. Bits do not depend
    /// on them; [`Plan::scratch_len`] does. Without this call a plan assumes 32 KiB and 1 MiB.
    ///
    /// # Errors
    /// A size of 0; scratch memory that the target cannot address.
    pub const fn assume_caches(mut self, l1: usize, l2: usize) -> Result<Plan, Error> {
        if l1 == 0 {
            return Err(Error::too_small(Field::CacheL1, 1, 0));
        }
        if l2 == 0 {
            return Err(Error::too_small(Field::CacheL2, 1, 0));
        }
        self.options.caches = Caches { first: l1, second: l2 };
        self.scheduled()
    }

    /// The same plan for an input with these strides, in elements; its slice needs to reach only
    /// to the last element. Any strides will do, 0 included.
    ///
    /// # Errors
    /// An input that spans more than the target can address; scratch memory that does.
    pub const fn with_input_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        self.problem.input = strides;
        self.input_len = tri!(self.problem.input_len());
        self.scheduled()
    }

    /// The same plan for an output with these strides, in elements, and for a residual, unless it has
    /// [strides of its own](Plan::with_residual_strides); its slice needs to reach only to the last
    /// element. What lies between the elements is not written.
    ///
    /// # Errors
    /// Strides of which one, from the smallest up, does not step over everything that the smaller
    /// ones reach, naming it and the least that does (a few interleavings without overlap are
    /// refused as well); an output that spans more than the target can address; scratch memory that
    /// does.
    pub const fn with_output_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        let Geometry { batch, out_channels, output, .. } = self.problem.geometry;
        self.output_len = tri!(self.problem.output_len(&strides, Field::OutputElements));
        tri!(strides.check_disjoint(batch, out_channels, output));
        self.problem.output = strides;
        if self.residual_apart.is_none() {
            self.residual_len = self.output_len;
        }
        self.scheduled()
    }

    /// The same plan for a residual with strides of its own, in elements. Any strides will do, 0
    /// included: it may be one value for each channel. It is copied to the output, part by part,
    /// before that is computed.
    ///
    /// # Errors
    /// A residual that spans more than the target can address.
    pub const fn with_residual_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        self.residual_len = tri!(self.problem.output_len(&strides, Field::ResidualElements));
        self.residual_apart = Some(ResidualApart::new(strides));
        Ok(self)
    }

    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<Plan, Error> {
        if !isa.is_available() {
            return Err(Error::new(Field::Isa, Expected::Available, Found::Isa(isa)));
        }
        self.isa = Some(isa);
        Ok(self)
    }

    /// The same plan with this kernel, chosen or not, for tests.
    ///
    /// # Errors
    /// A kernel that reads another packed format or layout.
    #[doc(hidden)]
    pub const fn with_kernel(mut self, kernel: Kernel) -> Result<Plan, Error> {
        self.options.forced = Some(kernel);
        self.scheduled()
    }

    /// The path that [`Plan::run`] takes on this machine.
    pub fn isa(&self) -> Isa {
        match self.isa {
            Some(isa) => isa,
            None => Isa::detect(),
        }
    }

    /// The layout for which the layer was planned.
    pub const fn layout(&self) -> Layout {
        self.problem.layout
    }

    /// The number of images.
    pub const fn batch(&self) -> usize {
        self.problem.geometry.batch
    }

    /// The channels of the input.
    pub const fn in_channels(&self) -> usize {
        self.problem.geometry.in_channels
    }

    /// The channels of the output.
    pub const fn out_channels(&self) -> usize {
        self.problem.geometry.out_channels
    }

    /// The groups.
    pub const fn groups(&self) -> usize {
        self.problem.geometry.groups
    }

    /// The strides of the input, in elements, as they were asked for.
    pub const fn input_strides(&self) -> Strides {
        self.problem.input
    }

    /// The strides of the output, in elements, as they were asked for.
    pub const fn output_strides(&self) -> Strides {
        self.problem.output
    }

    /// The strides of the residual, in elements: those of the output, if no others were asked for.
    pub const fn residual_strides(&self) -> Strides {
        match &self.residual_apart {
            Some(apart) => apart.strides,
            None => self.problem.output,
        }
    }

    /// The extents of the input.
    pub const fn input_shape(&self) -> Shape {
        let Geometry { batch, in_channels, input, .. } = self.problem.geometry;
        Shape::new(batch, in_channels, input, self.dimensions, self.channels_last())
    }

    /// The extents of the output.
    pub const fn output_shape(&self) -> Shape {
        let Geometry { batch, out_channels, output, .. } = self.problem.geometry;
        Shape::new(batch, out_channels, output, self.dimensions, self.channels_last())
    }

    const fn channels_last(&self) -> bool {
        matches!(self.problem.layout, Layout::Nhwc)
    }

    /// The size of the output as depth, height, width; ones for the dimensions that a layer lacks.
    pub const fn output_size(&self) -> [usize; 3] {
        self.problem.geometry.output
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.input_len
    }

    /// The elements that a slice of the output holds at least.
    pub const fn output_len(&self) -> usize {
        self.output_len
    }

    /// The elements that a slice of the residual holds at least.
    pub const fn residual_len(&self) -> usize {
        self.residual_len
    }

    /// The elements of the weights in PyTorch's order, the bias not counted.
    pub const fn weights_len(&self) -> usize {
        self.weights_len
    }

    /// The elements of the packed weights, header included. The same for every plan of a layer.
    pub const fn packed_len(&self) -> usize {
        self.format.len
    }

    /// The elements of scratch memory that a run needs, per thread.
    pub const fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// Whether every element of a slice of [`output_len`](Plan::output_len) is one of the output.
    pub(crate) const fn output_has_no_gaps(&self) -> bool {
        let Geometry { out_channels, .. } = self.problem.geometry;
        self.problem.geometry.pixels() * out_channels == self.output_len
    }

    /// The nominal multiply-adds of a run: taps on padding are counted, as is usual.
    pub const fn macs(&self) -> u128 {
        self.problem.geometry.macs()
    }

    /// The way of using the lanes that runs: `dense`, `channels`, `planes` or `pixels`.
    pub const fn kernel_name(&self) -> &'static str {
        self.schedule.kernel().name()
    }
}
