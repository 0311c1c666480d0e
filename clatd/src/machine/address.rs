//! Which addresses the CLAT uses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use pref64::Pref64;
use sha2::{Digest, Sha256};

/// 192.0.0.0/29, the IPv4 addresses of CLATs (RFC 7335 §6). The first one of
/// it is left out: .0 is where careless software sees a network address.
pub const SERVICE_CONTINUITY: [Ipv4Addr; 7] = [
    Ipv4Addr::new(192, 0, 0, 1),
    Ipv4Addr::new(192, 0, 0, 2),
    Ipv4Addr::new(192, 0, 0, 3),
    Ipv4Addr::new(192, 0, 0, 4),
    Ipv4Addr::new(192, 0, 0, 5),
    Ipv4Addr::new(192, 0, 0, 6),
    Ipv4Addr::new(192, 0, 0, 7),
];

/// True for addresses that only CLATs use.
pub fn is_service_continuity(ip: Ipv4Addr) -> bool {
    ip.octets()[..3] == [192, 0, 0] && ip.octets()[3] < 8
}

/// A key that only this host has (RFC 7217 §5, `secret_key`).
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// From something that identifies this host, such as /etc/machine-id. It
    /// is hashed with our name so that addresses do not reveal it.
    pub fn from_machine_id(id: &[u8]) -> Self {
        Self(Sha256::new().chain_update(b"v4shim address secret\0").chain_update(id).finalize().into())
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.0);
        for part in parts {
            // Lengths keep ("ab", "c") apart from ("a", "bc").
            hash = hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        hash.finalize().into()
    }
}

/// The address that stands for the CLAT inside the host: in a /64 of a
/// pseudo-random ULA prefix (RFC 4193 §3.2), the same at each start.
pub fn inner(secret: &Secret, device: &str) -> Ipv6Addr {
    let hash = secret.hash(&[b"inner", device.as_bytes()]);
    let mut octets = [0; 16];
    octets.copy_from_slice(&hash[..16]);
    octets[0] = 0xfd;
    Ipv6Addr::from(octets)
}

/// The CLAT's own address in a /64: stable and semantically opaque like
/// RFC 7217 §5, and checksum-neutral: its pseudo-header sum with the NAT64
/// prefix equals that of the IPv4 pair, so that transport checksums need no
/// update at all (the idea of RFC 6052 §4.1).
pub fn dedicated(
    secret: &Secret,
    network: Ipv6Addr,
    uplink: &str,
    pref64: &Pref64,
    ipv4: Ipv4Addr,
    dad_counter: u8,
) -> Ipv6Addr {
    let network = &network.octets()[..8];
    let mut round = 0u8;
    loop {
        let hash = secret.hash(&[b"dedicated", network, uplink.as_bytes(), &[dad_counter], &[round]]);
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(network);
        octets[8..].copy_from_slice(&hash[..8]);
        let plain = Ipv6Addr::from(octets);
        // At the other prefix lengths no address is neutral for every destination.
        if let Some(word) = xlat::checksum::neutral_word(plain, 14, pref64, ipv4) {
            octets[14..].copy_from_slice(&word);
        }
        let address = Ipv6Addr::from(octets);
        // The next round gives another; 256 reserved identifiers in a row do not happen.
        if !is_reserved(&address.octets()[8..]) || round == u8::MAX {
            return address;
        }
        round += 1;
    }
}

/// Interface identifiers that RFC 5453 reserves: the subnet-router anycast
/// address and the reserved anycast range.
fn is_reserved(identifier: &[u8]) -> bool {
    let value = identifier.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    value == 0 || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::from_machine_id(b"0123456789abcdef0123456789abcdef\n")
    }

    fn network() -> Ipv6Addr {
        "2001:db8:1:2::".parse().unwrap()
    }

    #[test]
    fn the_dedicated_address_is_stable_and_changes_with_what_it_depends_on() {
        let pref64: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let ipv4 = SERVICE_CONTINUITY[0];
        let one = dedicated(&secret(), network(), "eth0", &pref64, ipv4, 0);
        assert_eq!(one, dedicated(&secret(), network(), "eth0", &pref64, ipv4, 0));
        assert_eq!(one.octets()[..8], network().octets()[..8]);
        assert_ne!(one, dedicated(&secret(), network(), "eth0", &pref64, ipv4, 1), "after a conflict");
        assert_ne!(one, dedicated(&secret(), network(), "eth1", &pref64, ipv4, 0));
        let other = Secret::from_machine_id(b"another machine");
        assert_ne!(one, dedicated(&other, network(), "eth0", &pref64, ipv4, 0));
    }

    #[test]
    fn the_dedicated_address_is_checksum_neutral() {
        use xlat::checksum::Sum;
        for prefix in ["2001:db8:64::/96", "64:ff9b::/96", "2001:db8::/32"] {
            let pref64: Pref64 = prefix.parse().unwrap();
            for counter in 0..50 {
                let ipv4 = SERVICE_CONTINUITY[usize::from(counter) % 7];
                let address = dedicated(&secret(), network(), "eth0", &pref64, ipv4, counter);
                let server = Ipv4Addr::new(203, 0, 113, 80);
                let four = Sum::from(ipv4).plus(server.into()).fold();
                let six = Sum::from(address).plus(pref64.embed(server).into()).fold();
                // 0 and 0xffff are the same number.
                assert_eq!(four % 0xffff, six % 0xffff, "{prefix} {address}");
            }
        }
    }

    #[test]
    fn the_inner_address_is_a_ula() {
        let address = inner(&secret(), "clat");
        assert_eq!(address.octets()[0], 0xfd);
        assert_eq!(address, inner(&secret(), "clat"));
        assert_ne!(address, inner(&secret(), "clat1"));
    }

    #[test]
    fn reserved_identifiers_are_recognised() {
        assert!(is_reserved(&[0; 8]));
        assert!(is_reserved(&[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]));
        assert!(!is_reserved(&[0, 0, 0, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn clat_addresses_are_recognised() {
        assert!(SERVICE_CONTINUITY.iter().all(|ip| is_service_continuity(*ip)));
        assert!(!is_service_continuity(Ipv4Addr::new(192, 0, 0, 8)));
    }
}
