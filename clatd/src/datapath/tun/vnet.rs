//! `struct virtio_net_hdr`: what the kernel left undone in a packet.
//!
//! A packet that is read from the TUN device can be a *super-packet* (up to
//! 64 KiB that some device cuts into segments later) and can lack its
//! transport checksum. Translation keeps both states: the GSO type changes its
//! IP version, the offsets move with the header, everything else stays.

use xlat::Offload;

/// Size of the header in bytes (linux/virtio_net.h, without `num_buffers`).
pub(super) const LEN: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Flag beside the type: the segments carry TCP's CWR bit as RFC 3168 wants it.
const GSO_ECN: u8 = 0x80;

/// The header, decoded. Numbers are in host byte order (the TUN default).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VnetHeader {
    flags: u8,
    gso_type: u8,
    /// Length in bytes of the headers that each segment repeats.
    hdr_len: u16,
    /// Transport payload in bytes of each segment.
    gso_size: u16,
    /// Where the checksum's coverage begins, from the start of the packet.
    csum_start: u16,
    /// Where the checksum is, from `csum_start`.
    csum_offset: u16,
}

impl VnetHeader {
    /// Decodes a header.
    pub(super) fn parse(bytes: &[u8; LEN]) -> Self {
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: u16_at(2),
            gso_size: u16_at(4),
            csum_start: u16_at(6),
            csum_offset: u16_at(8),
        }
    }

    /// Encodes the header.
    pub(super) fn emit(&self, bytes: &mut [u8; LEN]) {
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
    }

    /// The same facts for the translator; `None` for a state that we never
    /// asked the kernel for (UFO, unknown GSO types).
    pub(super) fn offload(&self) -> Option<Offload> {
        let gso_size = match self.gso_type & !GSO_ECN {
            GSO_NONE => 0,
            GSO_TCPV4 | GSO_TCPV6 | GSO_UDP_L4 => self.gso_size,
            _ => return None,
        };
        Some(Offload { partial_checksum: self.flags & FLAG_NEEDS_CSUM != 0, gso_size })
    }

    /// True if the transport checksum still has to be computed.
    pub(super) fn needs_checksum(&self) -> bool {
        self.flags & FLAG_NEEDS_CSUM != 0
    }

    /// True if that checksum's coverage begins at this offset.
    pub(super) fn checksum_starts_at(&self, offset: u16) -> bool {
        self.csum_start == offset
    }

    /// True if the packet stands for several segments.
    pub(super) fn is_gso(&self) -> bool {
        self.gso_type & !GSO_ECN != GSO_NONE
    }

    /// The header of the translated packet. Its transport header begins at
    /// `transport` bytes from the start of the packet, where before it began
    /// at `csum_start`.
    pub(super) fn translated(self, transport: u16) -> Self {
        if !self.needs_checksum() && !self.is_gso() {
            return Self::default();
        }
        let gso_type = match self.gso_type & !GSO_ECN {
            GSO_TCPV4 => GSO_TCPV6 | (self.gso_type & GSO_ECN),
            GSO_TCPV6 => GSO_TCPV4 | (self.gso_type & GSO_ECN),
            _ => self.gso_type,
        };
        // `hdr_len` is a hint that some kernels leave 0.
        let hdr_len = match self.hdr_len.checked_sub(self.csum_start) {
            Some(transport_len) if self.csum_start != 0 => transport.saturating_add(transport_len),
            _ => self.hdr_len,
        };
        Self { gso_type, hdr_len, csum_start: transport, ..self }
    }

    /// Computes the transport checksum that the kernel left to us, for packets
    /// that cannot keep the offload (they are about to be cut into fragments).
    /// False if the offsets do not fit the packet.
    pub(super) fn finish_checksum(&mut self, packet: &mut [u8]) -> bool {
        if !self.needs_checksum() {
            return true;
        }
        let (start, offset) = (usize::from(self.csum_start), usize::from(self.csum_offset));
        if !xlat::checksum::complete(packet, start, offset) {
            return false;
        }
        self.flags &= !FLAG_NEEDS_CSUM;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp4_super() -> VnetHeader {
        VnetHeader {
            flags: FLAG_NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 20 + 32,
            gso_size: 1428,
            csum_start: 20,
            csum_offset: 16,
        }
    }

    #[test]
    fn bytes_round_trip() {
        let mut bytes = [0; LEN];
        tcp4_super().emit(&mut bytes);
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1], 0x81);
        assert_eq!(VnetHeader::parse(&bytes), tcp4_super());
    }

    #[test]
    fn a_super_packet_changes_its_ip_version_and_keeps_its_segments() {
        let six = tcp4_super().translated(40);
        assert_eq!(six.gso_type, GSO_TCPV6 | GSO_ECN, "the ECN flag stays");
        assert_eq!((six.hdr_len, six.csum_start, six.csum_offset), (40 + 32, 40, 16));
        assert_eq!(six.gso_size, 1428, "a segment carries the same payload");
        assert_eq!(six.translated(20), tcp4_super());
    }

    #[test]
    fn udp_gso_has_one_type_for_both_versions() {
        let udp = VnetHeader { gso_type: GSO_UDP_L4, csum_offset: 6, hdr_len: 28, ..tcp4_super() };
        assert_eq!(udp.translated(40).gso_type, GSO_UDP_L4);
    }

    #[test]
    fn a_plain_packet_stays_plain() {
        assert_eq!(VnetHeader::default().translated(40), VnetHeader::default());
        // DATA_VALID (2) is a statement about the received packet; it is not passed on.
        let valid = VnetHeader { flags: 2, ..VnetHeader::default() };
        assert_eq!(valid.translated(40), VnetHeader::default());
    }

    #[test]
    fn udp_fragmentation_offload_is_refused() {
        assert_eq!(VnetHeader { gso_type: 3, ..VnetHeader::default() }.offload(), None);
    }

    #[test]
    fn checksum_is_finished_in_software() {
        // Coverage starts at 2; the field (at 2 + 2) holds a pseudo-header sum of 0x0102.
        let mut packet = [0xff, 0xff, 0x12, 0x34, 0x01, 0x02, 0xab];
        let mut header =
            VnetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 2, csum_offset: 2, ..VnetHeader::default() };
        assert!(header.finish_checksum(&mut packet));
        let expected = !(0x1234u32 + 0x0102 + 0xab00) as u16;
        assert_eq!(packet[4..6], expected.to_be_bytes());
        assert!(!header.needs_checksum());

        let mut wrong =
            VnetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 6, csum_offset: 9, ..VnetHeader::default() };
        assert!(!wrong.finish_checksum(&mut packet), "offsets outside the packet");
    }
}
