//! Windows over images, and what [unfolding](super::unfold) and [folding](super::fold) share: a call
//! that is checked, and its tiles.
//!
//! An output is a row of *units*, as long as each other and each written by itself: a row of columns
//! or of pixels in planes, a window or a pixel channels last. A tile is a run of units, so tiles are
//! slices of the output, and no more than the splitting of a slice is needed to keep them apart.

use super::conv::Conv2d;
use crate::element::Element;
use crate::error::{Error, Field};
use crate::isa::Isa;
use crate::problem::arithmetic::{at_least_1, divide, mul, smaller, tri};
use crate::problem::geometry::Geometry;
use crate::problem::strides::{Layout, Strides};

/// The window that slides, as it was described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: [usize; 2],
    pub stride: [usize; 2],
}

impl Window {
    /// Dilation 1, no padding, stride 1.
    pub const fn new(kernel: [usize; 2]) -> Window {
        Window { kernel, dilation: [1; 2], padding: [0; 2], stride: [1; 2] }
    }

    /// On images. The checks are those of a depthwise layer, whose windows are the same.
    pub const fn on(
        &self,
        layout: Layout,
        batch: usize,
        channels: usize,
        size: [usize; 2],
        elements: &Elements,
    ) -> Result<Windows, Error> {
        let limit = smaller(elements.limit, isize::MAX as usize);
        let layer = Conv2d::new(channels, channels, self.kernel)
            .stride(self.stride)
            .padding(self.padding)
            .dilation(self.dilation)
            .groups(channels);
        let geometry = tri!(layer.geometry(batch, size, limit));
        let most = limit / size_of::<Element>();
        let image =
            tri!(Strides::of_tensor(layout, channels, geometry.input, most, elements.image));
        let image_len = tri!(image.reach(batch, channels, geometry.input, most, elements.image));
        let mut columns_len = at_least_1(batch);
        let factors =
            [channels, self.kernel[0], self.kernel[1], geometry.output[1], geometry.output[2]];
        let mut at = 0;
        while at < factors.len() {
            columns_len = tri!(mul(columns_len, factors[at], most, elements.columns));
            at += 1;
        }
        if batch == 0 {
            columns_len = 0;
        }
        Ok(Windows { geometry, layout, image_len, columns_len })
    }
}

/// What errors call the elements of images and of columns, and how many bytes objects may have.
pub(super) struct Elements {
    pub image: Field,
    pub columns: Field,
    pub limit: usize,
}

/// Windows over the images of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Of a depthwise layer with these windows: its input is the image, its outputs are the windows.
    pub geometry: Geometry,
    pub layout: Layout,
    pub image_len: usize,
    pub columns_len: usize,
}

impl Windows {
    /// The windows of an image.
    pub const fn count(&self) -> usize {
        self.geometry.output[1] * self.geometry.output[2]
    }

    /// The taps of all channels of a window.
    pub const fn rows(&self) -> usize {
        self.geometry.in_channels * self.geometry.taps()
    }

    pub const fn image_shape(&self) -> [usize; 4] {
        let Geometry { batch, in_channels: channels, input: [_, height, width], .. } =
            self.geometry;
        match self.layout {
            Layout::Nchw => [batch, channels, height, width],
            Layout::Nhwc => [batch, height, width, channels],
        }
    }

    pub const fn columns_shape(&self) -> [usize; 3] {
        match self.layout {
            Layout::Nchw => [self.geometry.batch, self.rows(), self.count()],
            Layout::Nhwc => [self.geometry.batch, self.count(), self.rows()],
        }
    }
}

/// Computes the units from the one with that number on, as many as the output holds.
pub(super) type Units = fn(&Operation, &[f32], usize, &mut [f32]);

/// Windows, and what is done with them. As in a plan of a convolution, a function is held, so that
/// a program has only those of its plans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub windows: Windows,
    pub units: Units,
    /// The elements of a unit.
    pub unit_len: usize,
    pub input_len: usize,
    pub output_len: usize,
    /// The path that was asked for.
    pub isa: Option<Isa>,
}

impl Operation {
    /// The path: the fastest one, if none was asked for.
    pub fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }

    /// The first elements of `y`, which the operation writes.
    fn checked<'y>(&self, x: &[f32], y: &'y mut [f32]) -> Result<&'y mut [f32], Error> {
        Error::check_len(Field::Input, self.input_len, x.len())?;
        Error::check_len(Field::Output, self.output_len, y.len())?;
        Ok(y.get_mut(..self.output_len).unwrap_or_default())
    }

    pub fn run<'y>(&self, x: &[f32], y: &'y mut [f32]) -> Result<&'y mut [f32], Error> {
        let y = self.checked(x, y)?;
        (self.units)(self, x, 0, y);
        Ok(y)
    }

    pub fn tiles<'a>(
        &'a self,
        x: &'a [f32],
        y: &'a mut [f32],
        count: usize,
    ) -> Result<WindowTiles<'a>, Error> {
        let y = self.checked(x, y)?;
        let (units, _) = divide(y.len(), self.unit_len);
        Ok(WindowTiles { operation: self, x, y, first: 0, left: units.min(count.max(1)) })
    }
}

/// The tiles of an output of [`UnfoldPlan`](crate::UnfoldPlan) or [`FoldPlan`](crate::FoldPlan):
/// together they are the output, and no two share an element.
#[must_use = "tiles that are not run are not computed"]
#[derive(Debug)]
pub struct WindowTiles<'a> {
    operation: &'a Operation,
    x: &'a [f32],
    /// What is left of the output.
    y: &'a mut [f32],
    /// The number of its first unit.
    first: usize,
    /// The tiles that are left.
    left: usize,
}

impl<'a> Iterator for WindowTiles<'a> {
    type Item = WindowTile<'a>;

    fn next(&mut self) -> Option<WindowTile<'a>> {
        let unit_len = self.operation.unit_len;
        let (units, _) = divide(self.y.len(), unit_len);
        let (units, _) = divide(units, self.left);
        let y = self.y.split_off_mut(..units * unit_len).filter(|y| !y.is_empty())?;
        let tile = WindowTile { operation: self.operation, x: self.x, y, first: self.first };
        self.first += units;
        self.left -= 1;
        Some(tile)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for WindowTiles<'_> {}

/// A piece of the output that one thread computes.
#[must_use = "a tile that is not run is not computed"]
#[derive(Debug)]
pub struct WindowTile<'a> {
    operation: &'a Operation,
    x: &'a [f32],
    y: &'a mut [f32],
    /// The number of its first unit.
    first: usize,
}

impl WindowTile<'_> {
    /// Computes the tile.
    pub fn run(self) {
        (self.operation.units)(self.operation, self.x, self.first, self.y);
    }
}
