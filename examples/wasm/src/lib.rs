//! The digits network as a WebAssembly module without imports: no allocator, no host functions.
//! `run.mjs`, beside this folder, calls it.

#![no_std]

#[allow(dead_code)] // what the desk shows
#[path = "../../digits/network.rs"]
mod network;

use network::{Image, Memory, NCHW, NHWC, Network, PACKED_LEN};
use tapwise::{Error, Isa};

static IMAGES: &[u8] = include_bytes!("../../digits/test_images.bin");

/// How many images there are.
#[unsafe(no_mangle)]
pub extern "C" fn image_count() -> usize {
    IMAGES.as_chunks::<{ size_of::<Image>() }>().0.len()
}

/// How many paths the library knows.
#[unsafe(no_mangle)]
pub extern "C" fn path_count() -> usize {
    Isa::ALL.len()
}

/// Where the name of a path begins.
#[unsafe(no_mangle)]
pub extern "C" fn path_name(path: usize) -> *const u8 {
    Isa::ALL[path].name().as_ptr()
}

/// The bytes of that name.
#[unsafe(no_mangle)]
pub extern "C" fn path_name_len(path: usize) -> usize {
    Isa::ALL[path].name().len()
}

/// Whether this machine has the path and this build contains it.
#[unsafe(no_mangle)]
pub extern "C" fn path_is_available(path: usize) -> bool {
    Isa::ALL[path].is_available()
}

/// The path that is taken if none is named.
#[unsafe(no_mangle)]
pub extern "C" fn path_detected() -> usize {
    Isa::ALL.iter().position(|isa| *isa == Isa::detect()).unwrap_or(usize::MAX)
}

/// Runs the network on all images: the checksum of the logits, or 0 if a layer was refused.
#[unsafe(no_mangle)]
pub extern "C" fn checksum(path: usize, channels_last: bool) -> u64 {
    checksum_on(Isa::ALL[path], channels_last).unwrap_or(0)
}

/// FNV-1a over the little-endian bytes of all logits, as `../../digits/outcome.rs` has it.
fn checksum_on(isa: Isa, channels_last: bool) -> Result<u64, Error> {
    let mut packed = [0.0; PACKED_LEN];
    network::pack(&mut packed)?;
    let plans = if channels_last { NHWC } else { NCHW };
    let network = Network::new(plans, &packed)?.with_isa(isa)?;
    let mut memory = Memory::new();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for image in IMAGES.as_chunks().0 {
        let logits = network.run(image, &mut memory, |_, _| ())?;
        for byte in logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
