//! From shape and layout to the kernel, the strides and every size; nothing of the machine.

use crate::band::Band;
use crate::error::{Error, Field, StrideOf};
use crate::isa::Isa;
use crate::kernel::{KernelBody, kernel_body};
use crate::numerics::CHANNEL_BLOCK;
use crate::pack::{HEADER, LANES_PER_PANEL, signature};
use crate::shape::{Geometry, Layout, add, mul, tri};

/// The widest tile of output channels of any instruction set. Scratch memory is sized by it, so
/// that sizes do not depend on the machine.
pub(crate) const WIDEST_TILE: usize = 4 * LANES_PER_PANEL;

/// The sizes of caches, in bytes, that a plan assumes.
const CACHES: [usize; 2] = [32 << 10, 1024 << 10];

/// The most pixels whose sums wait in scratch memory to be turned into rows of planes: whole
/// tiles of 6 and of 8, whole vectors of pixels.
const MOST_IN_STRIP: usize = 48;

/// The distance, in elements, between neighbours along each dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From an image to the next.
    pub batch: usize,
    /// From a channel to the next.
    pub channel: usize,
    /// From a plane to the next (3-D layers).
    pub depth: usize,
    /// From a row to the next (2-D and 3-D layers).
    pub row: usize,
    /// From a pixel to the next in the row.
    pub pixel: usize,
}

/// A way of using the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelId {
    /// Output channels in the lanes, the input broadcast.
    Dense,
    /// Output channels in the lanes, each lane with an input channel of its own.
    Channels,
    /// Pixels in the lanes, the weights broadcast.
    Pixels,
    /// Pixels in the lanes, planes copied band by band: depthwise.
    Planes,
}

/// A layer on inputs of one shape and layout, ready to pack weights and to run.
///
/// A plan is made by [`Conv::plan`](crate::Conv::plan), is plain data, and can be a `const`. Each
/// of its sizes depends on shape and layout alone, never on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub(crate) geometry: Geometry,
    pub(crate) layout: Layout,
    /// As kernels take them: where a dimension has one element its stride is never taken, and is
    /// set to 1, so that no product of it overflows.
    pub(crate) input: Strides,
    pub(crate) output: Strides,
    /// As they were asked for.
    input_strides: Strides,
    output_strides: Strides,
    kernel: KernelId,
    pub(crate) kernel_body: KernelBody,
    /// How many (channel block, tap) pairs of the chain a pass over the pixels takes.
    pub(crate) segment: usize,
    /// How many pixels a pass covers before it turns to the next output channels.
    pub(crate) pixel_block: usize,
    /// How many panels of output channels a row of pixels takes together.
    pub(crate) panel_run: usize,
    /// From a pixel to the next among the sums in scratch memory: the widest tile, or all channels
    /// of a narrower group.
    pub(crate) sums_width: usize,
    /// How many pixels' sums wait in scratch memory to be turned into rows of planes, at most.
    pub(crate) strip: usize,
    /// Of planes that are copied band by band.
    pub(crate) band: Band,
    /// Whether blocks of pixels work on a copy of their input.
    pub(crate) copies_input: bool,
    /// Whether the input is channels last and larger than the second-level cache.
    pub(crate) prefetches: bool,
    /// `None`: the fastest there is.
    isa: Option<Isa>,
    /// The bytes that the largest object of the target may have.
    limit: usize,
    input_reach: usize,
    output_reach: usize,
    weights_len: usize,
    packed_len: usize,
    /// What packed weights of the layer are known by.
    pub(crate) signature: [u32; 2],
    scratch_len: usize,
}

impl Plan {
    pub(crate) const fn new(
        geometry: Geometry,
        layout: Layout,
        limit: usize,
    ) -> Result<Plan, Error> {
        let elements = limit / size_of::<f32>();
        let input = tri!(Strides::dense(
            layout,
            geometry.in_channels,
            geometry.input,
            elements,
            Field::InputElements
        ));
        let output = tri!(Strides::dense(
            layout,
            geometry.out_channels,
            geometry.output,
            elements,
            Field::OutputElements
        ));
        let batch = geometry.batch;
        let input_reach = tri!(input.reach(
            batch,
            geometry.in_channels,
            geometry.input,
            elements,
            Field::InputElements
        ));
        let output_reach = tri!(output.reach(
            batch,
            geometry.out_channels,
            geometry.output,
            elements,
            Field::OutputElements
        ));
        let weights_len = tri!(geometry.weights_len(elements));
        let packed_len = tri!(packed_len(&geometry, elements));
        // Of a shape that is known to be possible: taps can be counted.
        let kernel = KernelId::choose(&geometry, layout);
        let plan = Plan {
            geometry,
            layout,
            input: input.tame(batch, geometry.in_channels, geometry.input),
            output: output.tame(batch, geometry.out_channels, geometry.output),
            input_strides: input,
            output_strides: output,
            kernel,
            kernel_body: kernel_body(kernel),
            segment: 0,
            pixel_block: 0,
            panel_run: 0,
            sums_width: 0,
            strip: 0,
            band: Band::NONE,
            copies_input: false,
            prefetches: false,
            isa: None,
            limit,
            input_reach,
            output_reach,
            weights_len,
            packed_len,
            signature: signature(&geometry),
            scratch_len: 0,
        };
        // Assumed, not asked: any size gives the same bits, and these suit the machines of today.
        plan.assume_caches(CACHES[0], CACHES[1])
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
        let geometry = &self.geometry;
        let float = size_of::<f32>();
        let blocks = geometry.in_per_group().div_ceil(CHANNEL_BLOCK);
        let taps = geometry.taps();
        let units = blocks * taps;
        // A quarter of the second level for the weights that every pixel of a pass needs,
        // a quarter for the input or for the partial sums of the pass.
        let unit_bytes = CHANNEL_BLOCK * WIDEST_TILE * float;
        let segment = at_least_1(l2 / 4 / unit_bytes);
        // Whole channel blocks, if one fits.
        let segment = if segment < taps { segment } else { segment - segment % taps };
        let one_segment = units <= segment;
        let in_channels = match self.kernel {
            KernelId::Channels => geometry.in_channels,
            _ => geometry.in_per_group(),
        };
        let channels = geometry.out_per_group().next_multiple_of(LANES_PER_PANEL);
        self.sums_width = if channels < WIDEST_TILE { channels } else { WIDEST_TILE };
        let sums_in_scratch = matches!(self.kernel, KernelId::Dense) && !one_segment;
        let pixel_bytes = if !sums_in_scratch {
            in_channels
                .saturating_mul(geometry.stride[1])
                .saturating_mul(geometry.stride[2])
                .saturating_mul(float)
        } else {
            self.sums_width * float
        };
        let pixels = geometry.pixels();
        let fitting = at_least_1(l2 / 4 / at_least_1(pixel_bytes));
        self.prefetches = matches!(self.layout, Layout::Nhwc) && self.input_reach > l2 / float;
        self.segment = if one_segment { units } else { segment };
        // Blocks alike in size, rather than a last one that fetches all weights for a few pixels.
        let pieces = pixels.div_ceil(fitting.saturating_add(fitting / 4));
        self.pixel_block = pixels.div_ceil(pieces);
        // Half of the first level for weights that every pixel takes in turn.
        let panel_bytes = geometry.chain().saturating_mul(LANES_PER_PANEL * float);
        self.panel_run = at_least_1(l1 / 2 / panel_bytes);
        // Half of the first level for a strip, but no less than the pixels of a vector.
        let strip = l1 / 2 / (self.sums_width * float);
        self.strip = if strip < MOST_IN_STRIP { LANES_PER_PANEL } else { MOST_IN_STRIP };
        let pixels_in_scratch = match (self.kernel, self.layout) {
            (KernelId::Dense, _) if !one_segment => self.pixel_block,
            (KernelId::Dense, Layout::Nchw) if pixels > self.strip => self.strip,
            (KernelId::Dense, Layout::Nchw) => pixels,
            _ => 0,
        };
        let elements = self.limit / float;
        if matches!(self.kernel, KernelId::Planes) {
            self.band = Band::of(geometry, l1, l2);
            self.scratch_len = self.band.scratch_len(geometry);
            if self.scratch_len > elements {
                return Err(Error::overflow(Field::Scratch, elements));
            }
            return Ok(self);
        }
        self.copies_input = self.input_collides() && self.copied_len() <= l2 / float;
        if self.copies_input {
            self.scratch_len = self.copied_len();
            return Ok(self);
        }
        self.scratch_len = tri!(mul(pixels_in_scratch, self.sums_width, elements, Field::Scratch));
        Ok(self)
    }

    /// Whether channels share the sets of a cache, and enough is computed from each element of the
    /// input to repay a copy. By the shape alone: other strides do not change sizes.
    const fn input_collides(&self) -> bool {
        const COLLISION: usize = 2048 / size_of::<f32>();
        let geometry = &self.geometry;
        let plane = geometry.input[0] * geometry.input[1] * geometry.input[2];
        matches!(self.kernel, KernelId::Pixels)
            && geometry.groups == 1
            && geometry.out_channels >= 2 * LANES_PER_PANEL
            && geometry.in_channels >= LANES_PER_PANEL
            && plane.is_multiple_of(COLLISION)
    }

    /// Room for a channel of what a block of pixels sees of the input: an odd number of cache
    /// lines.
    pub(crate) const fn copied_channel_stride(&self) -> usize {
        const LINE: usize = 64 / size_of::<f32>();
        let geometry = &self.geometry;
        let width = geometry.output[2];
        let (rows, columns) = match self.pixel_block.checked_div(width) {
            None | Some(0) => (1, self.pixel_block),
            Some(rows) => (rows, width),
        };
        let places = [1, rows, columns];
        let mut len = 1_usize;
        let mut axis = 0;
        while axis < 3 {
            let reach = (geometry.kernel[axis] - 1) * geometry.dilation[axis];
            let seen =
                (places[axis] - 1).saturating_mul(geometry.stride[axis]).saturating_add(reach + 1);
            let size = geometry.input[axis];
            len = len.saturating_mul(if seen < size { seen } else { size });
            axis += 1;
        }
        (len.div_ceil(LINE) | 1).saturating_mul(LINE)
    }

    const fn copied_len(&self) -> usize {
        self.geometry.in_channels.saturating_mul(self.copied_channel_stride())
    }

    /// The same plan for an input with these strides, in elements; its slice needs to reach only
    /// to the last element. Any strides will do, 0 included.
    ///
    /// # Errors
    /// An input that spans more than the target can address.
    pub const fn with_input_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        let geometry = &self.geometry;
        self.input_reach = tri!(strides.reach(
            geometry.batch,
            geometry.in_channels,
            geometry.input,
            self.limit / size_of::<f32>(),
            Field::InputElements
        ));
        self.input = strides.tame(geometry.batch, geometry.in_channels, geometry.input);
        self.input_strides = strides;
        Ok(self)
    }

    /// The same plan for an output (and residual) with these strides, in elements; its slice
    /// needs to reach only to the last element. What lies between the elements is not written.
    ///
    /// # Errors
    /// Strides of which one, from the smallest up, does not step over everything that the smaller
    /// ones reach, naming it and the least that does (a few interleavings without overlap are
    /// refused as well); an output that spans more than the target can address.
    pub const fn with_output_strides(mut self, strides: Strides) -> Result<Plan, Error> {
        let geometry = &self.geometry;
        self.output_reach = tri!(strides.reach(
            geometry.batch,
            geometry.out_channels,
            geometry.output,
            self.limit / size_of::<f32>(),
            Field::OutputElements
        ));
        tri!(strides.check_disjoint(geometry.batch, geometry.out_channels, geometry.output));
        self.output = strides.tame(geometry.batch, geometry.out_channels, geometry.output);
        self.output_strides = strides;
        Ok(self)
    }

    /// The same plan on this path, rather than on the fastest.
    ///
    /// # Errors
    /// A path that the machine lacks or the build leaves out.
    pub fn with_isa(mut self, isa: Isa) -> Result<Plan, Error> {
        self.isa = Some(isa.check()?);
        Ok(self)
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
        self.layout
    }

    /// The strides of the input, in elements.
    pub const fn input_strides(&self) -> Strides {
        self.input_strides
    }

    /// The strides of the output and of the residual, in elements.
    pub const fn output_strides(&self) -> Strides {
        self.output_strides
    }

    /// The size of the output as depth, height, width; ones for the dimensions that a layer lacks.
    pub const fn output_size(&self) -> [usize; 3] {
        self.geometry.output
    }

    /// The elements that a slice of the input holds at least.
    pub const fn input_len(&self) -> usize {
        self.input_reach
    }

    /// The elements that a slice of the output, or of the residual, holds at least.
    pub const fn output_len(&self) -> usize {
        self.output_reach
    }

    /// The elements of the weights in PyTorch's order, the bias not counted.
    pub const fn weights_len(&self) -> usize {
        self.weights_len
    }

    /// The elements of the packed weights, header included. The same for every plan of a layer.
    pub const fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// The elements of scratch memory that a run with packed weights needs, per thread.
    pub const fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// The elements of scratch memory that a run with unpacked weights needs, per thread.
    pub const fn scratch_len_unpacked(&self) -> usize {
        match self.layout {
            Layout::Nchw => 0, // the pixels kernel reads PyTorch's order as it is
            Layout::Nhwc => self.scratch_len + self.packed_len,
        }
    }

    /// The nominal multiply-adds of a run: taps on padding are counted, as is usual.
    pub const fn macs(&self) -> u128 {
        let outputs = self.geometry.pixels() as u128 * self.geometry.out_channels as u128;
        outputs * self.geometry.chain() as u128
    }

    /// The way of using the lanes that the shape has chosen: `dense`, `channels`, `pixels` or
    /// `planes`.
    pub const fn kernel_name(&self) -> &'static str {
        match self.kernel {
            KernelId::Dense => "dense",
            KernelId::Channels => "channels",
            KernelId::Pixels => "pixels",
            KernelId::Planes => "planes",
        }
    }
}

impl KernelId {
    const fn choose(geometry: &Geometry, layout: Layout) -> KernelId {
        let narrow = is_narrow(geometry);
        match layout {
            Layout::Nhwc if narrow => KernelId::Channels,
            Layout::Nhwc => KernelId::Dense,
            Layout::Nchw if narrow && repays_a_copy(geometry) => KernelId::Planes,
            Layout::Nchw if narrow || geometry.out_channels < LANES_PER_PANEL => KernelId::Pixels,
            Layout::Nchw if has_wide_rows(geometry) => KernelId::Pixels,
            Layout::Nchw => KernelId::Dense,
        }
    }
}

/// Rows that fill vectors well enough for pixels in the lanes, which then need neither broadcasts
/// of scattered inputs nor transposed outputs.
const fn has_wide_rows(geometry: &Geometry) -> bool {
    let width = geometry.output[2];
    let fills_vectors = width >= 64 || width >= 32 && width.is_multiple_of(LANES_PER_PANEL);
    // At three quarters of the columns no tap meets the padding.
    let reach = (geometry.kernel[2] - 1) * geometry.dilation[2];
    let few_at_borders = geometry.input[2].saturating_sub(reach) >= width - width / 4;
    fills_vectors && geometry.stride[2] == 1 && few_at_borders
}

/// One input channel for each output channel, and a copy of the input that is small beside the work
/// on it; rows that rarely meet the padding need more of that.
const fn repays_a_copy(geometry: &Geometry) -> bool {
    const MOST: usize = 1 << 20;
    if geometry.in_per_group() > 1 || geometry.taps() <= 4 && has_wide_rows(geometry) {
        return false;
    }
    let band = Band::of(geometry, CACHES[0], CACHES[1]);
    let taps = (band.rows * band.columns).saturating_mul(geometry.taps());
    band.scratch_len(geometry) <= MOST && band.copied_len(geometry) <= taps / 2
}

/// Groups of which several share a panel of packed weights.
pub(crate) const fn is_narrow(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.out_per_group() < LANES_PER_PANEL
}

/// The panels of all groups.
pub(crate) const fn panels(geometry: &Geometry) -> usize {
    if is_narrow(geometry) {
        geometry.out_channels.div_ceil(LANES_PER_PANEL)
    } else {
        geometry.groups * geometry.out_per_group().div_ceil(LANES_PER_PANEL)
    }
}

const fn packed_len(geometry: &Geometry, elements: usize) -> Result<usize, Error> {
    let field = Field::WeightElements;
    let panel = tri!(mul(geometry.chain(), LANES_PER_PANEL, elements, field));
    let body = tri!(mul(panel, panels(geometry), elements, field));
    // Twice, because a run with unpacked weights packs them behind its partial sums.
    let len = tri!(add(body, HEADER, elements, field));
    tri!(mul(len, 2, elements, field));
    Ok(len)
}

const fn at_least_1(n: usize) -> usize {
    if n == 0 { 1 } else { n }
}

impl Strides {
    /// Those of a tensor without gaps.
    const fn dense(
        layout: Layout,
        channels: usize,
        size: [usize; 3],
        elements: usize,
        field: Field,
    ) -> Result<Strides, Error> {
        let (channel, pixel) = match layout {
            Layout::Nchw => (0, 1),
            Layout::Nhwc => (1, channels),
        };
        let row = tri!(mul(size[2], pixel, elements, field));
        let depth = tri!(mul(size[1], row, elements, field));
        let volume = tri!(mul(size[0], depth, elements, field));
        Ok(match layout {
            Layout::Nchw => {
                let batch = tri!(mul(volume, channels, elements, field));
                Strides { batch, channel: volume, depth, row, pixel }
            }
            Layout::Nhwc => Strides { batch: volume, channel, depth, row, pixel },
        })
    }

    const fn tame(mut self, batch: usize, channels: usize, size: [usize; 3]) -> Strides {
        let [depth, height, width] = size;
        if batch == 1 {
            self.batch = 1;
        }
        if channels == 1 {
            self.channel = 1;
        }
        if depth == 1 {
            self.depth = 1;
        }
        if height == 1 {
            self.row = 1;
        }
        if width == 1 {
            self.pixel = 1;
        }
        self
    }

    /// One more than the offset of the last element.
    const fn reach(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
        elements: usize,
        field: Field,
    ) -> Result<usize, Error> {
        let dims = self.dims(batch, channels, size);
        let mut count = 1;
        let mut reach = 1;
        let mut at = 0;
        while at < dims.len() {
            let (extent, stride, _) = dims[at];
            count = tri!(mul(count, extent, elements, field));
            reach =
                tri!(add(reach, tri!(mul(extent - 1, stride, elements, field)), elements, field));
            at += 1;
        }
        Ok(reach)
    }

    /// No two elements share a place: from the smallest stride up, each one steps over
    /// everything that the smaller ones reach.
    const fn check_disjoint(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
    ) -> Result<(), Error> {
        let mut dims = self.dims(batch, channels, size);
        let mut sorted = 0;
        let mut reach = 0;
        while sorted < dims.len() {
            let mut least = sorted;
            let mut at = sorted + 1;
            while at < dims.len() {
                if dims[at].1 < dims[least].1 {
                    least = at;
                }
                at += 1;
            }
            (dims[sorted], dims[least]) = (dims[least], dims[sorted]);
            let (extent, stride, name) = dims[sorted];
            if extent > 1 {
                if stride <= reach {
                    return Err(Error::too_small(Field::OutputStride(name), reach + 1, stride));
                }
                reach += (extent - 1) * stride;
            }
            sorted += 1;
        }
        Ok(())
    }

    const fn dims(
        &self,
        batch: usize,
        channels: usize,
        size: [usize; 3],
    ) -> [(usize, usize, StrideOf); 5] {
        [
            (batch, self.batch, StrideOf::Batch),
            (channels, self.channel, StrideOf::Channel),
            (size[0], self.depth, StrideOf::Depth),
            (size[1], self.row, StrideOf::Row),
            (size[2], self.pixel, StrideOf::Pixel),
        ]
    }
}
