//! What `/proc` tells about the process that waits.

use std::ffi::OsString;
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

/// What of a process's descriptors a swap concerns.
pub(super) struct Table {
    thread: i32,
    /// What `/proc` calls the socket.
    socket: OsString,
    /// Other descriptors of the same socket.
    pub(super) duplicates: Vec<RawFd>,
    /// Epoll sets that watch one of them, and what they registered.
    pub(super) watches: Vec<(RawFd, Registration)>,
}

impl Table {
    /// Of the process that `thread` belongs to, about its socket `fd`.
    pub(super) fn of(thread: i32, fd: RawFd) -> Option<Self> {
        let socket = link(thread, fd)?;
        let mut table = Self { thread, socket, duplicates: Vec::new(), watches: Vec::new() };
        let mut sets = Vec::new();
        for entry in fs::read_dir(format!("/proc/{thread}/fd")).ok()?.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match link(thread, number) {
                Some(to) if to == table.socket && number != fd => table.duplicates.push(number),
                Some(to) if to == "anon_inode:[eventpoll]" => sets.push(number),
                _ => {}
            }
        }
        for set in sets {
            let Ok(info) = fs::read(format!("/proc/{thread}/fdinfo/{set}")) else { continue };
            let all = info.split(|&b| b == b'\n').filter_map(Registration::parse);
            let ours = all.filter(|r| r.target == fd || table.duplicates.contains(&r.target));
            table.watches.extend(ours.map(|registration| (set, registration)));
        }
        Some(table)
    }

    /// Whether a number still is the same socket.
    pub(super) fn still_same(&self, number: RawFd) -> bool {
        link(self.thread, number).is_some_and(|to| to == self.socket)
    }
}

fn link(thread: i32, fd: RawFd) -> Option<OsString> {
    fs::read_link(format!("/proc/{thread}/fd/{fd}")).ok().map(Into::into)
}
