//! See `hubwarden::seams::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubwarden::seams::names(bytes));
