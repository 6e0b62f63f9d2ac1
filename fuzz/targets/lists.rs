//! See `egress::seams::lists`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egress::seams::lists(bytes));
