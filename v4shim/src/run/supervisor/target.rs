//! What `/proc` tells about the process that waits.

use std::fs;
use std::os::fd::RawFd;
use swap::epoll::Registration;

/// The process that a thread belongs to.
pub(super) fn tgid(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether a descriptor is closed on exec.
pub(super) fn cloexec(thread: i32, fd: RawFd) -> Option<bool> {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & libc::O_CLOEXEC as u32 != 0)
}

/// Epoll sets of the process that watch `fd`, with what they registered.
pub(super) fn registrations(thread: i32, fd: RawFd) -> Vec<(RawFd, Registration)> {
    let Ok(dir) = fs::read_dir(format!("/proc/{thread}/fd")) else { return Vec::new() };
    let sets = dir.flatten().filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[eventpoll]")
    });
    sets.filter_map(|entry| {
        let set: RawFd = entry.file_name().to_str()?.parse().ok()?;
        let info = fs::read(format!("/proc/{thread}/fdinfo/{set}")).ok()?;
        let found = info.split(|&b| b == b'\n').filter_map(Registration::parse).find(|r| r.target == fd)?;
        Some((set, found))
    })
    .collect()
}
