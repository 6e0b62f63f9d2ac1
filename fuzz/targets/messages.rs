//! See `egress::seams::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egress::seams::messages(bytes));
