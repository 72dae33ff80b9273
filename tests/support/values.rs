//! Data by a formula, to the point of nastiness.

use super::choices::Choices;
use super::{hash, value};

/// Values by a formula, some of them special.
#[derive(Clone, Debug)]
pub struct Values {
    seed: usize,
    /// One value of so many is special; 0: none.
    one_of: u32,
    /// Bits of which special values are made, besides those that are known to be.
    words: Vec<u32>,
}

impl Values {
    /// From all bytes that are left.
    pub fn of(choices: &mut Choices) -> Values {
        let seed = choices.number_in(0..=0xffff);
        let one_of = choices.choose(&[0, 0, 0, 0, 0, 0, 40, 40, 40, 4, 4, 1]);
        let (words, _) = choices.rest().as_chunks();
        Values { seed, one_of, words: words.iter().map(|word| u32::from_le_bytes(*word)).collect() }
    }

    /// The tensor with that number.
    pub fn tensor(&self, len: usize, number: usize) -> Vec<f32> {
        let seed = 5 * self.seed + number;
        let element = |at: usize| {
            let draw = hash(at, seed + 0x5000_0000);
            if self.one_of == 0 || !draw.is_multiple_of(self.one_of) {
                return value(at, seed);
            }
            self.special(draw / self.one_of)
        };
        (0..len).map(element).collect()
    }

    fn special(&self, draw: u32) -> f32 {
        let negative = if draw & 1 == 1 { -1.0 } else { 1.0 };
        let (kind, draw) = (draw >> 1 & 15, draw >> 5);
        negative
            * match kind {
                0..=3 => 0.0,
                4..=6 => f32::from_bits(1 + draw % 0x007f_ffff), // subnormal
                7 => f32::MIN_POSITIVE,
                8 | 9 => 1e-30 * (1 + draw % 1024) as f32,
                10 | 11 => 1e18 * (1 + draw % 64) as f32,
                12 => f32::INFINITY,
                13 => f32::from_bits(0x7f80_0001 + draw % 0x007f_ffff), // any NaN
                _ if self.words.is_empty() => 0.0,
                _ => f32::from_bits(self.words[draw as usize % self.words.len()]),
            }
    }

    /// Without infinities and NaN, as the promise asks of weights.
    pub fn finite(&self, len: usize, number: usize) -> Vec<f32> {
        const TOP_OF_EXPONENT: u32 = 1 << 30;
        let tame = |value: f32| f32::from_bits(value.to_bits() & !TOP_OF_EXPONENT);
        let values = self.tensor(len, number).into_iter();
        values.map(|value| if value.is_finite() { value } else { tame(value) }).collect()
    }
}
