//! clatd
fn main() {}
