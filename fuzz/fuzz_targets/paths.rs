//! Layers that are valid, and any data: every path, in both layouts, with packed and with unpacked
//! weights, has the bits of the plain loops.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise_fuzz::MOST;
use tapwise_fuzz::support::{case::Case, choices::Choices, paths};

fuzz_target!(|data: &[u8]| {
    let case = Case::of(&mut Choices::new(data), MOST);
    if let Err(error) = case.check(&paths()) {
        panic!("{error}\n{case:?}");
    }
});
