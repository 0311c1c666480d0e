//! hostsfix
fn main() {}
