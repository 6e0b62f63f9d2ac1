//! The codec held against itself: what is written reads back equal, and any bytes are read to an end.

// A test may unwrap; the helpers of these are tests too.
#![allow(clippy::unwrap_used)]

mod any;
#[path = "any/wire.rs"]
mod wire;

use proptest::prelude::*;

proptest! {
    #[test]
    fn every_ruleset_is_written_and_read_back_equal(
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        wire::rulesets(&bytes);
    }

    #[test]
    fn whatever_the_kernel_says_is_read_to_an_end(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        wire::messages(&bytes);
    }
}
