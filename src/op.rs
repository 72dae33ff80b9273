//! What users describe: operators by PyTorch's names.

pub(crate) mod conv;
pub(crate) mod fold;
pub(crate) mod functional;
pub(crate) mod numbers;
pub(crate) mod unfold;
pub(crate) mod windows;
