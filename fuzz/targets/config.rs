//! See `hubwarden::seams::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubwarden::seams::config(bytes));
