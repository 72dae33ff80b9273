//! From the fuzzer's bytes to layers, values, strides and epilogues: what the targets share.

#[path = "../../tests/support/description.rs"]
pub mod description;
#[path = "../../tests/support/mod.rs"]
pub mod support;

use libfuzzer_sys::arbitrary::{Error, Result, Unstructured};
use support::{Ending, Layer, Residual, value};
use tapwise::{Activation, Layout, Plan, Strides};

/// The most multiply-adds, and the most elements of a tensor, of an ordinary layer.
const MOST: usize = 10_000;

/// What memory holds before a call.
pub const POISONS: [f32; 2] = [f32::from_bits(0xffc5_a5a5), 12_345.5];

/// A layer that every plan accepts and that takes a moment to run.
pub fn layer(u: &mut Unstructured) -> Result<Layer> {
    if !u.ratio(63, 64)? {
        return colliding(u);
    }
    let rank = u.int_in_range(1..=3)?;
    let groups = *u.choose(&[1, 1, 1, 2, 3, 8, 17, 40])?;
    let most = if groups > 3 { 5 } else { 70 };
    let mut per_group = [u.int_in_range(1..=most)?, u.int_in_range(1..=most)?];
    let mut layer = Layer::new(rank, [1; 2], [1; 3], [1; 3]);
    layer.groups = groups;
    layer.batch = u.int_in_range(1..=3)?;
    for axis in 3 - rank..3 {
        layer.size[axis] = u.int_in_range(1..=[100, 40, 8][rank - 1])?;
        layer.kernel[axis] = u.int_in_range(1..=7)?;
        layer.stride[axis] = u.int_in_range(1..=3)?;
        layer.dilation[axis] = u.int_in_range(1..=3)?;
        if u.arbitrary()? {
            layer.before[axis] = u.int_in_range(0..=4)?;
            layer.after[axis] = u.int_in_range(0..=4)?;
        }
    }
    loop {
        fit(&mut layer);
        [layer.in_channels, layer.out_channels] = per_group.map(|channels| groups * channels);
        if macs(&layer) <= MOST && elements(&layer) <= MOST {
            return Ok(layer);
        }
        let dims = per_group.iter_mut().chain(&mut layer.size).chain(&mut layer.kernel);
        match dims.max() {
            Some(largest) if *largest > 1 => *largest /= 2,
            _ => return Err(Error::IncorrectFormat),
        }
    }
}

/// Planes that are a multiple of 2 KiB: their channels collide in a cache, and are copied.
fn colliding(u: &mut Unstructured) -> Result<Layer> {
    let channels = [u.int_in_range(16..=18)?, u.int_in_range(32..=35)?];
    let (rank, size, most_taps) =
        if u.arbitrary()? { (1, [1, 1, 512], [1, 3]) } else { (2, [1, 8, 64], [2, 2]) };
    let kernel = [1, u.int_in_range(1..=most_taps[0])?, u.int_in_range(1..=most_taps[1])?];
    let mut layer = Layer::new(rank, channels, size, kernel);
    layer.before[2] = u.int_in_range(0..=1)?;
    layer.after[2] = u.int_in_range(0..=1)?;
    Ok(layer)
}

/// Lets windows fit.
fn fit(layer: &mut Layer) {
    for axis in 0..3 {
        let padded = layer.size[axis] + layer.before[axis] + layer.after[axis];
        layer.kernel[axis] = layer.kernel[axis].min(padded);
        while (layer.kernel[axis] - 1) * layer.dilation[axis] + 1 > padded {
            layer.dilation[axis] -= 1;
        }
    }
}

fn macs(layer: &Layer) -> usize {
    let taps: usize = layer.kernel.iter().product();
    let chain = layer.in_channels / layer.groups * taps;
    layer.batch * layer.out_channels * layer.pixels_out() * chain
}

fn elements(layer: &Layer) -> usize {
    layer.batch * layer.in_channels * layer.pixels_in()
}

/// Bytes of caches to assume: a plan cuts its loops by them.
pub fn caches(u: &mut Unstructured) -> Result<[usize; 2]> {
    Ok([u.int_in_range(1..=1 << 16)?, 1 << u.int_in_range(0..=21)?])
}

pub fn with_caches(plan: Plan, [l1, l2]: [usize; 2]) -> Plan {
    plan.assume_caches(l1, l2).unwrap()
}

pub fn strides([batch, channel, depth, row, pixel]: [usize; 5]) -> Strides {
    Strides { batch, channel, depth, row, pixel }
}

/// Strides by which no two elements meet: the dimensions in any order, with gaps.
pub fn disjoint_strides(u: &mut Unstructured, extents: [usize; 5]) -> Result<Strides> {
    let mut order = [0, 1, 2, 3, 4];
    shuffle(u, &mut order)?;
    let mut found = [0; 5];
    let mut reach = 0;
    for dim in order {
        found[dim] = reach + 1 + u.choose(&[0, 0, 0, 1, 2, 5])?;
        if extents[dim] > 1 {
            reach += (extents[dim] - 1) * found[dim];
        } else if u.ratio(1, 4)? {
            found[dim] = u.arbitrary()?;
        }
    }
    Ok(strides(found))
}

/// Any order.
pub fn shuffle<T>(u: &mut Unstructured, items: &mut [T]) -> Result<()> {
    for end in (1..items.len()).rev() {
        items.swap(end, u.int_in_range(0..=end)?);
    }
    Ok(())
}

/// Values of which the fuzzer chooses the bits.
pub struct Values {
    words: Vec<u32>,
    /// One of so many is not taken from the words; they are numbers between -1 and 1.
    dilution: usize,
}

const SPECIALS: [u32; 8] = [
    0x0000_0000,
    0x8000_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffa5_a5a5,
    0x0000_0001,
    0x7f7f_ffff,
];

impl Values {
    /// From the bytes that are left.
    pub fn of(u: &mut Unstructured) -> Result<Values> {
        let dilution = u.int_in_range(0..=8)?;
        let (words, _) = u.bytes(u.len())?.as_chunks();
        let word = |bytes: &[u8; 4]| match u32::from_le_bytes(*bytes) {
            word if word & 15 == 0 => SPECIALS[word as usize >> 4 & 7],
            word => word,
        };
        Ok(Values { words: words.iter().map(word).collect(), dilution })
    }

    /// The tensor with that seed.
    pub fn tensor(&self, len: usize, seed: usize) -> Vec<f32> {
        let element = |at: usize| {
            let diluted = value(at, seed);
            let draw = diluted.to_bits() as usize >> 4;
            if self.words.is_empty() || !draw.is_multiple_of(self.dilution + 1) {
                return diluted;
            }
            f32::from_bits(self.words[draw.wrapping_mul(31).wrapping_add(at) % self.words.len()])
        };
        (0..len).map(element).collect()
    }

    /// Without infinities and NaN, as the promise asks of weights.
    pub fn finite(&self, len: usize, seed: usize) -> Vec<f32> {
        const TOP_OF_EXPONENT: u32 = 1 << 30;
        let tame = |value: f32| f32::from_bits(value.to_bits() & !TOP_OF_EXPONENT);
        let values = self.tensor(len, seed).into_iter();
        values.map(|value| if value.is_finite() { value } else { tame(value) }).collect()
    }
}

pub fn ending(u: &mut Unstructured) -> Result<Ending> {
    let (a, b) = (number(u)?, number(u)?);
    Ok(Ending {
        bias: u.arbitrary()?,
        residual: *u.choose(&[Residual::None, Residual::Slice, Residual::Output])?,
        activation: match u.int_in_range(0..=4)? {
            0 => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Clamp { lower: a.min(b), upper: a.max(b) },
            3 => Activation::LeakyRelu { slope: a },
            _ => Activation::HardSwish,
        },
    })
}

/// Anything but NaN.
fn number(u: &mut Unstructured) -> Result<f32> {
    let any: f32 = u.arbitrary()?;
    Ok(if any.is_nan() { 0.5 } else { any })
}

pub const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
