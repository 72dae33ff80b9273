//! What tensors are made of. Problems, schedules, walks, tiles and threads take its size from here;
//! the promise ([`crate::numerics`]), the vectors and the ends of chains say what it means.

/// An element of a tensor.
pub(crate) type Element = f32;
