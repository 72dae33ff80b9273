//! The fused multiply-add in software, twice: for machines that add `f64` in hardware, and for
//! those that have integers only. Both round once; a test compares both with the instruction.

/// `x * w + acc` rounded once: the definition that every path has to equal.
#[inline]
pub fn fma(x: f32, w: f32, acc: f32) -> f32 {
    // Microcontrollers, and kernels of operating systems that leave the float registers alone.
    const NO_F64: bool = cfg!(any(
        all(target_arch = "arm", target_abi = "eabi"),
        all(any(target_arch = "riscv32", target_arch = "riscv64"), not(target_feature = "d")),
        all(target_arch = "x86_64", not(target_feature = "sse2")),
        all(target_arch = "aarch64", not(target_feature = "neon")),
    ));
    if NO_F64 { fma_in_integers(x, w, acc) } else { fma_in_f64(x, w, acc) }
}

/// [`fma`] where `f64` is fast.
///
/// The product of two `f32` is exact in `f64`. The sum with `acc` is rounded to `f64` first,
/// which can be wrong only where that sum then looks like a tie between two `f32` or narrows to
/// a subnormal; there the error of the sum (Knuth's TwoSum) decides, by rounding the `f64` to
/// odd before it is narrowed (Boldo and Melquiond, "Emulation of a FMA and correctly rounded
/// sums: proved algorithms using rounding to odd", 2008).
#[doc(hidden)]
#[inline]
pub fn fma_in_f64(x: f32, w: f32, acc: f32) -> f32 {
    const DISCARDED: u64 = (1 << 29) - 1; // the bits of an f64 that an f32 has no room for
    const TIE: u64 = 1 << 28;
    const SMALLEST_NORMAL: u64 = (1023 - 126) << 52; // f32's, as an f64
    const MAGNITUDE: u64 = u64::MAX >> 1;

    let product = f64::from(x) * f64::from(w);
    let addend = f64::from(acc);
    let sum = product + addend;
    let bits = sum.to_bits();
    if bits & DISCARDED != TIE && bits & MAGNITUDE >= SMALLEST_NORMAL {
        return sum as f32;
    }
    if !sum.is_finite() {
        return sum as f32;
    }
    let addend_seen = sum - product;
    let error = (product - (sum - addend_seen)) + (addend - addend_seen);
    if error == 0.0 || bits & 1 == 1 {
        return sum as f32;
    }
    // The exact value lies strictly between `sum` and its neighbour on the side of the error;
    // of the two, `sum` is even, so the neighbour is the odd one.
    let away_from_zero = (error > 0.0) == (sum > 0.0);
    let odd = if away_from_zero { bits + 1 } else { bits - 1 };
    f64::from_bits(odd) as f32
}

/// [`fma`] where every operation on `f64` is a call. The digits network takes 15.1 million
/// instructions for an image on a Cortex-M3 with it, and 36.0 million with [`fma_in_f64`].
///
/// Product and addend become significands of 62 or 63 bits. The one with the smaller exponent is
/// shifted to that of the other, and the bits that fall off are kept as one (sticky) bit. That is
/// enough for one correct rounding: the lowest bits are zeros, of the product 15 and of the addend
/// 39, so where more than two leading bits cancel, none fell off.
#[doc(hidden)]
pub fn fma_in_integers(x: f32, w: f32, acc: f32) -> f32 {
    const SIGN: u32 = 1 << 31;
    const INFINITY: u32 = 255 << 23;

    let (x_bits, w_bits, acc_bits) = (x.to_bits(), w.to_bits(), acc.to_bits());
    let (x_size, w_size, acc_size) = (x_bits & !SIGN, w_bits & !SIGN, acc_bits & !SIGN);
    if x_size >= INFINITY || w_size >= INFINITY {
        return x * w + acc;
    }
    if x_size == 0 || w_size == 0 || acc_size >= INFINITY {
        // Of zeros the signs matter.
        return if acc_size == 0 { x * w + acc } else { acc };
    }
    let (x_exponent, x_significand) = unpack(x_size);
    let (w_exponent, w_significand) = unpack(w_size);
    let product = u64::from(x_significand) * u64::from(w_significand);
    let mut larger = product << 15;
    let mut exponent = x_exponent + w_exponent - 126;
    let mut sign = (x_bits ^ w_bits) & SIGN;
    if acc_size != 0 {
        let (acc_exponent, acc_significand) = unpack(acc_size);
        let opposite = sign != acc_bits & SIGN;
        let mut smaller = u64::from(acc_significand) << 39;
        let mut distance = exponent - acc_exponent;
        if distance < 0 {
            (larger, smaller) = (smaller, larger);
            (exponent, distance) = (acc_exponent, -distance);
            sign = acc_bits & SIGN;
        }
        let sticky = distance as u32 > smaller.trailing_zeros();
        smaller = if distance < 64 { smaller >> distance } else { 0 } | u64::from(sticky);
        if !opposite {
            larger += smaller;
        } else if larger > smaller {
            larger -= smaller;
        } else if larger < smaller {
            larger = smaller - larger;
            sign ^= SIGN;
        } else {
            return 0.0;
        }
    }
    round(sign, exponent, larger)
}

/// The biased exponent and the significand, whose leading bit is number 23, of a positive number.
#[inline]
fn unpack(size: u32) -> (i32, u32) {
    let (exponent, fraction) = ((size >> 23) as i32, size & 0x007f_ffff);
    if exponent > 0 {
        return (exponent, fraction | 1 << 23);
    }
    let zeros = fraction.leading_zeros() - 8;
    (1 - zeros as i32, fraction << zeros)
}

/// The nearest number to `significand`, whose bit 62 counts as much as the leading bit of an `f32`
/// with that exponent; of two, the even one.
#[inline]
fn round(sign: u32, exponent: i32, significand: u64) -> f32 {
    let zeros = significand.leading_zeros();
    let significand = significand << zeros;
    let mut exponent = exponent + 1 - zeros as i32;
    // 24 bits, and 8 more to round by, the last of which is sticky.
    let mut top = (significand >> 32) as u32 | u32::from(significand as u32 != 0);
    if exponent < 1 {
        let distance = (1 - exponent) as u32;
        top = if distance < 32 {
            top >> distance | u32::from(top << (32 - distance) != 0)
        } else {
            1
        };
        exponent = 1;
    }
    if exponent > 254 {
        return f32::from_bits(sign | 255 << 23);
    }
    // The leading bit, if it is there, adds 1 to the exponent, and so may the rounding.
    let truncated = ((exponent as u32 - 1) << 23) + (top >> 8);
    let rest = top & 0xff;
    let up = rest > 0x80 || rest == 0x80 && truncated & 1 == 1;
    f32::from_bits(sign | (truncated + u32::from(up)))
}
