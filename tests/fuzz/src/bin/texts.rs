//! Fuzzer of [`cubed_fuzz::texts`]; tests/fuzz/run builds and starts it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cubed_fuzz::texts(data));
