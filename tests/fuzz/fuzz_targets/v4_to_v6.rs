#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| v4shim_fuzz::translator::v4_to_v6(data));
