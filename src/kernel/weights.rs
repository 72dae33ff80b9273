//! Weights that are broadcast, packed or not.

use super::call::Call;
use crate::panels::LANES_PER_PANEL;
use crate::problem::weights::WeightStrides;

/// Where the weights of a few output channels lie, packed or not. Offsets wrap: a window that is not
/// packed may be reversed.
#[derive(Clone, Copy)]
pub(crate) struct ChannelWeights {
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
