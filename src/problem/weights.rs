//! Where weights lie that are not packed.

use super::geometry::{Geometry, Operator};
use super::strides::Strides;

/// From a weight to its neighbours, in elements. Offsets wrap: a window may be reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightStrides {
    /// The first tap of the first channels, as windows go.
    pub first: usize,
    /// From a sample to the next, where each has its own.
    pub sample: usize,
    /// From a group to the next.
    pub group: usize,
    /// From an output channel to the next of its group.
    pub out_channel: usize,
    /// From an input channel to the next of its group.
    pub in_channel: usize,
    /// From a tap to the next along each axis.
    pub taps: [usize; 3],
}

impl WeightStrides {
    /// PyTorch's order: `[out_channels, in_channels / groups, kernel...]`, of a transposed convolution
    /// `[in_channels, out_channels / groups, kernel...]`.
    pub const fn of(geometry: &Geometry) -> WeightStrides {
        let [depth, height, width] = geometry.window;
        let taps = [height.wrapping_mul(width), width, 1];
        let filter = depth.wrapping_mul(taps[0]);
        let Geometry { in_per_group, out_per_group, .. } = *geometry;
        let per_group = in_per_group.wrapping_mul(out_per_group);
        let (out_channel, in_channel) = match geometry.operator {
            Operator::Transposed => (filter, out_per_group.wrapping_mul(filter)),
            Operator::Convolution | Operator::Correlation | Operator::Deformable { .. } => {
                (in_per_group.wrapping_mul(filter), filter)
            }
        };
        let group = per_group.wrapping_mul(filter);
        let strides = WeightStrides { first: 0, sample: 0, group, out_channel, in_channel, taps };
        strides.flipped_as(geometry)
    }

    /// Of kernels that are a tensor with these strides, whose channels are the output channels and the
    /// input channels of a group, the latter side by side.
    pub const fn of_samples(geometry: &Geometry, strides: &Strides) -> WeightStrides {
        let Strides { batch, channel, depth, row, pixel } = *strides;
        let out_channel = channel.wrapping_mul(geometry.in_per_group);
        let strides = WeightStrides {
            first: 0,
            sample: batch,
            group: out_channel.wrapping_mul(geometry.out_per_group),
            out_channel,
            in_channel: channel,
            taps: [depth, row, pixel],
        };
        strides.flipped_as(geometry)
    }

    const fn flipped_as(self, geometry: &Geometry) -> WeightStrides {
        let [depth, height, width] = geometry.window;
        if geometry.flipped {
            self.reversed([depth - 1, height - 1, width - 1], [1; 3])
        } else {
            self
        }
    }

    /// Every `step`-th tap along each axis, from one on backwards.
    pub const fn reversed(mut self, from: [usize; 3], step: [usize; 3]) -> WeightStrides {
        let mut axis = 0;
        while axis < 3 {
            let to_tap = self.taps[axis];
            self.first = self.first.wrapping_add(to_tap.wrapping_mul(from[axis]));
            self.taps[axis] = to_tap.wrapping_mul(step[axis]).wrapping_neg();
            axis += 1;
        }
        self
    }

    /// From the first tap to another one.
    pub const fn tap(&self, at: [usize; 3]) -> usize {
        self.taps[0]
            .wrapping_mul(at[0])
            .wrapping_add(self.taps[1].wrapping_mul(at[1]))
            .wrapping_add(self.taps[2].wrapping_mul(at[2]))
    }

    /// The first tap of an output channel of a group, at its first input channel.
    pub const fn filter(&self, group: usize, out_channel: usize) -> usize {
        self.first
            .wrapping_add(self.group.wrapping_mul(group))
            .wrapping_add(self.out_channel.wrapping_mul(out_channel))
    }
}
