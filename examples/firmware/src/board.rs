//! What the firmware needs of its machine: semihosting, a clock, the depth of the stack.

use core::arch::asm;

/// Of the emulator, which `emulate` tells to take a nanosecond for each; the clock has 25 MHz.
pub const INSTRUCTIONS_PER_TICK: u32 = 40;

const CLOCK_CONTROL: *mut u32 = 0xe000_e010 as *mut u32;
const CLOCK_RELOAD: *mut u32 = 0xe000_e014 as *mut u32;
const CLOCK_VALUE: *mut u32 = 0xe000_e018 as *mut u32;
const CLOCK_BITS: u32 = 0x00ff_ffff;

/// A clock that counts 24 bits upwards.
pub fn ticks() -> u32 {
    // SAFETY: the registers of SysTick, which every Cortex-M of these boards has and nobody else
    // uses; enabled, on the processor's clock, without interrupts.
    unsafe {
        if CLOCK_CONTROL.read_volatile() & 1 == 0 {
            CLOCK_RELOAD.write_volatile(CLOCK_BITS);
            CLOCK_CONTROL.write_volatile(0b101);
        }
        CLOCK_BITS - CLOCK_VALUE.read_volatile()
    }
}

/// Less than 2^24.
pub fn ticks_since(begin: u32) -> u32 {
    ticks().wrapping_sub(begin) & CLOCK_BITS
}

/// More than any call here needs.
const PAINTED: usize = 16 << 10;
const PAINT: u32 = 0x7A9_5EED;

/// Calls `f` and tells how many bytes of stack it used, those that have lost their paint, and what it
/// returned.
#[inline(never)]
pub fn stack_of<R>(f: impl FnOnce() -> R) -> (usize, R) {
    let top: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) top, options(nomem, nostack)) };
    let bottom = (top - PAINTED) as *mut u32;
    let words = PAINTED / size_of::<u32>();
    for word in 0..words {
        // SAFETY: below the stack pointer, in the memory that is left for the stack.
        unsafe { bottom.add(word).write_volatile(PAINT) };
    }
    let outcome = call(f);
    let mut clean = 0;
    // SAFETY: as above.
    while clean < words && unsafe { bottom.add(clean).read_volatile() } == PAINT {
        clean += 1;
    }
    (PAINTED - clean * size_of::<u32>(), outcome)
}

#[inline(never)]
fn call<R>(f: impl FnOnce() -> R) -> R {
    f()
}

pub fn print(text: &str) {
    for byte in text.bytes() {
        // SAFETY: SYS_WRITEC reads a byte.
        unsafe { semihosting(3, (&raw const byte) as usize) };
    }
}

pub fn print_number(name: &str, mut number: u32) {
    print(name);
    let mut digits = [0; 10];
    for digit in digits.iter_mut().rev() {
        (*digit, number) = (number % 10, number / 10);
    }
    let zeros = digits[..9].iter().take_while(|digit| **digit == 0).count();
    digits.iter().skip(zeros).for_each(|digit| print_digit(*digit));
    print("\n");
}

pub fn print_checksum(name: &str, checksum: u64) {
    print(name);
    for nibble in (0..16).rev() {
        print_digit((checksum >> (4 * nibble)) as u32 & 15);
    }
    print("\n");
}

fn print_digit(digit: u32) {
    let byte = if digit < 10 { b'0' } else { b'a' - 10 } + digit as u8;
    // SAFETY: SYS_WRITEC reads a byte.
    unsafe { semihosting(3, (&raw const byte) as usize) };
}

/// Ends the emulation, with success or without.
pub fn exit(success: bool) -> ! {
    const APPLICATION_EXIT: usize = 0x2_0026;
    const RUN_TIME_ERROR: usize = 0x2_0023;
    loop {
        // SAFETY: SYS_EXIT takes a reason.
        unsafe { semihosting(0x18, if success { APPLICATION_EXIT } else { RUN_TIME_ERROR }) };
    }
}

/// A call of the debugger: Arm, "Semihosting for AArch32 and AArch64".
///
/// # Safety
/// The argument is what the operation expects.
unsafe fn semihosting(operation: usize, argument: usize) {
    // SAFETY: the caller vouches for the argument; the debugger returns in r0.
    unsafe {
        asm!("bkpt #0xab", inout("r0") operation => _, in("r1") argument, options(nostack));
    }
}
