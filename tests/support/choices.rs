//! Choices by bytes: those of a fuzzer, or random ones that shrink towards zeros. Bytes that are
//! missing are zeros, and a zero is the simplest choice, so every string of bytes stands for
//! something, and a shorter or a smaller one for something simpler.

use std::ops::RangeInclusive;

pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            None => 0,
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
        }
    }

    /// Little-endian, of so many bytes.
    fn bytes(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |word, at| word | u64::from(self.byte()) << (8 * at))
    }

    /// Any number.
    pub fn number(&mut self) -> usize {
        self.bytes(8) as usize
    }

    /// Any word.
    pub fn word(&mut self) -> u32 {
        self.bytes(4) as u32
    }

    /// From as many bytes as the range needs; the first number for zeros.
    pub fn number_in(&mut self, range: RangeInclusive<usize>) -> usize {
        let most = range.end() - range.start();
        let bytes = most.checked_ilog2().map_or(1, |bits| bits / 8 + 1);
        let drawn = self.bytes(bytes) as usize;
        range.start() + most.checked_add(1).map_or(drawn, |count| drawn % count)
    }

    /// 1 to `most`, small numbers more often than large ones.
    pub fn small_in(&mut self, most: usize) -> usize {
        let most = self.number_in(1..=most);
        self.number_in(1..=most)
    }

    pub fn flag(&mut self) -> bool {
        self.number_in(0..=1) == 1
    }

    /// True once in so many times, never for zeros.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.number_in(0..=count - 1) == count - 1
    }

    /// The first for zeros; to be listed as often as it is to be chosen.
    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.number_in(0..=from.len() - 1)]
    }

    /// Any order; the one that it has for zeros.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in 1..items.len() {
            let back = self.number_in(0..=at);
            items.swap(at, at - back);
        }
    }

    /// The next bytes, at most so many.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }
}
