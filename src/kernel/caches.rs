//! The caches that a plan assumes, and blocks that fit them. Assumed, not asked: bits do not depend on
//! them, and no size of a plan depends on the machine.

use crate::error::{Error, Field};
use crate::problem::arithmetic::at_least_1;
use crate::problem::geometry::Geometry;

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caches {
    pub first: usize,
    pub second: usize,
}

impl Caches {
    /// What suits the machines of today.
    pub const USUAL: Caches = Caches { first: 32 << 10, second: 1024 << 10 };

    /// Of sizes that somebody says.
    pub const fn assumed(first: usize, second: usize) -> Result<Caches, Error> {
        if first == 0 {
            return Err(Error::too_small(Field::CacheL1, 1, 0));
        }
        if second == 0 {
            return Err(Error::too_small(Field::CacheL2, 1, 0));
        }
        Ok(Caches { first, second })
    }

    /// The pixels of blocks alike, each with at most a quarter of the second level or a little more,
    /// rather than a last one that fetches all weights for a few pixels.
    pub const fn pixel_block(&self, geometry: &Geometry, pixel_bytes: usize) -> usize {
        let pixels = geometry.pixels();
        let fitting = at_least_1(self.second / 4 / at_least_1(pixel_bytes));
        let pieces = pixels.div_ceil(fitting.saturating_add(fitting / 4));
        pixels.div_ceil(pieces)
    }
}

/// The bytes of the input that an output pixel stands for, in so many channels.
pub(crate) const fn pixel_bytes(geometry: &Geometry, channels: usize, element: usize) -> usize {
    channels
        .saturating_mul(geometry.stride[1])
        .saturating_mul(geometry.stride[2])
        .saturating_mul(element)
}
