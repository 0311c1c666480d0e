//! Cutting a translated packet into fragments (RFC 7915 §4.1 towards IPv6, §5.1.1 towards IPv4).

use core::ops::Range;

use crate::DropReason;
use crate::ipv4::Ipv4Header;
use crate::ipv6::{FragmentHeader, Ipv6Header};

/// A translated packet that must be cut: call [`Fragments::next`] until it returns `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragments {
    header: Header,
    /// What is still to be sent, in the translated buffer.
    payload: Range<usize>,
    /// Of the first byte of `payload`, in units of 8 bytes.
    offset: u16,
    /// Whether more fragments follow the last byte of `payload`.
    more: bool,
    mtu: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    V4(Ipv4Header),
    V6 { header: Ipv6Header, next_header: u8, identification: u32 },
}

/// The longest datagram that fragments can be reassembled to; beyond it, offsets overflow ("ping of death").
const MAX_DATAGRAM: usize = 65535;

/// Refuses a fragment that ends beyond the longest possible datagram, and one that is not the last and yet does not end
/// where another could begin (RFC 791 §3.2, RFC 8200 §4.5).
pub(crate) fn check(offset: u16, more: bool, len: usize) -> Result<(), DropReason> {
    let ends_beyond = usize::from(offset) * 8 + len > MAX_DATAGRAM;
    let ends_between = more && (len == 0 || !len.is_multiple_of(8));
    if ends_beyond || ends_between { Err(DropReason::MalformedFragment) } else { Ok(()) }
}

impl Fragments {
    /// IPv6 fragments of `payload`; `header` is the IPv6 header of the whole, `fragment` its place in the datagram.
    pub(crate) fn v6(
        header: Ipv6Header,
        next_header: u8,
        fragment: FragmentHeader,
        payload: Range<usize>,
        mtu: usize,
    ) -> Self {
        let identification = fragment.identification;
        Self {
            header: Header::V6 { header, next_header, identification },
            payload,
            offset: fragment.offset,
            more: fragment.more,
            mtu,
        }
    }

    /// IPv4 fragments of `payload`; `header` is the IPv4 header of the whole.
    pub(crate) fn v4(header: Ipv4Header, payload: Range<usize>, mtu: usize) -> Self {
        Self {
            header: Header::V4(header),
            payload,
            offset: header.fragment_offset,
            more: header.more_fragments,
            mtu,
        }
    }

    /// The most bytes a fragment can have: give [`Fragments::next`] that much room.
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.mtu
    }

    /// Writes the next fragment, a complete IP packet that needs no offload, to the start of `out` and returns its
    /// length. `buf` is the buffer that was translated, unchanged since.
    ///
    /// No fragment is longer than `out`; if not even 8 bytes of payload fit, there is none.
    pub fn next(&mut self, buf: &[u8], out: &mut [u8]) -> Option<usize> {
        let remaining = self.payload.len();
        if remaining == 0 {
            return None;
        }
        let header_len = match self.header {
            Header::V4(_) => Ipv4Header::LEN,
            Header::V6 { .. } => Ipv6Header::LEN + FragmentHeader::LEN,
        };
        let room = self.mtu.min(out.len()).checked_sub(header_len)?;
        let len = if remaining <= room { remaining } else { room & !7 };
        if len == 0 {
            return None;
        }
        let more = self.more || len < remaining;
        let piece = buf.get(self.payload.start..self.payload.start + len)?;
        match self.header {
            Header::V4(header) => {
                let header = Ipv4Header {
                    total_len: header_len + len,
                    fragment_offset: self.offset,
                    more_fragments: more,
                    ..header
                };
                header.emit(out.first_chunk_mut()?);
            }
            Header::V6 { header, next_header, identification } => {
                // At most the MTU, which fits 16 bits.
                let payload_len = (FragmentHeader::LEN + len) as u16;
                Ipv6Header { payload_len, ..header }.emit(out.first_chunk_mut()?);
                let fragment = FragmentHeader { offset: self.offset, more, identification };
                fragment.emit(next_header, out.get_mut(Ipv6Header::LEN..)?.first_chunk_mut()?);
            }
        }
        out.get_mut(header_len..header_len + len)?.copy_from_slice(piece);
        self.payload.start += len;
        // Below 8192: `check` has refused longer datagrams.
        self.offset += (len / 8) as u16;
        Some(header_len + len)
    }
}
