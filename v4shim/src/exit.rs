//! Exit codes, the same for every v4shim program.

use std::process::ExitCode;

/// Done, or nothing to do.
pub(crate) const OK: u8 = 0;
/// It did not work.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration is wrong (clap uses the same code).
pub(crate) const USAGE: u8 = 2;

/// It works in part, or not yet.
pub(crate) const DEGRADED: u8 = 3;
/// More privileges are needed.
pub(crate) const PERMISSION: u8 = 4;

/// Prints one line on stderr and returns `code`.
pub(crate) fn fail(code: u8, message: impl core::fmt::Display) -> ExitCode {
    eprintln!("v4shim: {message}");
    ExitCode::from(code)
}
