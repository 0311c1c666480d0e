//! What the fallback datapath needs of netfilter, as data.
//!
//! ```text
//! table ip6 v4shim-clat {
//!   chain postrouting { type nat hook postrouting priority srcnat;
//!     ip6 saddr INNER oifname UPLINK masquerade }              shared address
//!   chain prerouting { type nat hook prerouting priority dstnat;
//!     ip6 saddr PREF64 ip6 daddr OUTER iifname UPLINK dnat to INNER }    shared, inbound = allow
//!   chain forward { type filter hook forward priority filter;
//!     oifname DEVICE ct state != { established, related } drop           inbound = replies
//!     iifname UPLINK oifname != DEVICE ct state != { established, related } ct status != dnat drop }
//! }
//! ```
//! The last rule keeps the host from becoming a router for its neighbours
//! just because we needed the kernel's forwarding.

use std::net::Ipv6Addr;

use super::message::{
    Attributes, Batch, NEW_CHAIN, NEW_RULE, NEW_TABLE, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL,
};
use crate::machine::{Desired, Identity};

/// The table is the socket's: it vanishes with it (kernel 5.12 and later).
pub const TABLE_OWNER: u32 = 2;

const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;

const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// The rules of one wished-for state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Name of the table.
    pub table: String,
    device: String,
    uplink: String,
    identity: Identity,
    /// Network and length in bytes of the prefix.
    pref64: (Ipv6Addr, usize),
    inbound_allow: bool,
}

impl Ruleset {
    /// The rules that `desired` needs.
    pub fn of(desired: &Desired) -> Self {
        Self {
            table: table_name(&desired.device),
            device: desired.device.clone(),
            uplink: desired.uplink.name.clone(),
            identity: desired.identity,
            pref64: (desired.pref64.network(), usize::from(desired.pref64.len()) / 8),
            inbound_allow: desired.inbound_allow,
        }
    }

    /// The transaction that creates the table with all its rules.
    pub fn create(&self, owned: bool) -> Batch {
        let mut batch = Batch::new();
        let flags = if owned { TABLE_OWNER } else { 0 };
        let table = Attributes::new().string(1, &self.table).be32(2, flags);
        batch.add(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, table);

        if let Identity::Shared { outer, inner, pinned } = self.identity {
            self.chain(&mut batch, "postrouting", "nat", HOOK_POSTROUTING, 100);
            let matched = Rule::new().source(&inner.octets()).output_is(&self.uplink);
            let rule = if pinned { matched.snat(outer) } else { matched.masquerade() };
            self.rule(&mut batch, "postrouting", rule);
            if self.inbound_allow {
                self.chain(&mut batch, "prerouting", "nat", HOOK_PREROUTING, -100);
                let (network, len) = self.pref64;
                let rule = Rule::new().source(&network.octets()[..len]).destination(&outer.octets());
                self.rule(&mut batch, "prerouting", rule.input_is(&self.uplink).dnat(inner));
            }
        }
        self.chain(&mut batch, "forward", "filter", HOOK_FORWARD, 0);
        if !self.inbound_allow {
            self.rule(&mut batch, "forward", Rule::new().output_is(&self.device).not_a_reply().drop());
        }
        let router = Rule::new().input_is(&self.uplink).output_is_not(&self.device);
        self.rule(&mut batch, "forward", router.not_a_reply().not_dnat().drop());
        batch
    }

    fn chain(&self, batch: &mut Batch, name: &str, kind: &str, hook: u32, priority: i32) {
        let hook = Attributes::new().be32(1, hook).be32(2, priority as u32);
        let attributes = Attributes::new()
            .string(1, &self.table)
            .string(3, name)
            .nested(4, hook)
            .be32(5, NF_ACCEPT)
            .string(7, kind);
        batch.add(NEW_CHAIN, NLM_F_CREATE, attributes);
    }

    fn rule(&self, batch: &mut Batch, chain: &str, rule: Rule) {
        let attributes =
            Attributes::new().string(1, &self.table).string(2, chain).nested(4, rule.expressions);
        batch.add(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, attributes);
    }
}

/// The table's name for a device.
pub fn table_name(device: &str) -> String {
    format!("v4shim-{device}")
}

/// A rule in the making: a list of expressions (`nft_expr_attributes`).
struct Rule {
    expressions: Attributes,
}

impl Rule {
    fn new() -> Self {
        Self { expressions: Attributes::new() }
    }

    fn expression(self, name: &str, data: Attributes) -> Self {
        let expression = Attributes::new().string(1, name).nested(2, data);
        Self { expressions: self.expressions.nested(1, expression) }
    }

    /// Goes on if the register holds (`equal`), or does not hold, the value.
    fn compare(self, equal: bool, value: &[u8]) -> Self {
        let data = Attributes::new().be32(1, REGISTER).be32(2, u32::from(!equal));
        self.expression("cmp", data.nested(3, Attributes::new().bytes(1, value)))
    }

    /// Loads bytes of the IPv6 header.
    fn header(self, offset: u32, len: usize) -> Self {
        const NETWORK_HEADER: u32 = 1;
        let data = Attributes::new().be32(1, REGISTER).be32(2, NETWORK_HEADER);
        self.expression("payload", data.be32(3, offset).be32(4, len as u32))
    }

    fn source(self, prefix: &[u8]) -> Self {
        self.header(8, prefix.len()).compare(true, prefix)
    }

    fn destination(self, prefix: &[u8]) -> Self {
        self.header(24, prefix.len()).compare(true, prefix)
    }

    /// Compares an interface name (`NFT_META_IIFNAME` 6, `NFT_META_OIFNAME` 7).
    fn interface(self, key: u32, equal: bool, name: &str) -> Self {
        let mut padded = [0; 16];
        let len = name.len().min(15);
        padded[..len].copy_from_slice(&name.as_bytes()[..len]);
        self.expression("meta", Attributes::new().be32(1, REGISTER).be32(2, key)).compare(equal, &padded)
    }

    fn input_is(self, name: &str) -> Self {
        self.interface(6, true, name)
    }

    fn output_is(self, name: &str) -> Self {
        self.interface(7, true, name)
    }

    fn output_is_not(self, name: &str) -> Self {
        self.interface(7, false, name)
    }

    /// Goes on if none of `bits` is set in a connection tracking key.
    fn connection_lacks(self, key: u32, bits: u32) -> Self {
        let value = |bytes: [u8; 4]| Attributes::new().bytes(1, &bytes);
        let mask = Attributes::new().be32(1, REGISTER).be32(2, REGISTER).be32(3, 4);
        let mask = mask.nested(4, value(bits.to_ne_bytes())).nested(5, value([0; 4]));
        self.expression("ct", Attributes::new().be32(1, REGISTER).be32(2, key))
            .expression("bitwise", mask)
            .compare(true, &[0; 4])
    }

    /// Neither established nor related (`NFT_CT_STATE`).
    fn not_a_reply(self) -> Self {
        const ESTABLISHED: u32 = 1 << 1;
        const RELATED: u32 = 1 << 2;
        self.connection_lacks(0, ESTABLISHED | RELATED)
    }

    /// Not redirected by somebody's NAT (`NFT_CT_STATUS`, `IPS_DST_NAT`).
    fn not_dnat(self) -> Self {
        self.connection_lacks(2, 1 << 5)
    }

    fn masquerade(self) -> Self {
        self.expression("masq", Attributes::new())
    }

    fn snat(self, to: Ipv6Addr) -> Self {
        self.nat(0, to)
    }

    fn dnat(self, to: Ipv6Addr) -> Self {
        self.nat(1, to)
    }

    fn nat(self, kind: u32, to: Ipv6Addr) -> Self {
        let address = Attributes::new().bytes(1, &to.octets());
        let load = Attributes::new().be32(1, REGISTER).nested(2, address);
        let nat = Attributes::new().be32(1, kind).be32(2, u32::from(super::message::NFPROTO_IPV6));
        self.expression("immediate", load).expression("nat", nat.be32(3, REGISTER))
    }

    fn drop(self) -> Self {
        let code = Attributes::new().be32(1, NF_DROP);
        let verdict = Attributes::new().nested(2, code);
        self.expression("immediate", Attributes::new().be32(1, VERDICT).nested(2, verdict))
    }
}
