//! Deformable convolutions: bits of the plain loops by every kernel on every path; what offsets of any
//! kind mean; what is refused.

mod support;

#[path = "support/deform.rs"]
mod deformable;

use deformable::DeformCase;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use support::choices::Choices;
use support::{paths, share};

const MOST: usize = 60_000;

#[test]
fn random_layers() {
    let config = Config {
        cases: share(3000) as u32,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let paths = paths();
    let bytes = vec(any::<u8>(), 0..160);
    let outcome = TestRunner::new(config).run(&bytes, |bytes| {
        let case = DeformCase::of(&mut Choices::new(&bytes), MOST);
        case.check(&paths).map_err(|error| TestCaseError::fail(format!("{error}\n{case:?}")))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
