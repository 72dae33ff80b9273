//! What the loops of kernels are called and how large they are, for the tests that read assembly.

/// The innermost loop of a kernel for one size of its tiles.
#[derive(Clone, Copy, Debug)]
pub struct LoopBody {
    /// The modules and types that the name of its function is made of, in this order.
    pub types: &'static [&'static str],
    /// The constants that follow them, and what they count; 0 for one that there is not.
    pub sizes: [(&'static str, usize); 2],
    /// Of one turn.
    pub multiply_adds: usize,
    /// Of the loops for what is left over; 0 for one that there is not.
    pub multiply_adds_left: [usize; 6],
}
