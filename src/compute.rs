//! From a described layer to calls of kernels: how each operator computes a part of its output.

pub(crate) mod borders;
pub(crate) mod deform;
pub(crate) mod direct;
pub(crate) mod layer;
pub(crate) mod operands;
pub(crate) mod phases;
pub(crate) mod pieces;
pub(crate) mod samples;
pub(crate) mod separable;
pub(crate) mod woven;
