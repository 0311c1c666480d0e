//! What the fuzz targets do; one module per crate under test.

pub mod dns_answer;
pub mod hosts_file;
pub mod ra;
pub mod translator;
