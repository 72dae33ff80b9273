//! What the targets share, which is what the tests use: from bytes to layers, and what has to hold.

#[path = "../../tests/support/deform_description.rs"]
pub mod deform_description;
#[path = "../../tests/support/deform.rs"]
pub mod deformable;
#[path = "../../tests/support/description.rs"]
pub mod description;
#[path = "../../tests/support/mod.rs"]
pub mod support;

/// The most multiply-adds, and the most elements of a tensor, of an ordinary layer.
pub const MOST: usize = 10_000;
