//! The application's memory. Pointers come as the application gave them: the kernel answers a bad one
//! with EFAULT, so we must not answer it with a signal.

use core::ffi::c_void;
use libc::c_int;

/// Whether the eight bytes at `at`, which is aligned to eight, can be read.
///
/// `rt_sigprocmask` copies the set before it looks at `how`, and refuses this `how`: EFAULT or EINVAL, and nothing
/// changes. The cheapest such question to the kernel, and one that every sandbox allows.
fn word_readable(at: usize) -> bool {
    const NO_HOW: c_int = -1;
    // SAFETY: the kernel only tries to read eight bytes.
    let r = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NO_HOW,
            at as *const c_void,
            core::ptr::null::<c_void>(),
            8usize,
        )
    };
    r == 0 || swap::sys::errno() != libc::EFAULT
}

/// Whether `len` bytes at `at` can be read. For small `len`: it looks at the first and the last word.
fn readable(at: *const c_void, len: usize) -> bool {
    let Some(last) = (at as usize).checked_add(len.saturating_sub(1)) else { return false };
    let (first, last) = (at as usize & !7, last & !7);
    word_readable(first) && (first >> 12 == last >> 12 || word_readable(last))
}

/// Reads a plain C value. `None` where the memory is not there.
pub(crate) fn read<T: Plain>(at: *const T) -> Option<T> {
    if !readable(at.cast(), size_of::<T>()) {
        return None;
    }
    // SAFETY: the memory is there (another thread that unmaps it now would break the kernel's own
    // reading as well), any bytes are a `T`, and alignment is not assumed.
    Some(unsafe { at.read_unaligned() })
}

/// Copies up to `N` bytes that the kernel has just read: a call that fails for want of a route has.
pub(crate) fn copy_bytes<const N: usize>(at: *const c_void, len: usize) -> ([u8; N], usize) {
    let len = len.min(N);
    let mut bytes = [0; N];
    if len > 0 {
        // SAFETY: the kernel read `len` bytes there a moment ago; `bytes` has room for `N >= len`.
        unsafe { core::ptr::copy_nonoverlapping(at.cast::<u8>(), bytes.as_mut_ptr(), len) };
    }
    (bytes, len)
}

/// Reads up to `N` bytes; `None` where the memory is not there.
pub(crate) fn read_bytes<const N: usize>(at: *const c_void, len: usize) -> Option<([u8; N], usize)> {
    let len = len.min(N);
    (len == 0 || readable(at, len)).then(|| copy_bytes(at, len))
}

/// Writes bytes; `None` where the memory is not there or not writable.
pub(crate) fn write_bytes(at: *mut c_void, bytes: &[u8]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: at, iov_len: bytes.len() };
    // SAFETY: the kernel checks the remote range (ours) for us, and only reads the local one.
    let r = unsafe {
        let pid = libc::syscall(libc::SYS_getpid);
        libc::syscall(
            libc::SYS_process_vm_writev,
            pid,
            &raw const local,
            1usize,
            &raw const remote,
            1usize,
            0usize,
        )
    };
    if r >= 0 {
        return (r as usize == bytes.len()).then_some(());
    }
    if swap::sys::errno() == libc::EFAULT {
        return None;
    }
    // A sandbox forbids the call. The application's pointer is right in all likelihood.
    // SAFETY: as far as can be known, see above.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast::<u8>(), bytes.len()) };
    Some(())
}

/// Writes a plain C value.
pub(crate) fn write<T: Plain>(at: *mut T, value: &T) -> Option<()> {
    // SAFETY: a plain C value is its bytes (padding included, which comes from the application's own value or zeros).
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
    write_bytes(at.cast(), bytes)
}

/// C types that any bytes are a valid value of.
///
/// # Safety
/// No references, no niches.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers and raw pointers.
unsafe impl Plain for libc::msghdr {}
// SAFETY: integers and raw pointers.
unsafe impl Plain for libc::mmsghdr {}
