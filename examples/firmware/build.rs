//! Packs the trained weights for the firmware, and places it in the memory of its board.

#[allow(dead_code)] // only what packs is used here
#[path = "../digits/network.rs"]
mod network;

use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var("OUT_DIR").unwrap());

    let mut packed = [0.0; network::PACKED_LEN];
    network::pack(&mut packed).unwrap();
    let bytes: Vec<u8> = packed.iter().flat_map(|word| word.to_bits().to_le_bytes()).collect();
    std::fs::write(out.join("packed.bin"), bytes).unwrap();

    // The boards with Cortex-M3, M4 and M7 have memory at the same places; that with M33 starts in
    // its secure state, whose addresses have another bit.
    let m33 = std::env::var("TARGET").unwrap().starts_with("thumbv8m");
    let (flash, ram) = if m33 { (0x1000_0000, 0x3800_0000) } else { (0, 0x2000_0000) };
    let memory = format!(
        "MEMORY {{ FLASH : ORIGIN = {flash:#x}, LENGTH = 1M  RAM : ORIGIN = {ram:#x}, LENGTH = 64K }}"
    );
    std::fs::write(out.join("memory.x"), memory).unwrap();
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=../digits");
    println!("cargo:rerun-if-changed=build.rs");
}
