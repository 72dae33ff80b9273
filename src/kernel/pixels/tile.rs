//! Pixels times output channels whose sums are held in registers, and the weights of these.

use crate::kernel::call::Call;
use crate::panels::LANES_PER_PANEL;
use crate::problem::weights::WeightStrides;
use core::ops::Range;

/// Where the weights of a few output channels lie, packed or not. Offsets wrap: a window that is not
/// packed may be reversed.
#[derive(Clone, Copy)]
pub(super) struct ChannelWeights {
    /// The first step of the first channel's chain.
    pub first: *const f32,
    /// To the next output channel.
    pub to_output: usize,
    /// To the next input channel of a block, at the same tap.
    pub to_channel: usize,
    /// To the next tap along each axis; for each channel of the block, if the channels of a block lie
    /// between.
    pub to_tap: [usize; 3],
    pub channels_in_tap: bool,
    /// To the block that begins with an input channel, per channel before it.
    pub before_block: usize,
}

impl ChannelWeights {
    /// Of output channels from `channel` on, which is `lane` in its panel.
    #[inline(always)]
    pub fn of(call: &Call, panel: usize, lane: usize, channel: usize) -> ChannelWeights {
        let geometry = call.geometry();
        let [_, height, width] = geometry.window;
        if call.is_packed() {
            ChannelWeights {
                first: call.panel(panel).wrapping_add(lane),
                to_output: 1,
                to_channel: LANES_PER_PANEL,
                to_tap: [
                    height * width * LANES_PER_PANEL,
                    width * LANES_PER_PANEL,
                    LANES_PER_PANEL,
                ],
                channels_in_tap: true,
                before_block: geometry.taps() * LANES_PER_PANEL,
            }
        } else {
            let WeightStrides { out_channel, in_channel, taps, .. } = *call.weight_strides();
            ChannelWeights {
                first: call.filter(channel),
                to_output: out_channel,
                to_channel: in_channel,
                to_tap: taps,
                channels_in_tap: false,
                before_block: in_channel,
            }
        }
    }
}

/// Output channels of one group that share tiles.
pub(super) struct TileChannels<'a> {
    pub call: &'a Call<'a>,
    pub weights: ChannelWeights,
    pub group: usize,
    pub first: usize,
    pub count: usize,
}

/// Neighbouring pixels of a row, or of rows below each other, for a few output channels.
pub(super) struct PixelTile<'a> {
    pub channels: &'a TileChannels<'a>,
    /// The first tap of the first pixel, at the first channel of the group.
    pub input: *const f32,
    /// From a pixel's window to the next.
    pub step: usize,
    pub vector: VectorStep,
    /// The column of the first tap of the first pixel; negative in the padding.
    pub column: isize,
    /// In a row: full vectors, or fewer lanes than one.
    pub pixels: usize,
    /// Where the first pixel lies in the output, at the first channel.
    pub offset: usize,
    /// The taps in depth and height that lie inside the input.
    pub taps: [Range<usize>; 2],
}

/// From a vector of a tile to the next: in the row, or below.
pub(super) struct VectorStep {
    /// Pixels of the row, or 0.
    pub pixels: usize,
    pub input: usize,
    pub output: usize,
}
