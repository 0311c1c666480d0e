//! What the fuzz targets do; one module per crate under test.

pub mod translator;
