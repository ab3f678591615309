//! Fuzzer of [`cubed_fuzz::frames`]; tests/fuzz/run builds and starts it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cubed_fuzz::frames(data));
