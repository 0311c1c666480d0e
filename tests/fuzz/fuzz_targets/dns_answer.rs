#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| v4shim_fuzz::dns_answer::check(data));
