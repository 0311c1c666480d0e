//! Which CPU the pump runs on.
//!
//! Whoever hands us bulk data wakes us, and the kernel likes to run the woken beside its waker. That CPU is busy with
//! producing what we are to carry: both then take turns on it, while another one has time. The kernel's balancing
//! does not see it, because to its measure every CPU has something to do. We see it: we wait long for our turn,
//! each time. (Whoever our own writes wake takes the CPU as well, but often and shortly; that is no reason to leave.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// What the kernel knows about a thread's turns (`/proc/PID/task/TID/schedstat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turns {
    /// Time spent waiting for a turn, in nanoseconds.
    waited: u64,
    /// How many turns there were.
    count: u64,
}

impl Turns {
    /// Decodes "RUN WAITED COUNT".
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().skip(1).map(str::parse);
        let (Some(Ok(waited)), Some(Ok(count))) = (numbers.next(), numbers.next()) else { return None };
        Some(Self { waited, count })
    }

    /// True if between `before` and now, `elapsed` later, somebody else needed our CPU for himself.
    fn show_a_rival(self, before: Self, elapsed: Duration) -> bool {
        let waited = Duration::from_nanos(self.waited.saturating_sub(before.waited));
        let turns = self.count.saturating_sub(before.count).max(1);
        waited * 10 >= elapsed && waited >= LONG_WAIT.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX))
    }
}

const THIS_THREAD: Pid = Pid::from_raw(0);
/// Longer than a woken receiver takes to empty its socket.
const LONG_WAIT: Duration = Duration::from_micros(25);
/// How often we look at most.
const INTERVAL: Duration = Duration::from_millis(5);
/// After so many packets we look at the clock.
const PACKETS: u32 = 64;
/// How long we stay away: at once the kernel would bring us back.
const EXILE: Duration = Duration::from_secs(1);

/// Watches the pump's turns, and moves it.
pub(super) struct Placement {
    /// `None` on kernels that do not tell: then we stay where we are put.
    schedstat: Option<File>,
    packets: u32,
    last: Option<(Instant, Turns)>,
    exile: Option<Exile>,
}

/// A CPU that we keep away from for a while.
struct Exile {
    since: Instant,
    /// Where we may run else.
    all: CpuSet,
    /// Where we may run for now.
    others: CpuSet,
}

impl Placement {
    /// For the calling thread.
    pub(super) fn new() -> Self {
        let several = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        let schedstat = several.then(|| File::open("/proc/thread-self/schedstat").ok()).flatten();
        Self { schedstat, packets: 0, last: None, exile: None }
    }

    /// A packet has been handled.
    pub(super) fn packet(&mut self) {
        self.packets += 1;
        if self.packets >= PACKETS {
            self.packets = 0;
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(schedstat) = &self.schedstat else { return };
        let now = Instant::now();
        let elapsed = self.last.map(|(last, _)| now - last);
        if elapsed.is_some_and(|elapsed| elapsed < INTERVAL) {
            return;
        }
        let mut text = [0; 64];
        let turns = match schedstat.read_at(&mut text, 0) {
            Ok(length) => std::str::from_utf8(&text[..length]).ok().and_then(Turns::parse),
            Err(_) => None,
        };
        let Some(turns) = turns else {
            self.schedstat = None;
            return;
        };
        let outcome = match (&self.exile, self.last, elapsed) {
            (Some(exile), ..) if now - exile.since >= EXILE => exile.end().map(|()| None),
            (None, Some((_, before)), Some(elapsed)) if turns.show_a_rival(before, elapsed) => {
                Exile::begin(now)
            }
            _ => {
                self.last = Some((now, turns));
                return;
            }
        };
        self.last = None;
        match outcome {
            Ok(exile) => self.exile = exile,
            Err(error) => {
                tracing::debug!("cannot change the CPUs of the translating thread: {error}");
                self.schedstat = None;
            }
        }
    }
}

impl Exile {
    /// Moves the calling thread away from its CPU; `None` if it may use no other.
    fn begin(now: Instant) -> nix::Result<Option<Self>> {
        let all = sched_getaffinity(THIS_THREAD)?;
        let mut others = all;
        others.unset(sched_getcpu()?)?;
        if others == CpuSet::new() {
            return Ok(None);
        }
        sched_setaffinity(THIS_THREAD, &others)?;
        Ok(Some(Self { since: now, all, others }))
    }

    /// The thread may run everywhere again, unless somebody else has decided about that in the meantime.
    fn end(&self) -> nix::Result<()> {
        if sched_getaffinity(THIS_THREAD)? == self.others {
            sched_setaffinity(THIS_THREAD, &self.all)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(10);

    fn shows_a_rival(waited: Duration, count: u64) -> bool {
        let before = Turns { waited: 7_000_000, count: 9 };
        let now = Turns { waited: 7_000_000 + waited.as_nanos() as u64, count: 9 + count };
        now.show_a_rival(before, WINDOW)
    }

    #[test]
    fn the_kernels_numbers_are_read() {
        assert_eq!(Turns::parse("12345 678 90\n"), Some(Turns { waited: 678, count: 90 }));
        assert_eq!(Turns::parse("12345 678"), None);
        assert_eq!(Turns::parse(""), None);
    }

    #[test]
    fn long_waits_show_a_rival() {
        assert!(shows_a_rival(Duration::from_millis(2), 15));
        assert!(
            shows_a_rival(Duration::from_millis(4), 0),
            "the one long wait that is not over is none, too"
        );
    }

    #[test]
    fn short_or_rare_waits_do_not() {
        // A receiver that each packet wakes.
        assert!(!shows_a_rival(Duration::from_millis(3), 450));
        assert!(!shows_a_rival(Duration::from_micros(500), 1));
        assert!(!shows_a_rival(Duration::ZERO, 0));
    }

    #[test]
    fn an_exile_ends_where_it_began() {
        let before = sched_getaffinity(THIS_THREAD).unwrap();
        let Some(exile) = Exile::begin(Instant::now()).unwrap() else { return };
        assert_ne!(sched_getaffinity(THIS_THREAD).unwrap(), before);
        exile.end().unwrap();
        assert_eq!(sched_getaffinity(THIS_THREAD).unwrap(), before);
    }

    #[test]
    fn an_operators_choice_stays() {
        let Some(exile) = Exile::begin(Instant::now()).unwrap() else { return };
        sched_setaffinity(THIS_THREAD, &exile.all).unwrap();
        exile.end().unwrap();
        let mut one = CpuSet::new();
        one.set(sched_getcpu().unwrap()).unwrap();
        let exile = Exile { since: Instant::now(), all: exile.all, others: CpuSet::new() };
        sched_setaffinity(THIS_THREAD, &one).unwrap();
        exile.end().unwrap();
        assert_eq!(sched_getaffinity(THIS_THREAD).unwrap(), one);
    }
}
