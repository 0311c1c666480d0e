//! v4shim
fn main() {}
