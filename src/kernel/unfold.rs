//! Unfolding: windows of an image as columns. Elements are moved as they are, bit by bit.

use super::columns::Planes;
use super::squares::ChannelsLast;
use crate::isa::Isa;
use crate::problem::geometry::Geometry;
use crate::simd::Body;
use crate::simd::enter::enter;

/// In planes: writes rows of columns from that number on, as many as `y` holds. `geometry` is that of a
/// depthwise layer with these windows.
pub(crate) fn planes(isa: Isa, geometry: &Geometry, x: &[f32], first: usize, y: &mut [f32]) {
    on(isa, Planes { geometry, x, first, y });
}

/// Channels last: writes columns of windows.
pub(crate) fn channels_last(isa: Isa, geometry: &Geometry, x: &[f32], first: usize, y: &mut [f32]) {
    on(isa, ChannelsLast { geometry, x, first, y });
}

fn on<B: Body>(isa: Isa, body: B) {
    if isa.is_available() {
        // SAFETY: it is available.
        unsafe { enter(isa, body) };
    } else {
        debug_assert!(false, "{}", isa.name());
    }
}
