//! Which descriptors hold a socket of ours.
//!
//! The truth is the socket's cookie (`SO_COOKIE`, unique per boot), so that a number that was closed
//! behind our back and used again is not mistaken, nor a number of a vfork child for its parent's. Two tables,
//! both fixed arrays of atomics: a hint per descriptor number, which makes the common answer "not
//! ours" free, and the set of our cookies, which finds duplicates.

use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use swap::sys::{self, Fd};

/// How a socket of ours came about, which is also how the application must see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Was AF_INET; the socket is another now.
    Swapped,
    /// AF_INET6 and connected to a v4-mapped address; only the address was rewritten.
    Mapped,
}

/// Descriptors above share entries with those below: a wrong hint costs one system call.
const FDS: usize = 1 << 16;
/// Cookies are handed out in sequence, so that the newest 2^14 do not collide.
const COOKIES: usize = 1 << 14;

static HINT: [AtomicU64; FDS] = [const { AtomicU64::new(0) }; FDS];
static OURS: [AtomicU64; COOKIES] = [const { AtomicU64::new(0) }; COOKIES];

fn slot<T>(table: &'static [T], fd: Fd) -> Option<&'static T> {
    table.get(usize::try_from(fd).ok()? % table.len())
}

fn cookie_slot(cookie: u64) -> Option<&'static AtomicU64> {
    OURS.get((cookie % COOKIES as u64) as usize)
}

fn pack(cookie: u64, kind: Kind) -> u64 {
    cookie << 1 | u64::from(kind == Kind::Mapped)
}

fn kind_of(entry: u64) -> Kind {
    if entry & 1 == 0 { Kind::Swapped } else { Kind::Mapped }
}

/// Whether `fd` may be ours. `false` is right unless the number is a duplicate that no hook saw; `true` wants [`kind`] to confirm it.
#[inline]
pub(crate) fn maybe(fd: Fd) -> bool {
    slot(&HINT, fd).is_some_and(|h| h.load(Ordering::Relaxed) != 0)
}

/// How `fd` is ours, if it is. One system call.
pub(crate) fn kind(fd: Fd) -> Option<Kind> {
    let cookie = sys::cookie(fd).ok()?;
    let hint = slot(&HINT, fd)?;
    let hinted = hint.load(Ordering::Relaxed);
    if hinted != 0 && hinted >> 1 == cookie {
        return Some(kind_of(hinted));
    }
    let entry = cookie_slot(cookie)?.load(Ordering::Relaxed);
    if entry != 0 && entry >> 1 == cookie {
        hint.store(entry, Ordering::Relaxed);
        return Some(kind_of(entry));
    }
    // Stale: the number holds another socket now. Only if nobody has set a new hint meanwhile.
    let _ = hint.compare_exchange(hinted, 0, Ordering::Relaxed, Ordering::Relaxed);
    None
}

/// Notes that `fd` holds the socket with this cookie.
pub(crate) fn insert(fd: Fd, cookie: u64, kind: Kind) {
    let entry = pack(cookie, kind);
    if let (Some(hint), Some(ours)) = (slot(&HINT, fd), cookie_slot(cookie)) {
        ours.store(entry, Ordering::Relaxed);
        hint.store(entry, Ordering::Relaxed);
    }
}

/// Forgets that `fd` is ours.
pub(crate) fn remove(fd: Fd) {
    if let (Some(hint), Ok(cookie)) = (slot(&HINT, fd), sys::cookie(fd)) {
        hint.store(0, Ordering::Relaxed);
        if let Some(ours) = cookie_slot(cookie)
            && ours.load(Ordering::Relaxed) >> 1 == cookie
        {
            ours.store(0, Ordering::Relaxed);
        }
    }
}

/// `socket()` gave `fd`: what was noted about the number was about another socket. ([`kind`] finds out by itself.)
pub(crate) fn note_made(fd: Fd) {
    // Not `slot`: an entry that is shared says something about another descriptor as well.
    let Ok(i) = usize::try_from(fd) else { return };
    if let (Some(marks), Some(watched)) = (MARKS.get(i), WATCHED.get(i)) {
        // Looked at first: the memory of an ordinary program stays untouched.
        if marks.load(Ordering::Relaxed) != 0 {
            marks.store(0, Ordering::Relaxed);
        }
        if watched.load(Ordering::Relaxed) != UNWATCHED {
            watched.store(UNWATCHED, Ordering::Relaxed);
        }
    }
}

/// `fd` has, or had, duplicates.
const DUPLICATED: u8 = 1;
/// `fd` joined a multicast group.
const MULTICAST: u8 = 2;

/// Facts about a number that cannot be read back from the kernel cheaply. They outlive the descriptor: wrong ones
/// cost time ([`duplicated`]) or are cleared when the number is seen to be used anew ([`multicast`]).
static MARKS: [AtomicU8; FDS] = [const { AtomicU8::new(0) }; FDS];

fn mark(fd: Fd, bit: u8) {
    if let Some(m) = slot(&MARKS, fd) {
        m.fetch_or(bit, Ordering::Relaxed);
    }
}

fn marked(fd: Fd, bit: u8) -> bool {
    slot(&MARKS, fd).is_some_and(|m| m.load(Ordering::Relaxed) & bit != 0)
}

/// Notes that two numbers are one open file.
pub(crate) fn note_duplicate(old: Fd, new: Fd) {
    mark(old, DUPLICATED);
    mark(new, DUPLICATED);
    if let (Some(from), Some(to)) = (slot(&HINT, old), slot(&HINT, new)) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Whether `fd` may have duplicates.
pub(crate) fn duplicated(fd: Fd) -> bool {
    marked(fd, DUPLICATED)
}

/// Cookie of the socket that joined a multicast group, per number.
static GROUPS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// Notes that `fd` joined a multicast group: memberships cannot be read back, so the socket must stay.
pub(crate) fn note_multicast(fd: Fd) {
    if let (Ok(cookie), Some(slot)) = (sys::cookie(fd), slot(&GROUPS, fd)) {
        mark(fd, MULTICAST);
        slot.store(cookie, Ordering::Relaxed);
    }
}

/// Whether `fd` joined a multicast group.
pub(crate) fn multicast(fd: Fd) -> bool {
    marked(fd, MULTICAST)
        && sys::cookie(fd)
            .ok()
            .is_some_and(|c| slot(&GROUPS, fd).is_some_and(|g| g.load(Ordering::Relaxed) == c))
}

/// No epoll set watches the number.
const UNWATCHED: i32 = 0;
/// More than one does.
const SEVERAL: i32 = -1;

/// The epoll set that watches a number (plus one), or [`SEVERAL`].
static WATCHED: [AtomicI32; FDS] = [const { AtomicI32::new(UNWATCHED) }; FDS];

/// Which epoll sets may watch a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watched {
    /// None.
    No,
    /// This one.
    By(Fd),
    /// Several: look at all.
    BySeveral,
}

/// Notes an `EPOLL_CTL_ADD`.
pub(crate) fn note_watch(epoll: Fd, fd: Fd) {
    if let Some(w) = slot(&WATCHED, fd) {
        let mine = epoll.saturating_add(1);
        // Over another set's entry: either both watch it, or the number was closed and used again.
        // Which of the two, the kernel's fdinfo will tell.
        let next = match w.load(Ordering::Relaxed) {
            UNWATCHED => mine,
            now if now == mine => mine,
            _ => SEVERAL,
        };
        w.store(next, Ordering::Relaxed);
    }
}

/// Which sets watch `fd`.
pub(crate) fn watched(fd: Fd) -> Watched {
    match slot(&WATCHED, fd).map_or(UNWATCHED, |w| w.load(Ordering::Relaxed)) {
        UNWATCHED => Watched::No,
        SEVERAL => Watched::BySeveral,
        n => Watched::By(n - 1),
    }
}
