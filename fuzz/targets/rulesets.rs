//! See `egress::seams::rulesets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egress::seams::rulesets(bytes));
