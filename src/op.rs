//! What users describe: operators by PyTorch's names.

mod checks;
pub(crate) mod conv;
pub(crate) mod correlation;
pub(crate) mod deform;
pub(crate) mod fold;
pub(crate) mod functional;
pub(crate) mod numbers;
pub(crate) mod separable;
pub(crate) mod transpose;
pub(crate) mod unfold;
pub(crate) mod windows;
