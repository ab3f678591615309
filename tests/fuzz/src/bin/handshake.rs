//! Fuzzer of [`cubed_fuzz::handshake`]; tests/fuzz/run builds and starts it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cubed_fuzz::handshake(data));
