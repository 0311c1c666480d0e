//! RFC 7050: the prefix that a name server's DNS64 uses, from its AAAA for `ipv4only.arpa`.
//!
//! Only for programs that were given the library and nothing else: `v4shim run` and clatd know the prefix already.
//! Asked on the first destination that has no route, because nobody needs an answer before. That may be in a
//! signal handler, so this is a UDP query on the stack and not the resolver of `pref64`.

use crate::RawAddr;
use crate::sys::{self, monotonic_s};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;
use xlat::Pref64;

/// Seconds until a failed or an old answer is asked for again.
const AGAIN_S: u64 = 300;
/// Milliseconds that one server gets, and how many servers are asked: three seconds are the longest a connect waits.
const PATIENCE_MS: c_int = 1000;
const SERVERS: usize = 3;

/// When a query was last sent, in monotonic seconds plus one. Doubles as the claim: one thread asks, others go on
/// without an answer, which also keeps a signal handler from waiting for the thread it interrupted.
static ASKED_S: AtomicU64 = AtomicU64::new(0);

/// The well-known IPv4 addresses (RFC 7050 §8.2).
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// The question: header, `ipv4only.arpa`, AAAA, IN. The first two bytes are the identifier.
const QUERY: [u8; 31] = *b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x08ipv4only\x04arpa\0\0\x1c\0\x01";

/// The prefix that the system's name servers vouch for. Blocks for a few seconds at most, and rarely.
#[must_use]
pub fn prefix() -> Option<Pref64> {
    let now = monotonic_s() + 1;
    let asked = ASKED_S.load(Ordering::Acquire);
    if asked != 0 && now.saturating_sub(asked) < AGAIN_S
        || ASKED_S.compare_exchange(asked, now, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return None;
    }
    let file = sys::open_read(b"/etc/resolv.conf\0").ok()?;
    let mut text = [0u8; 2048];
    let n = sys::read(file, &mut text);
    sys::close(file);
    // A comment in some other encoding must not hide the servers.
    text.get(..n.ok()?)?.split(|&b| b == b'\n').filter_map(server).take(SERVERS).find_map(ask)
}

/// The address on a `nameserver` line. Link-local ones with a scope are passed over: naming the interface needs more.
fn server(line: &[u8]) -> Option<IpAddr> {
    let mut words = core::str::from_utf8(line).ok()?.split_ascii_whitespace();
    (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
}

fn ask(server: IpAddr) -> Option<Pref64> {
    const DNS: u16 = 53;
    let (family, to) = match server {
        IpAddr::V4(ip) => (libc::AF_INET, RawAddr::v4(ip, DNS)),
        IpAddr::V6(ip) => (libc::AF_INET6, RawAddr::v6(ip, DNS)),
    };
    let fd = sys::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0).ok()?;
    let found = converse(fd, to.as_bytes());
    sys::close(fd);
    found
}

fn converse(fd: sys::Fd, to: &[u8]) -> Option<Pref64> {
    let id = sys::random_u16();
    let mut query = QUERY;
    query[..2].copy_from_slice(&id.to_be_bytes());
    // Connected: the kernel drops answers of anybody else.
    sys::connect(fd, to).ok()?;
    sys::write(fd, &query).ok()?;
    let mut answer = [0u8; 1232];
    // A few, in case of strays; a refused port ends it at once.
    for _ in 0..3 {
        if !sys::wait_readable(fd, PATIENCE_MS) {
            return None;
        }
        let n = sys::read(fd, &mut answer).ok()?;
        let answer = answer.get(..n)?;
        if answer.get(..2) == Some(&id.to_be_bytes()) {
            return prefix_in(answer);
        }
    }
    None
}

/// The prefix in an answer. Total over arbitrary bytes.
fn prefix_in(answer: &[u8]) -> Option<Pref64> {
    let word = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    // A response, not truncated, no error.
    if word(2)? & 0x8200 != 0x8000 || word(2)? & 0x000f != 0 || word(4)? != 1 {
        return None;
    }
    let mut at = skip_name(answer, 12)? + 4;
    for _ in 0..word(6)? {
        at = skip_name(answer, at)?;
        let (kind, len) = (word(at)?, usize::from(word(at + 8)?));
        let data = answer.get(at + 10..at + 10 + len)?;
        const AAAA: u16 = 28;
        if kind == AAAA
            && let Ok(octets) = <[u8; 16]>::try_from(data)
            && let Some(prefix) = prefix_of(Ipv6Addr::from(octets))
        {
            return Some(prefix);
        }
        at += 10 + len;
    }
    None
}

/// The prefix under which `ip` embeds one of the well-known addresses (RFC 7050 §3).
fn prefix_of(ip: Ipv6Addr) -> Option<Pref64> {
    Pref64::LENGTHS.into_iter().rev().find_map(|len| {
        let network = Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - u32::from(len))));
        let prefix = Pref64::new(network, len).ok()?;
        WELL_KNOWN.contains(&prefix.extract(ip)?).then_some(prefix)
    })
}

fn skip_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            n if n >= 0xc0 => return Some(at + 2),
            n => at += usize::from(n) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::ToString, vec::Vec};

    /// An answer with one AAAA, its name compressed.
    fn answer(ip: &str) -> Vec<u8> {
        let mut bytes = QUERY.to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80]);
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
        bytes.extend(ip.parse::<Ipv6Addr>().unwrap().octets());
        bytes
    }

    #[test]
    fn every_prefix_length_is_found() {
        for len in Pref64::LENGTHS {
            let network =
                Ipv6Addr::from_bits(0x2001_0db8_1122_3344_u128 << 64 & (u128::MAX << (128 - u32::from(len))));
            let network = if len == 64 { "2001:db8:1122:3344::".parse().unwrap() } else { network };
            let prefix = Pref64::new(network, len).unwrap();
            let found = prefix_in(&answer(&prefix.embed(WELL_KNOWN[0]).to_string()));
            assert_eq!(found, Some(prefix));
        }
    }

    #[test]
    fn damaged_answers_are_none_and_never_a_panic() {
        let whole = answer("2001:db8:64::c000:aa");
        assert!(prefix_in(&whole).is_some());
        for n in 0..whole.len() {
            assert_eq!(prefix_in(&whole[..n]), None, "{n} bytes");
        }
        for i in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[i] ^= 1 << bit;
                let _ = prefix_in(&bytes);
            }
        }
        assert_eq!(prefix_in(&answer("2001:db8:64::cb00:7150")), None, "no well-known address in it");
    }

    #[test]
    fn reads_name_server_lines() {
        assert_eq!(server(b"nameserver 2001:db8::1"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(server(b"nameserver\t8.8.8.8 "), Some("8.8.8.8".parse().unwrap()));
        for line in
            [&b"# nameserver 8.8.8.8"[..], b"nameserver", b"nameserver x", b"options ndots:1", b"\xff", b""]
        {
            assert_eq!(server(line), None);
        }
    }
}
