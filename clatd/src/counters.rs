//! What passed and what did not, by direction and reason.

use std::sync::atomic::{AtomicU64, Ordering};

use xlat::DropReason;

/// A direction of translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this host to the NAT64.
    Ipv4ToIpv6,
    /// From the NAT64 to this host.
    Ipv6ToIpv4,
}

impl Direction {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Ipv4ToIpv6, Self::Ipv6ToIpv4];

    /// The name in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4ToIpv6 => "4to6",
            Self::Ipv6ToIpv4 => "6to4",
        }
    }
}

/// Counters of one direction. Written by the datapath, read by the status.
#[derive(Debug)]
pub struct DirectionCounters {
    /// Translated packets; a super-packet counts as the segments it stands for.
    pub packets: AtomicU64,
    /// Bytes of the translated packets, as they were before translation.
    pub bytes: AtomicU64,
    /// Packets cut into fragments.
    pub fragmented: AtomicU64,
    /// ICMP errors sent back.
    pub replies: AtomicU64,
    /// ICMP errors that the rate limit held back.
    pub replies_limited: AtomicU64,
    /// Packets that the kernel did not take back.
    pub write_errors: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
}

impl Default for DirectionCounters {
    fn default() -> Self {
        Self {
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            fragmented: AtomicU64::new(0),
            replies: AtomicU64::new(0),
            replies_limited: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl DirectionCounters {
    /// Counts translated packets.
    pub fn forwarded(&self, packets: u64, bytes: u64) {
        add(&self.packets, packets);
        add(&self.bytes, bytes);
    }

    /// Counts a packet that was not translated.
    pub fn dropped(&self, reason: DropReason) {
        add(&self.drops[reason.index()], 1);
    }

    /// Reasons and how often each occurred, those that never did left out.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|reason| (*reason, get(&self.drops[reason.index()])))
            .filter(|(_, n)| *n > 0)
    }
}

/// Counters of both directions.
#[derive(Debug, Default)]
pub struct Counters {
    directions: [DirectionCounters; 2],
}

impl Counters {
    /// The counters of one direction.
    pub fn of(&self, direction: Direction) -> &DirectionCounters {
        &self.directions[direction as usize]
    }
}

/// Adds to a counter; nothing is ordered by it.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads a counter.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
