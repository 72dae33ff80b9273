//! Unfolding and folding: descriptions, sensible and absurd, are a plan or an error; windows that are
//! valid, on any data, have the bits of the plain loops, at once and in tiles.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise_fuzz::MOST;
use tapwise_fuzz::support::choices::Choices;
use tapwise_fuzz::windows::{WindowsCase, describe};

fuzz_target!(|data: &[u8]| {
    let choices = &mut Choices::new(data);
    match choices.number_in(0..=3) {
        0..=2 => WindowsCase::of(choices, MOST).check(),
        _ => {
            let tame = choices.flag();
            describe(choices, tame);
        }
    }
});
