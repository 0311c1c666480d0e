//! nfnetlink messages for nftables: just the objects that [`super::rules`]
//! uses. The published libraries either wrap C libraries (which the cross
//! builds would have to bring along), run the `nft` program, or are under a
//! licence that this project cannot take.

/// Appends netlink attributes to a message.
#[derive(Debug, Default)]
pub struct Attributes(Vec<u8>);

/// Attribute flag: the value is a list of attributes (linux/netlink.h).
const NLA_F_NESTED: u16 = 1 << 15;

impl Attributes {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoded list.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn push(mut self, kind: u16, value: &[u8]) -> Self {
        // Our longest value, a rule's expression list, is far below 64 KiB.
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Raw bytes.
    pub fn bytes(self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value)
    }

    /// A NUL-terminated string.
    pub fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.push(kind, &bytes)
    }

    /// A 32-bit number in network byte order.
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.push(kind, &value.to_be_bytes())
    }

    /// A list of attributes.
    pub fn nested(self, kind: u16, value: Attributes) -> Self {
        self.push(kind | NLA_F_NESTED, &value.0)
    }
}

/// nf_tables messages (linux/netfilter/nf_tables.h, `nf_tables_msg_types`).
pub const NEW_TABLE: u16 = 0;
/// See [`NEW_TABLE`].
pub const DEL_TABLE: u16 = 2;
/// See [`NEW_TABLE`].
pub const NEW_CHAIN: u16 = 3;
/// See [`NEW_TABLE`].
pub const NEW_RULE: u16 = 6;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NLM_F_REQUEST: u16 = 1;
/// The kernel acknowledges this message.
pub const NLM_F_ACK: u16 = 4;
/// Create the object.
pub const NLM_F_CREATE: u16 = 0x400;
/// Fail if the object exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// Add at the end of the list.
pub const NLM_F_APPEND: u16 = 0x800;
const NFPROTO_UNSPEC: u8 = 0;
/// IPv6.
pub const NFPROTO_IPV6: u8 = 10;

/// A transaction: all of its messages take effect, or none.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    acknowledged: u32,
}

impl Batch {
    /// An empty transaction.
    #[expect(clippy::new_without_default, reason = "it is never empty: it begins with its frame")]
    pub fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, acknowledged: 0 };
        batch.message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES, &[]);
        batch
    }

    /// Adds a message about an object of family ip6.
    pub fn add(&mut self, kind: u16, flags: u16, attributes: Attributes) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        self.acknowledged += 1;
        self.message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, NFPROTO_IPV6, 0, &attributes.into_bytes());
    }

    /// The encoded transaction, and how many acknowledgements will come.
    pub fn finish(mut self) -> (Vec<u8>, u32) {
        self.message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES, &[]);
        (self.bytes, self.acknowledged)
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
        self.sequence += 1;
        // nlmsghdr (16), nfgenmsg (4), attributes.
        let length = (16 + 4 + attributes.len()) as u32;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_counted_without_padding() {
        let bytes = Attributes::new().string(1, "ab").be32(2, 7).into_bytes();
        assert_eq!(bytes[..4], [7u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
        assert_eq!(bytes[4..8], *b"ab\0\0");
        assert_eq!(bytes[12..], [0, 0, 0, 7]);
    }

    #[test]
    fn a_batch_is_framed_and_numbered() {
        let mut batch = Batch::new();
        batch.add(NEW_TABLE, NLM_F_CREATE, Attributes::new().string(1, "t"));
        let (bytes, acknowledged) = batch.finish();
        assert_eq!(acknowledged, 1);
        let mut kinds = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            kinds.push(u16::from_ne_bytes(rest[4..6].try_into().unwrap()));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [0x10, 10 << 8, 0x11]);
    }
}
