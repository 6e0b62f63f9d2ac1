//! See `hubwarden::seams::rulesets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubwarden::seams::rulesets(bytes));
