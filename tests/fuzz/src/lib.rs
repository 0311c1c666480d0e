//! What the fuzz targets do; one module per crate under test.

pub mod hosts_file;
pub mod translator;
