//! What users describe: operators by PyTorch's names.

pub(crate) mod conv;
pub(crate) mod functional;
