//! Slices that begin with a cache line, as the tensors of most runtimes do.

use std::ops::{Deref, DerefMut};

const LINE: usize = 64 / size_of::<f32>();

/// `f32`s from the start of a cache line on.
pub struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn zeros(len: usize) -> Aligned {
        let memory = vec![0.0; len + LINE];
        let start = memory.as_ptr().align_offset(64).min(LINE);
        Aligned { memory, start, len }
    }

    pub fn copy_of(values: &[f32]) -> Aligned {
        let mut copy = Aligned::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}
