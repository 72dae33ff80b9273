//! How the lanes of a vector of output channels get their input.

use crate::simd::{MOST_LANES, Simd};

/// A way for each lane to get the input of its own group.
pub(super) trait Spread {
    /// Whether the chain has one channel.
    const DEPTHWISE: bool;
    /// The input of each lane, `p` being at channel `channel` of the first lane's group.
    ///
    /// # Safety
    /// The input has this channel at that place for the groups of all lanes that are channels.
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, channel: usize) -> S::V;
}

/// One lane, whatever its group.
pub(super) struct SingleLane;

impl Spread for SingleLane {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds this channel of the lane's group.
        unsafe { simd.load(p) }
    }
}

/// Depthwise, a full vector: as it lies.
pub(super) struct Adjoining;

impl Spread for Adjoining {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each lane.
        unsafe { simd.load(p) }
    }
}

/// Depthwise, the last channels.
pub(super) struct AdjoiningFirst(pub usize);

impl Spread for AdjoiningFirst {
    const DEPTHWISE: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        // SAFETY: the input holds a channel for each of the first lanes.
        unsafe { simd.load_first(p, self.0) }
    }
}

/// Groups whose channels fit a vector.
pub(super) struct Permuted {
    pub index: [u32; MOST_LANES],
    pub span: usize,
}

impl Spread for Permuted {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, channel: usize) -> S::V {
        // SAFETY: the groups of the lanes have `span` channels, `p` being at number `channel`.
        unsafe { simd.permute(simd.load_first(p, self.span - channel), simd.index(&self.index)) }
    }
}

/// Any groups, any stride between channels.
pub(super) struct Collected {
    pub offsets: [usize; MOST_LANES],
    pub count: usize,
}

impl Spread for Collected {
    const DEPTHWISE: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, p: *const f32, _channel: usize) -> S::V {
        let mut lanes = [0.0; MOST_LANES];
        let mut lane = 0;
        while lane < self.count {
            // SAFETY: the input holds this channel of the group of the lane.
            lanes[lane] = unsafe { *p.wrapping_add(self.offsets[lane]) };
            lane += 1;
        }
        // SAFETY: `lanes` holds a vector.
        unsafe { simd.load(lanes.as_ptr()) }
    }
}
