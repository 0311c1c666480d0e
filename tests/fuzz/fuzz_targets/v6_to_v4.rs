#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| v4shim_fuzz::translator::v6_to_v4(data));
