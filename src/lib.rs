//! Convolution kernels for inference: `no_std`, allocation-free, over slices that the caller
//! supplies, and with **the same bits on every machine**, whatever the instruction set, the
//! layout, the tiling and the number of threads.
//!
//! Describe a layer, plan it for a shape and a layout, pack its weights once, run it:
//!
//! ```
//! use tapwise::{Conv2d, Epilogue, Layout, Plan};
//!
//! const CONV: Conv2d = Conv2d::new(3, 32, [3, 3]).stride([2, 2]).padding([1, 1]);
//! const PLAN: Plan = match CONV.plan(Layout::Nhwc, 1, [96, 96]) {
//!     Ok(plan) => plan,
//!     Err(error) => error.panic(), // when it is compiled
//! };
//!
//! let (x, w, bias) = ([1.0; PLAN.input_len()], [0.1; PLAN.weights_len()], [0.5; 32]);
//! let mut packed = [0.0; PLAN.packed_len()];
//! let mut scratch = [0.0; PLAN.scratch_len()];
//! let mut y = [0.0; PLAN.output_len()];
//! let weights = PLAN.pack(&w, &mut packed)?;
//! PLAN.run(&x, &weights, Epilogue::new().bias(&bias).relu(), &mut scratch, &mut y)?;
//! assert!((y[0] - 1.7).abs() < 1e-6); // a corner sees 2 x 2 x 3 inputs
//! # Ok::<(), tapwise::Error>(())
//! ```
//!
//! The way the data goes is the way the modules read: [`Conv`] describes, and so do [`ConvTranspose`],
//! [`Correlation`], [`DeformConv2d`], [`Unfold2d`] and [`Fold2d`]; [`Plan`] sizes,
//! [`PackedWeights`] holds the weights, [`Job`] cuts the output into [`Tile`]s, [`Epilogue`] ends
//! each output. [`numerics`] states what every output is, to the bit, and [`mod@reference`]
//! computes it by plain loops.

#![no_std]

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!("x86 without SSE2 rounds twice: enable the target feature sse2");

mod activation;
mod compute;
mod element;
mod epilogue;
mod error;
mod fma;
mod isa;
mod kernel;
pub mod numerics;
mod op;
mod panels;
mod plan;
mod problem;
pub mod reference;
mod run;
mod simd;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use activation::Activation;
pub use epilogue::Epilogue;
pub use error::{Error, Expected, Field, Found, Stage, StrideOf};
#[doc(hidden)]
pub use isa::Features;
pub use isa::Isa;
#[doc(hidden)]
pub use kernel::{Kernel, bodies::LoopBody};
pub use numerics::CHANNEL_BLOCK;
pub use op::conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use op::correlation::{
    Correlation, Correlation1d, Correlation2d, Correlation3d, CorrelationPlan,
};
pub use op::deform::DeformConv2d;
pub use op::fold::{Fold2d, FoldPlan};
pub use op::functional::{conv_transpose1d, conv_transpose2d, conv_transpose3d};
pub use op::functional::{
    conv1d, conv2d, conv3d, deform_conv2d, deform_conv2d_scratch_len, fold, unfold,
};
pub use op::numbers::ReceptiveField;
pub use op::separable::Separable2d;
pub use op::transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use op::unfold::{Unfold2d, UnfoldPlan};
pub use op::windows::{WindowTile, WindowTiles};
pub use plan::Plan;
pub use plan::deform::DeformPlan;
pub use plan::separable::SeparablePlan;
pub use problem::geometry::PaddingMode;
pub use problem::shape::Shape;
pub use problem::strides::{Layout, Strides};
pub use run::output::OutputElement;
pub use run::tiles::{Job, Refused, Tile, Tiles};
pub use run::weights::{PackedWeights, Weights};
#[doc(hidden)]
pub use simd::facts::Facts;
