//! See `hubwarden::seams::lists`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubwarden::seams::lists(bytes));
