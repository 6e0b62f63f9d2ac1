//! See `messages` in `tests/any/wire.rs`.

#![no_main]

#[path = "../../tests/any/mod.rs"]
mod any;
#[allow(dead_code)]
#[path = "../../tests/any/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::messages(bytes));
