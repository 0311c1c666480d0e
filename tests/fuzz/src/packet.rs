//! IP packets taken apart, for checks that share no code with what they check.

pub(super) const ICMP4: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const ICMP6: u8 = 58;

pub(super) fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            total += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
        }
    }
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

/// An IP packet of either family taken apart; whole headers only.
#[derive(Clone)]
pub(super) struct Ip<'a> {
    pub(super) v6: bool,
    pub(super) source: &'a [u8],
    pub(super) destination: &'a [u8],
    pub(super) protocol: u8,
    pub(super) hops: u8,
    pub(super) traffic_class: u8,
    pub(super) dont_fragment: bool,
    /// Offset in bytes, more, identification.
    pub(super) fragment: Option<(usize, bool, u32)>,
    pub(super) upper: &'a [u8],
    pub(super) header_len: usize,
}

pub(super) fn parse4(packet: &[u8]) -> Option<Ip<'_>> {
    let header_len = usize::from(packet.first()? & 15) * 4;
    if packet.len() < 20 || packet[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let total = word(packet, 2);
    if total < header_len || total > packet.len() {
        return None;
    }
    let flags = word(packet, 6);
    let is_fragment = flags & 0x3fff != 0;
    Some(Ip {
        v6: false,
        source: &packet[12..16],
        destination: &packet[16..20],
        protocol: packet[9],
        hops: packet[8],
        traffic_class: packet[1],
        dont_fragment: flags & 0x4000 != 0,
        fragment: is_fragment.then(|| ((flags & 0x1fff) * 8, flags & 0x2000 != 0, word(packet, 4) as u32)),
        upper: &packet[header_len..total],
        header_len,
    })
}

/// Skips the extension headers that RFC 7915 §5.1 skips.
pub(super) fn parse6(packet: &[u8]) -> Option<Ip<'_>> {
    if packet.len() < 40 || packet[0] >> 4 != 6 || packet.len() < 40 + word(packet, 4) {
        return None;
    }
    let packet = &packet[..40 + word(packet, 4)];
    let (mut at, mut next, mut fragment) = (40, packet[6], None);
    while matches!(next, 0 | 43 | 60 | FRAGMENT) {
        let header = packet.get(at..at + 8)?;
        if next == FRAGMENT {
            fragment = Some((
                word(header, 2) & !7,
                header[3] & 1 != 0,
                (word(header, 4) << 16 | word(header, 6)) as u32,
            ));
            at += 8;
        } else {
            at += (usize::from(header[1]) + 1) * 8;
        }
        next = header[0];
        if fragment.is_some() {
            break;
        }
    }
    Some(Ip {
        v6: true,
        source: &packet[8..24],
        destination: &packet[24..40],
        protocol: next,
        hops: packet[7],
        traffic_class: packet[0] << 4 | packet[1] >> 4,
        dont_fragment: true,
        fragment,
        upper: packet.get(at..)?,
        header_len: at,
    })
}

impl Ip<'_> {
    pub(super) fn is_whole(&self) -> bool {
        self.fragment.is_none_or(|(offset, more, _)| offset == 0 && !more)
    }

    pub(super) fn is_first(&self) -> bool {
        self.fragment.is_none_or(|(offset, ..)| offset == 0)
    }

    pub(super) fn is_icmp_error(&self) -> bool {
        let kind = self.upper.first().copied();
        match (self.v6, self.protocol) {
            (false, ICMP4) => kind.is_some_and(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
            (true, ICMP6) => kind.is_some_and(|kind| kind < 128),
            _ => false,
        }
    }

    /// Whether the transport checksum is right; `None` if there is none, or not all that it covers.
    pub(super) fn checksum_is_valid(&self) -> Option<bool> {
        if !self.is_whole() {
            return None;
        }
        let length = (self.upper.len() as u32).to_be_bytes();
        let protocol = [0, self.protocol];
        let pseudo = [self.source, self.destination, &length, &protocol];
        // All zeros sum to the other face of zero.
        let with_pseudo =
            |upper: &[u8]| sum(&[pseudo[0], pseudo[1], pseudo[2], pseudo[3], upper]).is_multiple_of(0xffff);
        match self.protocol {
            TCP if self.upper.len() >= 20 => Some(with_pseudo(self.upper)),
            // Where the UDP length is another, its pseudo-header is another.
            UDP if self.upper.len() >= 8
                && word(self.upper, 4) == self.upper.len()
                && word(self.upper, 6) != 0 =>
            {
                Some(with_pseudo(self.upper))
            }
            ICMP6 if self.v6 && self.upper.len() >= 8 => Some(with_pseudo(self.upper)),
            ICMP4 if !self.v6 && self.upper.len() >= 8 => Some(sum(&[self.upper]).is_multiple_of(0xffff)),
            _ => None,
        }
    }

    /// The transport bytes without what a translation changes.
    pub(super) fn essence(&self) -> Vec<u8> {
        let mut bytes = self.upper.to_vec();
        let mask = match self.protocol {
            TCP => 16..18,
            UDP | 136 | 33 => 6..8,
            ICMP4 if !self.v6 => 0..4,
            ICMP6 if self.v6 => 0..4,
            _ => 0..0,
        };
        if self.is_first() {
            for octet in bytes.iter_mut().take(mask.end).skip(mask.start) {
                *octet = 0;
            }
        }
        bytes
    }

    /// Where the checksum field is.
    pub(super) fn checksum_at(&self) -> Option<usize> {
        match self.protocol {
            TCP if self.upper.len() >= 20 => Some(16),
            UDP if self.upper.len() >= 8 => Some(6),
            ICMP6 if self.v6 && self.upper.len() >= 8 => Some(2),
            ICMP4 if !self.v6 && self.upper.len() >= 8 => Some(2),
            _ => None,
        }
    }
}

/// Puts the transport checksum right, or makes it a partial one.
pub(super) fn fix_checksum(packet: &mut [u8], v6: bool, partial: bool) {
    let Some(ip) = (if v6 { parse6(packet) } else { parse4(packet) }) else { return };
    let Some(at) = ip.checksum_at().filter(|_| ip.is_whole()) else { return };
    let field = ip.header_len + at;
    let mut upper = ip.upper.to_vec();
    upper[at..at + 2].fill(0);
    if ip.protocol == UDP {
        let length = (upper.len() as u16).to_be_bytes();
        upper[4..6].copy_from_slice(&length);
    }
    let length = (upper.len() as u32).to_be_bytes();
    let pseudo = sum(&[ip.source, ip.destination, &length, &[0, ip.protocol]]);
    let plain = ip.protocol == ICMP4 && !v6;
    let total = if plain { sum(&[&upper]) } else { sum(&[&pseudo.to_be_bytes(), &upper]) };
    let value = match (partial && !matches!(ip.protocol, ICMP4 | ICMP6), !total) {
        (true, _) => pseudo,
        (false, 0) if ip.protocol == UDP => 0xffff,
        (false, value) => value,
    };
    let udp = ip.protocol == UDP;
    let start = ip.header_len;
    if udp {
        packet[start + 4..start + 6].copy_from_slice(&upper[4..6]);
    }
    packet[field..field + 2].copy_from_slice(&value.to_be_bytes());
}
