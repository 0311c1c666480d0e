//! hostsfix: any bytes as a hosts file.
#![no_main]

#[path = "../src/hosts_file.rs"]
mod hosts_file;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hosts_file::check(bytes));
