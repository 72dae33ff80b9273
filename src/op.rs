//! What users describe: operators by PyTorch's names.

mod checks;
pub(crate) mod conv;
pub(crate) mod functional;
pub(crate) mod separable;
pub(crate) mod transpose;
