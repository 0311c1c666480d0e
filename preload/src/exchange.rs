//! One socket put in the place of another, everywhere in this process.

use crate::seen;
use crate::table::{self, Kind, Watched};
use libc::c_int;
use swap::epoll::{self, Registration};
use swap::sys::{self, Errno, Fd};
use swap::{Decline, Replacement};

/// Duplicates and epoll registrations that one swap carries. More than that is declined.
const MOST: usize = 16;

/// A fixed-size list.
struct List<T: Copy> {
    items: [Option<T>; MOST],
    len: usize,
}

impl<T: Copy> List<T> {
    fn new() -> Self {
        Self { items: [None; MOST], len: 0 }
    }

    fn push(&mut self, item: T) -> Result<(), Decline> {
        let place = self.items.get_mut(self.len).ok_or(Decline::Failed(Errno(libc::ENOBUFS)))?;
        *place = Some(item);
        self.len += 1;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items.iter().flatten().copied()
    }
}

/// A number that is the old socket, with its close-on-exec flag.
#[derive(Clone, Copy)]
struct Number {
    fd: Fd,
    cloexec: c_int,
}

/// Puts `made` at `fd` and at its duplicates, and registers it with the epoll sets that watched them.
///
/// # Errors
/// Before anything is changed: what cannot be found out, or does not fit.
pub(crate) fn put(fd: Fd, made: Replacement) -> Result<(), Decline> {
    let new = made.fd();
    let cookie = sys::cookie(new)?;
    let mut numbers = List::new();
    numbers.push(number(fd)?)?;
    if table::duplicated(fd) {
        duplicates(fd, &mut numbers)?;
    }
    let mut watches = List::new();
    for number in numbers.iter() {
        registrations(number.fd, &mut watches)?;
    }
    for (i, n) in numbers.iter().enumerate() {
        match sys::dup3(new, n.fd, if n.cloexec == 0 { 0 } else { libc::O_CLOEXEC }) {
            Ok(()) => {
                table::insert(n.fd, cookie, Kind::Swapped);
                seen::forget(n.fd);
            }
            // The first is the one that counts: nothing has changed yet.
            Err(e) if i == 0 => return Err(e.into()),
            // Closed by another thread since.
            Err(_) => {}
        }
    }
    for (epoll, r) in watches.iter() {
        // The set may have been closed since; the socket works without it.
        let _ = sys::epoll_add(epoll, r.target, r.events, r.data);
    }
    made.finish();
    Ok(())
}

fn number(fd: Fd) -> Result<Number, Decline> {
    let flags = sys::fcntl(fd, libc::F_GETFD, 0)?;
    Ok(Number { fd, cloexec: flags as c_int & libc::FD_CLOEXEC })
}

/// Other numbers of this process for the same open file. (Other processes' numbers are out of reach.)
fn duplicates(fd: Fd, numbers: &mut List<Number>) -> Result<(), Decline> {
    each_descriptor(|other| {
        if other != fd && sys::same_file(fd, other) == Some(true) {
            numbers.push(number(other)?)?;
        }
        Ok(())
    })
}

fn registrations(fd: Fd, watches: &mut List<(Fd, Registration)>) -> Result<(), Decline> {
    let mut look = |epoll| {
        if let Some(found) = registration(epoll, fd) {
            watches.push((epoll, found))?;
        }
        Ok(())
    };
    match table::watched(fd) {
        Watched::No => Ok(()),
        Watched::By(epoll) => look(epoll),
        // Those that are no epoll sets have no such lines.
        Watched::BySeveral => each_descriptor(look),
    }
}

/// What the kernel has in the set `epoll` for `fd`.
fn registration(epoll: Fd, fd: Fd) -> Option<Registration> {
    let mut path = *b"/proc/self/fdinfo/\0\0\0\0\0\0\0\0\0\0\0";
    decimal(u32::try_from(epoll).ok()?, path.get_mut(18..28)?);
    let file = sys::open_read(&path).ok()?;
    let found = epoll::find(fd, |buf| sys::read(file, buf).ok().filter(|&n| n > 0));
    sys::close(file);
    found
}

fn decimal(mut n: u32, to: &mut [u8]) {
    let digits = n.checked_ilog10().unwrap_or(0) as usize + 1;
    if let Some(to) = to.get_mut(..digits) {
        for place in to.iter_mut().rev() {
            *place = b'0' + (n % 10) as u8;
            n /= 10;
        }
    }
}

/// Every open descriptor of this process, save the one used to find out.
fn each_descriptor(mut look: impl FnMut(Fd) -> Result<(), Decline>) -> Result<(), Decline> {
    let dir = sys::open_read(b"/proc/self/fd\0")?;
    let mut done = Ok(());
    let mut buf = [0u8; 2048];
    while let Ok(n @ 1..) = sys::getdents(dir, &mut buf) {
        let mut entries = buf.get(..n).unwrap_or(&[]);
        while let Some((name, rest)) = first_entry(entries) {
            entries = rest;
            if let Some(fd) = number_of(name).filter(|&fd| fd != dir)
                && done.is_ok()
            {
                done = look(fd);
            }
        }
    }
    sys::close(dir);
    done
}

/// Splits `struct linux_dirent64` off: inode (8), offset (8), length (2), type (1), NUL-terminated name.
fn first_entry(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]) as usize;
    let name = entries.get(19..len)?;
    Some((name.split(|&b| b == 0).next()?, entries.get(len..)?))
}

fn number_of(name: &[u8]) -> Option<Fd> {
    core::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_writes_what_fits() {
        for n in [0, 7, 10, 4096, u32::MAX] {
            let mut to = [0; 10];
            decimal(n, &mut to);
            let text = n.to_string();
            assert_eq!(&to[..text.len()], text.as_bytes());
        }
    }

    #[test]
    fn finds_duplicates_and_watches_of_a_socket() {
        let s = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let d = sys::fcntl(s, libc::F_DUPFD_CLOEXEC, 0).unwrap() as Fd;
        let mut numbers = List::new();
        duplicates(s, &mut numbers).unwrap();
        assert_eq!(numbers.iter().map(|n| (n.fd, n.cloexec)).collect::<Vec<_>>(), [(d, libc::FD_CLOEXEC)]);
        sys::close(s);
        sys::close(d);
    }
}
