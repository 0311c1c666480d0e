//! The loop that translates: a packet in from the TUN device, a packet out to it.
//!
//! One thread, one buffer, no allocation per packet. What arrives is IPv4 that
//! local sockets sent, or IPv6 that the network sent to the CLAT's address;
//! what is written is the other version of it. The kernel (fallback) or an
//! eBPF program (fast path) carries it on from there.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use xlat::{HEADROOM, LinkMtu, MAX_REPLY_LEN, Offload, RateLimiter, Translator, Verdict};

use super::device::Device;
use super::placement::Placement;
use super::vnet::{self, VnetHeader};
use crate::counters::{Counters, Direction, DirectionCounters, add};

/// Where a packet is read to: room for the header to grow, and for the
/// `virtio_net_hdr` in front of that.
const START: usize = HEADROOM + vnet::LEN;
/// The longest packet that a TUN device hands over.
const LONGEST: usize = 65536 + 64;
/// A fragment is no longer than the largest MTU that we support.
const LONGEST_FRAGMENT: usize = 65536;

/// How packets are translated at the moment.
#[derive(Debug)]
pub struct Rules {
    /// The translator.
    pub translator: Translator,
    /// MTUs of the device and of the uplink, in bytes.
    pub mtu: LinkMtu,
    /// True where the kernel forwards between device and uplink: it decrements
    /// the hop limit, which the CLAT must not (inside a host it is no hop).
    pub kernel_forwards: bool,
}

/// What the pump and the rest of the daemon share.
#[derive(Debug)]
struct Shared {
    rules: Mutex<Arc<Rules>>,
    generation: AtomicU64,
    counters: Arc<Counters>,
    wake: EventFd,
    stop: AtomicBool,
    /// Why the pump ended by itself.
    failure: Mutex<Option<String>>,
}

/// A running pump; it stops when dropped.
pub struct Pump {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts the thread. `failed` is written to if the device fails.
    pub fn start(
        device: &Device,
        rules: Rules,
        counters: Arc<Counters>,
        failed: Arc<EventFd>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            rules: Mutex::new(Arc::new(rules)),
            generation: AtomicU64::new(0),
            counters,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let worker = Worker::new(device.try_clone()?, device.vnet_header_len, Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("translate".into()).spawn(move || {
            let shared = Arc::clone(&worker.shared);
            if let Err(error) = worker.run() {
                *lock(&shared.failure) = Some(format!("the translating thread ended: {error}"));
                let _ = failed.write(1);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Translates by other rules from the next packet on.
    pub fn set_rules(&self, rules: Rules) {
        *lock(&self.shared.rules) = Arc::new(rules);
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Why the pump ended by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nobody panics while holding these locks, and their contents are whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether to sleep when no packet is waiting. To sleep and to be woken takes longer than many an answer in a fast
/// network: while packets follow each other closely, the pump looks again for a moment first.
#[derive(Debug)]
struct Impatience {
    /// More than one CPU: else whoever sends the next packet waits for us.
    allowed: bool,
    /// When the device was found empty, if it is.
    empty_since: Option<Instant>,
    /// How many waits in a row were short.
    short_waits: u32,
}

impl Impatience {
    /// A wait that is shorter than this is worth no sleep.
    const SHORT: Duration = Duration::from_micros(20);
    /// That many of them show a habit.
    const HABIT: u32 = 8;

    fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { allowed: cpus > 1, empty_since: None, short_waits: 0 }
    }

    /// A packet was there.
    fn packet(&mut self) {
        if let Some(since) = self.empty_since.take() {
            let short = since.elapsed() < Self::SHORT;
            self.short_waits = if short { self.short_waits.saturating_add(1) } else { 0 };
        }
    }

    /// No packet was there. True: look again; false: sleep.
    fn looks_again(&mut self) -> bool {
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        if !self.allowed || self.short_waits < Self::HABIT {
            return false;
        }
        if since.elapsed() >= Self::SHORT {
            self.short_waits = 0;
            return false;
        }
        // Whoever wants this CPU comes first.
        std::thread::yield_now();
        true
    }
}

struct Worker {
    tun: File,
    header_len: usize,
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    generation: u64,
    buffer: Box<[u8]>,
    /// A `virtio_net_hdr` of zeroes, and a finished packet (fragment or ICMP error).
    extra: Box<[u8]>,
    errors_to_host: RateLimiter,
    errors_to_network: RateLimiter,
    started: Instant,
}

impl Worker {
    fn new(tun: File, header_len: usize, shared: Arc<Shared>) -> Self {
        let rules = Arc::clone(&lock(&shared.rules));
        Self {
            tun,
            header_len,
            rules,
            generation: 0,
            shared,
            buffer: vec![0; START + LONGEST].into_boxed_slice(),
            extra: vec![0; vnet::LEN + LONGEST_FRAGMENT].into_boxed_slice(),
            // The local stack gets more: a socket that is refused at once should not wait.
            errors_to_host: RateLimiter::new(100, 1000),
            errors_to_network: RateLimiter::default(),
            started: Instant::now(),
        }
    }

    fn run(mut self) -> std::io::Result<()> {
        let mut impatience = Impatience::new();
        let mut placement = Placement::new();
        loop {
            while let Some((header, packet)) = self.read()? {
                self.refresh_rules();
                self.translate(header, packet);
                impatience.packet();
                placement.packet();
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            if impatience.looks_again() {
                continue;
            }
            let mut fds = [
                PollFd::new(self.tun.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next packet, or `None` if none is waiting.
    fn read(&mut self) -> std::io::Result<Option<(VnetHeader, Range<usize>)>> {
        let from = START - self.header_len;
        loop {
            return match self.tun.read(&mut self.buffer[from..]) {
                Ok(length) if length <= self.header_len => continue,
                Ok(length) => {
                    let header = match self.buffer[from..START].try_into() {
                        Ok(bytes) => VnetHeader::parse(bytes),
                        Err(_) => VnetHeader::default(),
                    };
                    Ok(Some((header, START..from + length)))
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => Ok(None),
                    Some(Errno::EINTR) => continue,
                    _ => Err(error),
                },
            };
        }
    }

    fn refresh_rules(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.rules = Arc::clone(&lock(&self.shared.rules));
        }
    }

    fn translate(&mut self, mut header: VnetHeader, packet: Range<usize>) {
        let direction = match self.buffer[START] >> 4 {
            4 => Direction::Ipv4ToIpv6,
            6 => Direction::Ipv6ToIpv4,
            _ => return,
        };
        let shared = Arc::clone(&self.shared);
        let counters = shared.counters.of(direction);
        let rules = Arc::clone(&self.rules);
        // The checksum of a packet inside a tunnel is not the transport's own: no address of it changes here.
        let transport = transport_offset(&self.buffer[packet.clone()]);
        if header.needs_checksum() && !header.is_gso() && !header.checksum_starts_at(transport) {
            header.finish_checksum(&mut self.buffer[packet.clone()]);
        }
        let Some(offload) = header.offload() else {
            return counters.dropped(xlat::DropReason::Offload);
        };
        if rules.kernel_forwards && direction == Direction::Ipv6ToIpv4 {
            add_hop(&mut self.buffer[packet.clone()]);
        }
        let verdict = match direction {
            Direction::Ipv4ToIpv6 => {
                rules.translator.v4_to_v6(&mut self.buffer, packet.clone(), offload, rules.mtu)
            }
            Direction::Ipv6ToIpv4 => {
                rules.translator.v6_to_v4(&mut self.buffer, packet.clone(), offload, rules.mtu)
            }
        };
        let give_back_hop = rules.kernel_forwards && direction == Direction::Ipv4ToIpv6;
        match verdict {
            Verdict::Forward(out) => {
                if give_back_hop {
                    add_hop(&mut self.buffer[out.clone()]);
                }
                let transport = if direction == Direction::Ipv4ToIpv6 { 40 } else { 20 };
                let count = segments(offload, &packet);
                if self.write(header.translated(transport), out, counters) {
                    counters.forwarded(count, packet.len() as u64);
                }
            }
            Verdict::Fragment(mut fragments) => {
                let mut whole = true;
                while let Some(length) = fragments.next(&self.buffer, &mut self.extra[vnet::LEN..]) {
                    if give_back_hop {
                        add_hop(&mut self.extra[vnet::LEN..]);
                    }
                    whole &= self.write_extra(length, counters);
                }
                if whole {
                    add(&counters.fragmented, 1);
                    counters.forwarded(1, packet.len() as u64);
                }
            }
            Verdict::Reply(reply) => {
                counters.dropped(reply.reason());
                let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let limiter = match direction {
                    Direction::Ipv4ToIpv6 => &mut self.errors_to_host,
                    Direction::Ipv6ToIpv4 => &mut self.errors_to_network,
                };
                if !limiter.allow(now) {
                    return add(&counters.replies_limited, 1);
                }
                let room = &mut self.extra[vnet::LEN..vnet::LEN + MAX_REPLY_LEN];
                let length = rules.translator.write_reply(&reply, &self.buffer[packet], room);
                if length > 0 && self.write_extra(length, counters) {
                    add(&counters.replies, 1);
                }
            }
            Verdict::Drop(reason) => counters.dropped(reason),
        }
    }

    /// Writes a packet of the buffer, with the header in front of it.
    fn write(&mut self, header: VnetHeader, packet: Range<usize>, counters: &DirectionCounters) -> bool {
        let from = packet.start - self.header_len;
        if let Ok(bytes) = (&mut self.buffer[from..packet.start]).try_into() {
            header.emit(bytes);
        }
        accepted((&self.tun).write(&self.buffer[from..packet.end]), counters)
    }

    /// Writes the finished packet in `extra`.
    fn write_extra(&mut self, length: usize, counters: &DirectionCounters) -> bool {
        let from = vnet::LEN - self.header_len;
        accepted((&self.tun).write(&self.extra[from..vnet::LEN + length]), counters)
    }
}

/// A packet that the kernel refuses is lost, like any packet; it is counted.
fn accepted(result: std::io::Result<usize>, counters: &DirectionCounters) -> bool {
    if let Err(error) = &result {
        add(&counters.write_errors, 1);
        tracing::trace!("the kernel refused a translated packet: {error}");
    }
    result.is_ok()
}

/// Where the transport header begins, in bytes; extension headers are not looked behind.
fn transport_offset(packet: &[u8]) -> u16 {
    match packet.first() {
        Some(first) if first >> 4 == 4 => u16::from(first & 0x0f) * 4,
        _ => 40,
    }
}

/// How many packets on the wire this one stands for.
fn segments(offload: Offload, packet: &Range<usize>) -> u64 {
    match offload.gso_size {
        0 => 1,
        // Headers are a small part of a super-packet: 40 bytes stand for them.
        size => (packet.len().saturating_sub(40) as u64).div_ceil(u64::from(size)).max(1),
    }
}

/// Makes up for the hop that the kernel's forwarding takes.
fn add_hop(ipv6: &mut [u8]) {
    if let Some(hop_limit) = ipv6.get_mut(7) {
        // 0 stays 0: that packet was at its end before us.
        if *hop_limit > 0 {
            *hop_limit = hop_limit.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_at_once_until_waits_are_short_by_habit() {
        let mut impatience = Impatience { allowed: true, ..Impatience::new() };
        for _ in 0..Impatience::HABIT {
            assert!(!impatience.looks_again());
            impatience.empty_since = Some(Instant::now());
            impatience.packet();
        }
        // On a busy machine one of them may have been long after all.
        impatience.short_waits = Impatience::HABIT;
        assert!(impatience.looks_again());
        std::thread::sleep(Impatience::SHORT);
        assert!(!impatience.looks_again(), "a long wait is slept through");
        assert_eq!(impatience.short_waits, 0, "and ends the habit");
        assert!(!impatience.looks_again());
    }

    #[test]
    fn one_cpu_is_not_kept_from_others() {
        let mut impatience = Impatience { allowed: false, empty_since: None, short_waits: Impatience::HABIT };
        assert!(!impatience.looks_again());
    }

    #[test]
    fn a_super_packet_counts_as_its_segments() {
        let tcp = Offload { partial_checksum: true, gso_size: 1000 };
        assert_eq!(segments(tcp, &(0..5040)), 5);
        assert_eq!(segments(tcp, &(0..5041)), 6);
        assert_eq!(segments(tcp, &(0..20)), 1);
        assert_eq!(segments(Offload::NONE, &(0..60000)), 1);
    }

    #[test]
    fn the_transport_header_is_found() {
        assert_eq!(transport_offset(&[0x45]), 20);
        assert_eq!(transport_offset(&[0x4f]), 60);
        assert_eq!(transport_offset(&[0x60]), 40);
        assert_eq!(transport_offset(&[]), 40);
    }

    #[test]
    fn the_kernels_hop_is_given_back() {
        let mut packet = [0x60, 0, 0, 0, 0, 0, 59, 64];
        add_hop(&mut packet);
        assert_eq!(packet[7], 65);
        packet[7] = 255;
        add_hop(&mut packet);
        assert_eq!(packet[7], 255);
        packet[7] = 0;
        add_hop(&mut packet);
        assert_eq!(packet[7], 0);
        add_hop(&mut packet[..3]);
    }
}
