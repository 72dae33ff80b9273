//! Convolutions with a padding mode: descriptions, sensible and absurd, are a plan or an error; layers
//! that are valid, on any data, have the bits of the plain loops on every path.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise_fuzz::MOST;
use tapwise_fuzz::padded::{check, describe, padded_case};
use tapwise_fuzz::support::{choices::Choices, paths};

fuzz_target!(|data: &[u8]| {
    let choices = &mut Choices::new(data);
    match choices.number_in(0..=3) {
        0..=2 => {
            let case = padded_case(choices, MOST);
            if let Err(error) = check(&case, &paths()) {
                panic!("{error}\n{case:?}");
            }
        }
        _ => {
            let tame = choices.flag();
            describe(choices, tame).check();
        }
    }
});
