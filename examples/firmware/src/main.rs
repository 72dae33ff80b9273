//! The digits network on a microcontroller: plans and weights in flash, activations in a static,
//! no allocator. Prints the checksum that every machine prints, the time and the deepest stack.

#![no_std]
#![no_main]

mod board;
#[allow(dead_code)] // the other layout, and packing
#[path = "../../digits/network.rs"]
mod network;

use cortex_m_rt::entry;
use network::{CHECKSUM, Image, Memory, NCHW, NHWC, Network, PACKED_LEN};

static PACKED: [f32; PACKED_LEN] =
    network::from_little_endian(include_bytes!(concat!(env!("OUT_DIR"), "/packed.bin")));
static NETWORK: Network =
    match Network::new(if cfg!(feature = "nchw") { NCHW } else { NHWC }, &PACKED) {
        Ok(network) => network,
        Err(error) => error.panic(), // when it is compiled
    };
static IMAGES: &[u8] = include_bytes!("../../digits/test_images.bin");
static LABELS: &[u8] = include_bytes!("../../digits/test_labels.bin");

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::new();

    let (images, _): (&[Image], _) = IMAGES.as_chunks();
    let mut checksum = network::CHECKSUM_OF_NOTHING;
    let (mut right, mut stack, mut ticks) = (0, 0, 0);
    for (image, label) in images.iter().zip(LABELS) {
        let begin = board::ticks();
        let (depth, outcome) = board::stack_of(|| NETWORK.run(image, MEMORY, |_, _| ()));
        ticks += board::ticks_since(begin);
        stack = depth.max(stack);
        let Ok(logits) = outcome else {
            board::print("a layer was refused\n");
            board::exit(false);
        };
        checksum = network::checksum(checksum, &logits);
        right += u32::from(network::digit(&logits) == *label);
    }
    let count = images.len() as u32;
    board::print_number("images:                 ", count);
    board::print_number("read correctly:         ", right);
    board::print_number("instructions per image: ", ticks / count * board::INSTRUCTIONS_PER_TICK);
    board::print_number("deepest stack of a run: ", stack as u32);
    board::print_checksum("checksum of the logits: ", checksum);
    board::exit(checksum == CHECKSUM);
}

#[cfg(not(feature = "no-panic"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    board::print("panic\n");
    board::exit(false);
}

#[cfg(feature = "no-panic")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        safe fn a_panic_is_reachable() -> !;
    }
    a_panic_is_reachable()
}
