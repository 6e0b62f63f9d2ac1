//! See `hubwarden::seams::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubwarden::seams::messages(bytes));
