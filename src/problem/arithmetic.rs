//! Sizes, checked: what a product or a sum may be, and division that cannot panic.

use crate::error::{Error, Field};

/// `?` for `const fn`.
macro_rules! tri {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(error),
        }
    };
}
pub(crate) use tri;

/// `a * b`, at most `limit`.
pub(crate) const fn mul(a: usize, b: usize, limit: usize, field: Field) -> Result<usize, Error> {
    match a.checked_mul(b) {
        Some(product) if product <= limit => Ok(product),
        _ => Err(Error::overflow(field, limit)),
    }
}

/// `a + b`, at most `limit`.
pub(crate) const fn add(a: usize, b: usize, limit: usize, field: Field) -> Result<usize, Error> {
    match a.checked_add(b) {
        Some(sum) if sum <= limit => Ok(sum),
        _ => Err(Error::overflow(field, limit)),
    }
}

/// The quotient and the remainder. No size of a plan is 0, but the compiler cannot know: an
/// operator would carry the machinery of panics into programs that never panic.
#[inline(always)]
pub(crate) const fn divide(a: usize, b: usize) -> (usize, usize) {
    (quotient(a, b), remainder(a, b))
}

/// The quotient, rounded up. Division is slow, and most steps are 1.
#[inline(always)]
pub(crate) const fn div_ceil(a: usize, b: usize) -> usize {
    if b == 1 {
        return a;
    }
    let (quotient, rest) = divide(a, b);
    quotient + (rest > 0) as usize
}

/// `a / b`; 0 where there is none.
#[inline(always)]
pub(crate) const fn quotient(a: usize, b: usize) -> usize {
    match a.checked_div(b) {
        Some(quotient) => quotient,
        None => 0,
    }
}

/// `a % b`; 0 where there is none.
#[inline(always)]
pub(crate) const fn remainder(a: usize, b: usize) -> usize {
    match a.checked_rem(b) {
        Some(rest) => rest,
        None => 0,
    }
}

/// [`Ord::min`] for `const fn`.
pub(crate) const fn smaller(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

pub(crate) const fn at_least_1(n: usize) -> usize {
    if n == 0 { 1 } else { n }
}
