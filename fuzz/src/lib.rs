//! What the targets share, which is what the tests use: from bytes to layers, and what has to hold.

#[path = "../../tests/support/correlation.rs"]
pub mod correlating;
#[path = "../../tests/support/deform_description.rs"]
pub mod deform_description;
#[path = "../../tests/support/deform.rs"]
pub mod deformable;
#[path = "../../tests/support/description.rs"]
pub mod description;
#[path = "../../tests/support/padding_modes.rs"]
pub mod padded;
#[path = "../../tests/support/separable.rs"]
pub mod separated;
#[path = "../../tests/support/mod.rs"]
pub mod support;
#[path = "../../tests/fold/windows.rs"]
pub mod windows;

/// The most multiply-adds, and the most elements of a tensor, of an ordinary layer.
pub const MOST: usize = 10_000;
