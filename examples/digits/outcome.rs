//! Everything a network computes for a set of images, to be compared bit by bit.

use crate::network::{self, CLASSES, Image, LAYERS, Memory, NCHW, Network, Ready};
use tapwise::Error;

/// The outputs of all layers for all images.
pub struct Outcome {
    pub logits: Vec<[f32; CLASSES]>,
    /// Bits; image by image, layer by layer, each in the order channels, rows, columns.
    activations: Vec<u32>,
}

impl Outcome {
    /// Runs the network on every image.
    pub fn of(network: &Network, images: &[Image]) -> Result<Outcome, Error> {
        let (mut logits, mut activations) = (Vec::new(), Vec::new());
        let mut memory = Memory::new();
        for image in images {
            let append =
                |layer: &Ready, y: &[f32]| append_in_nchw_order(layer, y, &mut activations);
            logits.push(network.run(image, &mut memory, append)?);
        }
        Ok(Outcome { logits, activations })
    }

    /// How many activations there are.
    pub fn count(&self) -> usize {
        self.activations.len()
    }

    /// Where `other` first differs from this one, if it does.
    pub fn difference(&self, other: &Outcome) -> Option<String> {
        assert_eq!(self.count(), other.count());
        let mut pairs = self.activations.iter().zip(&other.activations);
        let at = pairs.position(|(ours, theirs)| ours != theirs)?;
        let (ours, theirs) = (self.activations[at], other.activations[at]);
        Some(format!("{}: {theirs:08x}, not {ours:08x}", self.place(at)))
    }

    /// Of all logits.
    pub fn checksum(&self) -> u64 {
        self.logits.iter().fold(network::CHECKSUM_OF_NOTHING, network::checksum)
    }

    fn place(&self, at: usize) -> String {
        let image_len = self.count() / self.logits.len();
        let (image, mut at) = (at / image_len, at % image_len);
        for (layer, plan) in LAYERS.iter().zip(&NCHW) {
            if at < plan.output_len() {
                let [_, height, width] = plan.output_size();
                let (channel, row, column) =
                    (at / (height * width), at / width % height, at % width);
                let layer = layer.name;
                return format!(
                    "image {image}, {layer}, channel {channel}, row {row}, column {column}"
                );
            }
            at -= plan.output_len();
        }
        format!("image {image}")
    }
}

fn append_in_nchw_order(layer: &Ready, y: &[f32], bits: &mut Vec<u32>) {
    let (channels, [_, height, width], strides) = layer.output();
    for channel in 0..channels {
        for row in 0..height {
            for column in 0..width {
                let at = channel * strides.channel + row * strides.row + column * strides.pixel;
                bits.push(y[at].to_bits());
            }
        }
    }
}
