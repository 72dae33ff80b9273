//! Depthwise-separable layers: descriptions, sensible and absurd, are a plan or an error; in one pass
//! valid ones have the bits of the two layers by the plain loops, on every path and any data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapwise_fuzz::MOST;
use tapwise_fuzz::separated::{SeparableCase, describe};
use tapwise_fuzz::support::{choices::Choices, paths};

fuzz_target!(|data: &[u8]| {
    let choices = &mut Choices::new(data);
    match choices.number_in(0..=3) {
        0..=2 => {
            let case = SeparableCase::of(choices, MOST);
            if let Err(error) = case.check(&paths()) {
                panic!("{error}\n{case:?}");
            }
        }
        _ => {
            let tame = choices.flag();
            describe(choices, tame);
        }
    }
});
