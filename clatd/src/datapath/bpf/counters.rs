//! What the kernel counted.

/// Packets and bytes (as they came in, without link-layer header). A super-packet counts as its segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Protocols that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Everything else.
    Other,
}

impl Class {
    /// All, in the order of the map.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];

    /// The name in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
        }
    }
}

/// What happened to a packet, in the order of `enum event` in `bpf/clat.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Translated in the kernel.
    Translated,
    /// Left to the daemon's translator.
    ToDaemon,
    /// Translated by the daemon and sent to the uplink.
    FromDaemon,
    /// Dropped: an IPv6 source outside the prefix, or refused by policy.
    RefusedSource,
    /// Dropped: no record of an outbound flow.
    Unsolicited,
    /// Dropped: IPv6 on the CLAT's device that is not the CLAT's.
    NotClat,
    /// Dropped: port collision without a way out.
    NoPort,
    /// Flows given another port because a flow of the other kind has theirs.
    PortMapped,
    /// Dropped: a kernel function failed, mostly for lack of memory.
    KernelError,
}

impl Event {
    /// All, in the order of the map.
    pub const ALL: [Self; 9] = [
        Self::Translated,
        Self::ToDaemon,
        Self::FromDaemon,
        Self::RefusedSource,
        Self::Unsolicited,
        Self::NotClat,
        Self::NoPort,
        Self::PortMapped,
        Self::KernelError,
    ];

    /// The name in status and metrics. Drops that the translator knows too have its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::ToDaemon => "to-daemon",
            Self::FromDaemon => "from-daemon",
            Self::RefusedSource => xlat::DropReason::Ipv6Source.as_str(),
            Self::Unsolicited => "unsolicited",
            Self::NotClat => "not-clat",
            Self::NoPort => "no-free-port",
            Self::PortMapped => "port-mapped",
            Self::KernelError => "kernel-error",
        }
    }

    /// Whether the packet was dropped.
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::RefusedSource | Self::Unsolicited | Self::NotClat | Self::NoPort | Self::KernelError
        )
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// IPv4 to IPv6.
    Out,
    /// IPv6 to IPv4.
    In,
}

pub(super) const COUNTERS: usize = Event::ALL.len() * 8;

/// All counters since the programs were loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastCounters(pub(super) [Count; COUNTERS]);

impl FastCounters {
    /// One counter.
    pub fn get(&self, event: Event, way: Way, class: Class) -> Count {
        self.0[event as usize * 8 + way as usize * 4 + class as usize]
    }

    /// The sum over protocols.
    pub fn total(&self, event: Event, way: Way) -> Count {
        let mut total = Count::default();
        for class in Class::ALL {
            total += self.get(event, way, class);
        }
        total
    }
}
