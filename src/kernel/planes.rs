//! Pixels in the lanes, one output channel at a time: depthwise layers whose planes are contiguous, and
//! layers of one output channel.
//!
//! What a band of output rows sees of the planes of its group is copied to scratch memory with its padding, so
//! that no tap has to be tested. Where the stride is not 1, rows and columns that are that far
//! apart lie together in the copy: neighbouring outputs then read neighbours. As each row of the
//! copy is as long, the rows of a band are also one long row of outputs, of which those at the seams
//! mean nothing; narrow rows are taken so, and fill vectors well.
//!
//! ```text
//! for each band of rows of a plane of the output   (whose copy the first-level cache holds)
//!   for each output channel
//!     copy the band, with zeros for padding        (if another group than before)
//!     for each tile of pixels                      (as many vectors as keep the machine busy)
//!       sums = bias
//!       for each channel block, kd, kh, kw, channel of the block: sums += x[lanes] * w
//!       finish the outputs; those of a long row in scratch memory, to be copied row by row
//! ```
//!
//! Where the strides are 1, windows of neighbouring rows of outputs see the same rows of the copy, and
//! share what is loaded of it: small windows as in `rolling`, large ones as in `rows`.

mod chains;
mod copy;
mod piece;
mod rolling;
mod rows;
pub(super) mod schedule;
pub(super) mod tiling;

pub(super) use schedule::Schedule;

use super::call::{Call, Input};
use super::walk::Pixel;
use super::weights::ChannelWeights;
use crate::panels;
use crate::problem::arithmetic::divide;
use crate::simd::{Body, Simd};
use chains::{Chains, Channels, OneChannel, OneUnpacked};
use copy::copy_group;
use piece::{Piece, TapSteps};
use rolling::RollingRows;
use rows::SeveralRows;

/// Over the part of a call. Scratch memory holds the copy of a band, and behind it a long row of
/// outputs.
pub(super) struct Walk<'a> {
    pub call: &'a Call<'a>,
    pub schedule: &'a Schedule,
}

impl Body for Walk<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let geometry = self.call.geometry();
        let (part, band) = (self.call.part(), self.schedule);
        let steps = TapSteps::of(geometry, band);
        let mut number = part.pixels.start;
        while number < part.pixels.end {
            let left = part.pixels.end - number;
            let pixel = Pixel::of(geometry, number);
            let most = [band.rows, band.columns];
            let [rows, columns] = pixel.rectangle(geometry.output, left, most);
            let piece = Piece { call: self.call, band, steps: &steps, pixel, rows, columns };
            channels(simd, &piece);
            number += rows * columns;
        }
    }
}

/// All channels of the part, for the pixels of a piece.
#[inline(always)]
fn channels<S: Simd>(simd: S, piece: &Piece) {
    let call = piece.call;
    let geometry = call.geometry();
    let Input { first, strides } = call.input();
    let to = call.outputs().strides();
    let image = first.wrapping_add(piece.pixel.image * strides.batch);
    let offset = piece.pixel.output_offset(to);
    let loops = Loops::of::<S>(piece);
    let mut copied = None;
    for panel in call.part().panels.clone() {
        let (first, count) = panels::channels(geometry, panel);
        for lane in 0..count {
            let channel = first + lane;
            let (group, _) = divide(channel, geometry.out_per_group);
            if copied != Some(group) {
                let in_channel = group * geometry.in_per_group;
                let plane = image.wrapping_add(in_channel * strides.channel);
                copy_group(simd, piece, plane);
                copied = Some(group);
            }
            let weights = ChannelWeights::of(call, panel, lane, channel);
            let offset = offset + channel * to.channel;
            let chains = Chains { piece, channel, weights, offset };
            match loops {
                Loops::Rolling => simd.enter(RollingRows(&chains)),
                Loops::SeveralRows => simd.enter(SeveralRows(&chains)),
                Loops::OneChannel => simd.enter(OneChannel(&chains)),
                Loops::OneUnpacked => simd.enter(OneUnpacked(&chains)),
                Loops::Channels => simd.enter(Channels(&chains)),
            }
        }
    }
}

/// The loops that compute a piece in a channel.
#[derive(Clone, Copy)]
enum Loops {
    Rolling,
    SeveralRows,
    OneChannel,
    OneUnpacked,
    Channels,
}

impl Loops {
    #[inline(always)]
    fn of<S: Simd>(piece: &Piece) -> Loops {
        match (piece.call.geometry().in_per_group, piece.call.is_packed()) {
            _ if rolling::suits::<S>(piece) => Loops::Rolling,
            _ if rows::suits::<S>(piece) => Loops::SeveralRows,
            (1, true) => Loops::OneChannel,
            (1, false) => Loops::OneUnpacked,
            _ => Loops::Channels,
        }
    }
}
