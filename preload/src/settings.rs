//! Mode and verbosity, read once in the constructor. Until then the mode is `off`: every hook is the real call.

use crate::{prefix, real, report};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use pref64::config::PreloadMode;

/// When to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Never.
    Off = 0,
    /// When the kernel has no IPv4 route.
    Auto = 1,
    /// Also when there is an IPv4 route, which leads nowhere.
    Always = 2,
}

static MODE: AtomicU8 = AtomicU8::new(Mode::Off as u8);
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// The mode.
#[inline]
pub(crate) fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        1 => Mode::Auto,
        2 => Mode::Always,
        _ => Mode::Off,
    }
}

/// Whether to say what was done.
pub(crate) fn verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// A variable of the environment.
pub(crate) fn env(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: a NUL-terminated name; called from the constructor, before the application can change the environment.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

/// The loader calls this before the program's own constructors.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

extern "C" fn construct() {
    let errno = swap::sys::errno();
    real::resolve();
    // The parser of the configuration is not ours: should it panic, IPv4 is left alone.
    if let Some(mode) = std::panic::catch_unwind(configure).ok().flatten() {
        MODE.store(mode, Ordering::Release);
    }
    swap::sys::set_errno(errno);
}

/// The mode that the configuration asks for; the environment's goes before it.
static CONFIGURED: AtomicU8 = AtomicU8::new(Mode::Auto as u8);

/// Takes the mode from the configuration.
pub(crate) fn configured_mode(mode: PreloadMode) {
    let mode = match mode {
        PreloadMode::Auto => Mode::Auto,
        PreloadMode::Always => Mode::Always,
        PreloadMode::Off => Mode::Off,
    };
    CONFIGURED.store(mode as u8, Ordering::Relaxed);
}

fn configure() -> Option<u8> {
    VERBOSE.store(
        env(c"V4SHIM_VERBOSE").is_some_and(|v| !matches!(v.to_bytes(), b"" | b"0")),
        Ordering::Relaxed,
    );
    let mode = match env(c"V4SHIM_MODE").map(CStr::to_bytes) {
        None | Some(b"") => None,
        Some(b"auto") => Some(Mode::Auto),
        Some(b"always") => Some(Mode::Always),
        Some(b"off") => return None,
        Some(_) => {
            report::line("V4SHIM_MODE must be auto, always or off; IPv4 is left alone");
            return None;
        }
    };
    prefix::configure().then(|| mode.map_or_else(|| CONFIGURED.load(Ordering::Relaxed), |mode| mode as u8))
}
