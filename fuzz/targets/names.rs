//! See `egress::seams::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egress::seams::names(bytes));
