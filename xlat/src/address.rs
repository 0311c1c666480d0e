//! Which IPv4 addresses may be translated: the policy of RFC 6052 §3.1 and §5.1.

use core::fmt;
use core::net::Ipv4Addr;

use crate::Pref64;

/// What an IPv4 address is for, as far as translation cares (IANA IPv4 Special-Purpose Address Registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// `0.0.0.0/8`: this host on this network.
    ThisNetwork,
    /// `127.0.0.0/8`.
    Loopback,
    /// `169.254.0.0/16`.
    LinkLocal,
    /// `224.0.0.0/4`.
    Multicast,
    /// `240.0.0.0/4` without the limited broadcast address: class E.
    Reserved,
    /// `255.255.255.255`.
    Broadcast,
    /// `192.0.0.0/29` and the dummy address `192.0.0.8` (RFC 7335, RFC 7600): the CLAT's own.
    Clat,
    /// RFC 1918, RFC 6598 (`100.64.0.0/10`), `198.18.0.0/15`, and what is left of `192.0.0.0/24`.
    Private,
    /// Documentation (RFC 5737) and the former 6to4 relays: not global, but no network's inside either.
    Documentation,
    /// Everything else.
    Global,
}

impl AddressClass {
    /// The class of `ipv4`.
    #[must_use]
    pub const fn of(ipv4: Ipv4Addr) -> Self {
        match ipv4.octets() {
            [0, ..] => Self::ThisNetwork,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [255, 255, 255, 255] => Self::Broadcast,
            [224..=239, ..] => Self::Multicast,
            [240..=255, ..] => Self::Reserved,
            [192, 0, 0, 0..=8] => Self::Clat,
            [10, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [100, 64..=127, ..]
            | [198, 18..=19, ..]
            | [192, 0, 0, _] => Self::Private,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => Self::Documentation,
            _ => Self::Global,
        }
    }
}

/// Whether packets from or to `ipv4` may pass the translator when it stands behind `pref64`.
///
/// Under the Well-Known Prefix only global addresses may (RFC 6052 §3.1: MUST). Under a provider's prefix private
/// ones may if the operator says that the provider's NAT64 serves them (`private_ipv4`).
#[must_use]
pub fn is_translatable(ipv4: Ipv4Addr, pref64: &Pref64, private_ipv4: bool) -> bool {
    match AddressClass::of(ipv4) {
        AddressClass::Global => true,
        AddressClass::Documentation => !pref64.is_well_known(),
        AddressClass::Private => private_ipv4 && !pref64.is_well_known(),
        AddressClass::ThisNetwork
        | AddressClass::Loopback
        | AddressClass::LinkLocal
        | AddressClass::Multicast
        | AddressClass::Reserved
        | AddressClass::Broadcast
        | AddressClass::Clat => false,
    }
}

/// The IPv4 addresses of this host, which no packet from outside may carry as its source.
///
/// A fixed capacity, so that the translator neither allocates nor borrows. The CLAT's own address need not be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnIpv4 {
    addresses: [Ipv4Addr; Self::CAPACITY],
    len: usize,
}

impl OwnIpv4 {
    /// How many addresses fit.
    pub const CAPACITY: usize = 64;

    /// No address.
    #[must_use]
    pub const fn new() -> Self {
        Self { addresses: [Ipv4Addr::UNSPECIFIED; Self::CAPACITY], len: 0 }
    }

    /// Adds an address; one that is already there is not added again.
    ///
    /// # Errors
    /// When the set is full. The kernel, too, drops packets from its own addresses, so going on without is sound.
    pub fn insert(&mut self, address: Ipv4Addr) -> Result<(), OwnIpv4Full> {
        if self.contains(address) {
            return Ok(());
        }
        let slot = self.addresses.get_mut(self.len).ok_or(OwnIpv4Full)?;
        *slot = address;
        self.len += 1;
        Ok(())
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.as_slice().contains(&address)
    }

    /// The addresses in the order in which they were added.
    #[must_use]
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        self.addresses.get(..self.len).unwrap_or(&[])
    }
}

impl Default for OwnIpv4 {
    fn default() -> Self {
        Self::new()
    }
}

/// [`OwnIpv4`] holds [`OwnIpv4::CAPACITY`] addresses already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnIpv4Full;

impl fmt::Display for OwnIpv4Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} own IPv4 addresses", OwnIpv4::CAPACITY)
    }
}

impl core::error::Error for OwnIpv4Full {}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().unwrap())
    }

    /// The first and last address of each block, and their neighbours.
    #[test]
    fn classes_and_their_edges() {
        use AddressClass::*;
        for (expected, addresses) in [
            (ThisNetwork, &["0.0.0.0", "0.255.255.255"][..]),
            (Loopback, &["127.0.0.0", "127.255.255.255"]),
            (LinkLocal, &["169.254.0.0", "169.254.255.255"]),
            (Multicast, &["224.0.0.0", "239.255.255.255"]),
            (Reserved, &["240.0.0.0", "255.255.255.254"]),
            (Broadcast, &["255.255.255.255"]),
            (Clat, &["192.0.0.0", "192.0.0.1", "192.0.0.7", "192.0.0.8"]),
            (
                Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.0",
                    "192.168.255.255",
                ],
            ),
            (
                Private,
                &[
                    "100.64.0.0",
                    "100.127.255.255",
                    "198.18.0.0",
                    "198.19.255.255",
                    "192.0.0.9",
                    "192.0.0.255",
                ],
            ),
            (Documentation, &["192.0.2.0", "192.0.2.255", "198.51.100.1", "203.0.113.80", "192.88.99.1"]),
            (
                Global,
                &["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"],
            ),
            (
                Global,
                &[
                    "128.0.0.0",
                    "169.253.255.255",
                    "169.255.0.0",
                    "172.15.255.255",
                    "172.32.0.0",
                    "191.255.255.255",
                ],
            ),
            (
                Global,
                &["192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"],
            ),
            (Global, &["8.8.8.8", "223.255.255.255"]),
        ] {
            for address in addresses {
                assert_eq!(class(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn policy() {
        let provider: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let well_known = Pref64::WELL_KNOWN;
        for (address, plain, served, global_only) in [
            ("8.8.8.8", true, true, true),
            ("203.0.113.80", true, true, false),
            ("10.0.0.1", false, true, false),
            ("100.64.0.1", false, true, false),
            ("192.0.0.1", false, false, false),
            ("127.0.0.1", false, false, false),
            ("169.254.169.254", false, false, false),
            ("224.0.0.251", false, false, false),
            ("0.0.0.0", false, false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(is_translatable(address, &provider, false), plain, "{address}");
            assert_eq!(is_translatable(address, &provider, true), served, "{address}");
            assert_eq!(is_translatable(address, &well_known, true), global_only, "{address}");
        }
    }

    #[test]
    fn own_addresses_have_room_for_64() {
        let mut own = OwnIpv4::new();
        for i in 0..64 {
            assert_eq!(own.insert(Ipv4Addr::new(10, 0, 0, i)), Ok(()));
            assert_eq!(own.insert(Ipv4Addr::new(10, 0, 0, 0)), Ok(()), "already there");
        }
        assert_eq!(own.insert(Ipv4Addr::new(10, 0, 1, 0)), Err(OwnIpv4Full));
        assert!(own.contains(Ipv4Addr::new(10, 0, 0, 63)) && !own.contains(Ipv4Addr::UNSPECIFIED));
        assert_eq!(own.as_slice().len(), 64);
    }
}
